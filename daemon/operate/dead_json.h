// Dead letters as an operator sees them: the text of their keys, and their JSON.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/enum_table.h"
#include "spool/store.h"

namespace opsrelay::operate {

/// The word in keys, filters and JSON.
inline constexpr std::array<EnumName<spool::DeadKind>, 2> kDeadKinds{{
    {spool::DeadKind::admission, "admission"},
    {spool::DeadKind::upstream, "upstream"},
}};
static_assert(dense(kDeadKinds));

/// "upstream-0-12": kind, lane number, number.
[[nodiscard]] std::string to_text(const spool::DeadKey& key);
/// nullopt: not such a text.
[[nodiscard]] std::optional<spool::DeadKey> parse_key(std::string_view text);

/// One JSON object. `event` is the event itself, as it is stored; null when it was not kept or
/// `with_event` is false. Texts that are no UTF-8 (a reply's body may be anything) are mended.
[[nodiscard]] std::string to_json(const spool::DeadLetter& letter, std::string_view lane_name,
                                  bool with_event);

}  // namespace opsrelay::operate
