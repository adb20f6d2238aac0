#include "forward/concurrency.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <queue>
#include <vector>

#include "core/random.h"

namespace opsrelay::forward {

namespace {

using Change = Concurrency::Change;
using Mode = ConcurrencyMode;

/// An upstream with so many workers, each busy for `service()` with a request, and a queue before
/// them; a sender that always has as many requests in flight as it may.
class Model {
public:
    Model(Mode mode, std::size_t most) : concurrency(mode, most) {}

    /// Until `count` more replies came.
    void run(std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) {
            while (replies_.size() < concurrency.limit()) send();
            const auto [due, sent] = replies_.top();
            const auto in_flight = replies_.size();
            replies_.pop();
            now = due;
            last_took = now - sent;
            const auto load = loads ? loads() : Load::taken;
            const auto change = concurrency.on_reply(load, sent, now, in_flight);
            ++changes.at(static_cast<std::size_t>(change));
            least = std::min(least, concurrency.limit());
        }
    }
    [[nodiscard]] int count(Change change) const {
        return changes.at(static_cast<std::size_t>(change));
    }

    Concurrency concurrency;
    std::size_t workers = 64;
    std::function<nanoseconds()> service = [] { return milliseconds{50}; };
    std::function<Load()> loads;
    TimePoint now{};
    nanoseconds last_took{0};
    std::size_t least = 1000;
    std::array<int, 5> changes{};

private:
    struct Pending {
        TimePoint due;
        TimePoint sent;
        bool operator<(const Pending& other) const { return due > other.due; }
    };
    void send() {
        // The worker that is free first takes it.
        busy_.resize(workers);
        const auto first = std::min_element(busy_.begin(), busy_.end());
        *first = std::max(*first, now) + service();
        replies_.push({*first, now});
    }
    std::vector<TimePoint> busy_;
    std::priority_queue<Pending> replies_;
};

/// What `count` replies take adaptively, over what they take with a fixed limit, in per cent.
template <typename Prepare>
std::int64_t per_cent_of_fixed(std::size_t most, std::size_t count, Prepare prepare) {
    Model adaptive(Mode::adaptive, most);
    Model fixed(Mode::fixed, most);
    for (auto* const model : {&adaptive, &fixed}) {
        prepare(*model);
        model->run(count);
    }
    CHECK(fixed.concurrency.limit() == most);
    CHECK(fixed.least == most);
    return adaptive.now.time_since_epoch() * 100 / fixed.now.time_since_epoch();
}

void reply(Concurrency& concurrency, Load load, TimePoint sent,
           milliseconds took = milliseconds{50}) {
    (void)concurrency.on_reply(load, sent, sent + took, concurrency.limit());
}

}  // namespace

TEST_CASE("forward/concurrency: what a reply says about load") {
    struct Case {
        const char* name;
        Transport transport;
        int status;
        Verdict verdict;
        Load load;
    };
    const Case cases[] = {
        {"delivered", Transport::ok, 200, Verdict::delivered, Load::taken},
        {"429", Transport::ok, 429, Verdict::throttled, Load::refused},
        {"503", Transport::ok, 503, Verdict::backoff, Load::strained},
        {"timeout", Transport::timeout, 0, Verdict::backoff, Load::strained},
        {"500", Transport::ok, 500, Verdict::backoff, Load::unknown},
        {"reset", Transport::reset, 503, Verdict::backoff, Load::unknown},
        {"refused connection", Transport::refused, 0, Verdict::backoff, Load::unknown},
        {"400", Transport::ok, 400, Verdict::rejected, Load::unknown},
        {"401", Transport::ok, 401, Verdict::unauthorized, Load::unknown},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        Reply reply;
        reply.transport = test.transport;
        reply.status = test.status;
        CHECK(load_of(reply, test.verdict) == test.load);
    }
}

