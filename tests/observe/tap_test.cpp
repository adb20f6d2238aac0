#include "observe/tap.h"

#include <doctest/doctest.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <thread>
#include <vector>

using namespace opsrelay;
using namespace opsrelay::observe;

namespace {

constexpr const char* kEvent =
    R"({"externalRequestId":"r-1","provider":"openai","model":"gpt-4o","inputTokens":7,)"
    R"("outputTokens":2,"totalTokens":9,"status":"success","userId":"planted-user",)"
    R"("tenantId":"planted-tenant","metadata":{"note":"planted-note"},"endpointTag":"x"})";

/// A tap whose sightings are kept.
struct World {
    World() {
        tap.set_sink([this](const Sighting& one) { seen.push_back(one); });
    }
    asio::io_context io;
    Tap tap{io.get_executor()};
    std::vector<Sighting> seen;
};

}  // namespace

TEST_CASE("observe/tap: only fields that may be shown are read") {
    const auto fields = read_shown(kEvent);
    CHECK(fields.id == "r-1");
    CHECK(fields.provider == "openai");
    CHECK(fields.model == "gpt-4o");
    CHECK(fields.status == "success");
    CHECK(fields.input_tokens == 7);
    CHECK(fields.output_tokens == 2);
    CHECK(fields.total_tokens == 9);
}

TEST_CASE("observe/tap: what is missing, strange or too long does no harm") {
    for (const auto* text : {"", "x", "[]", "7", "{\"provider\":", "{}"}) {
        CAPTURE(text);
        CHECK(read_shown(text).id.empty());
    }
    const auto strange = read_shown(R"({"externalRequestId":3,"model":{},"inputTokens":-1})");
    CHECK(strange.id.empty());
    CHECK(strange.model.empty());
    CHECK_FALSE(strange.input_tokens.has_value());
    // Cut before the sequence that does not fit.
    const auto cut = read_shown("{\"model\":\"" + std::string(kShownMax - 1, 'x') + "\u00e9y\"}");
    CHECK(cut.model == std::string(kShownMax - 1, 'x'));
    const auto whole = read_shown("{\"model\":\"" + std::string(kShownMax - 2, 'x') + "\u00e9\"}");
    CHECK(whole.model.size() == kShownMax);
}

TEST_CASE("observe/tap: what nobody wants is not asked for") {
    World world;
    CHECK_FALSE(world.tap.watched());
    for (const auto& sight : kSights) CHECK_FALSE(world.tap.wants(sight.value));
    world.tap.want(bit(Sight::dead));
    CHECK(world.tap.watched());
    CHECK(world.tap.wants(Sight::dead));
    CHECK_FALSE(world.tap.wants(Sight::delivered));
    world.tap.want(0);
    CHECK_FALSE(world.tap.watched());
}

TEST_CASE("observe/tap: sightings arrive on the watchers' thread, in order") {
    World world;
    world.tap.grant(10, 10);
    world.tap.see({Sight::accepted, LaneId{3}, "", 1, {}}, kEvent);
    world.tap.see({Sight::dead, LaneId{3}, "400", 1, {}}, kEvent);
    CHECK(world.seen.empty());
    world.io.run();
    REQUIRE(world.seen.size() == 2);
    CHECK(world.seen[0].sight == Sight::accepted);
    CHECK(world.seen[0].fields.id == "r-1");
    CHECK(world.seen[1].reason == "400");
    CHECK(world.seen[1].lane == LaneId{3});
}

TEST_CASE("observe/tap: beyond the credit events are counted, not kept") {
    World world;
    world.tap.see({Sight::accepted, kDefaultLane, "", 1, {}}, kEvent);  // no credit yet
    world.tap.grant(5, 2);                                              // no more than 2
    for (int i = 0; i < 4; ++i) world.tap.see({Sight::shed, kDefaultLane, "spool_full", 1, {}});
    world.tap.see({Sight::dropped, kDefaultLane, "oldest", 100, {}});
    world.io.run();
    CHECK(world.seen.size() == 2);
    CHECK(world.tap.take_missed() == 1 + 2 + 100);
    CHECK(world.tap.take_missed() == 0);
    // A large event costs more, and what was not spent is still there.
    world.tap.grant(3, 3);
    world.tap.see({Sight::accepted, kDefaultLane, "", 1, {}}, std::string(16U << 10U, ' '));
    world.tap.see({Sight::accepted, kDefaultLane, "", 1, {}}, kEvent);
    world.io.restart();
    world.io.run();
    CHECK(world.seen.size() == 3);
    CHECK(world.tap.take_missed() == 1);
}

TEST_CASE("observe/tap: each event of several threads is seen or missed, whatever is granted") {
    World world;
    world.tap.want(kAllSights);
    constexpr std::uint64_t kEach = 5'000;
    auto work = boost::asio::make_work_guard(world.io);
    std::thread watchers([&world] { world.io.run(); });
    const auto stage = [&world](Sight sight) {
        for (std::uint64_t i = 0; i < kEach; ++i) {
            if (i % 100 == 0) {
                boost::asio::post(world.io, [&world] { world.tap.grant(60, 500); });
            }
            if (world.tap.wants(sight)) world.tap.see({sight, kDefaultLane, "", 1, {}}, kEvent);
        }
    };
    std::thread ingest(stage, Sight::accepted);
    std::thread storage(stage, Sight::dropped);
    std::thread forward(stage, Sight::delivered);
    for (auto* const one : {&ingest, &storage, &forward}) one->join();
    work.reset();
    watchers.join();
    const auto missed = world.tap.take_missed();
    CHECK(world.seen.size() + missed == 3 * kEach);
    CHECK(missed > 0);
    for (const auto& one : world.seen) CHECK(one.fields.id == "r-1");
}
