// Whether a file is another one than before.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace opsrelay {

/// What stat(2) says through symbolic links; enough to see a rewrite, a replacement, and a
/// directory above that became another one (as in a Kubernetes volume).
struct FileStamp {
    bool exists = false;
    dev_t device = 0;
    ino_t inode = 0;
    off_t size = 0;
    std::int64_t modified_ns = 0;
    std::int64_t changed_ns = 0;
    bool operator==(const FileStamp&) const = default;
};

[[nodiscard]] FileStamp stamp_of(const std::string& path);

}  // namespace opsrelay
