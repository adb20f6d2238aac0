// The rows of the workspace: ids in arrival order with an exact index, bodies optional. Built for a
// million rows and more: about 60 bytes a row without bodies.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/enum_table.h"
#include "core/units.h"

namespace opsrelay::upstream {

enum class DataMode : std::uint8_t { real, test, demo };
inline constexpr std::array<EnumName<DataMode>, 3> kDataModes{{
    {DataMode::real, "real"},
    {DataMode::test, "test"},
    {DataMode::demo, "demo"},
}};
static_assert(dense(kDataModes));
constexpr std::string_view to_string(DataMode m) { return kDataModes.at(index_of(m)).name; }

/// Thread: one. Views are valid until the next insert(), remove() or clear().
class RowTable {
public:
    struct Limits {
        std::size_t rows_max;
        Bytes bytes_max;  // ids and bodies
        bool ids_only;
    };
    enum class Inserted : std::uint8_t {
        added,
        same,       // the id is a row already, with this very body
        different,  // the id is a row already, with another body
        full,       // a new id, and no room
    };

    explicit RowTable(Limits limits) : limits_(limits), slots_(1024) {}

    /// `replace`: on `different` the row takes the new body and mode.
    [[nodiscard]] Inserted insert(std::string_view id, std::string_view body, DataMode mode,
                                  bool replace);
    /// Takes the rows of that mode out, and forgets their ids; gives back how many there were.
    std::size_t remove(DataMode mode);
    [[nodiscard]] std::size_t size() const noexcept { return rows_.size(); }
    [[nodiscard]] bool contains(std::string_view id) const;
    [[nodiscard]] std::string_view id(std::size_t row) const;
    /// Empty when bodies are not kept.
    [[nodiscard]] std::string_view body(std::size_t row) const;
    [[nodiscard]] bool ids_only() const noexcept { return limits_.ids_only; }
    [[nodiscard]] Bytes bytes() const noexcept { return {ids_.size() + body_bytes_}; }
    /// Changes with every clear() and remove(): a reader that pauses sees that its row numbers are
    /// void.
    [[nodiscard]] std::uint64_t generation() const noexcept { return generation_; }
    void clear();

private:
    struct Row {
        std::uint64_t id_hash;
        std::uint64_t body_hash;
        std::uint64_t id_end;  // in ids_; it begins where the row before ends
    };
    /// Index into slots_ of the id, or of the empty slot where it belongs.
    [[nodiscard]] std::size_t slot_of(std::string_view id, std::uint64_t hash) const;
    void index_into(std::vector<std::uint32_t> slots);

    Limits limits_;
    std::vector<Row> rows_;
    std::vector<DataMode> modes_;
    std::vector<std::uint32_t> slots_;  // row number + 1; 0: empty. A power of two, load <= 1/2
    std::string ids_;
    std::vector<std::string> bodies_;
    std::uint64_t body_bytes_ = 0;
    std::uint64_t generation_ = 0;
};

}  // namespace opsrelay::upstream
