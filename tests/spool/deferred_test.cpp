#include "spool/deferred.h"

#include <doctest/doctest.h>

#include <utility>

#include "samples.h"
#include "spool/deferred_book.h"

namespace opsrelay::spool {
namespace {

using test::make_deferred;

constexpr LaneId kLane{7};

bool same(const DeferredRecord& a, const DeferredRecord& b) {
    return a.seq == b.seq && a.due_unix_ms == b.due_unix_ms &&
           a.received_unix_ms == b.received_unix_ms && a.failures == b.failures &&
           a.payload == b.payload;
}

TEST_CASE("spool/deferred: what is stored is read back") {
    for (const auto* const payload : {"", "x", R"({"provider":"openai","model":"gpt-4o"})"}) {
        CAPTURE(payload);
        const auto record = make_deferred(42, payload);
        const auto value = encode_deferred(kLane, record);
        CHECK(Bytes{value.size()} == deferred_bytes(record));
        const auto read = decode_deferred(value);
        REQUIRE(read.has_value());
        CHECK(read->lane == kLane);
        CHECK(same(read->record, record));
    }
}

TEST_CASE("spool/deferred: a damaged byte, a missing one and one too many are found") {
    const auto value = encode_deferred(kLane, make_deferred(42, "event"));
    for (std::size_t i = 0; i < value.size(); ++i) {
        CAPTURE(i);
        auto damaged = value;
        damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
        CHECK(decode_deferred(damaged).has_error());
        CHECK(decode_deferred(value.substr(0, i)).has_error());
    }
    CHECK(decode_deferred(value + "x").error().code == Errc::spool_corrupt);
}

TEST_CASE("spool/deferred: whole ones are found in any bytes") {
    const auto first = encode_deferred(kLane, make_deferred(1, "first"));
    const auto second = encode_deferred(LaneId{0}, make_deferred(2, "OPRD second"));
    auto damaged = first;
    damaged.back() = '!';
    const auto bytes = "OPRD" + first + "rubbish OPR" + damaged + second + "OPRD";
    std::vector<std::string> found;
    scan_deferred(
        bytes, [&found](const StoredDeferred& stored) { found.push_back(stored.record.payload); });
    CHECK(found == std::vector<std::string>{"first", "OPRD second"});
}

TEST_CASE("spool/deferred: due is what lies behind, or further ahead than any due time can be") {
    constexpr std::int64_t kNow = 1'700'000'000'000;
    CHECK(is_due(kNow, kNow));
    CHECK(is_due(kNow - 1, kNow));
    CHECK_FALSE(is_due(kNow + 1, kNow));
    CHECK_FALSE(is_due(kNow + kDeferredDelayMax.count(), kNow));
    CHECK(is_due(kNow + kDeferredDelayMax.count() + 1, kNow));
}

TEST_CASE("spool/deferred_book: the one that has been due longest comes first") {
    constexpr std::int64_t kNow = 1'700'000'000'000;
    DeferredBook book;
    CHECK_FALSE(book.view().next_due_unix_ms.has_value());
    book.put(make_deferred(1, "a", kNow + 30));
    book.put(make_deferred(2, "b", kNow + 10));
    CHECK(book.view().records == 2);
    CHECK(book.view().next_due_unix_ms == kNow + 10);
    CHECK_FALSE(book.due(kNow).has_value());
    CHECK(book.due(kNow + 10) == Seq{2});
    book.put(make_deferred(2, "b", kNow + 40));  // tried again
    CHECK(book.size() == 2);
    CHECK(book.due(kNow + 40) == Seq{1});
    CHECK(book.bytes() == Bytes{2 * deferred_bytes(make_deferred(1, "a")).count});
    CHECK(book.end(1));
    CHECK_FALSE(book.end(1));
    CHECK(book.due(kNow + 40) == Seq{2});
    // The clock was set back by more than a week.
    CHECK(book.due(kNow - 8 * 24 * 3'600'000LL) == Seq{2});
    book.hasten(kNow);
    CHECK(book.due(kNow) == Seq{2});
}

TEST_CASE("spool/deferred_book: those that were hastened rest again when they were tried") {
    constexpr std::int64_t kNow = 1000;
    DeferredBook book;
    for (const Seq seq : {Seq{2}, Seq{5}, Seq{9}}) book.put(make_deferred(seq, "a", kNow + 30));
    const auto below = [&](Seq end) {
        const auto found = book.below(end);
        return std::pair{found.records, found.resting};
    };
    using Pair = std::pair<std::uint64_t, std::uint64_t>;
    CHECK(below(9) == Pair{2, 2});
    CHECK(below(10) == Pair{3, 3});
    CHECK(below(2) == Pair{0, 0});
    book.hasten(kNow);
    book.put(make_deferred(11, "a", kNow + 30));  // later than that
    CHECK(below(12) == Pair{4, 1});
    book.put(make_deferred(5, "a", kNow + 60));
    CHECK(below(12) == Pair{4, 2});
    CHECK(book.end(2));
    CHECK(below(12) == Pair{3, 2});
}

TEST_CASE("spool/deferred_book: what the store lacks is told once, and again after a reopen") {
    DeferredBook book;
    book.adopt({{1, 5, 5, Bytes{50}}});
    CHECK_FALSE(book.changed());
    book.put(make_deferred(2, "b"));
    CHECK(book.end(1));
    CHECK(book.puts().size() == 1);
    CHECK(book.ends() == std::vector<Seq>{1});
    REQUIRE(book.unwritten(2) != nullptr);
    CHECK(book.unwritten(2)->payload == "b");
    book.note_written();
    CHECK_FALSE(book.changed());
    CHECK(book.unwritten(2) == nullptr);
    book.put(make_deferred(2, "b", 99));
    book.note_reopened();
    CHECK(book.ends() == std::vector<Seq>{1});
    REQUIRE(book.puts().size() == 1);
    CHECK(book.puts()[0].due_unix_ms == 99);  // what is newer stays
    book.note_written();
    book.note_synced();
    book.note_reopened();
    CHECK_FALSE(book.changed());
}

TEST_CASE("spool/deferred_book: the record that is being sent is not given up") {
    DeferredBook book;
    for (Seq seq = 1; seq <= 4; ++seq) book.put(make_deferred(seq, "x"));
    book.begin_try(2);
    CHECK(book.end_if([](const DeferredEntry& entry) { return entry.seq < 4; }) == 2);
    CHECK(book.contains(2));
    book.put(make_deferred(2, "x", 7));  // it came back
    CHECK(book.end_if([](const DeferredEntry&) { return true; }) == 2);
    CHECK(book.size() == 0);
    CHECK(book.bytes() == Bytes{});
}

}  // namespace
}  // namespace opsrelay::spool
