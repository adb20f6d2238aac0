// Space of the volume that nobody else can take: a file that is given back when the volume is full,
// so that deletions, which also have to be written, still work.
#pragma once

#include <string>

#include "core/error.h"
#include "core/units.h"

namespace opsrelay::spool {

/// `reserve` in the spool's directory. A crash leaves it as it is. Thread: storage.
class ReserveFile {
public:
    explicit ReserveFile(const std::string& dir) : path_(dir + "/reserve") {}

    /// Space that it takes now; 0: there is none.
    [[nodiscard]] Bytes held() const noexcept;
    /// Makes it take `wanted`, with blocks of its own; 0 gives all of it back. Errors: spool_full,
    /// spool_io; there is no file then.
    [[nodiscard]] Result<void> hold(Bytes wanted) const;

private:
    std::string path_;
};

}  // namespace opsrelay::spool
