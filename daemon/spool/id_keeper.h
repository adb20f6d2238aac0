// The ids on the storage thread: which are durable and not in a run yet, when they become one, what
// is merged and what is forgotten. IdPlan decides, this carries it out.
#pragma once

#include <array>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/enum_table.h"
#include "core/error.h"
#include "core/log.h"
#include "core/signal.h"
#include "observe/metrics.h"
#include "spool/id_plan.h"
#include "spool/options.h"
#include "spool/store.h"

namespace opsrelay::spool {

/// What ingest needs to know of the ids that are in runs.
struct IdView {
    /// Every id up to this position, recovered ones included, is in one of the filters. Unset:
    /// none of this process is.
    std::optional<Position> covered;
    std::vector<std::shared_ptr<const admit::IdFilter>> filters;  // young ones first
};

/// What the keeper does with runs. Label values of `step`.
enum class IdStep : std::uint8_t { sealed, merged, expired };
inline constexpr std::array<EnumName<IdStep>, 3> kIdSteps{{
    {IdStep::sealed, "sealed"},    // durable ids became a run
    {IdStep::merged, "merged"},    // several runs became one
    {IdStep::expired, "expired"},  // runs were forgotten
}};
static_assert(dense(kIdSteps));
constexpr std::string_view to_string(IdStep step) { return kIdSteps.at(index_of(step)).name; }

/// How the lookup of an id that a filter knows ended. Label values of `result`.
enum class IdLookup : std::uint8_t { found, absent };
inline constexpr std::array<EnumName<IdLookup>, 2> kIdLookups{{
    {IdLookup::found, "found"},    // a duplicate
    {IdLookup::absent, "absent"},  // the filter was wrong: the event is accepted
}};
static_assert(dense(kIdLookups));
constexpr std::string_view to_string(IdLookup l) { return kIdLookups.at(index_of(l)).name; }

/// Ids have a clock of their own, in Unix milliseconds when the spool is made, which goes on only
/// while the process runs and continues at the last stored time after a start. So no step of the
/// wall clock forgets an id too early or keeps one for ever; time when nothing ran does not count.
///
/// Durable ids that are in no run are held in memory (16 bytes each) and in the id log. They become
/// a run when they are seal_age old or seal_ids positions were settled: as many ids are in the
/// tables of ingest, those of repeats that only the disk knew among them. The file is made on the
/// maintenance thread. While that does not work, more are held, up to kUnsealedSeals times
/// seal_ids; then has_room() is false and nothing more is committed, so that the stall buffer
/// fills. Thread: storage.
class IdKeeper {
public:
    struct Executors {
        asio::any_io_executor storage;
        asio::any_io_executor maintenance;
    };
    struct Hooks {
        /// Filters changed, or more ids are in them.
        std::function<void(IdView)> changed;
        /// has_room() may have become true.
        std::function<void()> room;
    };
    IdKeeper(const Executors& executors, Clock& clock, Store& store, const Options& options,
             observe::Registry& registry, Hooks hooks);
    IdKeeper(const IdKeeper&) = delete;
    IdKeeper& operator=(const IdKeeper&) = delete;

    /// Takes over what the store has, before run(). `sink` gets every id that is in no run.
    [[nodiscard]] Result<void> recover(const std::function<void(const IdHash&)>& sink);
    /// Seals, merges and forgets until it is cancelled; finishes the job in hand.
    [[nodiscard]] asio::awaitable<void> run();

    /// Of the id clock; never decreases.
    [[nodiscard]] std::int64_t now_ms() const noexcept;
    /// These were made durable; with them every event up to `last` was.
    void note_committed(std::span<const Segment> segments, Position last);
    /// The disk refuses a commit: events wait behind it that were received in the window of ids
    /// which are about to leave it. Nothing is forgotten until none_waits().
    void note_stalled() noexcept { stalled_ = true; }
    /// Every event that was received meanwhile was looked up.
    void none_waits() noexcept { stalled_ = false; }
    /// Which of these are in a run.
    [[nodiscard]] std::vector<bool> find(std::span<const IdHash> ids);
    /// The store was opened again: its runs may be others.
    void note_reopened() { take_stock(); }
    [[nodiscard]] bool has_room() const noexcept;

    /// Durable ids that are remembered.
    [[nodiscard]] std::uint64_t ids() const noexcept { return plan_.ids() + unsealed(); }
    [[nodiscard]] std::uint64_t ids_max() const noexcept { return ids_max_; }
    /// The age of the oldest one of them; 0 when there is none.
    [[nodiscard]] milliseconds window() const noexcept;

    static constexpr std::size_t kUnsealedSeals = 4;

private:
    using Ids = std::vector<IdHash>;
    /// Ids on their way to a run: kept until it is part of the store.
    struct Seal {
        Seal();
        std::shared_ptr<Ids> ids;
        std::int64_t oldest_ms = 0;
        std::int64_t newest_ms = 0;
        std::uint64_t log_end = 0;  // the log below is not needed any more afterwards
        Position last = 0;
    };
    [[nodiscard]] std::uint64_t unsealed() const noexcept;
    /// Settled positions whose ids the tables of ingest still hold.
    [[nodiscard]] std::uint64_t uncovered() const noexcept;
    [[nodiscard]] bool table_is_full() const noexcept;
    [[nodiscard]] bool seal_is_due() const noexcept;
    [[nodiscard]] unsigned open_filter_bits() const noexcept;
    [[nodiscard]] unsigned filter_bits() const noexcept;
    void begin_seal();
    /// False: nothing to do, or it did not work.
    [[nodiscard]] asio::awaitable<bool> step();
    [[nodiscard]] asio::awaitable<bool> seal();
    void cover(Position last);
    [[nodiscard]] asio::awaitable<bool> merge(RunMerge merge);
    [[nodiscard]] bool expire(const std::vector<RunName>& names);
    void take_stock();
    void note_done(IdStep step) { steps_[index_of(step)]->add(); }
    void note_trouble(IdStep step, const Error& error);

    // Constant after construction.
    const Executors executors_;
    Clock& clock_;
    Store& store_;
    const IdOptions options_;
    const std::uint64_t ids_max_;
    const std::size_t seal_ids_;
    const milliseconds seal_age_;
    const milliseconds tick_;
    const Hooks hooks_;
    observe::Counter& damaged_;
    std::array<observe::Counter*, kIdSteps.size()> steps_{};
    std::array<observe::Counter*, kIdLookups.size()> lookups_{};

    IdPlan plan_;
    Signal wake_;
    log::Throttle throttle_;
    std::int64_t clock_base_ms_ = 0;
    TimePoint clock_start_{};
    Ids gathered_;
    std::int64_t gathered_oldest_ms_ = 0;  // when there are any
    std::optional<Seal> seal_;
    Position committed_ = 0;
    std::optional<Position> covered_;
    bool stalled_ = false;
};

}  // namespace opsrelay::spool
