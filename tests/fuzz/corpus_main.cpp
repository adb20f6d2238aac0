// Runs a target with every file of the directories given, in the order of their names.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "fuzz/fuzz.h"

int main(int argc, char** argv) {
    namespace fs = std::filesystem;
    std::size_t ran = 0;
    for (int i = 1; i < argc; ++i) {
        std::vector<fs::path> files;
        for (const auto& entry : fs::directory_iterator(argv[i])) files.push_back(entry.path());
        std::sort(files.begin(), files.end());
        for (const auto& path : files) {
            std::fprintf(stderr, "%s\n", path.c_str());  // the last one is the one that failed
            std::ifstream file(path, std::ios::binary);
            const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
            opsrelay::fuzz::one_input({bytes.data(), bytes.size()});
            ++ran;
        }
    }
    std::printf("%zu inputs\n", ran);
    return ran > 0 ? 0 : 1;
}
