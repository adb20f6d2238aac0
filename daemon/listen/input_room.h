// Memory for what peers have begun and not finished, of all listeners together: so that many who
// stop in the middle of a message take no more than a few.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <cstddef>
#include <functional>
#include <list>
#include <optional>

#include "core/clock.h"
#include "core/log.h"
#include "core/signal.h"

namespace opsrelay::listen {

/// Places for messages that are larger than kSmallBytes while their end has not come; whoever finds
/// none reads kSmallBytes at a time, and waits once that was not enough. Places are given in the
/// order in which they were asked for. When one is asked for in vain, who has had one for
/// `patience` without finishing a message is to go. Thread: one, ingest.
class InputRoom {
public:
    /// A message of so many bytes needs no place.
    static constexpr std::size_t kSmallBytes = 4096;
    /// At kEventBytesMax each: 4 MiB, twice that as strings grow.
    static constexpr std::size_t kPlacesMax = 64;

    /// `patience`: longer than any peer needs for a message that it is writing.
    InputRoom(asio::any_io_executor ingest, Clock& clock, milliseconds patience);
    InputRoom(const InputRoom&) = delete;
    InputRoom& operator=(const InputRoom&) = delete;

    /// What one session has of it.
    class Place {
    public:
        /// `give_way` ends the session soon, not from within; empty: it has a deadline of its own.
        Place(InputRoom& room, std::function<void()> give_way);
        Place(const Place&) = delete;
        Place& operator=(const Place&) = delete;
        ~Place() { leave(); }

        /// More than kSmallBytes may be read at once: there is a place for what remains of it. Not
        /// while others wait, so that who has one does not keep it from message to message.
        [[nodiscard]] bool may_grow() const noexcept {
            return held_ ? room_.waiting_.empty() : room_.free();
        }
        /// So many bytes of an unfinished message are held. Takes a place for them if they need
        /// one and it may, gives it back when they need none.
        void note(std::size_t bytes);
        /// What was noted needs a place and has none.
        [[nodiscard]] bool missing() const noexcept { return large_ && !held_; }
        /// Until it has the place that is missing(), until `due`, wake(), or the caller is
        /// cancelled; or sooner.
        [[nodiscard]] asio::awaitable<void> wait(TimePoint due);
        void wake() { granted_.notify_all(); }
        /// The session does not read until resume(): its peer is not to blame.
        void pause() noexcept { since_.reset(); }
        void resume() noexcept { note_end(); }
        /// A message ended.
        void note_end() noexcept { since_ = room_.clock_.now(); }

    private:
        friend class InputRoom;
        void take();
        void leave();

        InputRoom& room_;
        const std::function<void()> give_way_;
        Signal granted_;
        bool large_ = false;
        bool held_ = false;
        std::optional<TimePoint> since_;  // its peer could go on
    };

    [[nodiscard]] std::size_t taken() const noexcept { return holders_.size(); }

private:
    /// Nobody asked before.
    [[nodiscard]] bool free() const noexcept {
        return holders_.size() < kPlacesMax && waiting_.empty();
    }
    void pass_on();
    /// When its holder is to go if others wait; max(): it is not.
    [[nodiscard]] TimePoint due(const Place& holder) const;
    [[nodiscard]] TimePoint next_look() const;
    void end_overdue();

    asio::any_io_executor ingest_;
    Clock& clock_;
    const milliseconds patience_;
    log::Throttle throttle_;
    std::list<Place*> holders_;
    std::list<Place*> waiting_;  // the longest in front
};

}  // namespace opsrelay::listen
