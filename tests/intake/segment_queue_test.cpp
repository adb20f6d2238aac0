#include "spool/segment_queue.h"

#include <doctest/doctest.h>

#include "spool/options.h"

namespace opsrelay::spool {

namespace {

Burst burst_of(std::uint32_t count, std::size_t bytes_each, std::int64_t at_ms, Position last) {
    Burst burst;
    burst.segment.received_unix_ms = at_ms;
    for (std::uint32_t i = 0; i < count; ++i) {
        burst.segment.payload += std::string(bytes_each - 1, 'x') + '\n';
        burst.segment.ids.push_back({i, last});
    }
    burst.segment.count = count;
    burst.last = last;
    burst.totals.received = last;
    return burst;
}

}  // namespace

TEST_CASE("spool/segment_queue: bursts gather in one group and keep their order") {
    SegmentQueue queue(8_MiB);
    auto first = burst_of(2, 10, 100, 2);
    auto second = burst_of(1, 20, 150, 3);
    CHECK(queue.push(first));  // storage waits at the start
    CHECK_FALSE(queue.push(second));
    CHECK(first.segment.payload.empty());
    CHECK(first.segment.count == 0);
    const auto group = queue.take();
    REQUIRE(group.has_value());
    CHECK(group->events == 3);
    CHECK(group->last == 3);
    REQUIRE(group->segments.size() == 1);
    CHECK(group->segments[0].payload.size() == 40);
    CHECK(group->segments[0].ids.size() == 3);
    CHECK(group->segments[0].received_unix_ms == 100);
    CHECK_FALSE(queue.take().has_value());
}

TEST_CASE("spool/segment_queue: a segment stays in its limits, the next group takes the rest") {
    struct Case {
        const char* name;
        Burst first;
        Burst second;
    };
    Case cases[] = {
        {"bytes", burst_of(1, 400U << 10U, 0, 1), burst_of(1, 200U << 10U, 0, 2)},
        {"events", burst_of(8000, 2, 0, 8000), burst_of(200, 2, 0, 8200)},
        {"receive time", burst_of(1, 10, 0, 1), burst_of(1, 10, 1001, 2)},
        {"clock that stepped back", burst_of(1, 10, 5000, 1), burst_of(1, 10, 4999, 2)},
    };
    for (auto& test : cases) {
        CAPTURE(test.name);
        SegmentQueue queue(8_MiB);
        const auto last = test.second.last;
        const auto split = test.first.last;
        static_cast<void>(queue.push(test.first));
        static_cast<void>(queue.push(test.second));
        const auto one = queue.take();
        const auto two = queue.take();
        REQUIRE(one.has_value());
        REQUIRE(two.has_value());
        CHECK(one->last == split);
        CHECK(two->last == last);
    }
}

TEST_CASE(
    "spool/segment_queue: memory is set aside for a segment that will be full, for no other") {
    SegmentQueue queue(8_MiB);
    // An event now and then, while the disk hangs for long.
    for (Position at = 1; at <= 100; ++at) {
        auto burst = burst_of(1, 300, static_cast<std::int64_t>(at) * 2000, at);
        static_cast<void>(queue.push(burst));
    }
    std::size_t memory = 0;
    for (int i = 0; i < 100; ++i) {
        const auto group = queue.take();
        REQUIRE(group.has_value());
        memory += group->segments[0].payload.capacity();
    }
    CHECK(memory < 100U * 1024U);
    for (Position at = 1; at <= 2; ++at) {
        auto burst = burst_of(1, 400U << 10U, 0, at);
        static_cast<void>(queue.push(burst));
    }
    CHECK(queue.take().has_value());
    CHECK(queue.take()->segments[0].payload.capacity() >= kSegmentRawBytesMax.count);
}

TEST_CASE("spool/segment_queue: room ends at the capacity and comes back with take") {
    SegmentQueue queue(1_KiB);
    CHECK(queue.has_room());
    auto burst = burst_of(10, 200, 0, 10);
    static_cast<void>(queue.push(burst));
    CHECK_FALSE(queue.has_room());
    static_cast<void>(queue.take());
    CHECK(queue.has_room());
}

TEST_CASE("spool/segment_queue: counts are published even when nothing is handed over") {
    SegmentQueue queue(8_MiB);
    Burst burst;
    burst.totals.received = 7;
    burst.totals.rejected[index_of(RejectReason::not_json)] = 7;
    CHECK_FALSE(queue.push(burst));  // nothing to commit, storage sleeps on
    CHECK(queue.snapshot().totals.received == 7);
    CHECK(queue.snapshot().events == 0);
    auto events = burst_of(4, 10, 0, 4);
    events.totals.received = 11;
    CHECK(queue.push(events));
    CHECK(queue.snapshot().events == 4);
    static_cast<void>(queue.take());
    CHECK(queue.snapshot().events == 0);
    CHECK(queue.snapshot().totals.received == 11);
}

TEST_CASE("spool/segment_queue: dead letters alone make a group") {
    SegmentQueue queue(8_MiB);
    Burst burst;
    burst.rejected.emplace_back().reason = "not_json";
    CHECK(queue.push(burst));
    const auto group = queue.take();
    REQUIRE(group.has_value());
    CHECK(group->segments.empty());
    CHECK(group->rejected.size() == 1);
    CHECK(group->events == 0);
}

TEST_CASE("spool/segment_queue: storage is asked to wake up once") {
    SegmentQueue queue(8_MiB);
    auto first = burst_of(1, 10, 0, 1);
    CHECK(queue.push(first));
    static_cast<void>(queue.take());
    auto second = burst_of(1, 10, 0, 2);
    CHECK_FALSE(queue.push(second));  // storage is at work and looks again by itself
    static_cast<void>(queue.take());
    CHECK_FALSE(queue.take().has_value());
    auto third = burst_of(1, 10, 0, 3);
    CHECK(queue.push(third));
}

}  // namespace opsrelay::spool
