// A test for each way the spool's files can be broken.
#include <doctest/doctest.h>
#include <rocksdb/db.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

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
using test::make_segment;
using test::names;
using test::read_all;

std::vector<fs::path> files_of(const std::string& dir, std::string_view extension) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(dir)) {
        if (entry.path().extension() == extension) files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    return files;
}

/// A spool of ten segments of three records, "s0" to "s9", and their files as kill -9 leaves them.
struct Spool {
    test::TempDir dir;
    Options options;
    test::LogCapture logs;

    /// Written out into a table, or left in the log.
    explicit Spool(bool into_table) {
        options.dir = dir / "running";
        const auto store = open_rocks_store(options).value();
        for (int i = 0; i < 10; ++i) {
            const std::vector<Segment> one{
                make_segment(fmt::format("s{}", i), 3, kDefaultLane, 2000)};
            REQUIRE(store->commit(one, {}).has_value());
        }
        if (into_table) {
            store->close();
        } else {
            test::copy_as_killed(options.dir, dir / "copy");
            options.dir = dir / "copy";
        }
    }
    [[nodiscard]] std::string db() const { return database_dir(options); }
    [[nodiscard]] fs::path log_file() const {
        for (const auto& file : files_of(db(), ".log")) {
            if (fs::file_size(file) > 0) return file;
        }
        FAIL("no log");
        return {};
    }
    [[nodiscard]] std::unique_ptr<Store> open() const { return open_rocks_store(options).value(); }
};

void overwrite(const fs::path& file, std::uint64_t at) {
    std::fstream stream(file, std::ios::binary | std::ios::in | std::ios::out);
    stream.seekp(static_cast<std::streamoff>(at));
    stream << "damaged!";
    REQUIRE(stream.good());
}

/// Where `text` lies in the file.
std::uint64_t find_in(const fs::path& file, std::string_view text) {
    std::ifstream stream(file, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(stream)), {});
    return bytes.find(text);
}

/// The records' names: the padding is cut off.
std::vector<std::string> tags(std::vector<std::string> records) {
    for (auto& record : records) record = record.substr(0, record == "?" ? 1 : 4);
    return records;
}

std::vector<std::string> all_but(const std::vector<int>& lost) {
    std::vector<std::string> expected;
    for (int i = 0; i < 10; ++i) {
        const bool gone = std::find(lost.begin(), lost.end(), i) != lost.end();
        for (const auto& name : names(fmt::format("s{}", i), 0, 3)) {
            expected.push_back(gone ? "?" : name);
        }
    }
    return expected;
}

TEST_CASE("spool/rocks_store: a log cut short loses only what was not whole") {
    const Spool spool(false);
    const auto file = spool.log_file();
    const auto end = find_in(file, "s9.2");
    REQUIRE(end != std::string::npos);
    fs::resize_file(file, end);
    const auto store = spool.open();
    auto expected = all_but({});
    expected.resize(27);
    CHECK(tags(read_all(*store)) == expected);
    CHECK(store->lanes().front().next_write == 28);
    CHECK_FALSE(fs::exists(quarantine_dir(spool.options)));
    CHECK(spool.logs.count("damaged") == 0);
}

TEST_CASE("spool/rocks_store: damage inside the log costs one segment; the log is kept") {
    const Spool spool(false);
    overwrite(spool.log_file(), find_in(spool.log_file(), "s5.1"));
    const auto store = spool.open();
    CHECK(tags(read_all(*store)) == all_but({5}));
    CHECK(store->lanes().front().next_write == 31);
    CHECK(test::ids_of(*store).size() >= 27);
    CHECK(spool.logs.count("the write log is damaged") == 1);
    CHECK(spool.logs.count("records were taken back") == 1);
    const auto dirs = files_of(quarantine_dir(spool.options), "");
    REQUIRE(dirs.size() == 1);
    const auto kept = files_of(dirs.front(), ".log");
    REQUIRE_FALSE(kept.empty());
    CHECK(std::any_of(kept.begin(), kept.end(), [](const fs::path& file) {
        return find_in(file, "s9.2") != std::string::npos;
    }));
    const std::vector<Segment> more{make_segment("new", 1)};
    CHECK(store->commit(more, {}).has_value());
    CHECK(read_all(*store).back() == "new.0");
}

