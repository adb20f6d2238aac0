#include "spool/crash_disk.h"

#include <doctest/doctest.h>
#include <rocksdb/env.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "support/temp_dir.h"

namespace opsrelay::test {
namespace {

namespace fs = std::filesystem;
using rocksdb::FileOptions;
using rocksdb::IOOptions;

struct Disk {
    TempDir dir;
    CrashDisk disk;
    std::unique_ptr<rocksdb::FSDirectory> handle;

    explicit Disk(std::uint64_t seed = 1) : disk(rocksdb::FileSystem::Default(), seed) {
        REQUIRE(disk.NewDirectory(dir.path(), IOOptions(), &handle, nullptr).ok());
    }
    std::unique_ptr<rocksdb::FSWritableFile> make(std::string_view name) {
        std::unique_ptr<rocksdb::FSWritableFile> file;
        REQUIRE(disk.NewWritableFile(dir / name, FileOptions(), &file, nullptr).ok());
        return file;
    }
    void sync_dir() const { REQUIRE(handle->Fsync(IOOptions(), nullptr).ok()); }
    [[nodiscard]] std::string text(std::string_view name) const {
        std::ifstream stream(dir / name);
        return {(std::istreambuf_iterator<char>(stream)), {}};
    }
};

bool append(rocksdb::FSWritableFile& file, std::string_view text) {
    return file.Append(rocksdb::Slice(text.data(), text.size()), IOOptions(), nullptr).ok();
}

}  // namespace

TEST_CASE("spool/crash_disk: a power loss leaves what was synced and at most a part of the rest") {
    Disk world;
    auto file = world.make("a.log");
    REQUIRE(append(*file, "synced"));
    REQUIRE(file->Sync(IOOptions(), nullptr).ok());
    world.sync_dir();
    REQUIRE(append(*file, "forgotten"));
    world.disk.cut();
    CHECK_FALSE(append(*file, "never"));
    CHECK_FALSE(file->Sync(IOOptions(), nullptr).ok());
    file.reset();
    world.disk.restore(true);
    const auto left = world.text("a.log");
    CHECK(left.starts_with("synced"));
    CHECK(left.size() <= std::string("syncedforgotten").size());
}

TEST_CASE("spool/crash_disk: a power loss may tear the last block, and touches nothing synced") {
    const std::string synced(700, 's');
    const std::string unsynced(9000, 'u');
    std::set<std::string> met;
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        CAPTURE(seed);
        Disk world(seed);
        auto file = world.make("a.log");
        REQUIRE(append(*file, synced));
        REQUIRE(file->Sync(IOOptions(), nullptr).ok());
        world.sync_dir();
        REQUIRE(append(*file, unsynced));
        world.disk.cut();
        file.reset();
        world.disk.restore(true);
        const auto text = world.text("a.log");
        REQUIRE(text.starts_with(synced));
        const auto end = text.find_first_not_of('u', synced.size());
        if (end == std::string::npos) {
            CHECK(world.disk.torn() == 0);
            continue;
        }
        CHECK(world.disk.torn() == 1);
        CHECK(text.size() <= synced.size() + unsynced.size());
        CHECK(text.size() - end <= 4096);
        const bool zeros = text.find_first_not_of('\0', end) == std::string::npos;
        met.insert(zeros ? "zeros" : "rubbish");
        met.insert(text.size() - end > 512 ? "page" : "sector or page");
    }
    CHECK(met.size() == 4);
}

TEST_CASE("spool/crash_disk: what a failed sync left unsynced is not safe after a later sync") {
    std::size_t lost = 0;
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        Disk world(seed);
        auto file = world.make("a.log");
        world.sync_dir();
        REQUIRE(append(*file, "0123456789"));
        world.disk.lose_unsynced(world.dir / "a.log");
        CHECK(file->Sync(IOOptions(), nullptr).ok());
        world.disk.cut();
        file.reset();
        world.disk.restore(true);
        if (world.text("a.log") != "0123456789") ++lost;
    }
    CHECK(lost > 0);
}

TEST_CASE("spool/crash_disk: a kill leaves everything that was written") {
    Disk world;
    auto file = world.make("a.log");
    REQUIRE(append(*file, "written"));
    world.disk.cut();
    file.reset();
    world.disk.restore(false);
    CHECK(world.text("a.log") == "written");
}

TEST_CASE("spool/crash_disk: a directory's changes go in the order of their making, or stay") {
    bool survived = false;
    bool undone = false;
    for (std::uint64_t seed = 1; seed <= 30; ++seed) {
        Disk world(seed);
        auto old = world.make("old");
        REQUIRE(append(*old, "old"));
        REQUIRE(old->Sync(IOOptions(), nullptr).ok());
        auto fresh = world.make("fresh");
        REQUIRE(append(*fresh, "fresh"));
        REQUIRE(fresh->Sync(IOOptions(), nullptr).ok());
        world.sync_dir();
        REQUIRE(world.disk.RenameFile(world.dir / "fresh", world.dir / "old", IOOptions(), nullptr)
                    .ok());
        REQUIRE(world.disk.DeleteFile(world.dir / "old", IOOptions(), nullptr).ok());
        world.disk.cut();
        world.disk.restore(true);
        const bool renamed = world.text("old") == "fresh";
        const bool deleted = !fs::exists(world.dir / "old");
        const bool nothing = world.text("old") == "old" && world.text("fresh") == "fresh";
        CHECK(static_cast<int>(renamed) + static_cast<int>(deleted) + static_cast<int>(nothing) ==
              1);
        survived = survived || deleted;
        undone = undone || nothing;
    }
    CHECK(survived);
    CHECK(undone);
}

TEST_CASE("spool/crash_disk: a sync that fails may have landed or not") {
    for (const bool landed : {false, true}) {
        CAPTURE(landed);
        std::size_t kept = 0;
        for (std::uint64_t seed = 1; seed <= 20; ++seed) {
            Disk world(seed);
            auto file = world.make("a.log");
            world.sync_dir();
            REQUIRE(append(*file, "0123456789"));
            world.disk.fail_next_log_sync(landed);
            CHECK_FALSE(file->Sync(IOOptions(), nullptr).ok());
            world.disk.cut();
            file.reset();
            world.disk.restore(true);
            if (world.text("a.log").size() == 10) ++kept;
        }
        CHECK((kept == 20) == landed);
    }
}

}  // namespace opsrelay::test
