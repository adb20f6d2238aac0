// A directory of its own for one test.
#pragma once

#include <string>
#include <string_view>

namespace opsrelay::test {

/// Made under $TMPDIR (or /tmp) with a random name; removed with everything in it.
class TempDir {
public:
    TempDir();
    TempDir(const TempDir&) = delete;
    TempDir& operator=(const TempDir&) = delete;
    ~TempDir();

    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    /// `path()`/`name`.
    [[nodiscard]] std::string operator/(std::string_view name) const;

private:
    std::string path_;
};

}  // namespace opsrelay::test