TEST_CASE("forward/concurrency: an upstream in health gets all that is allowed") {
    for (const std::size_t most : {1U, 2U, 8U, 64U}) {
        CAPTURE(most);
        for (std::uint64_t seed = 1; seed <= 20; ++seed) {
            CAPTURE(seed);
            Xoshiro rng{seed};
            Model model(Mode::adaptive, most);
            model.service = [&] { return rng.between(milliseconds{40}, milliseconds{80}); };
            model.run(5000);
            CHECK(model.least == most);
        }
    }
}

TEST_CASE("forward/concurrency: a rise of milliseconds on a fast network is no reason") {
    Xoshiro rng{1};
    Model model(Mode::adaptive, 8);
    model.service = [&] {
        return std::chrono::microseconds{static_cast<std::int64_t>(rng.between(100, 4000))};
    };
    model.run(5000);
    model.service = [] { return milliseconds{5}; };
    model.run(1000);
    CHECK(model.least == 8);
}

TEST_CASE("forward/concurrency: a 429 lowers by a quarter, once for all that was under way") {
    Concurrency concurrency(Mode::adaptive, 8);
    auto at = TimePoint{} + seconds{1};
    for (const std::size_t expected : {6U, 4U, 3U, 2U, 1U, 1U}) {
        for (int i = 0; i < 8; ++i) {
            reply(concurrency, Load::refused, at);
            CHECK(concurrency.limit() == expected);
            at += milliseconds{1};  // all before the first of them was answered
        }
        at += seconds{1};
    }
    // A round of deliveries that used the limit raises it by one.
    for (std::size_t expected = 2; expected <= 8; ++expected) {
        const auto round = std::max<std::size_t>(2 * concurrency.limit(), 8);
        for (std::size_t i = 0; i < round; ++i) {
            CHECK(concurrency.limit() == expected - 1);
            reply(concurrency, Load::taken, at);
            at += milliseconds{100};
        }
        CHECK(concurrency.limit() == expected);
    }
    for (int i = 0; i < 100; ++i) reply(concurrency, Load::taken, at);
    CHECK(concurrency.limit() == 8);
}

TEST_CASE("forward/concurrency: one 503 among many is a fault, two are a sign") {
    Concurrency concurrency(Mode::adaptive, 8);
    auto at = TimePoint{} + seconds{1};
    for (int round = 0; round < 50; ++round) {
        for (int i = 0; i < 15; ++i) reply(concurrency, Load::taken, at += milliseconds{1});
        reply(concurrency, Load::strained, at += milliseconds{1});
        reply(concurrency, Load::unknown, at += milliseconds{1});
        reply(concurrency, Load::taken, at += milliseconds{1});
    }
    CHECK(concurrency.limit() == 8);
    reply(concurrency, Load::strained, at += milliseconds{1});
    CHECK(concurrency.limit() == 8);
    reply(concurrency, Load::strained, at += milliseconds{1});
    CHECK(concurrency.limit() == 6);
    // What was sent before that says nothing any more.
    reply(concurrency, Load::strained, at);
    reply(concurrency, Load::strained, at);
    CHECK(concurrency.limit() == 6);
}

TEST_CASE("forward/concurrency: the only request in flight was not one too many") {
    Concurrency concurrency(Mode::adaptive, 8);
    auto at = TimePoint{} + seconds{1};
    for (int i = 0; i < 20; ++i) {
        const auto load = i % 2 == 0 ? Load::refused : Load::strained;
        CHECK(concurrency.on_reply(load, at, at + seconds{1}, 1) == Change::none);
        at += minutes{1};
    }
    CHECK(concurrency.limit() == 8);
    CHECK(concurrency.on_reply(Load::refused, at, at + seconds{1}, 2) == Change::refused);
    CHECK(concurrency.limit() == 6);
}

