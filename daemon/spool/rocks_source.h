// Records in the files of a directory, without opening a database: whatever state it is in.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/event.h"
#include "spool/deferred.h"
#include "spool/keys.h"
#include "spool/rocks_log.h"
#include "spool/segment.h"

namespace opsrelay::spool {

/// Logs and tables below a directory. Reading takes two passes: what is settled is said anywhere.
class FileSource {
public:
    /// Errors: io.
    [[nodiscard]] static Result<FileSource> open(const std::string& dir);

    /// Visits every segment with a record that has no outcome, once, in the order of the files,
    /// while `visit` returns true. Bounded memory but for 48 bytes a segment. Returns which records
    /// were not among them, once all were visited. Errors: io.
    using Visit = std::function<bool(LaneId, const StoredSegment&)>;
    struct LeftOut {
        std::uint64_t missing = 0;  // without an outcome, and in no segment, by their numbers
        std::uint64_t no_lane = 0;  // in segments of which nothing says whose they are
    };
    [[nodiscard]] Result<LeftOut> visit_segments(const Visit& visit) const;

    /// Reads everything and checks every checksum. Returns in how many files not every byte can be
    /// read; what a crash cut off at the end of the last log is no damage. Errors: io.
    [[nodiscard]] Result<std::uint64_t> count_damaged_files() const;

    /// Visits the dead letters, each once, while `visit` returns true. One that was deleted since
    /// is left out only when a log says so. Returns how many letters and tables could not be read.
    /// Errors: io.
    using VisitDead = std::function<bool(DeadLetter&)>;
    [[nodiscard]] Result<std::uint64_t> visit_dead(const VisitDead& visit) const;

    /// The deferred records without a dead letter.
    void visit_deferred(const std::function<void(const StoredDeferred&)>& visit) const;

    /// By a cursor, or since there is a dead letter of it, or since it is deferred.
    [[nodiscard]] bool is_settled(LaneId lane, Seq seq) const;
    /// By number; those that are known.
    [[nodiscard]] const std::map<LaneId, std::string>& names() const noexcept { return names_; }
    [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

private:
    class Seen;
    void learn_from_table(const std::string& file);
    [[nodiscard]] Result<void> learn_from_log(const std::string& file);
    void learn_deferred(const StoredDeferred& stored);
    void learn_deferred_from_table(const std::string& file);
    [[nodiscard]] bool has_letter(LaneId lane, Seq seq) const;
    void learn(std::string_view key, std::string_view value);
    void learn_dead(const DeadKey& key);
    [[nodiscard]] std::optional<LaneId> lane_of(FamilyNumber family) const;
    [[nodiscard]] std::uint64_t count_missing(const Seen& seen) const;
    [[nodiscard]] std::uint64_t count_unsettled(LaneId lane, Seq from, Seq end) const;

    std::string dir_;
    std::vector<std::string> tables_;
    std::vector<std::string> logs_;
    std::uint64_t bytes_ = 0;
    std::map<LaneId, std::string> names_;
    std::map<LaneId, Cursor> cursors_;
    std::map<LaneId, Seq> ends_;            // the number that the next record would have got
    std::map<FamilyNumber, LaneId> lanes_;  // of segment families
    std::map<DeadKey, bool> dead_in_logs_;  // whether it was put last, not deleted
    std::map<LaneId, std::set<Seq>> dead_records_;
    std::optional<FamilyNumber> deferred_family_;
    std::map<std::pair<LaneId, Seq>, StoredDeferred> deferred_;  // bounded by what a spool may have
};

}  // namespace opsrelay::spool
