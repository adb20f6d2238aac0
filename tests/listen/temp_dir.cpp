#include "listen/temp_dir.h"

#include <cstdlib>

#include "core/assert.h"

namespace opsrelay::listen::testing {

TempDir::TempDir() {
    auto name = (std::filesystem::temp_directory_path() / "opsrelay-XXXXXX").string();
    OPSRELAY_ASSERT(::mkdtemp(name.data()) != nullptr);
    root_ = name;
}

TempDir::~TempDir() {
    std::error_code ignored;  // what stays behind lies in the system's temporary directory
    std::filesystem::remove_all(root_, ignored);
}

}  // namespace opsrelay::listen::testing
