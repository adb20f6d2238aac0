// What the tests of a pipeline share.
#pragma once

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <initializer_list>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "pipeline.h"
#include "support/await.h"
#include "support/log_capture.h"
#include "support/mem_store.h"
#include "support/sim_clock.h"

namespace opsrelay::sim {

inline constexpr LaneId kSecondLane{1};

/// Takes everything after 5 ms, or never answers.
class PlainUpstream final : public forward::Upstream {
public:
    explicit PlainUpstream(Clock& clock) : clock_(clock) {}
    asio::awaitable<forward::Reply> send(std::string_view body, TimePoint deadline) override {
        std::string event(body);
        co_await clock_.sleep_until(answers ? clock_.now() + milliseconds{5} : deadline);
        forward::Reply reply;
        if (event.find(refuses) != std::string::npos) {
            reply.status = 422;
            co_return reply;
        }
        if (!wait.empty()) {
            ++throttled;
            reply.status = 429;
            reply.retry_after = wait;
            co_return reply;
        }
        if (!answers) {
            reply.transport = forward::Transport::timeout;
            co_return reply;
        }
        received.push_back(std::move(event));
        reply.status = 200;
        reply.body = R"({"ok":true,"planTier":")" + tier + R"("})";
        co_return reply;
    }
    asio::awaitable<forward::Reply> send_batch(std::span<const std::string_view>,
                                               TimePoint) override {
        return workspace_status({});  // no lane of these tests sends batches
    }
    asio::awaitable<forward::Reply> workspace_status(TimePoint) override {
        forward::Reply reply;
        reply.transport = forward::Transport::refused;
        co_return reply;
    }
    void set_api_key(const Secret&) override {}

    bool answers = true;
    std::string refuses = "no event has this";
    std::string wait;  // Retry-After of a 429 to all; empty: none
    int throttled = 0;
    std::string tier = "Pro";
    std::vector<std::string> received;

private:
    Clock& clock_;
};

/// Of the lanes 0, 1 and so on.
inline std::map<LaneId, std::uint64_t> by_lane(std::initializer_list<std::uint64_t> spooled) {
    std::map<LaneId, std::uint64_t> all;
    for (const auto records : spooled) {
        all[LaneId{static_cast<std::uint16_t>(all.size())}] = records;
    }
    return all;
}

inline asio::awaitable<void> stop_and_tell(Pipeline& pipeline, TimePoint deadline, bool& stopped) {
    co_await pipeline.stop(deadline, milliseconds{100});
    stopped = true;
}

inline asio::awaitable<void> drain_and_tell(Pipeline& pipeline, TimePoint deadline,
                                            std::optional<bool>& drained) {
    drained = co_await pipeline.drain_until(deadline);
}

inline asio::awaitable<void> fetch(Pipeline& pipeline, std::optional<Snapshot>& into) {
    into = co_await pipeline.snapshot();
}

// Named coroutines: a Result has no default, and nothing may be captured.
inline asio::awaitable<LaneId> make_lane(Pipeline& pipeline, std::string name) {
    auto made = co_await pipeline.make_lane(std::move(name));
    co_return made.value();
}
inline asio::awaitable<bool> add_lane(Pipeline& pipeline, Pipeline::Lane lane) {
    co_await pipeline.add_lane(std::move(lane));
    co_return true;
}
inline asio::awaitable<bool> remove_lane(Pipeline& pipeline, LaneId lane, TimePoint deadline) {
    co_await pipeline.remove_lane(lane, deadline);
    co_return true;
}
inline asio::awaitable<bool> commit_pending(Pipeline& pipeline, TimePoint due) {
    co_return co_await pipeline.commit_pending(due);
}

/// A pipeline of one lane or two over a store of both.
struct Harness {
    Harness(test::MemStore& spool, bool both) : store(spool), two(both) {
        REQUIRE(pipeline.recover().has_value());
        pipeline.start();
        pipeline.pump().set_key("key");
        if (two) pipeline.pump(kSecondLane).set_key("other key");
        run(milliseconds{1});
    }
    Harness(const Harness&) = delete;
    Harness& operator=(const Harness&) = delete;
    ~Harness() {
        if (!stopped) stop(milliseconds{0});
    }

    void run(milliseconds duration) { clock.run_for(io, duration); }
    void stop(milliseconds within) {
        asio::co_spawn(io, stop_and_tell(pipeline, clock.now() + within, stopped), asio::detached);
        clock.run_until(
            io, [this] { return stopped; }, clock.now() + minutes{1});
        REQUIRE(stopped);
    }
    template <typename T>
    T await(asio::awaitable<T> task) {
        return test::await(io, clock, std::move(task), clock.now() + minutes{1});
    }
    std::vector<listen::Offered> offer(LaneId lane, std::size_t count, std::size_t first = 0) {
        std::vector<std::string> events;
        for (std::size_t i = 0; i < count; ++i) {
            events.push_back(fmt::format(
                R"({{"externalRequestId":"id-{}","provider":"openai","model":"m"}})", first + i));
        }
        std::vector<listen::Message> burst;
        for (const auto& event : events) burst.push_back({.bytes = event});
        const auto offered = pipeline.intake().offer(burst, {ListenerKind::unix_stream, lane});
        return {offered.begin(), offered.end()};
    }
    [[nodiscard]] Snapshot snapshot() {
        std::optional<Snapshot> view;
        asio::co_spawn(io, fetch(pipeline, view), asio::detached);
        clock.run_until(
            io, [&] { return view.has_value(); }, clock.now());
        REQUIRE(view.has_value());
        return *view;
    }

    [[nodiscard]] std::vector<Pipeline::Lane> lanes() {
        std::vector<Pipeline::Lane> all{{{}, {}, upstream, plan}};
        if (two) all.push_back({{kSecondLane, "second"}, {}, second_upstream, second_plan});
        return all;
    }

    test::LogCapture log;
    asio::io_context io;
    test::SimClock clock;
    Xoshiro rng{1};
    test::MemStore& store;
    bool two;
    observe::Registry registry;
    PlanState plan;
    PlanState second_plan;
    PlainUpstream upstream{clock};
    PlainUpstream second_upstream{clock};
    Pipeline pipeline{{io.get_executor(), io.get_executor(), io.get_executor(), io.get_executor()},
                      clock,
                      rng,
                      rng,
                      store,
                      {.intake = {}, .spool = {}, .lanes = lanes()},
                      registry,
                      [](const Error&) {}};
    bool stopped = false;
};

/// Owns the store too.
struct TwoLanesStore {
    test::MemStore memory{1, {kDefaultLane, kSecondLane}};
};
struct TwoLanes : TwoLanesStore, Harness {
    TwoLanes() : Harness(memory, true) {}
};

}  // namespace opsrelay::sim
