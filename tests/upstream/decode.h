// Content-Encoding of request bodies, bounded: a small body cannot become a large one.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "upstream/settings.h"

namespace opsrelay::upstream {

enum class Decoding : std::uint8_t {
    ok,
    unsupported,  // 415
    corrupt,      // 400
    too_large,    // 413
};
struct Decoded {
    Decoding result = Decoding::ok;
    std::string bytes;
};
/// `coding`: the header's value, empty or "identity" for none. A gzip body may have several members
/// (RFC 1952, 2.2), a zstd body several frames.
[[nodiscard]] Decoded decode(std::string_view coding, std::string_view body, std::size_t bytes_max,
                             BatchCodings allowed);
/// Accept-Encoding of a 415 (RFC 9110, 12.5.3).
[[nodiscard]] std::string_view accepted_codings(BatchCodings allowed);

}  // namespace opsrelay::upstream