TEST_CASE("spool/rocks_store: outcomes behind damage in the log are kept, ids too") {
    test::TempDir dir;
    test::LogCapture logs;
    Options options;
    options.dir = dir / "running";
    std::vector<IdHash> ids;
    {
        const auto store = open_rocks_store(options).value();
        for (int i = 0; i < 10; ++i) {
            const std::vector<Segment> one{
                make_segment(fmt::format("s{}", i), 3, kDefaultLane, 2000)};
            REQUIRE(store->commit(one, {}).has_value());
            if (i != 2) ids.insert(ids.end(), one[0].ids.begin(), one[0].ids.end());
        }
        const std::vector<DeadLetter> refused{test::make_dead(14, "s4.1")};
        const std::vector<Seq> ahead{14};
        REQUIRE(store->ack({kDefaultLane, 13, refused, ahead}).has_value());
        REQUIRE(store->sync().has_value());
        test::copy_as_killed(options.dir, dir / "copy");
    }
    options.dir = dir / "copy";
    for (const auto& file : files_of(database_dir(options), ".log")) {
        const auto at = find_in(file, "s2.1");
        if (at != std::string::npos) overwrite(file, at);
    }
    for (int start = 1; start <= 2; ++start) {
        CAPTURE(start);
        const auto store = open_rocks_store(options).value();
        const auto lane = store->lanes().front();
        CHECK(lane.next_settle == 13);
        CHECK(lane.ahead == std::vector<Seq>{14});
        CHECK(lane.next_write == 31);
        CHECK(read_all(*store, 13).size() == 18);
        CHECK(store->stats().dead_letters == 1);
        const auto found = test::ids_of(*store);
        CHECK(std::all_of(ids.begin(), ids.end(), [&found](const IdHash& id) {
            return std::count(found.begin(), found.end(), id) == 1;
        }));
    }
    CHECK(logs.count("records were taken back") == 1);  // once, not with each start
}

TEST_CASE("spool/rocks_store: an old log that came back with a damaged one takes no outcome back") {
    test::TempDir dir;
    test::LogCapture logs;
    Options options;
    options.dir = dir / "running";
    const auto commit = [](Store& store, std::string_view tag) {
        const std::vector<Segment> one{make_segment(tag, 9)};
        REQUIRE(store.commit(one, {}).has_value());
    };
    {
        const auto store = open_rocks_store(options).value();
        commit(*store, "a");
        const std::vector<Seq> ahead{3};
        REQUIRE(store->ack({kDefaultLane, 1, {}, ahead}).has_value());
        REQUIRE(store->sync().has_value());
        test::copy_as_killed(options.dir, dir / "early");
        const std::vector<Seq> more{3, 5};
        REQUIRE(store->ack({kDefaultLane, 1, {}, more}).has_value());
        store->close();
    }
    {
        const auto store = open_rocks_store(options).value();
        commit(*store, "b");
        test::copy_as_killed(options.dir, dir / "late");
    }
    options.dir = dir / "late";
    for (const auto& file : files_of(database_dir(options), ".log")) {
        if (fs::file_size(file) > 0) overwrite(file, fs::file_size(file) - 8);
    }
    // A power loss may take back that it was deleted.
    for (const auto& file : files_of(dir / "early/db", ".log")) {
        fs::copy(file, database_dir(options), fs::copy_options::skip_existing);
    }
    const auto store = open_rocks_store(options).value();
    CHECK(logs.count("the write log is damaged") == 1);
    CHECK(store->lanes().front().ahead == std::vector<Seq>{3, 5});
    CHECK(store->lanes().front().next_write == 19);
}

