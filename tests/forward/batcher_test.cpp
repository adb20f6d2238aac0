#include "forward/batcher.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

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

/// Hands out the next record, which must be `seq`, and puts it back as stuck.
void make_stuck(Batcher& batcher, Seq seq) {
    auto item = batcher.next(kNow);
    REQUIRE(item.has_value());
    REQUIRE(item->seq == seq);
    item->failures = kStuckFailures;
    batcher.put_back(std::move(*item), kNow + hours{1});
}

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

TEST_CASE("forward/batcher: at most in_flight_max records are out, wherever the oldest one lies") {
    Batcher batcher(1, 4);
    batcher.on_read(segment(1, 10));
    for (Seq seq = 1; seq <= 4; ++seq) CHECK(batcher.next(kNow)->seq == seq);
    CHECK_FALSE(batcher.next(kNow).has_value());
    batcher.settled(2);
    CHECK(batcher.next(kNow)->seq == 5);
    CHECK_FALSE(batcher.next(kNow).has_value());
    batcher.settled(3);
    batcher.settled(4);
    CHECK(batcher.next(kNow)->seq == 6);
    CHECK(batcher.next(kNow)->seq == 7);
    CHECK_FALSE(batcher.next(kNow).has_value());
    CHECK(batcher.oldest_unsettled() == 1);
}

TEST_CASE("forward/batcher: stuck records do not count among those that are out") {
    Batcher batcher(1, 2);
    batcher.on_read(segment(1, 6));
    make_stuck(batcher, 1);
    make_stuck(batcher, 2);
    CHECK(batcher.stuck() == 2);
    CHECK(batcher.next(kNow)->seq == 3);
    auto waiting = *batcher.next(kNow);
    CHECK(waiting.seq == 4);
    waiting.failures = kStuckFailures - 1;
    batcher.put_back(waiting, kNow + hours{1});
    CHECK_FALSE(batcher.next(kNow).has_value());  // one failure short of stuck
    batcher.settled(3);
    CHECK(batcher.next(kNow)->seq == 5);
    CHECK_FALSE(batcher.next(kNow).has_value());
    batcher.settled(1);
    CHECK(batcher.stuck() == 1);
    CHECK_FALSE(batcher.next(kNow).has_value());  // it had made room already
}

TEST_CASE("forward/batcher: stuck records go oldest first, a second apart until one is settled") {
    Batcher batcher(1, 100);
    batcher.on_read(segment(1, 5));
    for (Seq seq = 1; seq <= 4; ++seq) make_stuck(batcher, seq);
    const auto later = kNow + hours{2};
    CHECK(batcher.next(later)->seq == 1);
    CHECK(batcher.next(later)->seq == 5);  // the others do not wait for the gap
    CHECK_FALSE(batcher.next(later).has_value());
    CHECK(batcher.next_due() == later + kStuckGap);
    CHECK(batcher.next(later + kStuckGap)->seq == 2);
    CHECK_FALSE(batcher.next(later + kStuckGap).has_value());
    batcher.settled(2);
    CHECK(batcher.next(later + kStuckGap)->seq == 3);
    batcher.settled(3);
    CHECK(batcher.next_probe()->seq == 4);  // a probe waits for nothing
    for (const Seq seq : {1U, 4U, 5U}) batcher.settled(seq);
    CHECK(batcher.unsettled() == 0);
    CHECK(batcher.stuck() == 0);
    CHECK(batcher.held() == 0_B);
}

TEST_CASE("forward/batcher: a stuck record is overtaken by kSpanMax records and no more") {
    constexpr std::size_t kCount = 4096;
    Batcher batcher(1, 100);
    Seq last = 0;
    while (const auto from = batcher.want_read()) {
        batcher.on_read(segment(*from, kCount));
        while (auto item = batcher.next(kNow)) {
            CHECK(item->seq == last + 1);
            last = item->seq;
            if (last > 1) {
                batcher.settled(last);
                continue;
            }
            item->failures = kStuckFailures;
            batcher.put_back(std::move(*item), kNow + hours{1});
        }
        CHECK(batcher.held_up() == (last == kSpanMax));
        REQUIRE(last <= kSpanMax);
    }
    CHECK(last == kSpanMax);
    CHECK(batcher.held() == 0_B);
    batcher.settled(1);
    CHECK_FALSE(batcher.held_up());
    CHECK(batcher.want_read() == kSpanMax + 1);
}

