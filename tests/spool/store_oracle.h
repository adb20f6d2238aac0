// What a store may hold, told from what its calls returned: simpler than any store.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "spool/store.h"

namespace opsrelay::test {

/// All of a store that a caller can see. Records and letters by the hash of their text.
struct StoreImage {
    struct Lane {
        Seq next = 1;  // the first record without an outcome
        Seq end = 1;   // the number the next record gets
        std::set<Seq> ahead;
        std::map<Seq, std::size_t> records;  // from `next` on
        std::map<Seq, std::size_t> deferred;
        bool operator==(const Lane&) const = default;
    };
    std::map<LaneId, Lane> lanes;
    std::map<spool::DeadKey, std::size_t> letters;
    std::set<IdHash> ids;  // known as seen
    bool operator==(const StoreImage&) const = default;
};

/// What the store shows. `ids`: all that it may know; runs can only be asked.
[[nodiscard]] StoreImage look(spool::Store& store, const std::set<IdHash>& ids);
[[nodiscard]] std::string describe(const StoreImage& image);
/// Where they differ, one of each kind.
[[nodiscard]] std::string difference(const StoreImage& seen, const StoreImage& expected);

/// Follows one store through calls that succeed and calls that fail. A call that failed may have
/// reached the disk or not, all of it or nothing; what is found later decides. Everything found has
/// to be explained by one list of calls, in their order. Only a power loss may leave a part of what
/// was never said to be durable: of a batch that it has torn, what has a checksum of its own.
class StoreOracle {
public:
    explicit StoreOracle(StoreImage first);

    /// What the open store has to show.
    [[nodiscard]] const StoreImage& view() const noexcept { return view_; }
    /// All ids that were ever in a commit.
    [[nodiscard]] const std::set<IdHash>& ids() const noexcept { return ids_; }

    // --- What a call did ---
    void commit(std::span<const spool::Segment> segments,
                std::span<const spool::DeadLetter> rejected, bool succeeded);
    void ack(const spool::Ack& ack, bool succeeded);
    /// `letters` of this lane, all there, with these texts, as one segment.
    void replay(LaneId lane, const std::map<spool::DeadKey, std::string>& letters, bool succeeded);
    void purge(std::span<const spool::DeadKey> letters, bool succeeded);
    void sync();

    // --- What is found ---
    /// After reopen() succeeded; false: that cannot be.
    [[nodiscard]] bool explains_reopened(const StoreImage& seen);
    /// reopen() failed: it may have undone replays all the same.
    void reopen_failed();
    /// In a new process, after an end or a power loss; false: that cannot be.
    [[nodiscard]] bool explains_new(const StoreImage& seen, bool power_loss);
    /// What could have been, and how `seen` differs.
    [[nodiscard]] std::string explain(const StoreImage& seen) const;

private:
    struct State {
        StoreImage image;
        std::uint64_t next_letter = 1;  // of admission
        bool operator==(const State&) const = default;
    };
    using Change = std::function<void(State&)>;
    void apply(const Change& change, bool succeeded, bool durable);
    void undo_replays(State& state) const;
    void undo_commits(State& state) const;
    void tear(LaneId lane, std::string_view payload, std::span<const IdHash> ids);

    StoreImage view_;
    std::uint64_t next_letter_ = 1;  // the open store's
    std::set<IdHash> ids_;
    std::set<IdHash> doubtful_ids_;                  // of commits that failed
    std::map<spool::DeadKey, std::size_t> replays_;  // letters of replays that failed
    std::vector<State> now_;   // what the disk may hold, each call so far being written
    std::vector<State> torn_;  // of the call that failed last, its beginning
    std::vector<State> past_;  // and what a power loss may leave of it besides: since the last sync
};

}  // namespace opsrelay::test