TEST_CASE("spool/rocks_store: a last batch whose end is damaged keeps its ids with its records") {
    const Spool spool(false);
    const auto file = spool.log_file();
    overwrite(file, fs::file_size(file) - 8);  // the number after its last id log entry
    const auto store = spool.open();
    CHECK(spool.logs.count("the write log is damaged") == 1);
    CHECK(tags(read_all(*store)) == all_but({}));
    CHECK(test::ids_of(*store).size() == 30);
}

TEST_CASE("spool/rocks_store: a start that died before it took records back does it again") {
    const Spool spool(false);
    overwrite(spool.log_file(), find_in(spool.log_file(), "s5.1"));
    CHECK(tags(read_all(*spool.open())) == all_but({5}));
    const auto dirs = files_of(quarantine_dir(spool.options), "");
    REQUIRE(dirs.size() == 1);
    REQUIRE(fs::remove(dirs.front() / "salvaged"));
    CHECK(tags(read_all(*spool.open())) == all_but({5}));
    CHECK(fs::exists(dirs.front() / "salvaged"));
}

TEST_CASE("spool/rocks_store: a damaged block costs the segments in it and no other") {
    for (const int lost : {0, 4, 9}) {
        CAPTURE(lost);
        const Spool spool(true);
        const auto needle = fmt::format("s{}.1", lost);
        for (const auto& file : files_of(spool.db(), ".sst")) {
            const auto at = find_in(file, needle);
            if (at != std::string::npos) overwrite(file, at + 10);
        }
        const auto store = spool.open();
        CHECK(tags(read_all(*store)) == all_but({lost}));
        CHECK(spool.logs.count("cannot be read") == 1);
        // From inside the damage, and across it.
        const auto batch = store->read(kDefaultLane, static_cast<Seq>(lost) * 3 + 2).value();
        CHECK(batch.lost == 2);
        CHECK(batch.size() == (lost == 9 ? 0 : 3));
        CHECK(batch.first_seq == static_cast<Seq>(lost) * 3 + 4);
    }
}

TEST_CASE("spool/rocks_store: several damaged blocks leave what lies between them") {
    const Spool spool(true);
    for (const auto& file : files_of(spool.db(), ".sst")) {
        for (const auto* const needle : {"s2.1", "s3.1", "s5.1", "s9.1"}) {
            const auto at = find_in(file, needle);
            if (at != std::string::npos) overwrite(file, at + 10);
        }
    }
    CHECK(tags(read_all(*spool.open())) == all_but({2, 3, 5, 9}));
}

TEST_CASE("spool/rocks_store: damage in a later table does not hide an earlier one") {
    const Spool spool(true);
    {
        const auto store = spool.open();
        const std::vector<Segment> more{make_segment("t0", 3, kDefaultLane, 2000)};
        REQUIRE(store->commit(more, {}).has_value());
        store->close();
    }
    for (const auto& file : files_of(spool.db(), ".sst")) {
        const auto at = find_in(file, "t0.1");
        if (at != std::string::npos) overwrite(file, at + 10);
    }
    auto expected = all_but({});
    expected.insert(expected.end(), 3, "?");
    const auto store = spool.open();
    CHECK(tags(read_all(*store)) == expected);
    CHECK(store->lanes().front().next_write == 34);
    CHECK(store->read(kDefaultLane, 2).value().size() == 2);
}

TEST_CASE("spool/rocks_store: a value that is not its segment, or is gone, is a reported hole") {
    const Spool spool(true);
    {
        const auto handle = open_rocks(spool.options, RocksSetup{}, nullptr).value();
        auto* const family = handle->family(segment_family(kDefaultLane));
        const auto key = [](Seq seq) {
            const auto bytes = seq_key(seq);
            return std::string(bytes.data(), bytes.size());
        };
        auto& db = handle->db();
        REQUIRE(db.Put(rocksdb::WriteOptions(), family, key(4), "not a segment").ok());
        REQUIRE(db.Delete(rocksdb::WriteOptions(), family, key(28)).ok());
    }
    const auto store = spool.open();
    CHECK(tags(read_all(*store)) == all_but({1, 9}));
    const auto batch = store->read(kDefaultLane, 28).value();
    CHECK(batch.size() == 0);
    CHECK(batch.first_seq == 31);
    CHECK(batch.lost == 3);
    CHECK(store->ack({kDefaultLane, 31, {}}).has_value());
    CHECK(store->read(kDefaultLane, 31).value().lost == 0);
}

