// Intake: what happens to an event between a listener and the segment queue. Parse, recognise
// repeats, hand to storage; one outcome for each message.
#pragma once

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <cstdint>
#include <functional>
#include <vector>

#include "admit/dedupe.h"
#include "core/clock.h"
#include "core/signal.h"
#include "listen/inlet.h"
#include "observe/ledger.h"
#include "observe/metrics.h"
#include "parse/event_parser.h"
#include "spool/segment_queue.h"

namespace opsrelay {

/// Implements Inlet. Owns parser, id table and the burst that is being built.
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

    /// Puts back an id from the id log; before the first offer().
    void recover_id(const IdHash& id, std::int64_t unix_ms);
    /// Storage settled everything up to `position` as durable.
    void note_settled(Position position);
    /// Storage failed: nothing that still waits will become durable. Its ids are forgotten with the
    /// process, so a re-send to the next one is accepted.
    void note_failed();

    /// Any thread.
    struct Ids {
        std::uint64_t remembered = 0;
        std::int64_t oldest_unix_ms = 0;  // 0 when none
    };
    [[nodiscard]] Ids ids() const noexcept;

private:
    void take(const listen::Message& message, const Origin& origin, listen::Offered& offered);
    void admit(const parse::Event& event, const Origin& origin, listen::Offered& offered);
    void reject(const parse::Rejection& rejection, const listen::Message& message,
                const Origin& origin, listen::Offered& offered);
    void shed(ShedReason reason, listen::Offered& offered);
    [[nodiscard]] bool may_keep_dead_letter();
    void count_repairs(std::uint32_t repairs);
    void hand_over();

    // Constant after construction.
    Clock& clock_;
    const std::uint64_t salt_;
    spool::SegmentQueue& queue_;
    const std::function<void()> wake_storage_;
    std::vector<observe::Counter*> repairs_;
    observe::Counter& client_dropped_;

    // Ingest thread.
    parse::EventParser parser_;
    admit::DedupeIndex index_;
    Signal progress_;
    spool::Burst burst_;
    std::vector<listen::Offered> offered_;
    WallTime received_{};
    Position handed_ = 0;
    Position durable_ = 0;
    bool failed_ = false;
    std::int64_t dead_letter_second_ = 0;
    unsigned dead_letters_this_second_ = 0;

    // Any thread.
    std::atomic<std::uint64_t> ids_remembered_{0};
    std::atomic<std::int64_t> oldest_id_unix_ms_{0};
};

}  // namespace opsrelay
