#include "spool/rocks_open.h"

#include <doctest/doctest.h>
#include <rocksdb/db.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "samples.h"
#include "spool/keys.h"
#include "spool/rocks_options.h"
#include "spool/rocks_store.h"
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
                         encode_u32(kFormatVersion + 41))
                    .ok());
    }
    const auto store = open_rocks_store(options);
    REQUIRE(store.has_error());
    CHECK(store.error().code == Errc::spool_unusable);
    CHECK(contains(store.error().context, "format 42"));
    CHECK(contains(store.error().context, "format 1"));
}

TEST_CASE("spool/rocks_open: tables without a CURRENT file are never taken for an empty spool") {
    const TempDir dir;
    const auto options = options_in(dir / "spool");
    {
        const auto store = open_rocks_store(options).value();
        const std::vector<Segment> segments{test::make_segment("a", 3)};
        REQUIRE(store->commit(segments, {}).has_value());
        store->close();
    }
    fs::remove(database_dir(options) + "/CURRENT");
    const auto store = open_rocks_store(options);
    REQUIRE(store.has_error());
    CHECK(store.error().code == Errc::spool_unusable);
    CHECK(contains(store.error().context, "CURRENT"));
}

}  // namespace
}  // namespace opsrelay::spool
