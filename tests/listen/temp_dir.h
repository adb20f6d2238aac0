// A directory of its own for each test, removed at the end.
#pragma once

#include <filesystem>
#include <string>

namespace opsrelay::listen::testing {

class TempDir {
public:
    TempDir();
    TempDir(const TempDir&) = delete;
    TempDir& operator=(const TempDir&) = delete;
    ~TempDir();

    /// The absolute path of `name` within the directory.
    [[nodiscard]] std::string path(const std::string& name = {}) const {
        return name.empty() ? root_.string() : (root_ / name).string();
    }

private:
    std::filesystem::path root_;
};

}  // namespace opsrelay::listen::testing
