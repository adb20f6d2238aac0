// Dead letters on the real store: pages, filters, what is put back, what is counted.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "samples.h"
#include "spool/rocks_setup.h"
#include "spool/rocks_store.h"
#include "support/temp_dir.h"

namespace opsrelay::spool {
namespace {

using test::all_dead;
using test::make_dead;
using test::make_segment;
using test::TempDir;

Options options_in(const TempDir& dir) {
    Options options;
    options.dir = dir / "spool";
    return options;
}

DeadLetter rejected(std::string payload, LaneId lane = kDefaultLane) {
    auto letter = make_dead(0, std::move(payload), DeadKind::admission);
    letter.reason = "bad_tokens";
    letter.lane = lane;
    return letter;
}

/// Two lanes; three records of each are dead, and four events were rejected.
struct DeadSpool {
    DeadSpool() {
        options = options_in(dir);
        setup.lanes = {{}, {LaneId{1}, "second"}};
        open();
        for (const auto lane : {kDefaultLane, LaneId{1}}) {
            const std::vector<Segment> segments{make_segment("a", 5, lane)};
            REQUIRE(store->commit(segments, {}).has_value());
            const std::vector<DeadLetter> dead{make_dead(1, "a.0"), make_dead(2, "a.1"),
                                               make_dead(4, "a.3")};
            const std::vector<Seq> ahead{4};
            REQUIRE(store->ack({lane, 3, dead, ahead}).has_value());
        }
        const std::vector<DeadLetter> letters{rejected("b.0"), rejected("", LaneId{1}),
                                              rejected("b.2"), rejected("b.3", LaneId{1})};
        REQUIRE(store->commit({}, letters).has_value());
    }
    void open() {
        store.reset();
        store = open_rocks_store(options, setup).value();
    }

