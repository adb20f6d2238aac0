#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "core/clock.h"
#include "spool/dead_repair.h"
#include "spool/disk_plan.h"
#include "spool/id_plan.h"
#include "spool/offline.h"
#include "spool/quarantine.h"
#include "spool/rocks_offline.h"
#include "spool/rocks_setup.h"
#include "spool/rocks_source.h"
#include "spool/rocks_store.h"

namespace opsrelay::spool {
namespace {

namespace fs = std::filesystem;

/// Puts records into an open store, those that it does not know.
class Readmission {
public:
    Readmission(Store& store, const Options& options, const IdOf& id_of)
        : store_(store), options_(options), id_of_(id_of) {}

    /// The ids that are in no run are held in memory: some 65,536. Errors: as Store::replay_ids().
    [[nodiscard]] Result<void> begin();
    /// One segment of the source, as one of the store. Errors: as Store::commit().
    [[nodiscard]] Result<void> admit(LaneId lane, const std::vector<std::string_view>& events,
                                     std::int64_t received_unix_ms, RepairSource& report);

private:
    [[nodiscard]] Result<void> seal();

    Store& store_;
    const Options& options_;
    const IdOf& id_of_;
    std::set<IdHash> known_;  // those that are in no run
    std::int64_t oldest_ms_ = std::numeric_limits<std::int64_t>::max();
    std::int64_t id_clock_ms_ = 0;
};

Result<void> Readmission::begin() {
    // The id clock must not jump, or ids would be forgotten early.
    for (const auto& run : store_.id_runs()) {
        id_clock_ms_ = std::max(id_clock_ms_, run.info.newest_ms);
    }
    auto read = store_.replay_ids([this](const IdHash& id, std::int64_t at_ms) {
        known_.insert(id);
        oldest_ms_ = std::min(oldest_ms_, at_ms);
        id_clock_ms_ = std::max(id_clock_ms_, at_ms);
    });
    if (!read) return read;
    if (id_clock_ms_ == 0) id_clock_ms_ = unix_ms(SystemClock{}.wall_now());
    return {};
}

Result<void> Readmission::admit(LaneId lane, const std::vector<std::string_view>& events,
                                std::int64_t received_unix_ms, RepairSource& report) {
    Segment segment;
    segment.lane = lane;
    segment.received_unix_ms = received_unix_ms;
    segment.id_clock_ms = id_clock_ms_;
    std::vector<IdHash> ids;
    for (const auto event : events)
        ids.push_back(id_of_(store_.salt(), lane, event).value_or(IdHash{}));
    const auto in_runs = store_.find_ids(ids);
    for (std::size_t i = 0; i < events.size(); ++i) {
        ++report.records;
        const bool has_id = ids[i] != IdHash{};
        if (has_id && (in_runs[i] || !known_.insert(ids[i]).second)) {
            ++report.known;
            continue;
        }
        ++report.admitted;
        ++segment.count;
        segment.payload.append(events[i]).push_back('\n');
        segment.ids.push_back(ids[i]);
    }
    if (segment.count == 0) return {};
    if (auto done = store_.commit(std::span(&segment, 1), {}); !done) return done;
    return known_.size() < options_.ids.seal_ids ? Result<void>{} : seal();
}

// As the daemon does, so that neither this process nor the next start holds them all in memory.
Result<void> Readmission::seal() {
    IdPlan plan(options_.ids.window, plan_disk(options_).ids);
    plan.set_runs(store_.id_runs());
    const auto oldest = std::min(oldest_ms_, id_clock_ms_);
    const SealSpec spec{plan.next_run(oldest), oldest, id_clock_ms_, store_.id_log_end(), 16};
    auto job =
        store_.seal_job(spec, std::make_shared<std::vector<IdHash>>(known_.begin(), known_.end()));
    const auto made = job();
    if (!made) return made.error();
    if (auto taken = store_.adopt_run(*made); !taken) return taken;
    known_.clear();
    oldest_ms_ = id_clock_ms_;
    return {};
}

std::vector<std::string_view> waiting_records(const FileSource& source, LaneId lane,
                                              const StoredSegment& segment) {
    std::vector<std::string_view> events;
    const std::string_view payload = segment.payload;
    for (std::size_t i = 0; i + 1 < segment.offsets.size(); ++i) {
        if (source.is_settled(lane, segment.first_seq + i)) continue;
        events.push_back(
            payload.substr(segment.offsets[i], segment.offsets[i + 1] - segment.offsets[i] - 1));
    }
    return events;
}

/// The lanes of the spool by name, and what they are called in a source.
class LaneMap {
public:
    explicit LaneMap(const std::vector<LaneSummary>& lanes) {
        for (const auto& lane : lanes) add(lane.lane, lane.name);
    }
    /// Every lane of the source has one in the spool afterwards. Errors: spool_unusable: too many.
    [[nodiscard]] Result<void> add_missing(const FileSource& source) {
        for (const auto& [number, name] : source.names()) {
            if (by_name_.contains(name)) continue;
            LaneId free{0};
            while (names_.contains(free)) {
                free = LaneId{static_cast<std::uint16_t>(static_cast<std::uint16_t>(free) + 1U)};
            }
            if (static_cast<std::size_t>(free) >= kLaneNumbersMax) {
                return Error{Errc::spool_unusable,
                             fmt::format("lane {} has no place: a spool has at most {}; take its "
                                         "records out with opsrelay spool export --from",
                                         name, kLaneNumbersMax)};
            }
            add(free, name);
        }
        return {};
    }
    [[nodiscard]] std::vector<LaneName> all() const {
        std::vector<LaneName> lanes;
        for (const auto& [number, name] : names_) lanes.push_back({number, name});
        return lanes;
    }
    /// nullopt: the spool does not have the lane of this name; or the source does not say what it
    /// is called, and the number is not in the spool.
    [[nodiscard]] std::optional<LaneId> translate(const FileSource& source, LaneId lane) const {
        const auto name = source.names().find(lane);
        if (name == source.names().end()) {
            return names_.contains(lane) ? std::optional(lane) : std::nullopt;
        }
        const auto known = by_name_.find(name->second);
        return known == by_name_.end() ? std::nullopt : std::optional(known->second);
    }

private:
    void add(LaneId number, const std::string& name) {
        names_[number] = name;
        by_name_[name] = number;
    }
    std::map<LaneId, std::string> names_;
    std::map<std::string, LaneId> by_name_;
};

/// What a repair writes to.
struct Target {
    Readmission records;
    DeadRepair dead;
};

/// After the records: a crash between leaves them waiting, and their letters are taken next time.
[[nodiscard]] Result<void> look_through_dead(const FileSource& source, Target* into,
                                             const LaneMap& lanes, RepairSource& report) {
    Result<void> failed;
    const auto damaged = source.visit_dead([&](DeadLetter& letter) {
        const auto lane = lanes.translate(source, letter.lane);
        if (into == nullptr || !lane) {
            ++report.dead;
            if (into != nullptr) ++report.dead_left;
            return true;
        }
        failed = into->dead.take(*lane, std::move(letter), report);
        return failed.has_value();
    });
    if (!damaged) return damaged.error();
    report.dead_damaged = *damaged;
    return failed && into != nullptr ? into->dead.finish() : failed;
}

Result<RepairSource> look_through(const std::string& path, Target* into, const LaneMap& lanes,
                                  const Progress& progress) {
    RepairSource report;
    report.path = path;
    const auto source = FileSource::open(path);
    if (!source) return source.error();
    Result<void> failed;
    std::uint64_t done = 0;
    const auto take = [&](LaneId lane, const std::vector<std::string_view>& events,
                          std::int64_t received_unix_ms) {
        const auto target = lanes.translate(*source, lane);
        if (into == nullptr || !target) {
            report.records += events.size();
            if (into != nullptr) report.no_lane += events.size();
            return;
        }
        failed = into->records.admit(*target, events, received_unix_ms, report);
    };
    const auto visited = source->visit_segments([&](LaneId lane, const StoredSegment& segment) {
        done += segment.payload.size();
        if (progress) progress(done, source->bytes());
        take(lane, waiting_records(*source, lane, segment), segment.received_unix_ms);
        return failed.has_value();
    });
    if (!visited) return visited.error();
    report.missing = visited->missing;
    report.records += visited->no_lane;
    report.no_lane += visited->no_lane;
    // They are records as all others again.
    source->visit_deferred([&](const StoredDeferred& stored) {
        if (failed) take(stored.lane, {stored.record.payload}, stored.record.received_unix_ms);
    });
    if (!failed) return failed.error();
    if (auto dead = look_through_dead(*source, into, lanes, report); !dead) return dead.error();
    const auto damaged = source->count_damaged_files();
    if (!damaged) return damaged.error();
    report.damaged_files = *damaged;
    return report;
}

// What was taken is durable. Renamed first: of one that is half deleted nothing is taken back.
Result<void> put_away(RepairSource& source) {
    if (!source.whole()) return {};
    auto kept = mark_repaired(source.path);
    if (!kept) return kept.error();
    source.kept_as = std::move(*kept);
    if (!source.dispensable()) return {};
    std::error_code ec;
    fs::remove_all(source.kept_as, ec);
    if (ec) return errno_error(Errc::io, fmt::format("delete {}", source.kept_as), ec.value());
    source.kept_as.clear();
    source.deleted = true;
    return {};
}

}  // namespace

Result<RepairReport> repair(const Options& options, bool write, const IdOf& id_of,
                            const Progress& progress) {
    auto summary = summarize(options);
    if (!summary) return summary.error();
    if (write && !summary->trouble.empty()) {
        // As a start of the daemon does: what nothing helps is moved aside, and taken back below.
        RocksSetup setup;
        setup.lanes.clear();
        const auto opened = open_rocks_store(options, setup);
        if (!opened) return opened.error();
        (*opened)->close();
    }
    if (write && !summary->trouble.empty()) summary = summarize(options);
    if (!summary) return summary.error();
    auto databases = find_damage(options).databases;
    RepairReport report;
    LaneMap lanes(summary->lanes);
    if (!write) {
        if (!summary->trouble.empty()) databases.push_back(database_dir(options));
        for (const auto& path : databases) {
            auto source = look_through(path, nullptr, lanes, progress);
            if (!source) return source.error();
            report.sources.push_back(std::move(*source));
        }
        return report;
    }
    for (const auto& path : databases) {
        const auto source = FileSource::open(path);
        if (!source) return source.error();
        if (auto added = lanes.add_missing(*source); !added) return added.error();
    }
    RocksSetup setup;
    setup.lanes = lanes.all();
    auto store = open_rocks_store(options, setup);
    if (!store) return store.error();
    Target into{Readmission(**store, options, id_of),
                DeadRepair(**store, within({}, plan_disk(options)))};
    if (auto begun = into.records.begin(); !begun) return begun.error();
    if (auto begun = into.dead.begin(); !begun) return begun.error();
    for (const auto& path : databases) {
        auto source = look_through(path, &into, lanes, progress);
        if (!source) return source.error();
        if (auto done = put_away(*source); !done) return done.error();
        report.sources.push_back(std::move(*source));
    }
    (*store)->close();
    return report;
}

}  // namespace opsrelay::spool
