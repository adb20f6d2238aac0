#include "listen/stream_session.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <optional>
#include <string>
#include <utility>

#include "core/nothrow.h"
#include "listen/ack_tracker.h"
#include "listen/control_line.h"
#include "listen/input_room.h"
#include "listen/line_framer.h"
#include "listen/ready_fd.h"

namespace opsrelay::listen {

namespace {

constexpr std::size_t kReadsPerTurn = 4;    // then the other connections get a turn
constexpr std::size_t kDrainReadsMax = 64;  // what is still read after a stop: 4 MiB

class StreamSession {
public:
    StreamSession(UniqueFd connection, ListenerState& state, TaskGroup& tasks,
                  std::span<char> scratch)
        : state_(state),
          tasks_(tasks),
          scratch_(scratch),
          peer_(key_of_connection(connection.get())),
          socket_(tasks.executor(), std::move(connection)),
          framer_(kEventBytesMax.count),
          burst_(state),
          place_(state.input_room, [this] { give_way(); }),
          lines_changed_(tasks.executor(), state.clock),
          acks_moved_(tasks.executor(), state.clock),
          ack_writer_ended_(tasks.executor(), state.clock) {}

    asio::awaitable<void> run();

private:
    enum class Acks : std::uint8_t {
        off,
        on,
        lost  // the peer does not read or get them any more; its lines are still taken
    };
    enum class Read : std::uint8_t { would_block, more, ended };

    // Reading.
    asio::awaitable<void> read_lines();
    [[nodiscard]] Read read_turn(bool draining);
    [[nodiscard]] bool must_wait_for_acks() const noexcept {
        return acks_ == Acks::on && !tracker_.has_capacity();
    }
    asio::awaitable<void> unread(asio::awaitable<void> wait);
    Read end_input();
    void take(const Message& line);
    void offer();
    void give_way();
    void note(const Offered& offered);

    // Acknowledging.
    asio::awaitable<void> write_acks();
    asio::awaitable<bool> wait_for_progress(Position front);
    asio::awaitable<bool> send_ack();
    [[nodiscard]] bool unsent() const noexcept { return sent_ != tracker_.counts(); }
    void note_movement();
    void give_up_connection();

