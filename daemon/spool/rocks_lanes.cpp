// Lanes of an open database: made, paused, and where the first record of each lies.
#include <fmt/format.h>
#include <rocksdb/db.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "spool/keys.h"
#include "spool/rocks_open.h"
#include "spool/rocks_segment_reader.h"
#include "spool/rocks_state.h"
#include "spool/rocks_status.h"
#include "spool/rocks_write.h"

namespace opsrelay::spool {
namespace {

// The lowest number that no lane has, or one whose lane was never finished.
std::optional<LaneId> free_number(const SpoolBook& book) {
    for (std::uint16_t number = 0; number < kLaneNumbersMax; ++number) {
        const auto found = book.lanes.find(LaneId{number});
        if (found == book.lanes.end()) return LaneId{number};
        const auto& lane = found->second;
        if (!lane.named && lane.next_write == 1) return LaneId{number};
    }
    return std::nullopt;
}

// As the other segment families have it, their block cache included.
Result<rocksdb::ColumnFamilyHandle*> make_family(RocksHandle& handle, LaneId lane) {
    const auto name = segment_family(lane);
    if (auto* const there = handle.family(name)) return there;
    const auto like = handle.db().GetOptions(handle.family(segment_family(kDefaultLane)));
    rocksdb::ColumnFamilyHandle* made = nullptr;
    const auto status =
        handle.db().CreateColumnFamily(rocksdb::ColumnFamilyOptions(like), name, &made);
    if (!status.ok()) return rocks_error(status, fmt::format("make family {}", name));
    handle.add(made);
    return made;
}

}  // namespace

DeadEnds dead_ends_of(const SpoolBook& book) {
    DeadEnds ends{.admission = book.admission.next_number()};
    for (const auto& [id, lane] : book.lanes) ends.lanes.emplace(id, lane.next_write);
    return ends;
}

void keep_confirmed(SpoolBook& reopened, SpoolBook before) {
    for (auto& [id, book] : reopened.lanes) {
        const auto old = before.lanes.find(id);
        if (old == before.lanes.end()) continue;
        book.next_write = std::max(old->second.next_write, book.cursor.next);
        book.commit_in_doubt = old->second.commit_in_doubt;
        book.replay_keys = std::move(old->second.replay_keys);
        book.replay_letters = std::move(old->second.replay_letters);
    }
    reopened.next_entry = std::max(before.next_entry, reopened.sealed);
    reopened.admission = std::move(before.admission);
}

std::vector<LaneState> lane_states(const SpoolBook& book) {
    std::vector<LaneState> states;
    for (const auto& [id, lane] : book.lanes) {
        auto& state = states.emplace_back();
        state.lane = id;
        state.name = lane.name;
        state.next_settle = lane.cursor.next;
        state.next_write = lane.next_write;
        state.ahead = lane.cursor.ahead;
        state.paused = lane.paused;
        state.memo = lane.memo;
        for (const auto& [seq, entry] : lane.deferred) state.deferred.push_back(entry);
    }
    return states;
}

Result<LaneId> make_lane(RocksHandle& handle, RocksWriter& writer, SpoolBook& book,
                         std::string_view name) {
    for (const auto& [lane, known] : book.lanes) {
        if (known.name == name) return lane;
    }
    const auto lane = free_number(book);
    if (!lane) {
        return Error{Errc::refused,
                     fmt::format("lane {} has no place: this spool has had {} lanes, which keep "
                                 "their numbers; give it the name of one that is not used any more",
                                 name, kLaneNumbersMax)};
    }
    const auto family = make_family(handle, *lane);
    if (!family) return family.error();
    // A family whose name was not written is found by the next one that is made.
    auto& made = book.lanes[*lane];
    made.family = *family;
    made.name = fmt::format("lane-{}", static_cast<std::uint16_t>(*lane));
    made.named = false;
    rocksdb::WriteBatch batch;
    batch.Put(lane_name_key(*lane), rocksdb::Slice(name.data(), name.size()));
    auto written = writer.write(handle, batch, true, fmt::format("make lane {}", name));
    if (!written) return written.error();
    made.name = name;
    made.named = true;
    return *lane;
}

Result<void> set_paused(const RocksHandle& handle, RocksWriter& writer, LaneId lane, LaneBook& book,
                        bool paused) {
    if (book.paused == paused) return {};
    rocksdb::WriteBatch batch;
    // Not a deletion: what is taken back from a damaged log is what was put.
    batch.Put(paused_key(lane), rocksdb::Slice(paused ? kPaused : kNotPaused));
    const auto what = fmt::format("{} lane {}", paused ? "pause" : "resume", book.name);
    auto written = writer.write(handle, batch, true, what);
    if (written) book.paused = paused;
    return written;
}

Seq segment_at(const RocksHandle& handle, LaneBook& book, Seq next) {
    while (!book.read.empty() && book.read.front().end <= next) book.read.pop_front();
    // A close bound keeps reads off settled tombstones.
    if (!book.read.empty() && book.read.front().first <= next) return book.read.front().first;
    if (next == book.next_write) return next;
    const auto first = last_key_up_to(handle.db(), *book.family, book.cursor.segment, next);
    return first.value_or(book.cursor.segment);
}

}  // namespace opsrelay::spool
