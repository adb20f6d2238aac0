// Pure: an id run, the sorted ids of one seal or merge, as the keys and values of its file.
// README.md has the grammar.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "admit/id_filter.h"
#include "core/event.h"

namespace opsrelay::spool {

/// Which run: the generation (a stretch of time that is forgotten as a whole) and a number in it.
struct RunName {
    std::uint32_t generation = 0;
    std::uint32_t run = 0;
    constexpr auto operator<=>(const RunName&) const = default;
};

/// What its descriptor says of a run.
struct RunInfo {
    RunName name;
    std::uint64_t ids = 0;
    std::int64_t oldest_ms = 0;  // of its ids, in time of the id clock (id_keeper.h)
    std::int64_t newest_ms = 0;
    std::uint32_t pages = 0;
    std::uint64_t log_end = 0;      // the id log below this entry is not needed any more
    std::vector<RunName> replaces;  // by a merge: where they are still found, they are stale
    bool operator==(const RunInfo&) const = default;
};

/// A run as it is remembered while the spool is open.
struct IdRun {
    RunInfo info;
    std::shared_ptr<const admit::IdFilter> filter;  // shared with ingest; never changes
};

/// Ids a page holds on average: the page is then about 3.6 KiB and seldom larger than 4.5 KiB.
inline constexpr std::uint64_t kIdsPerPage = 224;

using RunKey = std::array<char, 12>;
inline constexpr std::uint32_t kDescriptorPage = 0xFFFF'FFFE;
inline constexpr std::uint32_t kFilterPage = 0xFFFF'FFFF;
[[nodiscard]] RunKey run_key(RunName name, std::uint32_t page) noexcept;
/// nullopt: not such a key.
[[nodiscard]] std::optional<RunName> parse_run_key(std::string_view key) noexcept;
[[nodiscard]] std::optional<std::uint32_t> parse_run_page(std::string_view key) noexcept;

/// How many pages a run of `ids` ids has; at least 1.
[[nodiscard]] std::uint32_t pages_for(std::uint64_t ids) noexcept;
/// Which page of a run holds `id`. Rises with the id, so that a sorted run is written in order.
[[nodiscard]] std::uint32_t page_of(const IdHash& id, std::uint32_t pages) noexcept;

/// A page's value: its ids in ascending order.
void append_id(std::string& page, const IdHash& id);
[[nodiscard]] IdHash id_at(std::string_view page, std::size_t index) noexcept;
/// 0 when it is not a whole number of ids.
[[nodiscard]] std::size_t ids_in_page(std::string_view page) noexcept;
[[nodiscard]] bool page_contains(std::string_view page, const IdHash& id) noexcept;

[[nodiscard]] std::string encode_descriptor(const RunInfo& info);
/// nullopt: not a descriptor, of a newer version, or nonsense.
[[nodiscard]] std::optional<RunInfo> decode_descriptor(RunName name, std::string_view value);

}  // namespace opsrelay::spool
