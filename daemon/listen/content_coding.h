// Content-Encoding of the bodies of batch requests: which there are, and how they are unpacked.
// Pure.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/enum_table.h"
#include "core/units.h"

namespace opsrelay::listen {

enum class ContentCoding : std::uint8_t { identity, gzip, zstd };
inline constexpr std::array<EnumName<ContentCoding>, 3> kContentCodings{{
    {ContentCoding::identity, "identity"},
    {ContentCoding::gzip, "gzip"},
    {ContentCoding::zstd, "zstd"},
}};
static_assert(dense(kContentCodings));
constexpr std::string_view to_string(ContentCoding coding) {
    return kContentCodings.at(index_of(coding)).name;
}

/// The header's value, with spaces around it and in any case. nullopt: another one, or several.
[[nodiscard]] std::optional<ContentCoding> content_coding(std::string_view header) noexcept;

struct Unpacked {
    enum class State : std::uint8_t { done, too_large, damaged };
    State state = State::done;
    std::string bytes;  // when done
};
/// gzip (RFC 1952), also of several members, or zstd (RFC 8878), also of several frames and with
/// windows up to 8 MiB; identity is copied. Stops at `bytes_max`: a bomb costs no more.
[[nodiscard]] Unpacked unpack(ContentCoding coding, std::string_view body, Bytes bytes_max);

}  // namespace opsrelay::listen