TEST_CASE("forward/batcher: a smaller share holds less, a larger one reads on") {
    constexpr std::size_t kBytes = 256U << 10U;
    Batcher batcher(1, 100);
    batcher.set_held_max(1_MiB);
    Seq next = 1;
    while (batcher.want_read() == next) batcher.on_read(segment(next++, 1, kBytes));
    CHECK(batcher.held() >= 1_MiB);
    CHECK(batcher.held() < 1_MiB + Bytes{2 * kBytes});
    batcher.set_held_max(2_MiB);
    CHECK(batcher.want_read() == next);
    while (batcher.want_read() == next) batcher.on_read(segment(next++, 1, kBytes));
    CHECK(batcher.held() >= 2_MiB);
    batcher.set_held_max(1_MiB);  // what is held already stays
    CHECK_FALSE(batcher.want_read().has_value());
    while (const auto item = batcher.next(kNow)) batcher.settled(item->seq);
    CHECK(batcher.want_read() == next);
}

TEST_CASE("forward/batcher: a segment with a stuck record is let go") {
    constexpr std::size_t kBytes = 64U << 10U;
    constexpr std::size_t kCopies = kStuckBytesMax.count / kBytes;
    Batcher batcher(1, 8);
    std::vector<Item> again;
    for (std::size_t i = 0; i < kCopies; ++i) {
        const Seq first = 1 + 2 * i;
        REQUIRE(batcher.want_read() == first);
        auto two = segment(first, 2, kBytes);
        two.payload[0] = static_cast<char>('a' + i % 26);
        batcher.on_read(std::move(two));
        make_stuck(batcher, first);
        REQUIRE(batcher.next(kNow)->seq == first + 1);
        CHECK(batcher.held() > 0_B);
        batcher.settled(first + 1);
        CHECK(batcher.held() == 0_B);
    }
    CHECK(batcher.stuck() == kCopies);
    // What is beyond kStuckBytesMax keeps its segment, and reading stops at kHeldBytesMax.
    auto first = static_cast<Seq>(1 + 2 * kCopies);
    while (batcher.want_read() == first) {
        batcher.on_read(segment(first, 1, kHeldBytesMax.count / 4));
        make_stuck(batcher, first);
        ++first;
    }
    CHECK(batcher.held() >= kHeldBytesMax);
    CHECK(batcher.held() <= kHeldBytesMax + 1_MiB);
    CHECK(batcher.held_up());
    const auto due = kNow + hours{2};
    for (std::size_t i = 0; i < kCopies; ++i) {
        CAPTURE(i);
        const auto item = batcher.next(due);
        REQUIRE(item.has_value());
        CHECK(item->payload.size() == kBytes);
        CHECK(item->payload[0] == static_cast<char>('a' + i % 26));
        batcher.settled(item->seq);
    }
    // Room for copies again: the next failure lets the segment go.
    auto item = *batcher.next(due);
    ++item.failures;
    const auto before = batcher.held();
    batcher.put_back(std::move(item), due);
    CHECK(batcher.held() < before);
    CHECK(batcher.want_read() == first);
    CHECK_FALSE(batcher.held_up());
}