    TempDir dir;
    Options options;
    RocksSetup setup;
    std::unique_ptr<Store> store;
};

std::vector<std::string> payloads(const std::vector<DeadLetter>& letters) {
    std::vector<std::string> all;
    for (const auto& letter : letters) all.push_back(letter.payload);
    return all;
}

}  // namespace

TEST_CASE("spool/rocks_dead: letters are read by kind, lane and number, whatever the pages") {
    DeadSpool spool;
    const std::vector<std::string> expected{"b.0", "b.2", "",    "b.3", "a.0",
                                            "a.1", "a.3", "a.0", "a.1", "a.3"};
    for (const std::size_t page : {1U, 2U, 3U, 9U, 10U, 11U}) {
        CAPTURE(page);
        CHECK(payloads(all_dead(*spool.store, page)) == expected);
    }
    const auto letters = all_dead(*spool.store);
    CHECK(key_of(letters[3]) == DeadKey{DeadKind::admission, LaneId{1}, 4});
    CHECK(key_of(letters[6]) == DeadKey{DeadKind::upstream, kDefaultLane, 4});
    CHECK(letters[6].reason == "upstream_400");
}

TEST_CASE("spool/rocks_dead: a page is bounded by bytes and by what is looked at") {
    DeadSpool spool;
    DeadQuery query;
    query.bytes_max = {1};
    auto page = spool.store->read_dead(query).value();
    CHECK(page.letters.size() == 1);
    REQUIRE(page.next.has_value());
    CHECK(*page.next == DeadKey{DeadKind::admission, kDefaultLane, 3});
    query = {.filter = {.lane = LaneId{1}, .reason = "upstream_400"}, .looked_at_max = 4};
    page = spool.store->read_dead(query).value();
    CHECK(page.letters.empty());
    REQUIRE(page.next.has_value());
    CHECK(*page.next == DeadKey{DeadKind::upstream, kDefaultLane, 1});
}

TEST_CASE("spool/rocks_dead: filters") {
    DeadSpool spool;
    struct Case {
        const char* name;
        DeadFilter filter;
        std::size_t letters;
    };
    const Case cases[] = {
        {"all", {}, 10},
        {"kind", {.kind = DeadKind::upstream}, 6},
        {"lane", {.lane = LaneId{1}}, 5},
        {"reason", {.reason = "bad_tokens"}, 4},
        {"together", {DeadKind::admission, LaneId{1}, "bad_tokens"}, 2},
        {"nothing matches", {DeadKind::upstream, std::nullopt, "bad_tokens"}, 0},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        CHECK(spool.store->read_dead({.filter = test.filter}).value().letters.size() ==
              test.letters);
    }
}

TEST_CASE("spool/rocks_dead: rejected events are put back, with another event where one is given") {
    DeadSpool spool;
    const std::vector<Revival> revivals{
        {.key = {DeadKind::admission, LaneId{1}, 2}, .payload = {}},  // has no event
        {.key = {DeadKind::admission, LaneId{1}, 4}, .payload = "mended"},
        {.key = {DeadKind::upstream, LaneId{1}, 4}, .payload = {}},
        {.key = {DeadKind::upstream, LaneId{1}, 99}, .payload = "unknown"}};
    CHECK(spool.store->replay(LaneId{1}, revivals).value() == 2);
    const std::vector<std::string> left{"b.0", "b.2", "", "a.0", "a.1", "a.3", "a.0", "a.1"};
    for (int round = 0; round < 2; ++round) {
        CHECK(payloads(all_dead(*spool.store)) == left);
        CHECK(spool.store->stats().dead_letters == 8);
        CHECK(spool.store->dead_usage().letters == 5);
        const std::vector<std::string> records{"a.2", "a.3", "a.4", "mended", "a.3"};
        CHECK(test::read_all(*spool.store, 1, LaneId{1}) == records);
        spool.open();
    }
}

TEST_CASE("spool/rocks_dead: purged letters are gone, also after a start") {
    DeadSpool spool;
    const std::vector<DeadKey> keys{{DeadKind::admission, kDefaultLane, 1},
                                    {DeadKind::admission, kDefaultLane, 77},
                                    {DeadKind::upstream, kDefaultLane, 2},
                                    {DeadKind::upstream, kDefaultLane, 2}};
    CHECK(spool.store->purge_dead(keys).value() == 2);
    CHECK(spool.store->purge_dead(keys).value() == 0);
    spool.open();
    CHECK(all_dead(*spool.store).size() == 8);
    CHECK(spool.store->stats().dead_letters == 8);
    std::vector<DeadKey> all;
    for (const auto& letter : all_dead(*spool.store)) all.push_back(key_of(letter));
    CHECK(spool.store->purge_dead(all).value() == 8);
    CHECK(spool.store->dead_usage().letters == 0);
    CHECK(spool.store->dead_usage().bytes == Bytes{0});
    CHECK(spool.store->stats().dead_letters == 0);
}

TEST_CASE("spool/rocks_dead: room is counted by letters and bytes, and survives a start") {
    const TempDir dir;
    auto options = options_in(dir);
    RocksSetup setup;
    setup.dead.upstream_letters = 3;
    auto store = open_rocks_store(options, setup).value();
    const std::vector<Segment> segments{make_segment("a", 5)};
    REQUIRE(store->commit(segments, {}).has_value());
    const std::vector<DeadLetter> two{make_dead(1, "a.0"), make_dead(2, "a.1")};
    REQUIRE(store->ack({kDefaultLane, 3, two}).has_value());
    CHECK(store->dead_usage().has_room(Bytes{1}));
    const auto bytes = store->dead_usage().bytes;
    CHECK(bytes == stored_bytes(two[0]) + stored_bytes(two[1]));
    REQUIRE(store->ack({kDefaultLane, 3, two}).has_value());  // comes again after a forgotten ack
    CHECK(store->dead_usage().letters == 2);
    CHECK(store->dead_usage().bytes == bytes);
    const std::vector<DeadLetter> longer{make_dead(2, "a.1 and more")};
    REQUIRE(store->ack({kDefaultLane, 3, longer}).has_value());
    CHECK(store->dead_usage().bytes == bytes + Bytes{9});
    const std::vector<DeadLetter> third{make_dead(3, "a.2")};
    REQUIRE(store->ack({kDefaultLane, 4, third}).has_value());
    CHECK_FALSE(store->dead_usage().has_room(Bytes{1}));
    const auto before = store->dead_usage();
    REQUIRE(store->sync().has_value());
    REQUIRE(store->reopen().has_value());
    CHECK(store->dead_usage().bytes == before.bytes);
    store.reset();
    setup.dead.upstream_letters = 4;
    setup.dead.upstream_bytes = before.bytes + Bytes{9};
    store = open_rocks_store(options, setup).value();
    CHECK(store->dead_usage().letters == 3);
    CHECK(store->dead_usage().has_room(Bytes{9}));
    CHECK_FALSE(store->dead_usage().has_room(Bytes{10}));
    store.reset();
    options.bytes_max = Bytes{4 * before.bytes.count};  // a quarter of it
    CHECK_FALSE(open_rocks_store(options, setup).value()->dead_usage().has_room(Bytes{1}));
}

TEST_CASE("spool/rocks_dead: each lane's name is known, also of one that is not set up") {
    DeadSpool spool;
    spool.store.reset();
    spool.setup.lanes = {};
    spool.open();
    const auto lanes = spool.store->lanes();
    REQUIRE(lanes.size() == 2);
    CHECK(lanes[0].name == "default");
    CHECK(lanes[1].name == "second");
    CHECK(lanes[1].spooled() == 2);
}

TEST_CASE("spool/rocks_dead: damage costs the letters in it; those behind it are still read") {
    const TempDir dir;
    const auto options = options_in(dir);
    const auto noise = make_segment("noise", 40, kDefaultLane, 2000);
    std::vector<std::string> events;
    for (std::size_t at = 0; at < noise.payload.size();) {
        const auto end = noise.payload.find('\n', at);
        events.push_back(noise.payload.substr(at, end - at));
        at = end + 1;
    }
    {
        const auto store = open_rocks_store(options).value();
        const std::vector<Segment> segments{make_segment("a", 40)};
        REQUIRE(store->commit(segments, {}).has_value());
        std::vector<DeadLetter> dead;
        for (Seq seq = 1; seq <= 40; ++seq) dead.push_back(make_dead(seq, events[seq - 1]));
        REQUIRE(store->ack({kDefaultLane, 41, dead}).has_value());
        store->close();
    }
    bool found = false;
    for (const auto& entry : std::filesystem::directory_iterator(options.dir + "/db")) {
        if (entry.path().extension() != ".sst") continue;
        std::fstream file(entry.path(), std::ios::binary | std::ios::in | std::ios::out);
        const std::string bytes((std::istreambuf_iterator<char>(file)), {});
        const auto at = bytes.find(events[19].substr(1000, 200));
        if (at == std::string::npos) continue;
        found = true;
        file.clear();
        file.seekp(static_cast<std::streamoff>(at));
        file << "damaged!";
    }
    REQUIRE(found);
    const auto store = open_rocks_store(options).value();
    const auto page = store->read_dead({.letters_max = 1000}).value();
    CHECK(page.damaged == 1);
    CHECK_FALSE(page.next.has_value());
    REQUIRE(page.letters.size() == 39);
    CHECK(page.letters[18].seq == 19);
    CHECK(page.letters[19].seq == 21);
    const std::vector<DeadKey> damaged{{DeadKind::upstream, kDefaultLane, 20}};
    CHECK(store->purge_dead(damaged).value() == 1);
    CHECK(store->dead_usage().letters == 39);
    CHECK(store->read_dead({.letters_max = 1000}).value().letters.size() == 39);
}

}  // namespace opsrelay::spool
