#include "intake.h"

#include <doctest/doctest.h>
#include <boost/asio/io_context.hpp>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/task_group.h"
#include "spool/options.h"

namespace opsrelay {

namespace {

using listen::Admission;
using listen::Message;
using listen::Settled;

std::string event_json(const std::string& id, int tokens = 1) {
    return R"({"externalRequestId":")" + id +
           R"(","provider":"openai","model":"m","inputTokens":)" + std::to_string(tokens) +
           R"(,"outputTokens":1,"totalTokens":2,"status":"success"})";
}

struct World {
    explicit World(Bytes stall_buffer = 8_MiB) : World(parse::Options{}, stall_buffer) {}
    explicit World(parse::Options parse, Bytes stall_buffer = 8_MiB)
        : queue(stall_buffer), intake{io.get_executor(),
                                      clock,
                                      rng,
                                      42,
                                      {.parse = std::move(parse), .admit = {}},
                                      queue,
                                      registry,
                                      [this] { ++wakes; }} {}

    listen::Offered offer(const std::string& bytes, ListenerKind kind = ListenerKind::http) {
        const Message message{.bytes = bytes};
        return intake.offer({&message, 1}, Origin{.kind = kind})[0];
    }
    [[nodiscard]] observe::IntakeTotals totals() const { return queue.snapshot().totals; }

    asio::io_context io;
    SystemClock clock;
    Xoshiro rng{1};
    observe::Registry registry;
    spool::SegmentQueue queue;
    int wakes = 0;
    Intake intake;
};

asio::awaitable<void> await_settled(Intake& intake, Position position, TimePoint due,
                                    std::vector<Settled>& results) {
    results.push_back(co_await intake.settled(position, due));
}

asio::awaitable<void> await_room(Intake& intake, int& woken) {
    co_await intake.wait_for_room();
    ++woken;
}

}  // namespace

TEST_CASE("intake: rules change between two events, ids are known as before") {
    World world;
    const auto nameless = R"({"provider":"openai","model":"m","inputTokens":1})";
    CHECK(world.offer(nameless).admission == Admission::accepted);
    CHECK(world.offer(event_json("a")).admission == Admission::accepted);
    parse::Options rules;
    rules.missing_id = parse::MissingId::reject;
    rules.defaults = {{{parse::Field::environment, "staging"}}};
    world.intake.configure(rules);
    CHECK(world.offer(nameless).reject == RejectReason::missing_id);
    CHECK(world.offer(event_json("a")).admission == Admission::duplicate);
    const auto text = event_json("b");
    const Message message{.bytes = text};
    const Origin origin{.kind = ListenerKind::http, .defaults = 1};
    CHECK(world.intake.offer({&message, 1}, origin)[0].admission == Admission::accepted);
    const auto group = world.queue.take();
    REQUIRE(group.has_value());
    CHECK(group->segments[0].payload.find(R"("environment":"staging")") != std::string::npos);
}

TEST_CASE("intake: a dead letter has nothing of a rejected event that must not be kept") {
    World world;
    auto bad = event_json("a");
    bad.replace(bad.find("success"), 7, "fine");
    bad.insert(bad.size() - 1, R"(,"prompt":"s3cret","x":{"messages":["s3cret"]})");
    CHECK(world.offer(bad).reject == RejectReason::bad_status);
    CHECK(world.offer(bad + "}").reject == RejectReason::not_json);
    const auto group = world.queue.take();
    REQUIRE(group.has_value());
    REQUIRE(group->rejected.size() == 2);
    for (const auto& letter : group->rejected) {
        CHECK(letter.payload.find("s3cret") == std::string::npos);
        CHECK(letter.detail.find("s3cret") == std::string::npos);
    }
    CHECK(group->rejected[0].payload.ends_with(R"("status":"fine","x":{}})"));
    CHECK(group->rejected[1].payload.empty());
}

