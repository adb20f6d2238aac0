// The seam between the listeners and everything behind them. Implemented by Intake; in the tests of
// this folder by a recording double.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "core/event.h"
#include "core/outcome.h"

namespace opsrelay::listen {

/// One event as it came in: the bytes of one line, one array item or one body, without the newline.
/// The bytes need only live until offer() returns.
struct Message {
    std::string_view bytes;
    /// The sender's message was longer than the listener could take: rejected as too_large.
    bool oversize = false;
    /// Its peer sends more than the listener lets it: shed as rate_limited.
    bool over_rate = false;
    /// What was received or announced of it, when that is more than `bytes`; else 0.
    std::uint64_t length = 0;
    /// Of an oversize one: the limit, in words; empty: that of an event.
    std::string_view limit{};
};

/// What became of a message at once. The variants are disjoint; the fields below say which count.
enum class Admission : std::uint8_t {
    accepted,   // handed to storage; durable once settled up to `position`, if not struck then
    duplicate,  // `duplicate` says which kind; confirmed once settled up to `position` (0: already)
    rejected,   // `reject`, `field` and `message` say why; final
    shed,       // `shed` says why; not accepted, sending it again is safe
};

/// The result for one message.
struct Offered {
    Admission admission = Admission::accepted;
    Position position = 0;
    DuplicateKind duplicate = DuplicateKind::same;
    RejectReason reject = RejectReason::not_json;
    ShedReason shed = ShedReason::memory_full;
    /// For HTTP replies, filled only when the origin is http: the id (also a minted one), and for a
    /// rejection the offending field and what it must be.
    std::string id;
    std::string field;
    std::string message;
};

enum class Settled : std::uint8_t {
    durable,   // every event up to the position survives a crash
    struck,    // the same, and the event at the position is a duplicate after all; HTTP only
    given_up,  // storage failed: not confirmed, sending again is safe
    timed_out  // not yet
};

/// Takes events a burst at a time and says what became of each by position in the burst.
/// Thread: ingest.
class Inlet {
public:
    virtual ~Inlet() = default;

    /// Never blocks, never waits for the disk. The result is valid until the next call. A burst of
    /// a datagram or HTTP origin that finds no room is `shed`; streams ask has_room() first and are
    /// never shed for memory: a burst that was begun is taken whole.
    [[nodiscard]] virtual std::span<const Offered> offer(std::span<const Message> burst,
                                                         const Origin& origin) = 0;

    /// False while the stall buffer or the spool is full: streams leave their sockets unread.
    [[nodiscard]] virtual bool has_room() const = 0;
    /// Ends when has_room() may have become true, or when the caller is cancelled.
    [[nodiscard]] virtual asio::awaitable<void> wait_for_room() = 0;

    /// Everything up to this position is settled as durable.
    [[nodiscard]] virtual Position durable_position() const = 0;
    /// Waits until `position` is settled or `due` passes, or the caller is cancelled (timed_out).
    [[nodiscard]] virtual asio::awaitable<Settled> settled(Position position, TimePoint due) = 0;

    /// Tells of events that a client dropped on its side: `{"opsrelay":{"dropped":N}}`.
    virtual void note_client_drops(std::uint64_t count) = 0;
};

}  // namespace opsrelay::listen