TEST_CASE("forward/concurrency: an upstream that queues gets fewer, and loses no time by it") {
    Model model(Mode::adaptive, 8);
    model.service = [] { return milliseconds{20}; };
    model.run(200);
    model.workers = 2;
    const auto begin = model.now;
    model.run(2000);
    CHECK(model.count(Change::slow) > 0);
    CHECK(model.least <= 4);
    CHECK(model.least >= 2);
    // Two workers give a reply every 10 ms.
    CHECK(model.now - begin < milliseconds{20'400});
    CHECK(model.count(Change::restored) == 0);
    model.workers = 64;
    model.run(500);
    CHECK(model.concurrency.limit() == 8);
    CHECK(model.last_took == milliseconds{20});
}

TEST_CASE("forward/concurrency: an upstream that is merely slower is sent as much as before") {
    Model model(Mode::adaptive, 8);
    model.run(200);
    model.service = [] { return milliseconds{400}; };
    model.run(200);
    CHECK(model.count(Change::slow) == 1);
    CHECK(model.count(Change::restored) == 1);
    CHECK(model.concurrency.limit() == 8);
    model.run(5000);  // it is the normal time now
    CHECK(model.count(Change::slow) == 1);
    // And faster again is no reason for anything.
    model.service = [] { return milliseconds{50}; };
    model.run(1000);
    CHECK(model.count(Change::slow) == 1);
}

TEST_CASE("forward/concurrency: times that go up and down cost no more than trials in vain") {
    for (const std::size_t most : {2U, 8U, 64U}) {
        CAPTURE(most);
        const auto cost = per_cent_of_fixed(most, 20'000, [](Model& model) {
            model.service = [&model] {
                const auto tens = model.now.time_since_epoch() / seconds{10};
                return milliseconds{tens % 2 == 0 ? 50 : 200};
            };
        });
        CHECK(cost <= 102);
    }
}

TEST_CASE("forward/concurrency: faults in one of a hundred requests cost nothing") {
    for (std::uint64_t seed = 1; seed <= 10; ++seed) {
        CAPTURE(seed);
        Xoshiro rng{seed};
        const auto cost = per_cent_of_fixed(8, 10'000, [&rng](Model& model) {
            model.loads = [&rng] { return rng.chance(10) ? Load::strained : Load::taken; };
        });
        CHECK(cost <= 102);
    }
}

TEST_CASE("forward/concurrency: a lane that does not use what it may is left alone") {
    Concurrency concurrency(Mode::adaptive, 8);
    auto at = TimePoint{} + seconds{1};
    for (const milliseconds took : {milliseconds{50}, milliseconds{5000}}) {
        for (int i = 0; i < 1000; ++i) {
            (void)concurrency.on_reply(Load::taken, at, at + took, 7);
            at += seconds{10};
        }
    }
    CHECK(concurrency.limit() == 8);
    // Nor is it allowed more than it was seen to use.
    reply(concurrency, Load::refused, at);
    CHECK(concurrency.limit() == 6);
    for (int i = 0; i < 1000; ++i) {
        (void)concurrency.on_reply(Load::taken, at += seconds{1}, at + milliseconds{50}, 5);
    }
    CHECK(concurrency.limit() == 6);
}

TEST_CASE(
    "forward/concurrency: another most moves a limit that is at the top, and bounds the others") {
    for (const auto mode : {Mode::fixed, Mode::adaptive}) {
        Concurrency concurrency(mode, 8);
        concurrency.set_most(128);
        CHECK(concurrency.limit() == 128);
        concurrency.set_most(0);
        CHECK(concurrency.limit() == 1);
        concurrency.set_most(16);
        CHECK(concurrency.limit() == 16);
    }
    Concurrency lowered(Mode::adaptive, 16);
    CHECK(lowered.on_reply(Load::refused, TimePoint{}, TimePoint{}, 16) == Change::refused);
    lowered.set_most(128);
    CHECK(lowered.limit() == 12);
    lowered.set_most(4);
    CHECK(lowered.limit() == 4);
}

TEST_CASE("forward/concurrency: fixed is fixed") {
    Concurrency concurrency(Mode::fixed, 8);
    auto at = TimePoint{};
    for (const auto load : {Load::refused, Load::strained, Load::taken}) {
        for (int i = 0; i < 100; ++i) {
            CHECK(concurrency.on_reply(load, at, at + seconds{i}, 8) == Change::none);
            at += seconds{100};
        }
    }
    CHECK(concurrency.limit() == 8);
}

}  // namespace opsrelay::forward
