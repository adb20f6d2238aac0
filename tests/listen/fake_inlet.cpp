#include "listen/fake_inlet.h"

#include <algorithm>
#include <boost/asio/this_coro.hpp>

namespace opsrelay::listen::testing {

std::span<const Offered> FakeInlet::offer(std::span<const Message> burst, const Origin& origin) {
    largest_burst = std::max(largest_burst, burst.size());
    result_.clear();
    for (const auto& message : burst) {
        recorded.push_back({std::string(message.bytes), message.oversize, message.length, origin});
        result_.push_back(decide ? decide(message) : verdict(message));
    }
    if (settle_at_once) settle_all();
    return result_;
}

Offered FakeInlet::verdict(const Message& message) {
    Offered offered;
    if (message.oversize) {
        offered.admission = Admission::rejected;
        offered.reject = RejectReason::too_large;
    } else if (message.bytes.starts_with("bad")) {
        offered.admission = Admission::rejected;
        offered.reject = RejectReason::not_json;
        offered.message = "must be a JSON object";
    } else if (message.bytes.starts_with("dup")) {
        offered.admission = Admission::duplicate;
        offered.id = "dup-id";
    } else if (message.bytes.starts_with("shed")) {
        offered.admission = Admission::shed;
    } else {
        offered.position = ++last_;
        offered.id = "id-" + std::to_string(last_);
    }
    return offered;
}

asio::awaitable<Settled> FakeInlet::settled(Position position, TimePoint due) {
    const auto stop = co_await asio::this_coro::cancellation_state;
    const auto before = stop.cancelled();
    ++waiting_for_settlement;
    auto result = Settled::timed_out;
    for (;;) {
        if (given_up_.contains(position)) {
            result = Settled::given_up;
            break;
        }
        if (position <= durable_) {
            result = struck_.contains(position) ? Settled::struck : Settled::durable;
            break;
        }
        if (clock_.now() >= due || stop.cancelled() != before) break;
        co_await moved_.wait_until(due);
    }
    --waiting_for_settlement;
    co_return result;
}

void FakeInlet::settle(Position position) {
    durable_ = std::max(durable_, position);
    moved_.notify_all();
}

void FakeInlet::give_up(Position position) {
    given_up_.insert(position);
    moved_.notify_all();
}

void FakeInlet::set_room(bool room) {
    room_ = room;
    if (room) room_changed_.notify_all();
}

std::vector<std::string> FakeInlet::texts() const {
    std::vector<std::string> all;
    for (const auto& one : recorded) all.push_back(one.bytes);
    return all;
}

}  // namespace opsrelay::listen::testing