    ListenerState& state_;
    TaskGroup& tasks_;
    std::span<char> scratch_;
    const PeerKey peer_;
    ReadyFd socket_;
    LineFramer framer_;
    Burst burst_;
    InputRoom::Place place_;  // of framer_'s unfinished line
    AckTracker tracker_;
    Signal lines_changed_;  // the reader tells the ack writer
    Signal acks_moved_;     // the ack writer tells the reader
    Signal ack_writer_ended_;
    TimePoint unread_until_{};  // the peer sent what it may
    Acks acks_ = Acks::off;
    bool first_line_ = true;
    bool shed_ = false;  // a line was not taken: nothing after it can be acknowledged
    bool reading_ended_ = false;
    bool broken_ = false;   // to be closed without a final ack
    bool overdue_ = false;  // its line takes memory that others need, and does not end
    bool ack_writer_runs_ = false;
    bool commit_moved_ = false;  // counts moved by a commit: send at once
    AckCounts seen_;             // counts when they were last looked at
    std::optional<AckCounts> sent_;
    std::optional<TimePoint> unsent_since_;
    std::optional<TimePoint> waiting_since_;  // no progress since; unset: nothing to wait for
};

asio::awaitable<void> StreamSession::run() {
    co_await read_lines();
    reading_ended_ = true;
    lines_changed_.notify_all();
    while (ack_writer_runs_) co_await ack_writer_ended_.wait();
}

asio::awaitable<void> StreamSession::read_lines() {
    const auto stop = co_await asio::this_coro::cancellation_state;
    std::size_t drained = 0;
    while (!broken_ && !is_terminal(stop)) {
        if (!state_.inlet.has_room()) {
            co_await unread(state_.room.wait());
            continue;
        }
        if (must_wait_for_acks()) {
            co_await unread(acks_moved_.wait());
            continue;
        }
        const bool stopping = state_.stopping || stop.cancelled() != asio::cancellation_type::none;
        if (!stopping && state_.clock.now() < unread_until_) {
            co_await unread(acks_moved_.wait_until(unread_until_));
            continue;
        }
        if (overdue_) {
            end_input();
            break;
        }
        if (!stopping && place_.missing()) {
            co_await place_.wait(TimePoint::max());
            continue;
        }
        const auto read = read_turn(stopping);
        if (read == Read::ended || shed_) break;
        if (stopping) {
            // What the kernel holds was sent before the stop; a peer that goes on is cut off.
            drained += 1;
            if (read == Read::would_block || drained >= kDrainReadsMax) break;
            co_await asio::post(tasks_.executor(), nothrow);  // the others have to finish too
            continue;
        }
        co_await socket_.readable();  // also yields to the other connections
    }
}

StreamSession::Read StreamSession::read_turn(bool draining) {
    const std::size_t reads_max = draining ? 1 : kReadsPerTurn;
    for (std::size_t i = 0; i < reads_max; ++i) {
        const auto room = place_.may_grow() ? scratch_ : scratch_.first(InputRoom::kSmallBytes);
        const auto got = socket_.receive(room);
        if (got.state == Transfer::State::would_block) return Read::would_block;
        // A reset counts as an end: what came before it was sent, and a duplicate does no harm.
        if (got.state == Transfer::State::ended) return end_input();
        framer_.feed({room.data(), got.bytes});
        bool ended = false;
        while (const auto line = framer_.next()) {
            take(*line);
            ended = true;
        }
        offer();
        framer_.release();
        if (ended) place_.note_end();
        place_.note(framer_.unfinished_bytes());
        if (!draining && place_.missing()) return Read::more;
        if (shed_ || must_wait_for_acks() || !state_.inlet.has_room()) return Read::more;
        if (state_.clock.now() < unread_until_) return Read::more;
        if (got.bytes < room.size()) return Read::more;
    }
    return Read::more;
}

// That a line does not end meanwhile is not its peer's doing.
asio::awaitable<void> StreamSession::unread(asio::awaitable<void> wait) {
    place_.pause();
    co_await std::move(wait);
    place_.resume();
}

StreamSession::Read StreamSession::end_input() {
    if (const auto last = framer_.finish()) take(*last);
    offer();
    return Read::ended;
}

// What there is of the line counts as one for us; for the peer, who did not send it, it is none.
void StreamSession::give_way() {
    overdue_ = true;
    if (acks_ == Acks::on) acks_ = Acks::lost;
    socket_.cancel();
}

void StreamSession::take(const Message& line) {
    const bool first = std::exchange(first_line_, false);
    if (const auto control = parse_control_line(line.bytes)) {
        if (control->kind == ControlLine::Kind::dropped) {
            state_.inlet.note_client_drops(control->dropped);
            return;
        }
        if (first) {
            if (control->kind == ControlLine::Kind::acks_on) {
                acks_ = Acks::on;
                ack_writer_runs_ = true;
                tasks_.spawn("acks of " + state_.address, write_acks());
            }
            return;
        }
    }
    burst_.add(line);
    if (burst_.full()) offer();
}

void StreamSession::offer() {
    const auto offered = burst_.offer();
    if (!offered.empty() && !state_.limiter.off()) {
        unread_until_ = state_.limiter.take_ahead(peer_, offered.size(), state_.clock.now());
    }
    if (offered.empty() || acks_ != Acks::on) return;
    for (const auto& one : offered) note(one);
    lines_changed_.notify_all();
}

void StreamSession::note(const Offered& offered) {
    if (shed_) return;
    switch (offered.admission) {
        case Admission::accepted:
        case Admission::duplicate: tracker_.add_waiting(offered.position); return;
        case Admission::rejected: tracker_.add_rejected(); return;
        case Admission::shed: shed_ = true; return;
    }
}

asio::awaitable<void> StreamSession::write_acks() {
    const auto stop = co_await asio::this_coro::cancellation_state;
    while (!is_terminal(stop)) {
        if (tracker_.settle(state_.inlet.durable_position())) commit_moved_ = true;
        note_movement();
        const auto front = tracker_.front();
        const bool last = !front && (reading_ended_ || shed_);
        const bool due = unsent_since_ &&
                         (commit_moved_ ||
                          state_.clock.now() >= *unsent_since_ + state_.options.stream_ack_delay);
        if (due || (last && unsent())) {
            if (!co_await send_ack()) break;
        } else if (last) {
            break;
        } else if (front) {
            if (!co_await wait_for_progress(*front)) break;
        } else if (unsent_since_) {
            co_await lines_changed_.wait_until(*unsent_since_ + state_.options.stream_ack_delay);
        } else {
            co_await lines_changed_.wait();
        }
    }
    ack_writer_runs_ = false;
    acks_moved_.notify_all();
    ack_writer_ended_.notify_all();
}

void StreamSession::note_movement() {
    const auto now = state_.clock.now();
    const bool moved = std::exchange(seen_, tracker_.counts()) != tracker_.counts();
    if (moved) {
        if (!unsent_since_) unsent_since_ = now;
        acks_moved_.notify_all();
    }
    if (!tracker_.front()) {
        waiting_since_.reset();
    } else if (moved || !waiting_since_) {
        waiting_since_ = now;
    }
}

// False: the connection is to be closed.
asio::awaitable<bool> StreamSession::wait_for_progress(Position front) {
    const auto deadline = *waiting_since_ + state_.options.stream_ack_timeout;
    auto due = deadline;
    if (unsent_since_) due = std::min(due, *unsent_since_ + state_.options.stream_ack_delay);
    const auto settled = co_await state_.inlet.settled(front, due);
    switch (settled) {
        case Settled::durable:
        case Settled::struck:
            if (tracker_.confirm(front)) commit_moved_ = true;
            co_return true;
        case Settled::timed_out:
            if (state_.clock.now() < deadline) co_return true;
            break;
        case Settled::given_up: break;
    }
    give_up_connection();
    co_return false;
}

// False: the peer is gone or did not read in time.
asio::awaitable<bool> StreamSession::send_ack() {
    const auto counts = tracker_.counts();
    commit_moved_ = false;
    unsent_since_.reset();
    const auto line =
        fmt::format("{{\"durable\":{},\"rejected\":{}}}\n", counts.durable, counts.rejected);
    const auto due = state_.clock.now() + state_.options.stream_ack_timeout;
    const bool sent = co_await socket_.send_all(line, state_.clock, due);
    if (sent) {
        sent_ = counts;
        co_return true;
    }
    if (state_.clock.now() >= due) {
        give_up_connection();
    } else {
        acks_ = Acks::lost;
    }
    co_return false;
}

// The peer learns of it at once, even while the reader waits for room.
void StreamSession::give_up_connection() {
    broken_ = true;
    (void)::shutdown(socket_.native(), SHUT_RDWR);
    socket_.cancel();
    acks_moved_.notify_all();
    place_.wake();
    state_.room.wake_all();
}

}  // namespace

asio::awaitable<void> serve_stream(UniqueFd connection, ListenerState& state, TaskGroup& tasks,
                                   std::span<char> scratch) {
    StreamSession session(std::move(connection), state, tasks, scratch);
    co_await session.run();
}

}  // namespace opsrelay::listen
