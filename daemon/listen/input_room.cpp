#include "listen/input_room.h"

#include <algorithm>
#include <utility>

namespace opsrelay::listen {

namespace {

constexpr milliseconds kLogInterval{60'000};

}  // namespace

InputRoom::InputRoom(asio::any_io_executor ingest, Clock& clock, milliseconds patience)
    : ingest_(std::move(ingest)),
      clock_(clock),
      patience_(patience),
      throttle_(clock, kLogInterval) {}

InputRoom::Place::Place(InputRoom& room, std::function<void()> give_way)
    : room_(room), give_way_(std::move(give_way)), granted_(room.ingest_, room.clock_) {}

void InputRoom::Place::note(std::size_t bytes) {
    large_ = bytes > kSmallBytes;
    if (!large_) {
        leave();
    } else if (!held_ && room_.free()) {
        take();
    }
}

void InputRoom::Place::take() {
    held_ = true;
    note_end();
    room_.holders_.push_back(this);
}

void InputRoom::Place::leave() {
    if (!std::exchange(held_, false)) return;
    room_.holders_.remove(this);
    room_.pass_on();
}

asio::awaitable<void> InputRoom::Place::wait(TimePoint due) {
    room_.end_overdue();
    if (room_.free()) {
        take();
        co_return;
    }
    const auto entry = room_.waiting_.insert(room_.waiting_.end(), this);
    co_await granted_.wait_until(std::min(due, room_.next_look()));
    const bool first = room_.waiting_.front() == this;
    room_.waiting_.erase(entry);
    if (first && room_.holders_.size() < kPlacesMax) take();
    room_.pass_on();
}

void InputRoom::pass_on() {
    if (holders_.size() < kPlacesMax && !waiting_.empty()) waiting_.front()->wake();
}

TimePoint InputRoom::next_look() const {
    auto next = TimePoint::max();
    for (const auto* const holder : holders_) next = std::min(next, due(*holder));
    return next;
}

TimePoint InputRoom::due(const Place& holder) const {
    if (!holder.give_way_ || !holder.since_) return TimePoint::max();
    return *holder.since_ + patience_;
}

void InputRoom::end_overdue() {
    const auto now = clock_.now();
    const auto stays = [&](const Place* holder) { return now < due(*holder); };
    const auto overdue = std::stable_partition(holders_.begin(), holders_.end(), stays);
    std::list<Place*> gone;
    gone.splice(gone.end(), holders_, overdue, holders_.end());
    for (auto* const place : gone) {
        place->held_ = false;
        place->give_way_();
    }
    pass_on();
    if (gone.empty()) return;
    if (const auto hidden = throttle_.allow("overdue")) {
        log::warn("listen", "lines without an end are cut off, others need their memory",
                  {{"connections", gone.size()},
                   {"unfinished_for_ms", patience_.count()},
                   {"next", "see which client writes a part of a line and stops"},
                   {"suppressed", *hidden}});
    }
}

}  // namespace opsrelay::listen