TEST_CASE("spool/rocks_store: a manifest whose last edit was torn is used up to there") {
    const Spool spool(true);
    fs::path manifest;
    for (const auto& entry : fs::directory_iterator(spool.db())) {
        if (entry.path().filename().string().starts_with("MANIFEST")) manifest = entry.path();
    }
    // An edit of 16 bytes whose checksum does not hold; zeros to the end of the sector.
    std::ofstream(manifest, std::ios::binary | std::ios::app)
        << std::string("####\x10\0\x01half", 11) << std::string(500, '\0');
    const auto store = spool.open();
    CHECK(spool.logs.count("the last edit of the manifest was torn") == 1);
    CHECK(spool.logs.count("moved aside") == 0);
    CHECK(tags(read_all(*store)) == all_but({}));
}

TEST_CASE("spool/rocks_store: a damaged id log costs its ids, not the start") {
    const Spool spool(true);
    const auto sample = make_segment("s3", 3, kDefaultLane, 2000).ids[1];
    std::string bytes;
    for (int i = 7; i >= 0; --i) bytes += static_cast<char>((sample.hi >> (8 * i)) & 0xffU);
    bool found = false;
    for (const auto& file : files_of(spool.db(), ".sst")) {
        const auto at = find_in(file, bytes);
        if (at == std::string::npos) continue;
        overwrite(file, at);
        found = true;
    }
    REQUIRE(found);
    const auto store = spool.open();
    CHECK(test::ids_of(*store).size() < 30);
    CHECK(tags(read_all(*store)) == all_but({}));
    CHECK(spool.logs.count("part of the id log cannot be read") == 1);
}

TEST_CASE("spool/rocks_store: a missing table costs what it held, and is named") {
    const Spool spool(true);
    for (const auto& file : files_of(spool.db(), ".sst")) {
        if (find_in(file, "s4.1") != std::string::npos) fs::remove(file);
    }
    const auto store = spool.open();
    CHECK(tags(read_all(*store)) == all_but({0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
    CHECK(spool.logs.count("a table cannot be read") == 1);
    const std::vector<Segment> more{make_segment("new", 1)};
    CHECK(store->commit(more, {}).has_value());
    CHECK(read_all(*store, 31) == std::vector<std::string>{"new.0"});
}

TEST_CASE("spool/rocks_store: an index that cannot be read hides no segment") {
    const Spool spool(true);
    for (const auto& file : files_of(spool.db(), ".sst")) {
        if (find_in(file, "s4.1") == std::string::npos) continue;
        const auto size = fs::file_size(file);
        for (auto at = size - 1000; at + 60 < size; at += 40) overwrite(file, at);
    }
    const auto store = spool.open();
    CHECK(tags(read_all(*store)) == all_but({}));
}

TEST_CASE(
    "spool/rocks_store: a damaged manifest: the database is moved aside, an empty one opens") {
    const Spool spool(true);
    for (const auto& entry : fs::directory_iterator(spool.db())) {
        if (entry.path().filename().string().starts_with("MANIFEST")) overwrite(entry.path(), 20);
    }
    const auto tables = files_of(spool.db(), ".sst").size();
    {
        const auto store = spool.open();
        CHECK(read_all(*store).empty());
        const std::vector<Segment> more{make_segment("new", 1)};
        CHECK(store->commit(more, {}).has_value());
    }
    const auto moved = find_damage(spool.options).databases;
    REQUIRE(moved.size() == 1);
    CHECK(files_of(moved.front(), ".sst").size() == tables);
    CHECK(spool.logs.count("it was moved aside") == 1);
    CHECK(read_all(*spool.open()) == std::vector<std::string>{"new.0"});
    CHECK(find_damage(spool.options).databases == moved);
}

}  // namespace
}  // namespace opsrelay::spool