TEST_CASE("intake: the defaults of a listener fill what its events lack") {
    World world({.defaults = {{{parse::Field::environment, "dev"}},
                              {{parse::Field::environment, "staging"}}}});
    const auto json = event_json("a");
    const Message message{.bytes = json};
    const Origin staging{.kind = ListenerKind::http, .defaults = 2};
    CHECK(world.intake.offer({&message, 1}, staging)[0].admission == Admission::accepted);
    // Through another listener it is the same event.
    const auto again = world.intake.offer({&message, 1}, Origin{.kind = ListenerKind::http})[0];
    CHECK(again.duplicate == DuplicateKind::same);
    const auto group = world.queue.take();
    REQUIRE(group.has_value());
    CHECK(group->segments[0].payload.find(R"("environment":"staging")") != std::string::npos);
    CHECK(world.registry.counter(observe::kEventsRepaired, "default_filled").value() == 1);
}

TEST_CASE("intake: fresh events get positions in order and are handed to storage") {
    World world;
    const auto first = event_json("a");
    const auto second = event_json("b");
    const Message burst[] = {{.bytes = first}, {.bytes = second}};
    const auto offered = world.intake.offer(burst, Origin{.kind = ListenerKind::unix_stream});
    REQUIRE(offered.size() == 2);
    CHECK(offered[0].admission == Admission::accepted);
    CHECK(offered[0].position == 1);
    CHECK(offered[1].position == 2);
    CHECK(world.wakes == 1);
    const auto group = world.queue.take();
    REQUIRE(group.has_value());
    CHECK(group->last == 2);
    CHECK(group->segments[0].count == 2);
    CHECK(group->segments[0].payload.find("\"a\"") != std::string::npos);
}

TEST_CASE("intake: a duplicate points at the first one's position, whatever listener it came by") {
    World world;
    CHECK(world.offer(event_json("a"), ListenerKind::udp).position == 1);
    const auto same = world.offer(event_json("a"), ListenerKind::http);
    CHECK(same.admission == Admission::duplicate);
    CHECK(same.duplicate == DuplicateKind::same);
    CHECK(same.position == 1);
    CHECK(same.id == "a");
    CHECK(world.offer(event_json("a", 2)).duplicate == DuplicateKind::conflict);
    CHECK(world.offer(event_json("b")).position == 2);
    CHECK(world.totals().received == 4);
    CHECK(world.queue.snapshot().events == 2);
}

TEST_CASE("intake: a recovered id is a duplicate of unknown kind that is durable already") {
    World world;
    world.intake.recover_id(admit::hash_id(42, kDefaultLane, "old"));
    const auto offered = world.offer(event_json("old"));
    CHECK(offered.admission == Admission::duplicate);
    CHECK(offered.duplicate == DuplicateKind::unknown);
    CHECK(offered.position == 0);
}

TEST_CASE("intake: an id that a filter knows is accepted with a mark; HTTP hears what it was") {
    World world;
    auto filter = std::make_shared<admit::IdFilter>(1, 16);
    filter->insert(admit::hash_id(42, kDefaultLane, "old"));
    world.intake.note_ids({.covered = std::nullopt, .filters = {filter}});
    CHECK(world.offer(event_json("new")).position == 1);
    const auto maybe = world.offer(event_json("old"));
    CHECK(maybe.admission == Admission::accepted);
    CHECK(maybe.position == 2);
    // While it waits, its repeats share its fate.
    CHECK(world.offer(event_json("old"), ListenerKind::udp).position == 2);
    const auto group = world.queue.take();
    REQUIRE(group);
    REQUIRE(group->segments[0].maybe.size() == 1);
    CHECK(group->segments[0].maybe[0].index == 1);
    CHECK(group->segments[0].maybe[0].position == 2);
    CHECK(group->segments[0].maybe[0].asked_after);

    world.intake.note_struck({2});
    world.intake.note_settled(2);
    TaskGroup tasks(world.io.get_executor(), world.clock);
    std::vector<Settled> results;
    tasks.spawn("1", await_settled(world.intake, 1, world.clock.now(), results));
    tasks.spawn("2", await_settled(world.intake, 2, world.clock.now(), results));
    world.io.poll();
    CHECK(results == std::vector<Settled>{Settled::durable, Settled::struck});
    world.io.restart();
    world.io.run();
}

