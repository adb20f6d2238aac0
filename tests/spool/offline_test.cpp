#include "spool/offline.h"

#include <doctest/doctest.h>
#include <rocksdb/sst_file_writer.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>

#include "offline_spool.h"
#include "spool/keys.h"
#include "spool/quarantine.h"
#include "spool/rocks_options.h"
#include "spool/rocks_setup.h"
#include "spool/rocks_store.h"
#include "spool/rocks_tables.h"
#include "spool/segment.h"
#include "support/log_capture.h"
#include "support/temp_dir.h"

namespace opsrelay::spool {
namespace {

namespace fs = std::filesystem;
using test::kOther;
using test::names;
using test::read_all;
using Spool = test::OfflineSpool;

using Exported = std::map<std::string, std::vector<std::string>>;

Exported take_all(const std::function<Result<ExportReport>(const RecordSink&)>& run) {
    Exported all;
    const auto report = run([&all](const StoredRecord& record) {
        all[std::string(record.lane_name)].emplace_back(record.event);
        return true;
    });
    REQUIRE(report.has_value());
    CHECK(report->lost == 0);
    return all;
}

Exported waiting() {
    Exported all{{"default", {"a1.0", "a1.2", "a2.0", "a2.1", "a2.2"}}, {"other", {}}};
    for (const auto* const tag : {"b0", "b1", "b2"}) {
        const auto more = names(tag, 0, 3);
        all["other"].insert(all["other"].end(), more.begin(), more.end());
    }
    return all;
}

TEST_CASE("spool/offline: looking changes nothing, and sees what the daemon would") {
    const Spool spool;
    const auto before = spool.contents();
    const auto summary = summarize(spool.options).value();
    CHECK(summary.trouble.empty());
    REQUIRE(summary.lanes.size() == 2);
    CHECK(summary.lanes[0].name == "default");
    CHECK(summary.lanes[0].records == 5);
    CHECK(summary.lanes[0].oldest_unix_ms == 1'700'000'000'000);
    CHECK(summary.lanes[1].name == "other");
    CHECK(summary.lanes[1].records == 9);
    CHECK(summary.dead_admission == 1);
    CHECK(summary.dead_upstream == 1);
    CHECK(summary.ids == 18);
    CHECK(summary.bytes.at("logs") > 0);
    CHECK(summary.bytes.at("tables/seg_0") > 0);
    CHECK(summary.kept.empty());

    std::uint64_t last = 0;
    const auto report = verify(spool.options, [&last](std::uint64_t done, std::uint64_t total) {
        CHECK(done >= last);
        CHECK(done <= total);
        last = done;
    });
    REQUIRE(report.has_value());
    CHECK(report->damaged == 0);
    CHECK(report->segments == 5);  // one went with its records
    CHECK(last == report->bytes);

    CHECK(take_all([&](const RecordSink& sink) { return export_records(spool.options, sink); }) ==
          waiting());
    CHECK(take_all([&](const RecordSink& sink) { return export_files(spool.db(), sink); }) ==
          waiting());
    CHECK(spool.contents() == before);
}

TEST_CASE("spool/offline: a sink that has enough ends the export") {
    const Spool spool;
    for (const bool files : {false, true}) {
        std::size_t seen = 0;
        const RecordSink sink = [&seen](const StoredRecord&) { return ++seen < 2; };
        const auto report =
            files ? export_files(spool.db(), sink) : export_records(spool.options, sink);
        CHECK(report.value().records == 2);
        CHECK(seen == 2);
    }
}

TEST_CASE("spool/offline: what is not there, open or newer is refused") {
    const Spool spool;
    const auto refusal = [](const Options& options) {
        const std::vector<Errc> codes{
            summarize(options).error().code, verify(options, {}).error().code,
            export_records(options, [](const StoredRecord&) { return true; }).error().code,
            repair(options, false, Spool::id_of, {}).error().code,
            repair(options, true, Spool::id_of, {}).error().code};
        CHECK(std::count(codes.begin(), codes.end(), codes.front()) == 5);
        return codes.front();
    };
    Options none;
    none.dir = spool.dir / "none";
    CHECK(refusal(none) == Errc::spool_unusable);
    CHECK_FALSE(fs::exists(none.dir));
    const auto store = spool.open();
    CHECK(refusal(spool.options) == Errc::spool_locked);
}

TEST_CASE("spool/offline: verify names each damaged thing, stat and export still work") {
    struct Case {
        const char* name;
        void (*damage)(const Spool&);
        const char* named;
        bool opens;
    };
    const auto largest = [](const Spool& spool, std::string_view extension) {
        fs::path found;
        for (const auto& entry : fs::directory_iterator(spool.db())) {
            if (entry.path().extension() != extension) continue;
            if (found.empty() || entry.file_size() > fs::file_size(found)) found = entry.path();
        }
        return found;
    };
    static const auto biggest = largest;
    const Case cases[] = {
        {"a byte of a table",
         [](const Spool& spool) {
             std::fstream stream(biggest(spool, ".sst"),
                                 std::ios::in | std::ios::out | std::ios::binary);
             stream.seekp(5);
             stream << "X";
         },
         ".sst", true},
        {"a table is missing", [](const Spool& spool) { fs::remove(biggest(spool, ".sst")); },
         "No such file", false},
        {"a byte of the log",
         [](const Spool& spool) {
             std::fstream stream(biggest(spool, ".log"),
                                 std::ios::in | std::ios::out | std::ios::binary);
             stream.seekp(30);
             stream << "X";
         },
         ".log", true},
        {"no manifest", [](const Spool& spool) { spool.remove_manifest(); }, "manifest", false},
        {"no log", [](const Spool& spool) { fs::remove(biggest(spool, ".log")); }, "is missing",
         true},
    };
    for (const auto& test : cases) {
        const std::string name = test.name;
        CAPTURE(name);
        const Spool spool;
        test.damage(spool);
        const auto before = spool.contents();
        const auto report = verify(spool.options, {}).value();
        CHECK(report.damaged > 0);
        std::string found;
        for (const auto& finding : report.findings) {
            found += fmt::format("{}: {}\n", finding.where, finding.what);
        }
        CAPTURE(found);
        CHECK(found.find(test.named) != std::string::npos);
        const auto summary = summarize(spool.options).value();
        if (!test.opens) CHECK_FALSE(summary.trouble.empty());
        const auto exported =
            export_records(spool.options, [](const StoredRecord&) { return true; });
        CHECK(exported.value().records > 0);
        CHECK(spool.contents() == before);
    }
}

std::string table_of(const std::string& database, std::string_view family) {
    for (const auto& table : table_files(database)) {
        if (family_of_table(table) == family) return table;
    }
    FAIL("no table of this family");
    return {};
}

TEST_CASE("spool/offline: export and verify agree on how many records are missing") {
    const auto everything = [](const StoredRecord&) { return true; };
    const Spool spool;
    const auto table = table_of(spool.db(), "seg_1");  // b0 and b1
    SUBCASE("a table that is missing") { fs::remove(table); }
    SUBCASE("a table that is cut") { fs::resize_file(table, 10); }
    auto exported = export_records(spool.options, everything).value();
    CHECK(exported.lost == 6);
    CHECK(exported.records == 8);
    CHECK(exported.damaged_files == (fs::exists(table) ? 1 : 0));
    CHECK(verify(spool.options, {}).value().damaged > 0);

    spool.open()->close();  // an empty table takes its place
    exported = export_records(spool.options, everything).value();
    CHECK(exported.lost == 6);
    CHECK(exported.damaged_files == 0);
    const auto report = verify(spool.options, {}).value();
    REQUIRE(report.findings.size() == 1);
    CHECK(report.findings[0].what.starts_with("6 records are missing"));
}

TEST_CASE("spool/offline: repair takes the records of a database that was moved aside back") {
    const Spool spool;
    spool.remove_manifest();
    {
        const auto store = spool.open();
        CHECK(read_all(*store).empty());
        Spool::commit(*store, {"n0"});  // what came since
        // A sender repeated an event that lies in the damaged database.
        auto repeated = test::make_segment("x", 1, kOther);
        repeated.payload = "b1.1\n";
        repeated.ids = {*Spool::id_of(0, kOther, "b1.1")};
        REQUIRE(store->commit(std::span(&repeated, 1), {}).has_value());
    }
    const auto moved = find_damage(spool.options).databases;
    REQUIRE(moved.size() == 1);
    CHECK(summarize(spool.options).value().kept.size() == 1);
    CHECK(verify(spool.options, {}).value().damaged == 1);

    const auto before = spool.contents();
    const auto plan = repair(spool.options, false, Spool::id_of, {}).value();
    REQUIRE(plan.sources.size() == 1);
    CHECK(plan.sources[0].records == 14);
    CHECK(plan.sources[0].kept_as.empty());
    CHECK_FALSE(plan.sources[0].deleted);
    CHECK(spool.contents() == before);

    const auto done = repair(spool.options, true, Spool::id_of, {}).value();
    REQUIRE(done.sources.size() == 1);
    CHECK(done.sources[0].records == 14);
    CHECK(done.sources[0].known == 1);
    CHECK(done.sources[0].admitted == 13);
    CHECK(done.sources[0].deleted);
    CHECK(done.sources[0].kept_as.empty());
    CHECK(summarize(spool.options).value().kept.empty());
    CHECK(find_damage(spool.options).repaired.empty());
    CHECK_FALSE(fs::exists(moved.front()));

    const auto store = spool.open();
    auto first = read_all(*store);
    std::vector<std::string> expected{"a1.0", "a1.2", "a2.0", "a2.1", "a2.2"};
    std::sort(first.begin(), first.end());
    CHECK(first == expected);
    auto second = read_all(*store, 1, kOther);
    expected = waiting()["other"];
    for (const auto& record : names("n0", 0, 3)) expected.push_back(record);
    std::sort(second.begin(), second.end());
    CHECK(second == expected);
    CHECK(test::ids_of(*store).size() == 17);
}

TEST_CASE("spool/offline: a repair that died is done again, nothing comes twice") {
    const Spool spool;
    spool.remove_manifest();
    spool.open()->close();
    const auto moved = find_damage(spool.options).databases.front();
    fs::copy(moved, spool.dir / "copy", fs::copy_options::recursive);
    const auto first = repair(spool.options, true, Spool::id_of, {}).value();
    REQUIRE(first.sources.size() == 1);
    fs::rename(spool.dir / "copy", moved);  // as if it had not come so far
    const auto again = repair(spool.options, true, Spool::id_of, {}).value();
    REQUIRE(again.sources.size() == 1);
    CHECK(again.sources[0].admitted == 0);
    CHECK(again.sources[0].known == 14);
    CHECK(repair(spool.options, true, Spool::id_of, {}).value().sources.empty());
    const auto store = spool.open();
    CHECK(read_all(*store).size() == 5);
    CHECK(read_all(*store, 1, kOther).size() == 9);
}

TEST_CASE("spool/offline: a repaired database of which something is only there is kept and named") {
    struct Case {
        const char* name;
        void (*damage)(const std::string& moved);
        std::uint64_t damaged_files;
        bool missing;
    };
    const Case cases[] = {
        {"a table is cut",
         [](const std::string& moved) {
             const auto table = table_of(moved, "seg_1");
             fs::resize_file(table, fs::file_size(table) / 2);
         },
         1, false},
        {"a byte of a table",
         [](const std::string& moved) {
             std::fstream stream(table_of(moved, "idlog"),
                                 std::ios::in | std::ios::out | std::ios::binary);
             stream.seekp(5);
             stream << "X";
         },
         1, false},
        {"a table is missing",
         [](const std::string& moved) { fs::remove(table_of(moved, "seg_1")); }, 0, true},
        {"a byte of the log",
         [](const std::string& moved) {
             std::fstream stream(log_files(moved).back(),
                                 std::ios::in | std::ios::out | std::ios::binary);
             stream.seekp(30);
             stream << "X";
         },
         1, true},
    };
    for (const auto& test : cases) {
        const std::string name = test.name;
        CAPTURE(name);
        const Spool spool;
        spool.remove_manifest();
        spool.open()->close();
        test.damage(find_damage(spool.options).databases.front());
        const auto done = repair(spool.options, true, Spool::id_of, {}).value();
        REQUIRE(done.sources.size() == 1);
        const auto& source = done.sources[0];
        CHECK(source.whole());
        CHECK(source.damaged_files == test.damaged_files);
        CHECK((source.missing > 0) == test.missing);
        CHECK_FALSE(source.deleted);
        CHECK(find_damage(spool.options).databases.empty());
        CHECK(find_damage(spool.options).repaired == std::vector<std::string>{source.kept_as});
        const auto kept = summarize(spool.options).value().kept;
        REQUIRE(kept.size() == 1);
        CHECK(kept[0].path == source.kept_as);
        CHECK(kept[0].repaired);
        CHECK_FALSE(kept[0].open);
        CHECK(spool.open()->stats().repaired == std::vector<std::string>{source.kept_as});
    }
}

TEST_CASE("spool/offline: a database with records of nobody knows which lane is not deleted") {
    const Spool spool;
    spool.remove_manifest();
    spool.open()->close();
    const auto moved = find_damage(spool.options).databases.front();
    {  // a table of no family, as a tool may have written it
        const auto options = make_file_options("seg_0");
        rocksdb::SstFileWriter writer(rocksdb::EnvOptions(options), options);
        REQUIRE(writer.Open(moved + "/999999.sst").ok());
        std::string scratch;
        const auto key = seq_key(1);
        const auto value = encode_segment(test::make_segment("nobody", 3), 1, scratch);
        REQUIRE(writer.Put({key.data(), key.size()}, {value.data(), value.size()}).ok());
        REQUIRE(writer.Finish().ok());
    }
    const auto done = repair(spool.options, true, Spool::id_of, {}).value();
    REQUIRE(done.sources.size() == 1);
    CHECK(done.sources[0].no_lane == 3);
    CHECK_FALSE(done.sources[0].whole());
    CHECK_FALSE(done.sources[0].deleted);
    CHECK(find_damage(spool.options).databases == std::vector<std::string>{moved});
    CHECK(export_files(moved, [](const StoredRecord&) { return true; }).value().lost == 3);
}

TEST_CASE("spool/offline: repair moves ids into runs, so that they are not all held in memory") {
    Spool spool;
    spool.remove_manifest();
    spool.open()->close();
    spool.options.ids.seal_ids = 4;
    REQUIRE(repair(spool.options, true, Spool::id_of, {}).has_value());
    const auto store = spool.open();
    CHECK(store->id_runs().size() > 1);
    CHECK(test::ids_of(*store).size() < 4);
    for (const auto& [lane, number] : {std::pair{"other", kOther}, {"default", kDefaultLane}}) {
        const auto records = waiting()[lane];
        for (const auto& record : records) {
            const std::vector<IdHash> id{*Spool::id_of(0, number, record)};
            const auto logged = test::ids_of(*store);
            CHECK((store->find_ids(id)[0] || std::count(logged.begin(), logged.end(), id[0]) == 1));
        }
    }
}

}  // namespace
}  // namespace opsrelay::spool
