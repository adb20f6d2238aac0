// Where a benchmark of the spool keeps its files.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

namespace opsrelay::bench {

/// A directory below TMPDIR that is removed with everything in it.
class TempDirectory {
public:
    TempDirectory() {
        auto path = (std::filesystem::temp_directory_path() / "opsrelay-bench-XXXXXX").string();
        if (::mkdtemp(path.data()) != nullptr) path_ = path;
    }
    TempDirectory(const TempDirectory&) = delete;
    TempDirectory& operator=(const TempDirectory&) = delete;
    ~TempDirectory() {
        std::error_code ignored;  // nothing to be done about what is left
        if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
    }
    [[nodiscard]] const std::string& path() const noexcept { return path_; }

private:
    std::string path_;
};

}  // namespace opsrelay::bench
