#include "forward/pipeline_depth.h"

#include <doctest/doctest.h>

#include <vector>

using namespace opsrelay;
using namespace opsrelay::forward;

namespace {

using How = ConnectionEnd::How;

ConnectionEnd ended(How how, std::size_t answered, std::size_t before, std::size_t piped) {
    return {how, answered, before, piped};
}

}  // namespace

TEST_CASE("forward/pipeline_depth: which ends of connections speak against pipelining") {
    struct Case {
        const char* name;
        std::vector<ConnectionEnd> ends;
        unsigned depth;
    };
    const Case cases[] = {
        {"reset in the third of eight replies", {ended(How::broken, 2, 2, 6)}, 1},
        {"silent with several under way", {ended(How::silent, 1, 0, 3)}, 1},
        {"what came is not HTTP", {ended(How::not_http, 1000, 900, 3)}, 1},
        {"not HTTP, to a single request", {ended(How::not_http, 0, 0, 0)}, 8},
        {"broken with one under way", {ended(How::broken, 0, 0, 0)}, 8},
        {"silent with one under way", {ended(How::silent, 5, 0, 0)}, 8},
        {"broken after it has shown to work", {ended(How::broken, 40, 32, 7)}, 8},
        {"broken just before", {ended(How::broken, 40, 31, 7)}, 1},
        {"answered much, but one by one", {ended(How::broken, 1000, 0, 7)}, 1},
        {"closed by the peer once", {ended(How::closed, 2, 1, 6)}, 8},
        {"closed by the peer twice", {ended(How::closed, 2, 1, 6), ended(How::closed, 1, 1, 2)}, 1},
        {"after every reply, as it says",
         {ended(How::said_so, 1, 0, 0), ended(How::said_so, 1, 0, 0)},
         1},
        {"a long one between",
         {ended(How::said_so, 1, 0, 0), ended(How::said_so, 1000, 900, 7),
          ended(How::said_so, 1, 0, 0)},
         8},
        {"after a thousand replies each, again and again",
         {ended(How::said_so, 1000, 900, 7), ended(How::said_so, 1000, 900, 7),
          ended(How::closed, 1000, 900, 7)},
         8},
        {"idle ones", {ended(How::closed, 3, 0, 0), ended(How::closed, 3, 0, 0)}, 8},
        {"cancelled", {ended(How::by_us, 1, 0, 7), ended(How::by_us, 1, 0, 7)}, 8},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        PipelineDepth depth(8);
        for (const auto& end : test.ends) depth.note_end(end, TimePoint{});
        CHECK(depth.depth() == test.depth);
        CHECK(depth.cause().empty() == (test.depth == 8));
        CHECK((depth.retry_at() == TimePoint::max()) == (test.depth == 8));
    }
}

TEST_CASE("forward/pipeline_depth: it is tried again, ever more rarely while it fails") {
    PipelineDepth depth(4);
    TimePoint now{};
    const auto bad = ended(How::broken, 1, 0, 3);
    const int pauses[] = {10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440};
    for (const int pause : pauses) {
        CAPTURE(pause);
        depth.note_end(bad, now);
        CHECK(depth.depth() == 1);
        CHECK(depth.retry_at() == now + minutes{pause});
        depth.note_end(bad, now);  // one of those that were under way meanwhile
        CHECK(depth.retry_at() == now + minutes{pause});
        depth.note_time(depth.retry_at() - seconds{1});
        CHECK(depth.depth() == 1);
        now = depth.retry_at();
        depth.note_time(now);
        CHECK(depth.depth() == 4);
        CHECK(depth.cause().empty());
        now += seconds{5};
    }
    now += hours{24};
    depth.note_end(bad, now);
    CHECK(depth.retry_at() == now + minutes{10});  // it went well for as long as the last pause
}

TEST_CASE("forward/pipeline_depth: a depth of one stays") {
    PipelineDepth depth(1);
    depth.note_end(ended(How::broken, 0, 0, 3), TimePoint{});
    depth.note_time(TimePoint{} + hours{1});
    CHECK(depth.depth() == 1);
    CHECK(depth.cause().empty());
}
