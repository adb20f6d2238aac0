#include "parse/patch.h"

#include <algorithm>

namespace opsrelay::parse {

namespace {

constexpr bool is_json_space(char c) noexcept {
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

constexpr unsigned bit(EditKind kind) noexcept { return 1U << static_cast<unsigned>(kind); }

struct Stretch {
    std::size_t begin;
    std::size_t end;
};

// A member with the comma that goes with it: the one before, or when that one is gone (`done` bytes
// of the text are dealt with) or never was, the one behind.
Stretch with_comma(std::string_view text, std::size_t done, Stretch member) noexcept {
    auto before = member.begin - 1;
    while (is_json_space(text[before])) --before;
    if (text[before] == ',' && before >= done) return {before, member.end};
    auto behind = member.end;
    while (is_json_space(text[behind])) ++behind;
    return {member.begin, text[behind] == ',' ? behind + 1 : member.end};
}

}  // namespace

void Patch::clear() noexcept {
    splices_.clear();
    replacements_.clear();
    kinds_ = 0;
}

void Patch::replace(std::size_t begin, std::size_t end,
                    std::initializer_list<std::string_view> parts, EditKind kind) {
    const auto from = replacements_.size();
    for (const auto part : parts) replacements_.append(part);
    add({begin, end, from, replacements_.size() - from, kind, false});
}

void Patch::remove(std::size_t key_begin, std::size_t end, EditKind kind) {
    add({key_begin, end, 0, 0, kind, true});
}

void Patch::add(const Splice& splice) {
    const auto later = [](std::size_t at, const Splice& other) { return at < other.begin; };
    const auto at = std::upper_bound(splices_.begin(), splices_.end(), splice.begin, later);
    splices_.insert(at, splice);
    kinds_ |= bit(splice.kind);
}

bool Patch::has(EditKind kind) const noexcept { return (kinds_ & bit(kind)) != 0; }

void Patch::apply(std::string_view text, EditKind last, std::string& out) const {
    out.clear();
    std::size_t done = 0;
    for (const auto& splice : splices_) {
        if (splice.kind > last || splice.begin < done) continue;
        Stretch gone{splice.begin, splice.end};
        if (splice.member) gone = with_comma(text, done, gone);
        out.append(text.substr(done, gone.begin - done));
        out.append(replacements_, splice.from, splice.length);
        done = gone.end;
    }
    out.append(text.substr(done));
}

void append_json_string(std::string& out, std::string_view text) {
    constexpr std::string_view kHex = "0123456789abcdef";
    // The short escape of each control character that has one; 0 for the others.
    constexpr std::string_view kShort{"\0\0\0\0\0\0\0\0btn\0fr\0\0", 16};
    out.push_back('"');
    for (const auto c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') {
            out.push_back('\\');
            out.push_back(c);
        } else if (byte >= 0x20U) {
            out.push_back(c);
        } else if (byte < kShort.size() && kShort[byte] != '\0') {
            out.push_back('\\');
            out.push_back(kShort[byte]);
        } else {
            out.append("\\u00");
            out.push_back(kHex[byte >> 4U]);
            out.push_back(kHex[byte & 0x0FU]);
        }
    }
    out.push_back('"');
}

}  // namespace opsrelay::parse
