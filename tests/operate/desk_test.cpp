#include "operate/desk.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <boost/asio/io_context.hpp>

#include "support/log_capture.h"
#include "support/mem_store.h"
#include "support/sim_clock.h"

namespace opsrelay::operate {

namespace {

constexpr LaneId kLeft{1};  // not configured

std::string good_event(std::string_view id) {
    return fmt::format(
        R"({{"externalRequestId":"{}","provider":"openai","model":"m","inputTokens":1}})", id);
}

/// A store with two lanes of three records each and a desk on it.
struct World {
    explicit World(bool sending = true) {
        hooks.sending = sending;
        desk.emplace(store, settler, rng, parse::Options{}, hooks);
        for (const auto lane : {kDefaultLane, kLeft}) {
            spool::Segment segment;
            segment.lane = lane;
            for (std::uint64_t i = 1; i <= 3; ++i) {
                segment.payload += good_event(fmt::format("id-{}", i)) + "\n";
                segment.ids.push_back({i, static_cast<std::uint64_t>(lane)});
                ++segment.count;
            }
            REQUIRE(store.commit({&segment, 1}, {}).has_value());
        }
        settler.adopt(true);
    }
    /// Upstream refused a record.
    void kill(Seq seq, LaneId lane = kDefaultLane) {
        auto letter = made(good_event(fmt::format("id-{}", seq)), "upstream_400");
        letter.seq = seq;
        const std::vector<Seq> ahead{seq};
        REQUIRE(
            store.ack({.lane = lane, .next = 1, .dead = {&letter, 1}, .ahead = ahead}).has_value());
        settled.adopt(true);
    }
    void reject(std::string payload, LaneId lane = kDefaultLane) {
        auto letter = made(std::move(payload), "bad_tokens");
        letter.lane = lane;
        REQUIRE(store.commit({}, {&letter, 1}).has_value());
    }
    spool::DeadLetter made(std::string payload, std::string reason) {
        spool::DeadLetter letter;
        letter.unix_ms = unix_ms(clock.wall_now());
        letter.reason = std::move(reason);
        letter.payload = std::move(payload);
        return letter;
    }
    std::string ask(std::string_view path, std::string_view body, unsigned status = 200) {
        const auto response = desk->answer(path, body);
        CAPTURE(response.body);
        CHECK(response.status == status);
        CHECK(response.content_type == "application/json");
        return response.body;
    }
    [[nodiscard]] bool has(const std::string& text, std::string_view part) const {
        CAPTURE(text);
        CAPTURE(part);
        return text.find(part) != std::string::npos;
    }

