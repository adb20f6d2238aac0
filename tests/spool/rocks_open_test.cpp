#include "spool/rocks_open.h"

#include <doctest/doctest.h>
#include <rocksdb/db.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "samples.h"
#include "spool/keys.h"
#include "spool/rocks_options.h"
#include "spool/rocks_store.h"
#include "support/log_capture.h"
#include "support/temp_dir.h"

namespace opsrelay::spool {
namespace {

namespace fs = std::filesystem;
using test::TempDir;

Options options_in(const std::string& dir) {
    Options options;
    options.dir = dir;
    return options;
}

bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

TEST_CASE("spool/rocks_open: the directory is made, readable for its owner only") {
    const TempDir dir;
    const auto options = options_in(dir / "a/b/spool");
    REQUIRE(open_rocks_store(options).has_value());
    struct stat info {};
    REQUIRE(::stat(database_dir(options).c_str(), &info) == 0);
    CHECK((info.st_mode & 0777U) == 0700U);
}

TEST_CASE("spool/rocks_open: a spool that is open already is locked, and the error says so") {
    const TempDir dir;
    const auto options = options_in(dir / "spool");
    const auto first = open_rocks_store(options).value();
    const auto second = open_rocks_store(options);
    REQUIRE(second.has_error());
    CHECK(second.error().code == Errc::spool_locked);
    CHECK(contains(second.error().context, options.dir));
    CHECK(contains(second.error().context, "stop that one"));
}

TEST_CASE("spool/rocks_open: what cannot be a directory is refused with the reason") {
    const TempDir dir;
    std::ofstream(dir / "file") << "x";
    struct Case {
        const char* name;
        std::string path;
        const char* why;
    };
    const Case cases[] = {
        {"a file", dir / "file", "Not a directory"},
        {"below a file", dir / "file/spool", "Not a directory"},
        {"a place without files", "/proc/opsrelay-spool", "No such file or directory"},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        const auto store = open_rocks_store(options_in(test.path));
        REQUIRE(store.has_error());
        CHECK(store.error().code == Errc::spool_unusable);
        CHECK(contains(store.error().context, test.path));
        CHECK(contains(store.error().context, test.why));
        CHECK(contains(store.error().context, "set another spool.dir"));
    }
}

TEST_CASE("spool/rocks_open: a directory without write permission is refused") {
    if (::geteuid() == 0) return;  // root may write anywhere
    const TempDir dir;
    const auto path = dir / "spool";
    fs::create_directory(path);
    fs::permissions(path, fs::perms::owner_read | fs::perms::owner_exec);
    const auto store = open_rocks_store(options_in(path));
    fs::permissions(path, fs::perms::owner_all);
    REQUIRE(store.has_error());
    CHECK(store.error().code == Errc::spool_unusable);
    CHECK(contains(store.error().context, "Permission denied"));
}

TEST_CASE("spool/rocks_open: a newer format is refused, naming both versions") {
    const TempDir dir;
    const auto options = options_in(dir / "spool");
    REQUIRE(open_rocks_store(options).has_value());
    {
        const auto handle = open_rocks(options, RocksSetup{}, nullptr).value();
        REQUIRE(handle->db()
                    .Put(rocksdb::WriteOptions(), rocksdb::Slice(kFormatKey),
                         encode_u32(kFormatVersion + 40))
                    .ok());
    }
    const auto store = open_rocks_store(options);
    REQUIRE(store.has_error());
    CHECK(store.error().code == Errc::spool_unusable);
    CHECK(contains(store.error().context, "format 42"));
    CHECK(contains(store.error().context, "formats 1 to 2"));
}

/// A closed spool with the records a.0 to a.2.
Options small_spool(const TempDir& dir) {
    const auto options = options_in(dir / "spool");
    const auto store = open_rocks_store(options).value();
    const std::vector<Segment> segments{test::make_segment("a", 3)};
    REQUIRE(store->commit(segments, {}).has_value());
    store->close();
    return options;
}

TEST_CASE("spool/rocks_open: without CURRENT the newest manifest is taken") {
    const TempDir dir;
    const test::LogCapture logs;
    const auto options = small_spool(dir);
    for (const auto* const text : {"", "MANIFEST-000999\n", "MANIFEST-0"}) {
        CAPTURE(text);
        std::ofstream(database_dir(options) + "/CURRENT") << text;
        CHECK(test::read_all(*open_rocks_store(options).value()) == test::names("a", 0, 3));
    }
    fs::remove(database_dir(options) + "/CURRENT");
    CHECK(test::read_all(*open_rocks_store(options).value()) == test::names("a", 0, 3));
    CHECK(logs.count("names the newest manifest again") == 4);
    CHECK(find_damage(options).databases.empty());
}

TEST_CASE("spool/rocks_open: of several manifests the newest that is whole is taken") {
    const TempDir dir;
    const auto options = small_spool(dir);
    const auto db = database_dir(options);
    fs::remove(db + "/CURRENT");
    std::ofstream(db + "/MANIFEST-999999") << "a start that did not end";
    CHECK(test::read_all(*open_rocks_store(options).value()) == test::names("a", 0, 3));
    CHECK(find_damage(options).databases.empty());
}

TEST_CASE("spool/rocks_open: tables that no manifest names are never taken for an empty spool") {
    for (const bool damaged : {false, true}) {
        CAPTURE(damaged);
        const TempDir dir;
        const test::LogCapture logs;
        const auto options = small_spool(dir);
        const auto db = database_dir(options);
        fs::remove(db + "/CURRENT");
        for (const auto& entry : fs::directory_iterator(db)) {
            const auto name = entry.path().filename().string();
            if (!name.starts_with("MANIFEST")) continue;
            if (damaged) {
                std::ofstream(entry.path()) << "this is not a manifest";
            } else {
                fs::remove(entry.path());
            }
        }
        CHECK(test::read_all(*open_rocks_store(options).value()).empty());
        REQUIRE(find_damage(options).databases.size() == 1);
        CHECK(logs.count("no file CURRENT") == 1);
        const auto moved = find_damage(options).databases.front();
        CHECK(std::any_of(fs::directory_iterator(moved), fs::directory_iterator(),
                          [](const auto& entry) { return entry.path().extension() == ".sst"; }));
    }
}

TEST_CASE("spool/rocks_open: another program's database is refused and not touched") {
    const TempDir dir;
    const auto options = options_in(dir / "spool");
    fs::create_directories(database_dir(options));
    {
        rocksdb::Options theirs;
        theirs.create_if_missing = true;
        rocksdb::DB* db = nullptr;
        REQUIRE(rocksdb::DB::Open(theirs, database_dir(options), &db).ok());
        const std::unique_ptr<rocksdb::DB> owner(db);
        REQUIRE(db->Put({}, "their key", "their value").ok());
    }
    const auto store = open_rocks_store(options);
    REQUIRE(store.has_error());
    CHECK(store.error().code == Errc::spool_unusable);
    CHECK(contains(store.error().context, "database of another program"));
    std::vector<std::string> families;
    REQUIRE(rocksdb::DB::ListColumnFamilies({}, database_dir(options), &families).ok());
    CHECK(families == std::vector<std::string>{"default"});
}

TEST_CASE("spool/rocks_open: a lane of another name is refused, nothing is moved aside") {
    const TempDir dir;
    const auto options = small_spool(dir);
    RocksSetup setup;
    setup.lanes = {{kDefaultLane, "renamed"}};
    const auto store = open_rocks_store(options, setup);
    REQUIRE(store.has_error());
    CHECK(store.error().code == Errc::spool_unusable);
    CHECK(find_damage(options).databases.empty());
}

TEST_CASE("spool/rocks_open: of quarantines whose files were salvaged the newest four stay") {
    const TempDir dir;
    const auto options = options_in(dir / "spool");
    fs::create_directories(options.dir);
    std::vector<std::string> made;
    for (int i = 0; i < 7; ++i) {
        auto quarantine = Quarantine::make(options).value();
        made.push_back(quarantine.dir());
        if (i != 0) REQUIRE_FALSE(mark_salvaged(options, quarantine.dir()));
    }
    auto kept = find_damage(options).quarantines;
    CHECK(kept.size() == 5);  // the first was not salvaged
    CHECK(kept.front() == made.front());
    CHECK(unsalvaged_quarantines(options) == std::vector<std::string>{made.front()});
}

TEST_CASE("spool/rocks_open: quarantines whose files were salvaged leave room for records") {
    const TempDir dir;
    auto options = options_in(dir / "spool");
    options.bytes_max = Bytes{64U << 20U};  // of which quarantines have 1,474,560 bytes
    fs::create_directories(options.dir);
    const auto quarantine = [&](std::size_t bytes) {
        auto made = Quarantine::make(options).value();
        const auto file = dir / "damaged";
        std::ofstream(file, std::ios::binary) << std::string(bytes, 'x');
        REQUIRE_FALSE(made.keep(file, "file"));
        fs::remove(file);
        return made.dir();
    };
    const auto small = quarantine(100'000);
    const auto large = quarantine(2'000'000);
    REQUIRE_FALSE(mark_salvaged(options, small));
    CHECK(find_damage(options).quarantines.size() == 2);  // not salvaged, so nothing replaces it
    REQUIRE_FALSE(mark_salvaged(options, large));
    CHECK(find_damage(options).quarantines == std::vector<std::string>{small});
    const auto another = quarantine(1'400'000);
    REQUIRE_FALSE(mark_salvaged(options, another));  // with it, the older one is too much
    CHECK(find_damage(options).quarantines == std::vector<std::string>{another});
}

}  // namespace
}  // namespace opsrelay::spool