TEST_CASE(
    "forward/batcher: segments that passed a stuck record are forgotten, what is left is found") {
    Batcher batcher(1, 100);
    constexpr Seq kLast = 10'000;
    batcher.on_read(segment(1, 1));
    make_stuck(batcher, 1);
    std::size_t most = 0;
    std::vector<Seq> slow;  // sent, and settled in the end
    for (Seq seq = 2; seq <= kLast; ++seq) {
        batcher.on_read(segment(seq, 1));
        REQUIRE(batcher.next(kNow)->seq == seq);
        if (seq % 1000 == 0) {
            slow.push_back(seq);
        } else {
            batcher.settled(seq);
        }
        most = std::max(most, batcher.segments());
    }
    CHECK(most <= 2 * (slow.size() + 1));
    CHECK(batcher.want_read() == kLast + 1);
    CHECK(batcher.span() == kLast);
    for (const auto seq : slow) {
        CHECK(batcher.oldest_unsettled() == 1);
        batcher.settled(seq);
    }
    CHECK(batcher.segments() <= 2);
    batcher.settled(1);
    batcher.on_read({});
    CHECK(batcher.drained());
    CHECK(batcher.segments() == 0);
    batcher.note_records();
    batcher.on_read(segment(kLast + 1, 2));
    CHECK(batcher.next(kNow)->seq == kLast + 1);
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

TEST_CASE("forward/batcher: what is forgotten is neither sent nor asked for, what is out is kept") {
    Batcher batcher(1, 100);
    batcher.on_read(segment(1, 5));
    batcher.on_read(segment(6, 5));
    const auto one = batcher.next(kNow);
    const auto two = batcher.next(kNow);
    const auto three = batcher.next(kNow);
    batcher.put_back(*two, kNow);
    const auto forgotten = batcher.forget_below(8);
    CHECK(forgotten.end == 8);
    CHECK(forgotten.kept == std::vector<Seq>{1, 3});
    CHECK_FALSE(forgotten.nothing);
    CHECK(batcher.unsettled() == 5);  // 1, 3, 8, 9, 10
    CHECK(batcher.next(kNow)->seq == 8);
    CHECK(batcher.forget_below(8).nothing);
    batcher.settled(1);
    batcher.put_back(*three, kNow);
    CHECK(batcher.forget_below(8).kept.empty());
    CHECK(batcher.next(kNow)->seq == 9);
    CHECK(batcher.next(kNow)->seq == 10);
    CHECK_FALSE(batcher.next(kNow).has_value());
}

TEST_CASE("forward/batcher: records may be forgotten before they were read, and while they are") {
    Batcher batcher(1, 100);
    batcher.on_read(segment(1, 2));
    REQUIRE(batcher.want_read() == 3);
    CHECK(batcher.forget_below(10).kept.empty());
    CHECK(batcher.want_read() == 10);
    batcher.on_read(segment(3, 5));  // the answer to a read that had begun
    CHECK(batcher.unsettled() == 0);
    batcher.on_read(segment(8, 4));
    CHECK(batcher.unsettled() == 2);
    CHECK(batcher.next(kNow)->seq == 10);
    CHECK(batcher.want_read() == 12);
}

TEST_CASE("forward/batcher: behind a record that is out no more is forgotten than an ack can say") {
    Batcher batcher(1, 100);
    batcher.on_read(segment(1, 10));
    REQUIRE(batcher.next(kNow)->seq == 1);
    const auto forgotten = batcher.forget_below(10 * kSpanMax);
    CHECK(forgotten.kept == std::vector<Seq>{1});
    CHECK(forgotten.end == 1 + kSpanMax);
    CHECK(batcher.span() == kSpanMax);
    CHECK_FALSE(batcher.want_read().has_value());
    batcher.settled(1);
    CHECK(batcher.want_read() == 1 + kSpanMax);
}

TEST_CASE("forward/batcher: a stuck record is forgotten with its copy") {
    Batcher batcher(1, 100);
    batcher.on_read(segment(1, 3, 1000));
    make_stuck(batcher, 1);
    CHECK(batcher.forget_below(4).kept.empty());
    CHECK(batcher.stuck() == 0);
    CHECK(batcher.held() == Bytes{});
    CHECK(batcher.unsettled() == 0);
}

TEST_CASE("forward/batcher: the age of the front says what is too old") {
    Batcher batcher(1, 100);
    batcher.on_read(segment(10, 5));  // received at 10
    batcher.on_read(segment(20, 5));
    CHECK_FALSE(batcher.end_of_older(10).has_value());
    CHECK(batcher.end_of_older(11) == 15);
    CHECK(batcher.end_of_older(99) == 25);
}

}  // namespace opsrelay::forward