    test::LogCapture log;
    asio::io_context io;
    test::SimClock clock;
    Xoshiro rng{1};
    test::MemStore store{1, {kDefaultLane, kLeft}};
    observe::StorageTotals totals;
    observe::StorageTotals other_totals;
    spool::Settler settler{io.get_executor(), store, totals};
    spool::Settler settled{io.get_executor(), store, other_totals};
    std::vector<LaneId> replayed;
    DeskHooks hooks{.configured = [](LaneId lane) { return lane == kDefaultLane; },
                    .sending = true,
                    .replayed = [this](LaneId lane) { replayed.push_back(lane); },
                    .paused = [this](LaneId lane, bool on) { paused.emplace_back(lane, on); },
                    .flush = [this](LaneId lane) { flushed.push_back(lane); }};
    std::vector<std::pair<LaneId, bool>> paused;
    std::vector<LaneId> flushed;
    std::optional<Desk> desk;
};

}  // namespace

TEST_CASE("operate/desk: lists go on where the page before ended") {
    World world;
    for (int i = 0; i < 5; ++i) world.reject(fmt::format("{{\"n\":{}}}", i));
    auto page = world.ask("/dead/list", R"({"limit":2})");
    CHECK(world.has(page, R"("key":"admission-0-1")"));
    CHECK(world.has(page, R"("next":"admission-0-2")"));
    CHECK(world.has(page, R"("event":null)"));
    page = world.ask("/dead/list", R"({"limit":3,"after":"admission-0-2","events":true})");
    CHECK(world.has(page, R"("event":{"n":2})"));
    CHECK(world.has(page, R"("key":"admission-0-5")"));
    CHECK(world.has(page, R"("next":null)"));
    CHECK(world.has(world.ask("/dead/list", R"({"lane":"lane-1"})"), R"("letters":[])"));
    CHECK(world.has(world.ask("/dead/list", R"({"lane":"no"})", 400), "lane no is not in this"));
}

TEST_CASE("operate/desk: one letter with its event, or 404") {
    World world;
    world.kill(2);
    CHECK(world.has(world.ask("/dead/show", R"({"keys":["upstream-0-2"]})"),
                    R"("event":{"externalRequestId":"id-2")"));
    CHECK(world.has(world.ask("/dead/show", R"({"keys":["upstream-0-1"]})", 404),
                    "there is no dead letter upstream-0-1"));
    CHECK(world.has(world.ask("/dead/show", "{}", 400), "one key"));
    CHECK(world.has(world.ask("/dead/other", "{}", 404), "/dead/other"));
}

TEST_CASE("operate/desk: a refused record goes back as it was, also into a lane not configured") {
    World world;
    world.kill(2);
    world.kill(3, kLeft);
    const auto reply =
        world.ask("/dead/replay", R"({"keys":["upstream-0-2","upstream-1-3","upstream-0-9"]})");
    CHECK(world.has(reply, R"("replayed":2)"));
    CHECK(world.has(reply, R"({"key":"upstream-0-9","reason":"not_found")"));
    CHECK(world.replayed == std::vector<LaneId>{kDefaultLane, kLeft});
    CHECK(world.store.records(kDefaultLane).back() == good_event("id-2"));
    CHECK(world.store.records(kLeft).back() == good_event("id-3"));
    CHECK(world.totals.replayed == 2);
    CHECK(world.store.dead_letters().empty());
}

TEST_CASE("operate/desk: what is changed or was rejected passes the rules, or stays") {
    World world;
    world.kill(1);
    world.reject(R"({"externalRequestId":"r","provider":"openai","model":"m","inputTokens":-1})");
    world.reject("");
    const auto refused = world.ask("/dead/replay", R"({"all":true,"set":{"outputTokens":-2}})");
    CHECK(world.has(refused, R"("replayed":0)"));
    CHECK(world.has(
        refused, R"("key":"upstream-0-1","reason":"invalid","message":"bad_tokens: outputTokens)"));
    CHECK(world.has(refused, R"("key":"admission-0-2","reason":"no_event")"));
    CHECK(world.store.dead_letters().size() == 3);
    const auto mended = world.ask("/dead/replay", R"({"all":true,"set":{"inputTokens":5}})");
    CHECK(world.has(mended, R"("replayed":2)"));
    const auto records = world.store.records(kDefaultLane);
    REQUIRE(records.size() == 5);
    CHECK(records[3].starts_with(
        R"({"externalRequestId":"r","provider":"openai","model":"m","inputTokens":5)"));
    CHECK(world.has(records[3], "createdAt"));  // as at reception, with that time
    CHECK(world.store.dead_letters().size() == 1);
}

TEST_CASE("operate/desk: all are put back page by page, but not what is refused again meanwhile") {
    World world;
    world.kill(1);
    world.kill(2);
    auto reply = world.ask("/dead/replay", R"({"all":true,"kind":"upstream","limit":1})");
    CHECK(world.has(reply, R"("next":"upstream-0-1")"));
    const auto* const as_of = R"({"admission":1,"lanes":{"default":4,"lane-1":4}})";
    CHECK(world.has(reply, fmt::format(R"("as_of":{})", as_of)));
    world.kill(4);                     // what was put back is refused again, at the same moment
    world.reject(good_event("late"));  // and another one comes
    reply = world.ask("/dead/replay",
                      fmt::format(R"({{"all":true,"after":"upstream-0-1","as_of":{}}})", as_of));
    CHECK(world.has(reply, R"("replayed":1,"next":null)"));
    REQUIRE(world.store.dead_letters().size() == 2);
    CHECK(world.store.dead_letters()[0].seq == 4);
}

TEST_CASE("operate/desk: all are put back, also what the clock dates in the future by now") {
    World world;
    world.clock.advance(hours{24});
    world.kill(1);
    world.kill(2, kLeft);
    world.reject(good_event("r"));
    world.clock.jump_wall(-hours{48});
    CHECK(world.has(world.ask("/dead/replay", R"({"all":true})"), R"("replayed":3)"));
    CHECK(world.store.dead_letters().empty());
}

TEST_CASE("operate/desk: purging takes keys, or all that match, never both or neither") {
    World world;
    world.kill(1);
    world.kill(2, kLeft);
    world.reject("{}");
    for (const auto* const body :
         {"{}", R"({"all":false})", R"({"all":true,"keys":["upstream-0-1"]})",
          R"({"keys":["upstream-0-1"],"kind":"upstream"})",
          R"({"keys":["upstream-0-1"],"lane":"default"})"}) {
        CAPTURE(body);
        CHECK(world.has(world.ask("/dead/purge", body, 400), "bad_request"));
    }
    CHECK(world.store.dead_letters().size() == 3);
    CHECK(world.has(world.ask("/dead/purge", R"({"all":true,"lane":"lane-1"})"), R"("purged":1)"));
    CHECK(world.has(world.ask("/dead/purge", R"({"keys":["upstream-0-1"]})"), R"("purged":1)"));
    CHECK(world.has(world.ask("/dead/purge", R"({"keys":["upstream-0-1"]})"), R"("purged":0)"));
    CHECK(world.store.dead_letters().size() == 1);
}

TEST_CASE("operate/desk: a spool that refuses is a 503 with its reason, and nothing is lost") {
    World world;
    world.kill(1);
    world.store.fail_next(test::StoreCall::replay, Errc::spool_full);
    CHECK(world.has(world.ask("/dead/replay", R"({"all":true})", 503), R"("reason":"spool_full")"));
    world.store.fail_next(test::StoreCall::purge_dead, Errc::spool_io);
    CHECK(world.has(world.ask("/dead/purge", R"({"all":true})", 503), R"("reason":"spool_io")"));
    CHECK(world.store.dead_letters().size() == 1);
    CHECK(world.has(world.ask("/dead/replay", R"({"all":true})"), R"("replayed":1)"));
}

TEST_CASE(
    "operate/desk: lanes that are not configured are purged, others only when nothing sends") {
    World world;
    CHECK(world.has(world.ask("/spool/purge", R"({"lane":"x"})", 404), "it has: default, lane-1"));
    CHECK(world.has(world.ask("/spool/purge", R"({"lane":"default","configured":true})", 409),
                    "stop the daemon first"));
    CHECK(world.has(world.ask("/spool/purge", R"({"lane":"lane-1"})"), R"("purged":3)"));
    CHECK(world.totals.dropped[index_of(DropReason::purged)] == 3);
    CHECK(world.store.unsettled(kLeft).empty());
    CHECK(world.store.unsettled(kDefaultLane).size() == 3);

    World offline(false);
    CHECK(
        offline.has(offline.ask("/spool/purge", R"({"lane":"default"})", 409), "add --configured"));
    CHECK(offline.has(offline.ask("/spool/purge", R"({"lane":"default","configured":true})"),
                      R"("purged":3)"));
    CHECK(offline.store.unsettled(kDefaultLane).empty());
}

TEST_CASE("operate/desk: letters are mended by the rules that hold now") {
    World world;
    world.reject(R"({"provider":"openai","model":"m","inputTokens":1,"status":"bad"})");
    parse::Options rules;
    rules.missing_id = parse::MissingId::reject;
    world.desk->configure(rules);
    const auto* const mend = R"({"all":true,"set":{"status":"success"}})";
    CHECK(world.has(world.ask("/dead/replay", mend), "missing_id"));
    world.desk->configure(parse::Options{});
    CHECK(world.has(world.ask("/dead/replay", mend), R"("replayed":1)"));
}

TEST_CASE("operate/desk: a pause is durable when the reply comes, and told") {
    World world;
    CHECK(world.has(world.ask("/lanes/pause", "{}"), R"("lanes":["default"])"));
    CHECK(world.paused == std::vector<std::pair<LaneId, bool>>{{kDefaultLane, true}});
    CHECK(world.settler.start_of(kDefaultLane).paused);
    world.store.crash();
    CHECK(world.store.lanes()[0].paused);
    CHECK_FALSE(world.store.lanes()[1].paused);
    CHECK(world.has(world.ask("/lanes/resume", R"({"lane":"default"})"), R"("lanes":["default"])"));
    CHECK(world.paused.back() == std::pair{kDefaultLane, false});
    CHECK_FALSE(world.store.lanes()[0].paused);
}

TEST_CASE("operate/desk: a pause that the disk refuses is not made") {
    World world;
    world.store.fail_next(test::StoreCall::set_paused, Errc::spool_full);
    CHECK(world.has(world.ask("/lanes/pause", "{}", 503), R"("reason":"spool_full")"));
    CHECK(world.paused.empty());
    CHECK_FALSE(world.settler.start_of(kDefaultLane).paused);
}

TEST_CASE("operate/desk: only lanes that are configured can be paused and flushed") {
    World world;
    for (const auto* path : {"/lanes/pause", "/lanes/resume", "/lanes/flush"}) {
        CAPTURE(path);
        CHECK(world.has(world.ask(path, R"({"lane":"x"})", 404), "it has: default, lane-1"));
        CHECK(world.has(world.ask(path, R"({"lane":"lane-1"})", 409), "lane-1 is not configured"));
    }
    CHECK(world.paused.empty());
    CHECK(world.flushed.empty());
}

TEST_CASE("operate/desk: without a daemon any lane of the spool can be paused by name") {
    World world(false);
    CHECK(world.has(world.ask("/lanes/pause", R"({"lane":"lane-1"})"), R"("lanes":["lane-1"])"));
    CHECK(world.store.lanes()[1].paused);
    CHECK(world.has(world.ask("/lanes/pause", R"({"lane":"x"})", 404), "it has: default, lane-1"));
}

TEST_CASE("operate/desk: what was there at a flush is counted until it is settled") {
    World world;
    CHECK(world.has(world.ask("/lanes/flush", "{}"), R"("ends":{"default":4,"lane-1":4})"));
    CHECK(world.flushed == std::vector<LaneId>{kDefaultLane});
    CHECK(world.has(world.ask("/lanes/left", R"({"ends":{"default":4}})"), R"({"default":3})"));
    CHECK(world.has(world.ask("/lanes/left", R"({"ends":{"default":2,"lane-1":99}})"),
                    R"("left":{"default":1,"lane-1":3},"resting":{"default":0,"lane-1":0})"));
    world.settler.drop_unread(kDefaultLane, 3, DropReason::oldest);
    CHECK(world.has(world.ask("/lanes/left", R"({"ends":{"default":4}})"), R"({"default":1})"));
    CHECK(world.has(world.ask("/lanes/left", R"({"ends":{"default":3}})"), R"({"default":0})"));
    CHECK(world.has(world.ask("/lanes/left", R"({"ends":{"x":3}})", 404), "it has"));
    CHECK(world.has(world.ask("/lanes/left", "{}", 400), "ends must name a lane"));
    world.settler.drop_unread(kLeft, 4, DropReason::purged);
    CHECK(world.has(world.ask("/lanes/flush", "{}"), R"("ends":{"default":4})"));
}

}  // namespace opsrelay::operate
