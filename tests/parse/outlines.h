// What two outlines of one text say differently.
#pragma once

#include <string>
#include <string_view>

#include "parse/outline.h"

namespace opsrelay::parse {

inline bool same_value(std::string_view text, const Value& a, const Value& b) {
    if (a.kind != b.kind || a.repeated != b.repeated) return false;
    if (a.kind == ValueKind::absent) return true;  // the rest is of an earlier text
    if (a.text != b.text || a.key_begin != b.key_begin || a.begin != b.begin) return false;
    // Of an object or array within another one nobody asks for the end.
    const auto known = a.kind == ValueKind::string || (a.end != 0 && b.end != 0);
    return known ? end_of(text, a) == end_of(text, b) : a.end == b.end;
}

/// Names the first difference; empty: there is none.
inline std::string difference(std::string_view text, const Outline& a, const Outline& b) {
    for (const auto& row : kFields) {
        if (!same_value(text, a[row.value], b[row.value])) return std::string(row.name);
    }
    for (const auto& row : kInnerFields) {
        if (!same_value(text, a[row.value], b[row.value])) return std::string(row.name);
    }
    if (a.denied().size() != b.denied().size()) return "number of denied members";
    for (std::size_t i = 0; i < a.denied().size(); ++i) {
        if (!same_value(text, a.denied()[i], b.denied()[i])) return "denied member";
    }
    if (a.identities().size() != b.identities().size()) return "number of identities";
    for (std::size_t i = 0; i < a.identities().size(); ++i) {
        const auto& one = a.identities()[i];
        const auto& other = b.identities()[i];
        if (one.who != other.who || !same_value(text, one.value, other.value)) return "identity";
    }
    if (a.closing_brace() != b.closing_brace()) return "closing brace";
    if (a.repeated_key() != b.repeated_key()) return "repeated key";
    if (a.metadata_nested() != b.metadata_nested()) return "nested metadata";
    return a.root_is_object() && b.root_is_object() ? "" : "no object";
}

}  // namespace opsrelay::parse
