// The inlet as a recording double: the test decides what is admitted, what is durable, and when.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "core/signal.h"
#include "listen/inlet.h"

namespace opsrelay::listen::testing {

struct Recorded {
    std::string bytes;
    bool oversize = false;
    std::uint64_t length = 0;
    Origin origin;
};

/// By default a message that begins with "bad" is rejected as not_json, "dup" is a duplicate that
/// is durable already, "shed" finds no room, an oversize one is too_large, and every other one is
/// accepted at the next position. Thread: the executor's.
class FakeInlet final : public Inlet {
public:
    FakeInlet(asio::any_io_executor executor, Clock& clock)
        : clock_(clock), moved_(executor, clock), room_changed_(executor, clock) {}

    // Inlet.
    [[nodiscard]] std::span<const Offered> offer(std::span<const Message> burst,
                                                 const Origin& origin) override;
    [[nodiscard]] bool has_room() const override { return room_; }
    [[nodiscard]] asio::awaitable<void> wait_for_room() override { return room_changed_.wait(); }
    [[nodiscard]] Position durable_position() const override { return durable_; }
    [[nodiscard]] asio::awaitable<Settled> settled(Position position, TimePoint due) override;
    void note_client_drops(std::uint64_t count) override { client_drops += count; }

    /// Everything up to `position` is durable.
    void settle(Position position);
    void settle_all() { settle(last_); }
    /// Exactly `position` is lost; what settle() says of it does not count.
    void give_up(Position position);
    /// `position` is settled as a duplicate after all.
    void strike(Position position) { struck_.insert(position); }
    void set_room(bool room);
    /// Accepted events are durable at once.
    bool settle_at_once = false;
    /// Replaces the default verdict.
    std::function<Offered(const Message&)> decide;

    [[nodiscard]] Position last() const noexcept { return last_; }
    [[nodiscard]] Position next_position() noexcept { return ++last_; }
    [[nodiscard]] std::vector<std::string> texts() const;

    std::vector<Recorded> recorded;
    std::size_t largest_burst = 0;
    std::uint64_t client_drops = 0;
    int waiting_for_settlement = 0;

private:
    [[nodiscard]] Offered verdict(const Message& message);

    Clock& clock_;
    Signal moved_;
    Signal room_changed_;
    std::vector<Offered> result_;
    std::set<Position> given_up_;
    std::set<Position> struck_;
    Position last_ = 0;
    Position durable_ = 0;
    bool room_ = true;
};

}  // namespace opsrelay::listen::testing
