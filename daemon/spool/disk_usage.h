// What the spool takes, and what its volume has left.
#pragma once

#include <string>

#include "core/units.h"
#include "spool/store.h"

namespace opsrelay::spool {

/// Space taken by every file below `dir`, preallocated blocks included. What cannot be looked at
/// counts nothing. Walks the directory: some hundred files at most.
[[nodiscard]] Bytes directory_bytes(const std::string& dir);

struct VolumeSpace {
    Bytes free;  // for us: f_bavail
    Bytes size;  // 0: not known
};
[[nodiscard]] VolumeSpace volume_space(const std::string& dir) noexcept;

/// Fills in disk, volume_free and volume_size.
void measure(const std::string& dir, StoreStats& stats);

}  // namespace opsrelay::spool
