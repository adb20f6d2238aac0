#include "support/temp_dir.h"

#include <stdlib.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

namespace opsrelay::test {

TempDir::TempDir() {
    path_ = (std::filesystem::temp_directory_path() / "opsrelay-test-XXXXXX").string();
    if (::mkdtemp(path_.data()) == nullptr) {
        throw std::system_error(errno, std::generic_category(), "make " + path_);
    }
}

TempDir::~TempDir() {
    std::error_code ec;
    std::filesystem::remove_all(path_, ec);
}

std::string TempDir::operator/(std::string_view name) const {
    std::string joined = path_;
    joined += '/';
    joined += name;
    return joined;
}

}  // namespace opsrelay::test
