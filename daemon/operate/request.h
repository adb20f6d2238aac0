// What an operator may ask for over admin.sock, decoded from the body of a POST.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "operate/event_edit.h"
#include "spool/store.h"

namespace opsrelay::operate {

/// At most this many keys in a request, and letters in a reply.
inline constexpr std::size_t kLettersMax = 1000;
/// At most this many lanes in `ends` and `as_of`.
inline constexpr std::size_t kEndsMax = 64;

/// What letters there were at one moment, by numbers (spool::DeadEnds).
struct AsOf {
    std::uint64_t admission = 0;
    std::vector<std::pair<std::string, Seq>> lanes;
    bool operator==(const AsOf&) const = default;
};

/// {"kind","lane","reason": filters; "after": a key; "limit"; "keys": [...] or "all": true;
///  "as_of": {"admission": number, "lanes": {lane: number}}; "events": whether the events
///  themselves are wanted; "set": {field: value}; "configured": true; "ends": {lane: number}}.
///  Which of them a path takes is said there.
struct Request {
    std::optional<spool::DeadKind> kind;
    std::string lane;    // a name; empty: any
    std::string reason;  // empty: any
    std::optional<spool::DeadKey> after;
    std::size_t limit = kLettersMax;
    std::vector<spool::DeadKey> keys;
    bool all = false;
    std::optional<AsOf> as_of;  // letters that came later are left alone
    bool events = false;
    std::vector<FieldEdit> set;
    bool configured = false;
    std::vector<std::pair<std::string, Seq>> ends;
};

/// Refuses what is unknown or of another type: a misspelt filter must not become "all". Error:
/// config_invalid, naming the field.
[[nodiscard]] Result<Request> parse_request(std::string_view body);

}  // namespace opsrelay::operate
