// Sends events over the relay's stream socket and keeps each until the relay says that it is
// settled. A broken connection costs nothing: what was not acknowledged is sent again, and the
// relay knows repeats by their externalRequestId.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/line_source.h"
#include "core/clock.h"
#include "core/error.h"
#include "core/unique_fd.h"
#include "core/units.h"

namespace opsrelay::cli {

struct SenderOptions {
    std::vector<std::string> sockets;  // paths to try in turn; at least one
    milliseconds timeout{30'000};      // give up when nothing was settled for this long
    unsigned retries = 5;              // connections in a row without progress
    milliseconds retry_delay{100};     // before the first retry, then doubling up to 2 s
    Bytes window{8U << 20U};           // events kept in memory until settled
};

/// Where the events ended. Without a failure, events = durable + rejected.
struct SendReport {
    std::uint64_t events = 0;       // read from the input
    std::uint64_t durable = 0;      // survive a crash; duplicates of such events included
    std::uint64_t rejected = 0;     // break the event contract, those below included
    std::uint64_t too_long = 0;     // not sent: LineSource::too_long()
    std::uint64_t messages = 0;     // not sent: LineSource::messages()
    std::uint64_t unconfirmed = 0;  // may or may not have been taken; sending again is safe
    std::uint64_t reconnects = 0;   // tries to connect after the first
    bool input_left = false;        // the input was not read to its end
    bool input_failed = false;      // the failure is the input's, not the relay's
    std::string failure;            // why it stopped early; empty: it did not

    [[nodiscard]] bool all_durable() const noexcept {
        return failure.empty() && rejected == 0 && unconfirmed == 0;
    }
};

/// Single-threaded; run() once.
class AckedSender {
public:
    AckedSender(SenderOptions options, LineSource& source, const Clock& clock);

    /// Returns when every event is settled or there is no hope. `progress` is called after each
    /// change with the counts so far.
    [[nodiscard]] SendReport run(const std::function<void(const SendReport&)>& progress = {});

private:
    enum class Step : std::uint8_t { going, dry, broken };  // dry: nothing to read just now

    void read_source();
    bool connect();
    void disconnect(std::string_view why);
    bool may_retry();
    void step();
    Step write_some();
    Step read_acks();
    Step settle(std::string_view ack);
    void fill_output();
    [[nodiscard]] bool source_open() const;
    [[nodiscard]] bool done() const;

    // Constant after construction.
    SenderOptions options_;
    LineSource& source_;
    const Clock& clock_;

    // Events that are not settled, oldest first, and how many of them went into `output_`.
    std::deque<std::string> lines_;
    std::size_t held_bytes_ = 0;
    std::size_t sent_lines_ = 0;
    std::string source_failure_;

    // The connection.
    UniqueFd socket_;
    std::string output_;
    std::size_t output_offset_ = 0;
    std::string input_;
    std::uint64_t durable_here_ = 0;
    std::uint64_t rejected_here_ = 0;
    bool half_closed_ = false;

    bool tried_ = false;     // to connect, at least once
    unsigned failures_ = 0;  // in a row, without progress
    std::string last_failure_;
    TimePoint last_progress_{};
    SendReport report_;
};

}  // namespace opsrelay::cli
