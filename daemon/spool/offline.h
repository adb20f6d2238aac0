// What `opsrelay spool` does with a spool that no daemon has open. Only repair() changes anything.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/event.h"
#include "core/units.h"
#include "spool/options.h"

namespace opsrelay::spool {

struct LaneSummary {
    LaneId lane = kDefaultLane;
    std::string name;                 // empty: not known
    std::uint64_t records = 0;        // without an outcome
    std::uint64_t deferred = 0;       // of them
    std::int64_t oldest_unix_ms = 0;  // when its oldest record was received; 0: none
};

/// A database or a quarantine that was kept.
struct KeptSummary {
    std::string path;
    std::uint64_t bytes = 0;
    bool open = true;       // false: everything that could be read was taken back
    bool repaired = false;  // by repair(): nothing needs it any more, and it stays until deleted
};

struct SpoolSummary {
    std::map<std::string, std::uint64_t> bytes;  // by kind of file: "logs", "tables/seg_0", ...
    std::uint64_t bytes_total = 0;
    std::vector<LaneSummary> lanes;
    std::uint64_t dead_admission = 0;
    std::uint64_t dead_upstream = 0;
    std::uint64_t ids = 0;
    std::vector<KeptSummary> kept;
    /// Empty, or why the database cannot be opened; then only sizes are known.
    std::string trouble;
};
/// Whether there is `file` in the spool. Errors: spool_unusable, saying which: it is not there, or
/// this user may not look.
[[nodiscard]] Result<void> must_hold(const Options& options, std::string_view file);
/// Bounded work, whatever the backlog. Errors: spool_locked; spool_unusable: no spool, newer
/// format.
[[nodiscard]] Result<SpoolSummary> summarize(const Options& options);

/// Called now and then with the bytes read so far and the bytes that there are.
using Progress = std::function<void(std::uint64_t done, std::uint64_t total)>;

/// Something that is damaged, and how.
struct Finding {
    std::string where;
    std::string what;
};
inline constexpr std::size_t kFindingsMax = 1000;
struct VerifyReport {
    std::uint64_t files = 0;
    std::uint64_t bytes = 0;
    std::uint64_t segments = 0;
    std::uint64_t records = 0;      // in them, and deferred ones
    std::vector<Finding> findings;  // the first kFindingsMax
    std::uint64_t damaged = 0;      // how many there are
};
/// Reads everything and checks every checksum. Errors: as summarize().
[[nodiscard]] Result<VerifyReport> verify(const Options& options, const Progress& progress);

/// A record that has no outcome yet; valid during the call.
struct StoredRecord {
    LaneId lane = kDefaultLane;
    std::string_view lane_name;  // empty: not known
    Seq seq = 0;
    std::int64_t received_unix_ms = 0;
    std::string_view event;
};
/// False ends it.
using RecordSink = std::function<bool(const StoredRecord&)>;
struct ExportReport {
    std::uint64_t records = 0;
    std::uint64_t lost = 0;           // that are missing or cannot be read, by their numbers
    std::uint64_t damaged_files = 0;  // of those read one by one: not every byte can be read
    std::vector<LaneName> lanes;      // that there are, with records or without
};
/// Every record without an outcome, lane by lane: those that are deferred, then the others, in
/// order. A database that cannot be opened is read file by file. Errors: as summarize(); io.
[[nodiscard]] Result<ExportReport> export_records(const Options& options, const RecordSink& sink);
/// The same of any directory with logs and tables: damaged-<ms>, a quarantine, a copy. Changes
/// nothing and needs no lock. Errors: io.
[[nodiscard]] Result<ExportReport> export_files(const std::string& dir, const RecordSink& sink);

/// The id that a record has in a spool of this salt; nullopt: it has none.
using IdOf =
    std::function<std::optional<IdHash>(std::uint64_t salt, LaneId lane, std::string_view event)>;
struct RepairSource {
    std::string path;
    std::string kept_as;              // afterwards, when something of it is only there
    bool deleted = false;             // all of it is in the spool
    std::uint64_t records = 0;        // without an outcome
    std::uint64_t admitted = 0;       // put into the spool
    std::uint64_t known = 0;          // their ids are in the spool already
    std::uint64_t no_lane = 0;        // nothing says which lane they belong to
    std::uint64_t dead = 0;           // dead letters
    std::uint64_t dead_admitted = 0;  // put into the spool
    std::uint64_t dead_known = 0;     // in the spool already
    std::uint64_t dead_over = 0;  // of events never accepted: beyond their bound, so they are gone
    std::uint64_t dead_left = 0;  // no room for them, or of an unknown lane: still where they were
    std::uint64_t dead_damaged = 0;   // letters and tables of them that cannot be read
    std::uint64_t damaged_files = 0;  // not every byte of them can be read
    std::uint64_t missing = 0;        // records that are in none of its files, by their numbers

    /// Nothing that can be read and has room is left behind.
    [[nodiscard]] bool whole() const noexcept { return no_lane == 0 && dead_left == 0; }
    /// Nothing is only there, readable or not.
    [[nodiscard]] bool dispensable() const noexcept {
        return whole() && dead_over == 0 && dead_damaged == 0 && damaged_files == 0 && missing == 0;
    }
};
struct RepairReport {
    std::vector<RepairSource> sources;
};
/// Puts the records of every damaged-<ms> at the end of their lanes, unless their id is known or
/// there is a dead letter of them, and takes its dead letters over. Once that is durable it is
/// deleted, or renamed to repaired-<ms> when something of it is only there; with something that has
/// no room or no lane it stays. Opening the spool for it takes back what lies in quarantine.
/// Without `write` nothing is changed. May be done again after a crash. Errors: as summarize(); as
/// Store::commit().
[[nodiscard]] Result<RepairReport> repair(const Options& options, bool write, const IdOf& id_of,
                                          const Progress& progress);

}  // namespace opsrelay::spool
