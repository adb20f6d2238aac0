// Asks the storage thread how things are, and notices when it hangs in a disk that does not answer.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <cstdint>
#include <optional>

#include "core/clock.h"
#include "core/log.h"
#include "core/signal.h"
#include "core/task_group.h"
#include "observe/outage_forecast.h"
#include "pipeline.h"

namespace opsrelay {

/// Snapshots of the pipeline for whoever must answer in time, disk or no disk. Thread: forward. The
/// pipeline outlives it; stop() must have returned before it is destroyed.
class StorageWatch {
public:
    StorageWatch(asio::any_io_executor forward, Clock& clock, Pipeline& pipeline);
    StorageWatch(const StorageWatch&) = delete;
    StorageWatch& operator=(const StorageWatch&) = delete;

    /// Begins to look once a second, and to log when the disk stalls and when it answers again.
    void start();
    /// Ends when the storage thread has answered what was asked before.
    [[nodiscard]] asio::awaitable<void> stop();

    /// One that was taken after the call; while the storage thread does not answer, after 300 ms,
    /// the last one there is.
    [[nodiscard]] asio::awaitable<Snapshot> snapshot();
    /// The last one there is, at most a second old unless the storage thread does not answer.
    [[nodiscard]] const Snapshot& last() const noexcept { return last_; }
    /// How long the storage thread has owed an answer; 0 while that is less than a second.
    [[nodiscard]] milliseconds stalled() const;

    /// How long intake could go on if upstream took nothing; infinity while nothing comes in.
    [[nodiscard]] double outage_seconds_left() const noexcept {
        return forecast_.seconds_left(last_.room);
    }

private:
    asio::awaitable<void> look();
    void begin_to_ask();
    asio::awaitable<void> ask();
    void log_stall();
    void log_answer();

    Clock& clock_;
    Pipeline& pipeline_;
    log::Throttle throttle_;
    Signal changed_;
    TaskGroup tasks_;
    Snapshot last_;
    observe::OutageForecast forecast_;
    // Questions so far, and those that were answered: one at a time.
    std::uint64_t asked_ = 0;
    std::uint64_t answered_ = 0;
    bool asking_ = false;
    std::optional<TimePoint> waiting_since_;
    bool ask_again_ = false;
    bool stall_known_ = false;
    bool stopping_ = false;
};

}  // namespace opsrelay
