// The edits that turn an event as it came in into the event that is stored: everything between the
// edits stays byte for byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace opsrelay::parse {

/// Whether an edit follows from the event alone, or from when and by whom it was received.
enum class EditKind : std::uint8_t {
    repair,  // the same event gets the same edit again
    receipt  // the time stamp, the minted id: not part of what the app said
};

/// A list of replacements in a text, kept in text order; they do not overlap. Keeps its memory.
class Patch {
public:
    void clear() noexcept;
    /// Replaces [begin, end) with the parts put together; begin == end inserts, behind what was
    /// inserted at the same place before.
    void replace(std::size_t begin, std::size_t end, std::initializer_list<std::string_view> parts,
                 EditKind kind = EditKind::repair);

    [[nodiscard]] bool empty() const noexcept { return splices_.empty(); }
    [[nodiscard]] bool has(EditKind kind) const noexcept;
    /// Writes `text` with the repairs, and the receipts too if asked for, to `out`.
    void apply(std::string_view text, bool with_receipts, std::string& out) const;

private:
    struct Splice {
        std::size_t begin;
        std::size_t end;
        std::size_t from;  // the replacement within replacements_
        std::size_t length;
        EditKind kind;
    };
    std::vector<Splice> splices_;
    std::string replacements_;
};

/// Appends `text` as a JSON string with its quotes; only what JSON demands is escaped.
void append_json_string(std::string& out, std::string_view text);

}  // namespace opsrelay::parse
