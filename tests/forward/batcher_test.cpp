#include "forward/batcher.h"

#include <doctest/doctest.h>

#include <string>

namespace opsrelay::forward {

namespace {

spool::RecordBatch segment(Seq first, std::size_t count, std::size_t bytes = 1) {
    spool::RecordBatch batch;
    batch.first_seq = first;
    batch.received_unix_ms = static_cast<std::int64_t>(first);
    batch.offsets.push_back(0);
    for (std::size_t i = 0; i < count; ++i) {
        batch.payload += std::string(bytes, 'x') + "\n";
        batch.offsets.push_back(static_cast<std::uint32_t>(batch.payload.size()));
    }
    return batch;
}

const TimePoint kNow = TimePoint{} + hours{1};

}  // namespace

TEST_CASE("forward/batcher: records to be sent again go first, oldest first, once they are due") {
    Batcher batcher(1, 100);
    batcher.on_read(segment(1, 5));
    const auto one = batcher.next(kNow);
    const auto two = batcher.next(kNow);
    const auto three = batcher.next(kNow);
    REQUIRE(three->seq == 3);
    batcher.put_back(*three, kNow);
    batcher.put_back(*one, kNow + seconds{5});
    batcher.put_back(*two, kNow);
    CHECK(batcher.next_due() == kNow);
    CHECK(batcher.next(kNow)->seq == 2);
    CHECK(batcher.next(kNow)->seq == 3);
    CHECK(batcher.next_due() == kNow + seconds{5});
    CHECK(batcher.next(kNow)->seq == 4);
    CHECK(batcher.next(kNow + seconds{5})->seq == 1);
    CHECK(batcher.next(kNow)->seq == 5);
    CHECK_FALSE(batcher.next(kNow).has_value());
}

TEST_CASE("forward/batcher: a probe takes the record that failed least") {
    Batcher batcher(1, 100);
    batcher.on_read(segment(1, 2));
    auto bad = *batcher.next_probe();
    CHECK(bad.seq == 1);
    bad.failures = 1;
    batcher.put_back(bad, kNow + hours{1});
    auto other = *batcher.next_probe();
    CHECK(other.seq == 2);
    other.failures = 2;
    batcher.put_back(other, kNow);
    CHECK(batcher.next_probe()->seq == 1);  // its wait does not count
}

TEST_CASE("forward/batcher: nothing is sent in_flight_max or more behind the oldest record") {
    Batcher batcher(1, 4);
    batcher.on_read(segment(1, 10));
    for (Seq seq = 1; seq <= 4; ++seq) CHECK(batcher.next(kNow)->seq == seq);
    CHECK_FALSE(batcher.next(kNow).has_value());
    batcher.settled(2);
    CHECK_FALSE(batcher.next(kNow).has_value());
    batcher.settled(1);
    CHECK(batcher.next(kNow)->seq == 5);
    CHECK(batcher.next(kNow)->seq == 6);
    CHECK_FALSE(batcher.next(kNow).has_value());
    CHECK(batcher.oldest_unsettled() == 3);
}

TEST_CASE("forward/batcher: the next segment is asked for early, and held bytes are bounded") {
    Batcher batcher(1, 8);
    CHECK(batcher.want_read() == 1);
    batcher.on_read(segment(1, 4));
    CHECK_FALSE(batcher.want_read().has_value());  // 4 to send, over a quarter of 8
    static_cast<void>(batcher.next(kNow));
    static_cast<void>(batcher.next(kNow));
    CHECK(batcher.want_read() == 5);
    batcher.on_read(segment(5, 2, kHeldBytesMax.count / 2));
    for (int i = 0; i < 4; ++i) static_cast<void>(batcher.next(kNow));
    CHECK_FALSE(batcher.want_read().has_value());
    batcher.settled(5);
    CHECK(batcher.held() > kHeldBytesMax);
    batcher.settled(6);
    CHECK(batcher.held() == 8_B);
    CHECK(batcher.want_read() == 7);
}

TEST_CASE("forward/batcher: it is drained when all is settled and the spool has no more") {
    Batcher batcher(1, 8);
    CHECK_FALSE(batcher.drained());
    batcher.on_read(segment(1, 1));
    batcher.on_read({});
    CHECK_FALSE(batcher.drained());
    CHECK(batcher.oldest_received_unix_ms() == 1);
    static_cast<void>(batcher.next(kNow));
    batcher.settled(1);
    CHECK(batcher.drained());
    CHECK_FALSE(batcher.want_read().has_value());
    batcher.note_records();
    CHECK(batcher.want_read() == 2);
    batcher.note_records();  // while that read is under way
    batcher.on_read({});
    CHECK(batcher.want_read() == 2);
    batcher.on_read({});
    CHECK(batcher.drained());
}

TEST_CASE("forward/batcher: lost records leave a hole that is stepped over") {
    Batcher batcher(1, 100);
    batcher.on_read(segment(1, 2));
    auto after = segment(5, 1);
    after.lost = 2;
    batcher.on_read(std::move(after));
    for (const Seq seq : {1U, 2U, 5U}) CHECK(batcher.next(kNow)->seq == seq);
    spool::RecordBatch end;
    end.first_seq = 9;
    end.lost = 3;
    batcher.on_read(std::move(end));
    batcher.note_records();
    CHECK(batcher.want_read() == 9);
    for (const Seq seq : {5U, 1U, 2U}) batcher.settled(seq);
    CHECK(batcher.unsettled() == 0);
}

TEST_CASE(
    "forward/batcher: what an earlier process settled ahead of the cursor is not sent again") {
    Batcher batcher(1, 100);
    auto first = segment(1, 4);
    first.settled = {0, 2};
    batcher.on_read(std::move(first));
    auto whole = segment(5, 2);
    whole.settled = {0, 1};
    batcher.on_read(std::move(whole));
    batcher.on_read(segment(7, 1));
    CHECK(batcher.unsettled() == 3);
    CHECK(batcher.oldest_unsettled() == 2);
    for (const Seq expected : {2U, 4U, 7U}) {
        CAPTURE(expected);
        const auto item = batcher.next(kNow);
        REQUIRE(item.has_value());
        CHECK(item->seq == expected);
        batcher.settled(expected);
    }
    CHECK_FALSE(batcher.next(kNow).has_value());
    batcher.on_read({});
    CHECK(batcher.drained());
}

}  // namespace opsrelay::forward
