#include <cstddef>
#include <vector>

#include "fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::vector<char> exact(data, data + size);
    opsrelay::fuzz::one_input({exact.data(), exact.size()});
    return 0;
}
