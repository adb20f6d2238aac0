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

/// Why an edit is made. Each includes what stands above it.
enum class EditKind : std::uint8_t {
    privacy,  // what must not be kept, not even of a rejected event
    repair,   // follows from the event alone: the same event gets the same edit again
    receipt   // follows from when and by whom it was received: not part of what the app said
};

/// A list of edits of a text, kept in text order. Two do not overlap, except that one may lie
/// within a member that another removes. Keeps its memory.
class Patch {
public:
    void clear() noexcept;
    /// Replaces [begin, end) with the parts put together; begin == end inserts, behind what was
    /// inserted at the same place before.
    void replace(std::size_t begin, std::size_t end, std::initializer_list<std::string_view> parts,
                 EditKind kind = EditKind::repair);
    /// Takes a member of an object out, with one comma: from its key's quote to the end of its
    /// value.
    void remove(std::size_t key_begin, std::size_t end, EditKind kind = EditKind::repair);

    /// True when there is an edit of this kind.
    [[nodiscard]] bool has(EditKind kind) const noexcept;
    /// Writes `text` with the edits up to `last` to `out`.
    void apply(std::string_view text, EditKind last, std::string& out) const;

private:
    struct Splice {
        std::size_t begin;
        std::size_t end;
        std::size_t from;  // the replacement within replacements_
        std::size_t length;
        EditKind kind;
        bool member;
    };
    void add(const Splice& splice);

    std::vector<Splice> splices_;
    std::string replacements_;
    unsigned kinds_ = 0;  // bit per EditKind
};

/// Appends `text` as a JSON string with its quotes; only what JSON demands is escaped.
void append_json_string(std::string& out, std::string_view text);

}  // namespace opsrelay::parse
