// Deferred records on the real store: with the ack that moves them, after crashes and damage, and
// as the offline tools see them.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "samples.h"
#include "spool/deferred.h"
#include "spool/offline.h"
#include "spool/quarantine.h"
#include "spool/rocks_setup.h"
#include "spool/rocks_store.h"
#include "support/log_capture.h"
#include "support/temp_dir.h"

namespace opsrelay::spool {
namespace {

namespace fs = std::filesystem;
using test::deferred_of;
using test::make_deferred;
using test::names;
using test::read_all;

using Texts = std::vector<std::string>;

/// Five records, of which the first is delivered and 2 and 4 are deferred.
struct DeferredSpool {
    test::TempDir dir;
    Options options;
    test::LogCapture logs;
    std::unique_ptr<Store> store;

    DeferredSpool() {
        options.dir = dir / "spool";
        open();
        auto segment = test::make_segment("a", 5);
        for (std::size_t i = 0; i < 5; ++i) {
            segment.ids[i] = id_of(0, kDefaultLane, fmt::format("a.{}", i)).value();
        }
        REQUIRE(store->commit(std::span(&segment, 1), {}).has_value());
        const std::vector<DeferredRecord> later{make_deferred(2, "a.1", 500),
                                                make_deferred(4, "a.3", 600)};
        const std::vector<Seq> ahead{4};
        REQUIRE(store->ack({kDefaultLane, 3, {}, ahead, later}).has_value());
    }
    void open() {
        store.reset();
        store = open_rocks_store(options).value();
    }
    void kill_and_open() {
        test::copy_as_killed(options.dir, dir / "copy");
        store.reset();
        fs::remove_all(options.dir);
        fs::rename(dir / "copy", options.dir);
        open();
    }
    void close() {
        store->close();
        store.reset();
    }
    static std::optional<IdHash> id_of(std::uint64_t, LaneId, std::string_view event) {
        return IdHash{std::hash<std::string_view>{}(event) | 1U, 1};
    }
    [[nodiscard]] LaneState lane() const { return store->lanes().at(0); }
    [[nodiscard]] Texts exported() const {
        Texts all;
        const auto done = export_records(options, [&all](const StoredRecord& record) {
            all.push_back(fmt::format("{}:{}", record.seq, record.event));
            return true;
        });
        REQUIRE(done.has_value());
        CHECK(done->records == all.size());
        return all;
    }
};

TEST_CASE("spool/rocks_deferred: a record waits in one place, whatever end the process has") {
    DeferredSpool world;
    for (int start = 0; start < 3; ++start) {
        CAPTURE(start);
        CHECK(deferred_of(*world.store) == Texts{"2:a.1:500", "4:a.3:600"});
        CHECK(world.lane().next_settle == 3);
        CHECK(world.lane().ahead == std::vector<Seq>{4});
        CHECK(world.lane().spooled() == 4);  // 3, 5 and those two
        CHECK(world.lane().next_write == 6);
        if (start == 0) {
            world.kill_and_open();
        } else {
            world.close();
            world.open();
        }
    }
    const std::vector<DeferredRecord> again{make_deferred(4, "a.3", 700)};
    const std::vector<Seq> ended{2};
    REQUIRE(world.store->ack({kDefaultLane, 3, {}, world.lane().ahead, again, ended}).has_value());
    world.kill_and_open();
    CHECK(deferred_of(*world.store) == Texts{"4:a.3:700"});
    CHECK(world.lane().spooled() == 3);
    CHECK(world.logs.count(log::Level::warn) == 0);
}

TEST_CASE("spool/rocks_deferred: a number is not given out twice, even if the lane's end is lost") {
    DeferredSpool world;
    const std::vector<DeferredRecord> later{make_deferred(5, "a.4", 500)};
    REQUIRE(world.store->ack({kDefaultLane, 6, {}, {}, later}).has_value());
    world.close();
    world.open();
    CHECK(world.lane().next_write == 6);
    const auto segment = test::make_segment("b", 1);
    REQUIRE(world.store->commit(std::span(&segment, 1), {}).has_value());
    CHECK(read_all(*world.store) == names("b", 0, 1));
    CHECK(deferred_of(*world.store) == Texts{"2:a.1:500", "4:a.3:600", "5:a.4:500"});
}

TEST_CASE("spool/rocks_deferred: the limits are those of the options, and small spools have less") {
    DeferredSpool world;
    CHECK(world.store->deferred_limits().records_max == kDeferredRecordsMax);
    CHECK(world.store->deferred_limits().bytes_max == Bytes{16U << 20U});
    auto less = world.options;
    less.bytes_max = Bytes{32U << 20U};
    world.store->set_limits(less);
    CHECK(world.store->deferred_limits().bytes_max == plan_disk(less).deferred);
    CHECK(plan_disk(less).deferred < Bytes{16U << 20U});
}

TEST_CASE("spool/rocks_deferred: stat, verify and export see them") {
    DeferredSpool world;
    world.close();
    const auto summary = summarize(world.options);
    REQUIRE(summary.has_value());
    REQUIRE(summary->lanes.size() == 1);
    CHECK(summary->lanes[0].records == 4);
    CHECK(summary->lanes[0].deferred == 2);
    const auto report = verify(world.options, {});
    REQUIRE(report.has_value());
    CHECK(report->damaged == 0);
    CHECK(report->records == 5 + 2);
    CHECK(world.exported() == Texts{"2:a.1", "4:a.3", "3:a.2", "5:a.4"});
}

TEST_CASE("spool/rocks_deferred: stat, verify and export of a spool with nothing else") {
    DeferredSpool world;
    REQUIRE(world.store->ack({kDefaultLane, 6}).has_value());
    world.close();
    const auto summary = summarize(world.options);
    REQUIRE(summary.has_value());
    REQUIRE(summary->lanes.size() == 1);
    CHECK(summary->lanes[0].records == 2);
    CHECK(summary->lanes[0].deferred == 2);
    CHECK(summary->lanes[0].oldest_unix_ms == make_deferred(2, "").received_unix_ms);
    const auto report = verify(world.options, {});
    REQUIRE(report.has_value());
    CHECK(report->damaged == 0);
    CHECK(world.exported() == Texts{"2:a.1", "4:a.3"});
    world.open();
    CHECK(world.lane().spooled() == 2);
    CHECK(deferred_of(*world.store) == Texts{"2:a.1:500", "4:a.3:600"});
}

/// The table of the deferred records.
std::string deferred_table(const std::string& db) {
    for (const auto& entry : fs::directory_iterator(db)) {
        if (entry.path().extension() != ".sst") continue;
        std::ifstream in(entry.path(), std::ios::binary);
        const std::string bytes((std::istreambuf_iterator<char>(in)), {});
        if (bytes.find("OPRD") != std::string::npos) return entry.path();
    }
    return {};
}

TEST_CASE("spool/rocks_deferred: a database that was moved aside is read and repaired with them") {
    DeferredSpool world;
    const std::vector<Seq> ended{2};
    REQUIRE(world.store->ack({kDefaultLane, 3, {}, world.lane().ahead, {}, ended}).has_value());
    SUBCASE("from the log") { world.kill_and_open(); }
    SUBCASE("from tables") {
        world.close();
        world.open();
    }
    SUBCASE("from a table without its end") {
        world.close();
        const auto table = deferred_table(database_dir(world.options));
        REQUIRE_FALSE(table.empty());
        fs::resize_file(table, fs::file_size(table) - 20);
    }
    world.store.reset();
    for (const auto& entry : fs::directory_iterator(database_dir(world.options))) {
        if (entry.path().filename().string().starts_with("MANIFEST")) fs::remove(entry.path());
    }
    CHECK(world.exported() == Texts{"4:a.3", "3:a.2", "5:a.4"});
    world.open();
    CHECK(world.lane().spooled() == 0);
    world.close();
    const auto repaired = repair(world.options, true, DeferredSpool::id_of, {});
    REQUIRE(repaired.has_value());
    REQUIRE(repaired->sources.size() == 1);
    CHECK(repaired->sources[0].admitted == 3);
    world.open();
    CHECK(read_all(*world.store) == Texts{"a.2", "a.4", "a.3"});
    CHECK(deferred_of(*world.store).empty());
}

void overwrite(const std::string& file, std::string_view what) {
    std::fstream stream(file, std::ios::binary | std::ios::in | std::ios::out);
    const std::string bytes((std::istreambuf_iterator<char>(stream)), {});
    const auto at = bytes.find(what);
    REQUIRE(at != std::string::npos);
    stream.seekp(static_cast<std::streamoff>(at));
    stream << "damaged!";
}

/// The index block follows the data; the last record's block ends with type and checksum.
void overwrite_index(const std::string& file, std::size_t record_bytes) {
    std::fstream stream(file, std::ios::binary | std::ios::in | std::ios::out);
    const std::string bytes((std::istreambuf_iterator<char>(stream)), {});
    const auto at = bytes.rfind("OPRD");
    REQUIRE(at != std::string::npos);
    stream.seekp(static_cast<std::streamoff>(at + record_bytes + 40));
    stream << "damaged!";
}

TEST_CASE("spool/rocks_deferred: damage costs what it hit, and is told") {
    DeferredSpool world;
    std::vector<DeferredRecord> large;
    for (Seq seq = 1; seq <= 5; ++seq) {  // a block each
        large.push_back(make_deferred(seq, fmt::format("big-{}-{}", seq, std::string(3000, 'x'))));
    }
    REQUIRE(world.store->ack({kDefaultLane, 6, {}, {}, large}).has_value());
    world.close();
    const auto table = deferred_table(database_dir(world.options));
    REQUIRE_FALSE(table.empty());
    SUBCASE("a block") {
        overwrite(table, "big-2-");
        world.open();
        const auto left = deferred_of(*world.store);
        CHECK(left.size() == 4);
        CHECK(left[0].starts_with("1:big-1"));
        CHECK(left[1].starts_with("3:big-3"));
        CHECK(world.lane().spooled() == 4);
        CHECK(world.logs.count(log::Level::error) >= 1);
    }
    SUBCASE("a block, before the daemon has met it") {
        overwrite(table, "big-2-");
        const auto report = verify(world.options, {});
        REQUIRE(report.has_value());
        CHECK(report->damaged >= 1);
        CHECK(world.exported().size() >= 3);  // those behind it are looked for in steps
    }
    SUBCASE("its index") {
        overwrite_index(table, deferred_bytes(large.back()).count);
        world.open();
        CHECK(deferred_of(*world.store).size() == 5);
    }
    SUBCASE("a block, after one of the records has ended") {
        world.open();
        const std::vector<Seq> ended{4};
        REQUIRE(world.store->ack({kDefaultLane, 6, {}, {}, {}, ended}).has_value());
        world.close();
        overwrite(table, "big-2-");
        world.open();
        const auto left = deferred_of(*world.store);
        REQUIRE(left.size() == 3);  // what has ended stays ended
        CHECK(left[2].starts_with("5:big-5"));
    }
    SUBCASE("the end of the table") {
        fs::resize_file(table, fs::file_size(table) - 20);
        world.open();
        CHECK(deferred_of(*world.store).size() == 5);  // found by their own checksums
        CHECK(world.lane().spooled() == 5);
    }
    SUBCASE("the table is gone") {
        fs::remove(table);
        world.open();
        CHECK(deferred_of(*world.store).empty());
        CHECK(world.lane().spooled() == 0);
        CHECK(world.logs.count(log::Level::error) >= 1);
    }
}

}  // namespace
}  // namespace opsrelay::spool
