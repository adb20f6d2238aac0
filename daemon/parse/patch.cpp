#include "parse/patch.h"

#include <algorithm>

namespace opsrelay::parse {

void Patch::clear() noexcept {
    splices_.clear();
    replacements_.clear();
}

void Patch::replace(std::size_t begin, std::size_t end,
                    std::initializer_list<std::string_view> parts, EditKind kind) {
    const auto from = replacements_.size();
    for (const auto part : parts) replacements_.append(part);
    const Splice splice{begin, end, from, replacements_.size() - from, kind};
    const auto later = [](std::size_t at, const Splice& other) { return at < other.begin; };
    splices_.insert(std::upper_bound(splices_.begin(), splices_.end(), begin, later), splice);
}

bool Patch::has(EditKind kind) const noexcept {
    return std::any_of(splices_.begin(), splices_.end(),
                       [kind](const Splice& splice) { return splice.kind == kind; });
}

void Patch::apply(std::string_view text, bool with_receipts, std::string& out) const {
    out.clear();
    std::size_t done = 0;
    for (const auto& splice : splices_) {
        if (splice.kind == EditKind::receipt && !with_receipts) continue;
        out.append(text.substr(done, splice.begin - done));
        out.append(replacements_, splice.from, splice.length);
        done = splice.end;
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