TEST_CASE("intake: what an event says of its call is counted once it is known to be no repeat") {
    World world;
    auto filter = std::make_shared<admit::IdFilter>(1, 16);
    filter->insert(admit::hash_id(42, kDefaultLane, "old"));
    world.intake.note_ids({.covered = std::nullopt, .filters = {filter}});
    auto& series = world.registry.llm_usage().of({"openai", "m", "", "success"});
    CHECK(world.offer(event_json("new", 7)).admission == Admission::accepted);
    CHECK(series.requests == 1);
    CHECK(series.input_tokens == 7);
    CHECK(series.output_tokens == 1);
    CHECK(world.offer(event_json("new", 7)).admission == Admission::duplicate);
    CHECK(world.offer("{\"provider\":1}").admission == Admission::rejected);
    CHECK(series.requests == 1);
    // Perhaps seen before: storage counts it, or strikes it out.
    CHECK(world.offer(event_json("old", 9)).admission == Admission::accepted);
    CHECK(series.requests == 1);
    const auto group = world.queue.take();
    REQUIRE(group);
    REQUIRE(group->segments[0].maybe.size() == 1);
    const auto& call = group->segments[0].maybe[0].call;
    CHECK(call.series == &series);
    CHECK(call.input_tokens == 9);
    CHECK(call.output_tokens == 1);
}

