// Id runs in RocksDB: sealed, found, merged, forgotten, and cut off in the middle of each.
#include <doctest/doctest.h>
#include <rocksdb/db.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "core/random.h"
#include "samples.h"
#include "spool/keys.h"
#include "spool/rocks_open.h"
#include "spool/rocks_setup.h"
#include "spool/rocks_store.h"
#include "support/log_capture.h"
#include "support/temp_dir.h"

namespace opsrelay::spool {
namespace {

namespace fs = std::filesystem;

std::vector<IdHash> random_ids(std::uint64_t seed, std::size_t count) {
    Xoshiro rng{seed};
    std::vector<IdHash> ids(count);
    for (auto& id : ids) id = {rng.next(), rng.next()};
    return ids;
}

struct Spool {
    test::TempDir dir;
    test::LogCapture logs;
    Options options;
    std::unique_ptr<Store> store;

    Spool() {
        options.dir = dir / "spool";
        open();
    }
    void open() { store = open_rocks_store(options).value(); }
    /// As after kill -9, or after a clean stop.
    void restart(bool clean = false) {
        if (clean) store->close();
        store.reset();
        open();
    }
    void commit(const std::vector<IdHash>& ids) const {
        auto segment = test::make_segment("s", static_cast<std::uint32_t>(ids.size()));
        segment.ids = ids;
        REQUIRE(store->commit(std::span(&segment, 1), {}).has_value());
    }
    [[nodiscard]] NewRun make(RunName name, const std::vector<IdHash>& ids, unsigned bits = 16) {
        auto job = store->seal_job({name, 100, 200, store->id_log_end(), bits},
                                   std::make_shared<std::vector<IdHash>>(ids));
        return job().value();
    }
    void seal(RunName name, const std::vector<IdHash>& ids, unsigned bits = 16) {
        REQUIRE(store->adopt_run(make(name, ids, bits)).has_value());
    }
    [[nodiscard]] std::size_t found(const std::vector<IdHash>& ids) const {
        const auto all = store->find_ids(ids);
        return static_cast<std::size_t>(std::count(all.begin(), all.end(), true));
    }
    [[nodiscard]] std::vector<RunName> names() const {
        std::vector<RunName> all;
        for (const auto& run : store->id_runs()) all.push_back(run.info.name);
        return all;
    }
    [[nodiscard]] std::size_t files_being_made() const {
        return static_cast<std::size_t>(
            std::distance(fs::directory_iterator(options.dir + "/runs"), {}));
    }
    /// The table that holds these bytes, and where.
    [[nodiscard]] std::pair<fs::path, std::uint64_t> table_with(const std::string& needle) const {
        for (const auto& entry : fs::directory_iterator(database_dir(options))) {
            if (entry.path().extension() != ".sst") continue;
            std::ifstream stream(entry.path(), std::ios::binary);
            const std::string bytes((std::istreambuf_iterator<char>(stream)), {});
            const auto at = bytes.find(needle);
            if (at != std::string::npos) return {entry.path(), at};
        }
        FAIL("no table holds it");
        return {};
    }
    void damage(const std::string& needle) const {
        const auto [file, at] = table_with(needle);
        std::fstream stream(file, std::ios::binary | std::ios::in | std::ios::out);
        stream.seekp(static_cast<std::streamoff>(at));
        stream << "damaged!";
        REQUIRE(stream.good());
    }
};

std::string bytes_of(const IdHash& id) {
    std::string bytes;
    append_id(bytes, id);
    return bytes;
}

TEST_CASE("spool/rocks_ids: what was sealed is found, nothing else is, also after a start") {
    for (const unsigned bits : {16U, 1U}) {  // 1: every filter says yes
        CAPTURE(bits);
        Spool spool;
        const auto first = random_ids(1, 5000);
        const auto second = random_ids(2, 1);
        spool.seal({1, 1}, first, bits);
        spool.seal({2, 2}, second, bits);
        for (const bool clean : {true, false}) {
            CAPTURE(clean);
            CHECK(spool.found(first) == 5000);
            CHECK(spool.found(second) == 1);
            CHECK(spool.found(random_ids(3, 5000)) == 0);
            CHECK(spool.names() == std::vector<RunName>{{1, 1}, {2, 2}});
            const auto run = spool.store->id_runs().front();
            CHECK(run.info.ids == 5000);
            CHECK(run.info.oldest_ms == 100);
            CHECK(run.info.newest_ms == 200);
            CHECK(std::all_of(first.begin(), first.end(),
                              [&run](const auto& id) { return run.filter->may_contain(id); }));
            CHECK(spool.files_being_made() == 0);
            spool.restart(clean);
        }
        CHECK(spool.store->damaged_id_pages() == 0);
    }
}

TEST_CASE("spool/rocks_ids: sealed ids leave the log, later ones stay") {
    Spool spool;
    const auto sealed = random_ids(1, 50);
    const auto later = random_ids(2, 7);
    spool.commit(sealed);
    spool.seal({1, 1}, sealed);
    spool.commit(later);
    CHECK(test::ids_of(*spool.store) == later);
    spool.restart();
    CHECK(test::ids_of(*spool.store) == later);
    REQUIRE(spool.store->reopen().has_value());
    CHECK(test::ids_of(*spool.store) == later);
    CHECK(spool.found(sealed) == 50);
}

TEST_CASE("spool/rocks_ids: a crash while a run is made leaves the log, and no file") {
    Spool spool;
    const auto ids = random_ids(1, 300);
    spool.commit(ids);
    const auto made = spool.make({1, 1}, ids);
    CHECK(fs::exists(made.file));
    spool.restart();
    CHECK_FALSE(fs::exists(made.file));
    CHECK(spool.names().empty());
    CHECK(test::ids_of(*spool.store) == ids);
}

/// What a crash leaves when the last thing that reached the disk was the run itself.
void ingest_only(Spool& spool, const NewRun& made) {
    spool.store->close();
    spool.store.reset();
    {
        const auto handle = open_rocks(spool.options, RocksSetup{}, nullptr).value();
        REQUIRE(handle->db().IngestExternalFile(handle->family(kIdsFamily), {made.file}, {}).ok());
    }
    spool.open();
}

TEST_CASE("spool/rocks_ids: a crash between taking a run in and cutting the log replays nothing") {
    Spool spool;
    const auto ids = random_ids(1, 300);
    const auto later = random_ids(2, 3);
    spool.commit(ids);
    const auto made = spool.make({1, 1}, ids);
    spool.commit(later);
    ingest_only(spool, made);
    CHECK(test::ids_of(*spool.store) == later);
    CHECK(spool.store->id_log_begin() == 2);
    CHECK(spool.store->id_log_end() == 3);
    CHECK(spool.found(ids) == 300);
}

TEST_CASE("spool/rocks_ids: a merge holds what its runs held, which are gone from disk") {
    Spool spool;
    std::vector<IdHash> all;
    std::vector<RunName> names;
    for (std::uint32_t i = 1; i <= 9; ++i) {
        const auto ids = random_ids(i, 1000 * i);
        all.insert(all.end(), ids.begin(), ids.end());
        spool.seal({1, i}, ids);
        names.push_back({1, i});
    }
    spool.seal({2, 10}, random_ids(77, 10));
    const auto made = spool.store->merge_job({1, 11}, names, 12)().value();
    CHECK(made.run.info == RunInfo{{1, 11}, 45'000, 100, 200, pages_for(45'000), 1, names});
    CHECK(made.run.filter->bytes().count <= 45'000 * 12 / 8 + 64);
    REQUIRE(spool.store->adopt_run(made).has_value());
    for (int start = 0; start < 2; ++start) {
        CHECK(spool.names() == std::vector<RunName>{{1, 11}, {2, 10}});
        CHECK(spool.found(all) == all.size());
        CHECK(spool.found(random_ids(78, 5000)) == 0);
        spool.restart();
    }
}

TEST_CASE("spool/rocks_ids: a crash between taking a merge in and dropping its runs is nothing") {
    Spool spool;
    const auto a = random_ids(1, 400);
    auto b = random_ids(2, 400);
    b.push_back(a.front());  // in both
    spool.seal({1, 1}, a);
    spool.seal({1, 2}, b);
    const std::vector<RunName> names{{1, 1}, {1, 2}};
    const auto made = spool.store->merge_job({1, 3}, names, 16)().value();
    CHECK(made.run.info.ids == 800);  // a set
    ingest_only(spool, made);
    for (int start = 0; start < 2; ++start) {
        CHECK(spool.names() == std::vector<RunName>{{1, 3}});
        CHECK(spool.found(a) == 400);
        CHECK(spool.found(b) == 401);
        spool.restart();
    }
}

TEST_CASE("spool/rocks_ids: a crash in the middle of forgetting leaves whole runs") {
    Spool spool;
    for (std::uint32_t i = 1; i <= 3; ++i) spool.seal({1, i}, random_ids(i, 100));
    const RunName first{1, 1};
    REQUIRE(spool.store->drop_runs(std::span(&first, 1)).has_value());
    spool.restart();
    CHECK(spool.names() == std::vector<RunName>{{1, 2}, {1, 3}});
    CHECK(spool.found(random_ids(1, 100)) == 0);
    CHECK(spool.found(random_ids(2, 100)) == 100);
}

TEST_CASE("spool/rocks_ids: dropped runs are forgotten and give their space back") {
    Spool spool;
    const auto a = random_ids(1, 20'000);
    spool.seal({1, 1}, a);
    spool.seal({2, 2}, random_ids(2, 100));
    const auto before = spool.store->stats().disk;
    const std::vector<RunName> names{{1, 1}, {9, 9}};  // one that is not there is skipped
    REQUIRE(spool.store->drop_runs(names).has_value());
    for (int start = 0; start < 2; ++start) {
        CHECK(spool.found(a) == 0);
        CHECK(spool.names() == std::vector<RunName>{{2, 2}});
        spool.restart();
    }
    CHECK(spool.store->stats().disk.count + 20'000 * 16 < before.count + 100'000);
}

TEST_CASE("spool/rocks_ids: a damaged page costs its ids, and makes no duplicate up") {
    Spool spool;
    auto ids = random_ids(1, 2000);
    spool.seal({1, 1}, ids);
    spool.seal({1, 2}, random_ids(2, 2000));
    std::sort(ids.begin(), ids.end());
    spool.store->close();
    spool.damage(bytes_of(ids[1000]));
    spool.restart();
    const auto left = spool.found(ids);
    CHECK(left < 2000);
    CHECK(left > 1500);
    CHECK(spool.store->damaged_id_pages() > 0);
    CHECK(spool.logs.count("a page of ids cannot be read") == 1);
    CHECK(spool.found(random_ids(3, 2000)) == 0);
    // A merge goes around it.
    const std::vector<RunName> names{{1, 1}, {1, 2}};
    const auto made = spool.store->merge_job({1, 3}, names, 16)().value();
    CHECK(made.damaged_pages >= 1);
    CHECK(made.run.info.ids == left + 2000);
    REQUIRE(spool.store->adopt_run(made).has_value());
    CHECK(spool.found(ids) == left);
}

TEST_CASE("spool/rocks_ids: a run without a filter is forgotten, reported, and the spool opens") {
    Spool spool;
    const auto a = random_ids(1, 500);
    const auto b = random_ids(2, 500);
    spool.commit(a);
    spool.seal({1, 1}, a);
    spool.seal({1, 2}, b);
    const auto filter = spool.store->id_runs().front().filter->encode();
    spool.store->close();
    spool.damage(filter.substr(200, 100));
    spool.restart();
    CHECK(spool.logs.count("an id run cannot be read") == 1);
    CHECK(spool.names() == std::vector<RunName>{{1, 2}});
    CHECK(spool.store->damaged_id_pages() == 1);
    CHECK(spool.found(a) == 0);
    CHECK(spool.found(b) == 500);
    CHECK(test::read_all(*spool.store).size() == 500);
    spool.restart();
    CHECK(spool.logs.count("an id run cannot be read") == 1);  // it is gone
}

TEST_CASE("spool/rocks_ids: a spool of before there were runs opens, with its log") {
    Spool spool;
    const auto ids = random_ids(1, 20);
    spool.commit(ids);
    spool.store->close();
    spool.store.reset();
    {
        const auto handle = open_rocks(spool.options, RocksSetup{}, nullptr).value();
        REQUIRE(handle->db().DropColumnFamily(handle->family(kIdsFamily)).ok());
    }
    fs::remove_all(spool.options.dir + "/runs");
    spool.open();
    CHECK(test::ids_of(*spool.store) == ids);
    spool.seal({1, 1}, ids);
    spool.restart();
    CHECK(spool.found(ids) == 20);
}

// In weeks of work on a busy host, tables are made and deleted a million times.
TEST_CASE("spool/rocks_ids: the manifest is written anew before it takes a spool's space") {
    Spool spool;
    spool.store.reset();
    spool.options.bytes_max = Bytes{1U << 20U};
    spool.open();
    constexpr std::uint64_t kMax = 16U << 10U;
    constexpr std::uint64_t kEditMax = 4U << 10U;
    constexpr std::uint32_t kRuns = 200;
    const auto ids = random_ids(1, 3);
    std::uint64_t most = 0;
    std::set<std::string> manifests;
    for (std::uint32_t run = 1; run <= kRuns; ++run) {
        CAPTURE(run);
        spool.seal({1, run}, ids);
        if (run > 1) {
            const RunName old{1, run - 1};
            REQUIRE(spool.store->drop_runs(std::span(&old, 1)).has_value());
        }
        std::uint64_t bytes = 0;
        for (const auto& entry : fs::directory_iterator(database_dir(spool.options))) {
            const auto name = entry.path().filename().string();
            if (!name.starts_with("MANIFEST-")) continue;
            bytes += entry.file_size();
            manifests.insert(name);
        }
        most = std::max(most, bytes);
    }
    CHECK(most > kMax / 2);  // else nothing was tried
    CHECK(most < kMax + kEditMax);
    CHECK(manifests.size() > 1);
    spool.restart();
    CHECK(spool.found(ids) == 3);
    CHECK(spool.names() == std::vector<RunName>{{1, kRuns}});
}

TEST_CASE("spool/rocks_ids: a closed spool finds nothing and takes nothing in") {
    Spool spool;
    const auto ids = random_ids(1, 20);
    const auto made = spool.make({1, 1}, ids);
    spool.store->close();
    CHECK(spool.found(ids) == 0);
    CHECK(spool.store->adopt_run(made).error().code == Errc::spool_reopen);
    CHECK(spool.store->drop_runs({}).error().code == Errc::spool_reopen);
    CHECK(spool.store->merge_job({}, {}, 16)().error().code == Errc::spool_reopen);
}

TEST_CASE("spool/rocks_ids: a file that cannot be made is an error with its name") {
    Spool spool;
    fs::remove_all(spool.options.dir + "/runs");
    auto job = spool.store->seal_job({{1, 1}, 1, 2, 1, 16},
                                     std::make_shared<std::vector<IdHash>>(random_ids(1, 3)));
    const auto made = job();
    REQUIRE(made.has_error());
    CHECK(made.error().context.find("/runs/1-1.sst") != std::string::npos);
}

}  // namespace
}  // namespace opsrelay::spool
