// Intake: what happens to an event between a listener and the segment queue. Parse, recognise
// repeats, hand to storage; one outcome for each message.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <vector>

#include "admit/dedupe.h"
#include "core/clock.h"
#include "core/signal.h"
#include "listen/inlet.h"
#include "observe/ledger.h"
#include "observe/llm_usage.h"
#include "observe/metrics.h"
#include "observe/tap.h"
#include "parse/event_parser.h"
#include "spool/id_keeper.h"
#include "spool/segment_queue.h"

namespace opsrelay {

/// Implements Inlet. Owns parser, id tables and the burst that is being built.
/// Thread: ingest, except where noted.
class Intake final : public listen::Inlet {
public:
    struct Options {
        parse::Options parse;
        admit::Options admit;
    };
    /// `wake_storage` is called when the queue was empty and storage waits for it.
    Intake(asio::any_io_executor ingest, Clock& clock, Rng& rng, std::uint64_t salt,
           const Options& options, spool::SegmentQueue& queue, observe::Registry& registry,
           std::function<void()> wake_storage);

    // --- Inlet ---
    [[nodiscard]] std::span<const listen::Offered> offer(std::span<const listen::Message> burst,
                                                         const Origin& origin) override;
    [[nodiscard]] bool has_room() const override;
    [[nodiscard]] asio::awaitable<void> wait_for_room() override;
    [[nodiscard]] Position durable_position() const override { return durable_; }
    [[nodiscard]] asio::awaitable<listen::Settled> settled(Position position,
                                                           TimePoint due) override;
    void note_client_drops(std::uint64_t count) override;

    /// Shows what passes; outlives it. Before the first offer().
    void set_tap(observe::Tap* tap) noexcept { tap_ = tap; }
    /// What an operator chose anew; numbers of defaults (Origin) are of these options from now on.
    void configure(const parse::Options& options);
    /// Puts back an id from the id log; before the first offer().
    void recover_id(const IdHash& id);
    /// Which ids are in runs now.
    void note_ids(spool::IdView view);
    /// These events, offered by HTTP, are duplicates after all; before note_settled() of them.
    void note_struck(const std::vector<Position>& positions);
    /// Storage settled everything up to `position` as durable.
    void note_settled(Position position);
    /// Storage failed: nothing that still waits will become durable. Its ids are forgotten with the
    /// process, so a re-send to the next one is accepted.
    void note_failed();

private:
    void take(const listen::Message& message, const Origin& origin, listen::Offered& offered);
    /// A parsed event whose bytes are at the end of the burst's payload.
    struct Staged {
        listen::Offered* offered = nullptr;
        IdHash id;
        std::uint64_t content_hash = 0;
        std::size_t bytes = 0;
        observe::LlmCall call{};
    };
    void stage(const parse::Event& event, const Origin& origin, listen::Offered& offered);
    void admit_staged(const Origin& origin);
    /// False: a duplicate, which is not kept.
    [[nodiscard]] bool admit(const Staged& event, const Origin& origin);
    void reject(const parse::Rejection& rejection, const listen::Message& message,
                const Origin& origin, listen::Offered& offered);
    void shed(ShedReason reason, listen::Offered& offered);
    [[nodiscard]] bool may_keep_dead_letter();
    void show(const listen::Offered& offered, std::string_view json);
    void count_repairs(std::uint32_t repairs);
    void hand_over();

    // Constant after construction.
    Clock& clock_;
    Rng& rng_;
    const std::uint64_t salt_;
    spool::SegmentQueue& queue_;
    const std::function<void()> wake_storage_;
    std::vector<observe::Counter*> repairs_;
    observe::Counter& client_dropped_;
    observe::LlmUsage& usage_;
    observe::Tap* tap_ = nullptr;  // null: nobody can watch

    // Ingest thread.
    std::optional<parse::EventParser> parser_;
    admit::DedupeIndex index_;
    Signal progress_;
    spool::Burst burst_;
    std::vector<listen::Offered> offered_;
    std::vector<Staged> staged_;
    std::size_t staged_bytes_ = 0;
    std::set<Position> struck_;  // the newest kStruckMax
    WallTime received_{};
    Position handed_ = 0;
    Position durable_ = 0;
    bool failed_ = false;
    std::int64_t dead_letter_second_ = 0;
    unsigned dead_letters_this_second_ = 0;
};

}  // namespace opsrelay