TEST_CASE("intake: of what was struck out the newest few thousand are kept") {
    World world;
    for (Position position = 1; position <= 5'000; ++position) {
        world.intake.note_struck({position});
    }
    world.intake.note_settled(5'000);
    TaskGroup tasks(world.io.get_executor(), world.clock);
    std::vector<Settled> results;
    for (const Position position : {904U, 905U, 5'000U}) {
        tasks.spawn("1", await_settled(world.intake, position, world.clock.now(), results));
    }
    world.io.restart();
    world.io.run();
    CHECK(results == std::vector<Settled>{Settled::durable, Settled::struck, Settled::struck});
}

TEST_CASE("intake: only HTTP asks after a maybe") {
    World world;
    auto filter = std::make_shared<admit::IdFilter>(1, 16);
    filter->insert(admit::hash_id(42, kDefaultLane, "old"));
    world.intake.note_ids({.covered = std::nullopt, .filters = {filter}});
    CHECK(world.offer(event_json("old"), ListenerKind::unix_stream).position == 1);
    CHECK_FALSE(world.queue.take()->segments[0].maybe[0].asked_after);
}

TEST_CASE("intake: duplicates anywhere in a burst leave the other events whole and in order") {
    for (std::uint64_t seed = 1; seed <= 30; ++seed) {
        CAPTURE(seed);
        World world;
        Xoshiro rng{seed};
        std::vector<std::string> texts;
        std::vector<std::string> fresh;
        std::map<std::string, Position> positions;
        const auto count = rng.between(1, 100);
        for (std::uint64_t i = 0; i < count; ++i) {
            const auto id = "id-" + std::to_string(rng.between(0, count));
            texts.push_back(rng.chance(100) ? "no json" : event_json(id));
            // The padding makes events of many lengths, some larger than a stage.
            if (rng.chance(50)) texts.back().append(rng.between(1, 60'000), ' ');
        }
        std::vector<Message> burst;
        for (const auto& text : texts) burst.push_back({.bytes = text});
        const auto offered = world.intake.offer(burst, Origin{.kind = ListenerKind::unix_stream});
        Position next = 0;
        for (std::size_t i = 0; i < texts.size(); ++i) {
            if (offered[i].admission == Admission::rejected) continue;
            const auto id = texts[i].substr(0, texts[i].find(",\"provider"));
            const auto [known, is_new] = positions.try_emplace(id, next + 1);
            CHECK((offered[i].admission == Admission::accepted) == is_new);
            CHECK(offered[i].position == known->second);
            if (!is_new) continue;
            ++next;
            fresh.push_back(id);
        }
        std::vector<std::string> stored;
        while (const auto group = world.queue.take()) {
            for (const auto& segment : group->segments) {
                CHECK(segment.ids.size() == segment.count);
                for (std::size_t at = 0; at < segment.payload.size();) {
                    const auto end = segment.payload.find('\n', at);
                    const auto line = segment.payload.substr(at, end - at);
                    stored.push_back(line.substr(0, line.find(",\"provider")));
                    at = end + 1;
                }
            }
        }
        CHECK(stored == fresh);
        const auto totals = world.totals();
        CHECK(totals.received == count);
        CHECK(fresh.size() + totals.duplicates[0] + totals.duplicates[1] +
                  totals.rejected[index_of(RejectReason::not_json)] ==
              count);
    }
}

TEST_CASE("intake: a rejected event is counted, explained and kept as a dead letter") {
    World world;
    const auto offered = world.offer(
        R"({"externalRequestId":"x","provider":"openai","model":"m","inputTokens":-1})");
    CHECK(offered.admission == Admission::rejected);
    CHECK(offered.reject == RejectReason::bad_tokens);
    CHECK(offered.field == "inputTokens");
    CHECK_FALSE(offered.message.empty());
    const auto group = world.queue.take();
    REQUIRE(group.has_value());
    REQUIRE(group->rejected.size() == 1);
    const auto& letter = group->rejected[0];
    CHECK(letter.reason == "bad_tokens");
    CHECK(letter.source == "http");
    CHECK(letter.id == "x");
    CHECK(letter.provider == "openai");
    CHECK_FALSE(letter.payload.empty());
}

TEST_CASE("intake: what does not parse leaves length and hash, not its bytes") {
    World world;
    CHECK(world.offer("{\"secret\":").reject == RejectReason::not_json);
    const Message huge{.bytes = "{\"cut", .oversize = true, .length = 300'000, .limit = "a limit"};
    CHECK(world.intake.offer({&huge, 1}, Origin{})[0].reject == RejectReason::too_large);
    const auto group = world.queue.take();
    REQUIRE(group.has_value());
    REQUIRE(group->rejected.size() == 2);
    for (const auto& letter : group->rejected) {
        CHECK(letter.payload.empty());
        CHECK(letter.bytes > 0);
        CHECK(letter.hash != 0);
    }
    CHECK(group->rejected[1].bytes == 300'000);
    CHECK(group->rejected[1].detail == "a limit");
    const Message unread{.bytes = {}, .oversize = true, .length = 70'000};
    CHECK(world.intake.offer({&unread, 1}, Origin{})[0].reject == RejectReason::too_large);
    const auto later = world.queue.take();
    REQUIRE(later.has_value());
    CHECK(later->rejected.at(0).bytes == 70'000);
    CHECK(later->rejected.at(0).hash == 0);
}

TEST_CASE("intake: of a flood of rejected events 50 a second are kept, all are counted") {
    World world;
    for (int i = 0; i < 1000; ++i) static_cast<void>(world.offer("nonsense"));
    std::size_t kept = 0;
    while (const auto group = world.queue.take()) kept += group->rejected.size();
    CHECK(kept >= 50);
    CHECK(kept <= 150);  // the loop may straddle a second or two, never a thousand of them
    CHECK(world.totals().rejected[index_of(RejectReason::not_json)] == 1000);
}

TEST_CASE("intake: without room datagrams and HTTP are shed, a stream's burst is taken") {
    World world(100_B);
    CHECK(world.offer(event_json("a")).admission == Admission::accepted);
    CHECK_FALSE(world.intake.has_room());
    const auto shed = world.offer(event_json("b"), ListenerKind::unix_datagram);
    CHECK(shed.admission == Admission::shed);
    CHECK(shed.shed == ShedReason::memory_full);
    CHECK(world.offer(event_json("c"), ListenerKind::unix_stream).admission == Admission::accepted);
    static_cast<void>(world.queue.take());
    CHECK(world.intake.has_room());
    CHECK(world.offer(event_json("b")).admission == Admission::accepted);  // shed leaves no trace
}

TEST_CASE("intake: a full spool sheds with its own reason") {
    World world;
    world.queue.set_spool_open(false);
    CHECK(world.offer(event_json("a")).shed == ShedReason::spool_full);
    CHECK_FALSE(world.intake.has_room());
    CHECK(world.totals().shed[index_of(ShedReason::spool_full)] == 1);
}

TEST_CASE("intake: what is over its peer's rate is shed, whatever there is room for") {
    World world;
    const auto text = event_json("a");
    for (const bool over : {true, false}) {
        CAPTURE(over);
        listen::Message message{text};
        message.over_rate = over;
        const auto offered =
            world.intake.offer({&message, 1}, {ListenerKind::http, kDefaultLane, 0}).front();
        CHECK(offered.admission == (over ? Admission::shed : Admission::accepted));
        if (over) CHECK(offered.shed == ShedReason::rate_limited);
    }
    CHECK(world.totals().shed[index_of(ShedReason::rate_limited)] == 1);
    CHECK(world.totals().received == 2);
}

TEST_CASE("intake: a large burst is handed over in parts that fit a segment") {
    World world;
    std::vector<std::string> events;
    for (int i = 0; i < 40; ++i) {
        events.push_back(R"({"externalRequestId":"id)" + std::to_string(i) +
                         R"(","provider":"p","model":"m","status":"success","x":")" +
                         std::string(60'000, 'y') + "\"}");
    }
    std::vector<Message> burst;
    for (const auto& text : events) burst.push_back({.bytes = text});
    static_cast<void>(world.intake.offer(burst, Origin{.kind = ListenerKind::unix_stream}));
    std::uint64_t count = 0;
    while (const auto group = world.queue.take()) {
        CHECK(group->segments[0].payload.size() <= spool::kSegmentRawBytesMax.count);
        count += group->events;
    }
    CHECK(count == 40);
}

TEST_CASE("intake: waiting ends when storage settles, fails, or the time is over") {
    World world;
    TaskGroup tasks(world.io.get_executor(), world.clock);
    std::vector<Settled> results;
    const auto far = world.clock.now() + hours{1};
    tasks.spawn("1", await_settled(world.intake, 1, far, results));
    tasks.spawn("2", await_settled(world.intake, 2, far, results));
    tasks.spawn("late", await_settled(world.intake, 2, world.clock.now(), results));
    world.io.poll();
    REQUIRE(results.size() == 1);
    CHECK(results[0] == Settled::timed_out);
    world.intake.note_settled(1);
    world.io.poll();
    REQUIRE(results.size() == 2);
    CHECK(results[1] == Settled::durable);
    world.intake.note_failed();
    world.io.restart();
    world.io.run();
    REQUIRE(results.size() == 3);
    CHECK(results[2] == Settled::given_up);
}

TEST_CASE("intake: a graceful stop still waits for the commit, a hard one does not") {
    World world;
    TaskGroup tasks(world.io.get_executor(), world.clock);
    std::vector<Settled> results;
    const auto far = world.clock.now() + hours{1};
    tasks.spawn("1", await_settled(world.intake, 1, far, results));
    world.io.poll();
    tasks.cancel(asio::cancellation_type::total);
    world.io.poll();
    CHECK(results.empty());
    tasks.cancel(asio::cancellation_type::terminal);
    world.io.restart();
    world.io.run();
    REQUIRE(results.size() == 1);
    CHECK(results[0] == Settled::timed_out);
}

TEST_CASE(
    "intake: a stream that waits for room wakes when there is some, or when it is cancelled") {
    World world(1_B);
    static_cast<void>(world.offer(event_json("a")));
    TaskGroup tasks(world.io.get_executor(), world.clock);
    int woken = 0;
    tasks.spawn("1", await_room(world.intake, woken));
    world.io.poll();
    CHECK(woken == 0);
    static_cast<void>(world.queue.take());
    world.intake.note_settled(1);
    world.io.restart();
    world.io.run();
    CHECK(woken == 1);
    static_cast<void>(world.offer(event_json("b")));
    tasks.spawn("2", await_room(world.intake, woken));
    world.io.restart();
    world.io.poll();
    tasks.cancel(asio::cancellation_type::total);
    world.io.restart();
    world.io.run();
    CHECK(woken == 2);
}

}  // namespace opsrelay
