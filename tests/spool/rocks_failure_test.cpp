// RocksStore on a disk that fails.
#include <doctest/doctest.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "samples.h"
#include "spool/rocks_setup.h"
#include "support/log_capture.h"
#include "support/temp_dir.h"

namespace opsrelay::spool {
namespace {

using test::make_segment;
using test::names;
using test::read_all;

enum class Fault { none, sync_fails, volume_full, manifest_full };

/// Fails syncs or appends of the log, or appends of the manifest, on request.
class FailingFileSystem final : public rocksdb::FileSystemWrapper {
public:
    explicit FailingFileSystem(const std::shared_ptr<rocksdb::FileSystem>& base)
        : FileSystemWrapper(base) {}
    [[nodiscard]] const char* Name() const override { return "FailingFileSystem"; }
    rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                      std::unique_ptr<rocksdb::FSWritableFile>* result,
                                      rocksdb::IODebugContext* debug) override;

    std::atomic<Fault> fault{Fault::none};
};

class FailingManifest final : public rocksdb::FSWritableFileOwnerWrapper {
public:
    FailingManifest(std::unique_ptr<rocksdb::FSWritableFile>&& file, FailingFileSystem& system)
        : FSWritableFileOwnerWrapper(std::move(file)), system_(system) {}
    using FSWritableFileOwnerWrapper::Append;
    rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* debug) override {
        if (system_.fault == Fault::manifest_full) return rocksdb::IOStatus::NoSpace("injected");
        return FSWritableFileOwnerWrapper::Append(data, options, debug);
    }

private:
    FailingFileSystem& system_;
};

class FailingLog final : public rocksdb::FSWritableFileOwnerWrapper {
public:
    FailingLog(std::unique_ptr<rocksdb::FSWritableFile>&& file, FailingFileSystem& system)
        : FSWritableFileOwnerWrapper(std::move(file)), system_(system) {}
    using FSWritableFileOwnerWrapper::Append;
    rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* debug) override {
        if (system_.fault == Fault::volume_full) return rocksdb::IOStatus::NoSpace("injected");
        return FSWritableFileOwnerWrapper::Append(data, options, debug);
    }
    rocksdb::IOStatus Sync(const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* debug) override {
        if (system_.fault == Fault::sync_fails) return rocksdb::IOStatus::IOError("injected");
        return FSWritableFileOwnerWrapper::Sync(options, debug);
    }

private:
    FailingFileSystem& system_;
};

rocksdb::IOStatus FailingFileSystem::NewWritableFile(
    const std::string& name, const rocksdb::FileOptions& options,
    std::unique_ptr<rocksdb::FSWritableFile>* result, rocksdb::IODebugContext* debug) {
    std::unique_ptr<rocksdb::FSWritableFile> file;
    auto status = FileSystemWrapper::NewWritableFile(name, options, &file, debug);
    if (!status.ok()) return status;
    if (name.ends_with(".log")) {
        *result = std::make_unique<FailingLog>(std::move(file), *this);
    } else if (name.find("/MANIFEST-") != std::string::npos) {
        *result = std::make_unique<FailingManifest>(std::move(file), *this);
    } else {
        *result = std::move(file);
    }
    return status;
}

struct FailingSpool {
    test::TempDir dir;
    test::LogCapture logs;
    std::shared_ptr<FailingFileSystem> disk =
        std::make_shared<FailingFileSystem>(rocksdb::FileSystem::Default());
    std::unique_ptr<rocksdb::Env> env = rocksdb::NewCompositeEnv(disk);
    Options options;
    RocksSetup setup;
    std::unique_ptr<Store> store;

    FailingSpool() {
        options.dir = dir / "spool";
        setup.env = env.get();
        setup.lanes.push_back({LaneId{1}, "second"});
        store = open_rocks_store(options, setup).value();
    }
    Result<void> commit(const Segment& segment) const {
        return store->commit(std::span(&segment, 1), {});
    }
    [[nodiscard]] Seq next_write(std::size_t lane = 0) const {
        return store->lanes().at(lane).next_write;
    }
};

TEST_CASE("spool/rocks_store: after a failed sync only a reopen helps, and the retry is the same") {
    FailingSpool spool;
    REQUIRE(spool.commit(make_segment("a", 2)).has_value());
    spool.disk->fault = Fault::sync_fails;
    const auto failed = spool.commit(make_segment("b", 3));
    REQUIRE(failed.has_error());
    CHECK(failed.error().code == Errc::spool_reopen);
    spool.disk->fault = Fault::none;
    CHECK(spool.commit(make_segment("b", 3)).error().code == Errc::spool_reopen);

    REQUIRE(spool.store->reopen().has_value());
    CHECK(spool.next_write() == 3);
    CHECK(read_all(*spool.store) == names("a", 0, 2));
    REQUIRE(spool.commit(make_segment("b", 3)).has_value());
    const std::vector<std::string> expected{"a.0", "a.1", "b.0", "b.1", "b.2"};
    CHECK(read_all(*spool.store) == expected);
    CHECK(test::ids_of(*spool.store).size() == 5);

    spool.store.reset();
    spool.store = open_rocks_store(spool.options, spool.setup).value();
    CHECK(read_all(*spool.store) == expected);
    CHECK(test::ids_of(*spool.store).size() == 5);
}

TEST_CASE("spool/rocks_store: a batch that was given up after a failed sync does not come back") {
    FailingSpool spool;
    spool.disk->fault = Fault::sync_fails;
    CHECK(spool.commit(make_segment("given_up", 3)).has_error());
    spool.disk->fault = Fault::none;
    REQUIRE(spool.store->reopen().has_value());
    REQUIRE(spool.commit(make_segment("x", 1, LaneId{1})).has_value());
    spool.store.reset();
    spool.store = open_rocks_store(spool.options, spool.setup).value();
    CHECK(read_all(*spool.store).empty());
    CHECK(spool.next_write() == 1);
    CHECK(read_all(*spool.store, 1, LaneId{1}) == names("x", 0, 1));
    CHECK(test::ids_of(*spool.store).size() == 1);
}

std::vector<std::string> files_of(const std::string& dir) {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(dir)) {
        if (entry.is_regular_file()) found.push_back(entry.path());
    }
    std::sort(found.begin(), found.end());
    return found;
}

TEST_CASE(
    "spool/rocks_store: to open again and again without space for a manifest leaves nothing") {
    FailingSpool spool;
    REQUIRE(spool.commit(make_segment("a", 2)).has_value());
    const auto before = files_of(spool.options.dir);
    spool.disk->fault = Fault::manifest_full;
    for (int i = 0; i < 5; ++i) CHECK(spool.store->reopen().error().code == Errc::spool_full);
    CHECK(files_of(spool.options.dir) == before);
    spool.disk->fault = Fault::none;
    REQUIRE(spool.store->reopen().has_value());
    REQUIRE(spool.commit(make_segment("b", 1)).has_value());
    const std::vector<std::string> expected{"a.0", "a.1", "b.0"};
    CHECK(read_all(*spool.store) == expected);
}

// Its logger aborts the process at the first line after one that did not fit on the disk.
TEST_CASE("spool/rocks_store: RocksDB keeps no log file of its own") {
    const FailingSpool spool;
    for (const auto& name : files_of(spool.options.dir)) {
        CHECK_MESSAGE(name.find("/LOG") == std::string::npos, name);
    }
}

TEST_CASE("spool/rocks_store: the ids of a commit given up go, though no event comes after it") {
    FailingSpool spool;
    spool.disk->fault = Fault::sync_fails;
    CHECK(spool.commit(make_segment("given_up", 3)).has_error());
    spool.disk->fault = Fault::none;
    REQUIRE(spool.store->reopen().has_value());
    const std::vector<DeadLetter> rejected{test::make_dead(0, "bad", DeadKind::admission)};
    REQUIRE(spool.store->commit({}, rejected).has_value());
    spool.store.reset();
    spool.store = open_rocks_store(spool.options, spool.setup).value();
    CHECK(read_all(*spool.store).empty());
    CHECK(test::ids_of(*spool.store).empty());  // else the event could not be sent again
}

TEST_CASE("spool/rocks_store: what took the place of a commit given up survives a damaged log") {
    FailingSpool spool;
    spool.disk->fault = Fault::sync_fails;
    CHECK(spool.commit(make_segment("given_up", 3)).has_error());
    spool.disk->fault = Fault::none;
    REQUIRE(spool.store->reopen().has_value());
    REQUIRE(spool.commit(make_segment("x", 1, LaneId{1})).has_value());  // deletes it
    REQUIRE(spool.commit(make_segment("a", 2)).has_value());             // under the same key
    auto torn = spool.options;
    torn.dir = spool.dir / "torn";
    test::copy_as_killed(spool.options.dir, torn.dir);
    std::string log;  // the newest: the one before it may not be deleted yet
    for (const auto& entry : std::filesystem::directory_iterator(torn.dir + "/db")) {
        if (entry.path().extension() != ".log" || entry.file_size() == 0) continue;
        log = std::max(log, entry.path().string());
    }
    REQUIRE_FALSE(log.empty());
    // A fragment of 16 bytes whose checksum does not hold.
    const std::string rubbish = std::string("####\x10\0\x01", 7) + std::string(600, '#');
    std::ofstream(log, std::ios::binary | std::ios::app) << rubbish;
    RocksSetup setup = spool.setup;
    setup.env = nullptr;
    const auto store = open_rocks_store(torn, setup).value();
    CHECK(spool.logs.count("the write log is damaged") == 1);
    CHECK(read_all(*store) == names("a", 0, 2));
    CHECK(read_all(*store, 1, LaneId{1}) == names("x", 0, 1));
}

TEST_CASE("spool/rocks_store: a replay whose sync failed is undone, and takes no number away") {
    FailingSpool spool;
    REQUIRE(spool.commit(make_segment("a", 2)).has_value());
    const std::vector<DeadLetter> dead{test::make_dead(1, "a.0")};
    REQUIRE(spool.store->ack({kDefaultLane, 3, dead}).has_value());
    REQUIRE(spool.store->sync().has_value());
    const std::vector<Seq> seqs{1};
    spool.disk->fault = Fault::sync_fails;
    CHECK(spool.store->replay(kDefaultLane, test::revivals(kDefaultLane, seqs)).has_error());
    CHECK(spool.commit(make_segment("b", 1)).has_error());
    spool.disk->fault = Fault::none;
    REQUIRE(spool.store->reopen().has_value());
    CHECK(spool.store->stats().dead_letters == 1);
    CHECK(read_all(*spool.store).empty());
    REQUIRE(spool.commit(make_segment("b", 1)).has_value());
    CHECK(spool.next_write() == 4);
    CHECK(spool.store->replay(kDefaultLane, test::revivals(kDefaultLane, seqs)).value() == 1);
    const std::vector<std::string> expected{"b.0", "a.0"};
    CHECK(read_all(*spool.store) == expected);
    spool.store.reset();
    spool.store = open_rocks_store(spool.options, spool.setup).value();
    CHECK(read_all(*spool.store) == expected);
    CHECK(spool.store->stats().dead_letters == 0);
}

TEST_CASE("spool/rocks_store: a rejected event whose replay failed is a dead letter again") {
    FailingSpool spool;
    const std::vector<DeadLetter> rejected{test::make_dead(0, "bad", DeadKind::admission)};
    REQUIRE(spool.store->commit({}, rejected).has_value());
    const std::vector<Revival> revivals{
        {.key = {DeadKind::admission, kDefaultLane, 1}, .payload = "mended"}};
    spool.disk->fault = Fault::sync_fails;
    CHECK(spool.store->replay(kDefaultLane, revivals).has_error());
    spool.disk->fault = Fault::none;
    REQUIRE(spool.store->reopen().has_value());
    CHECK(read_all(*spool.store).empty());
    REQUIRE(test::all_dead(*spool.store).size() == 1);
    CHECK(test::all_dead(*spool.store)[0].payload == "bad");
    CHECK(spool.store->stats().dead_letters == 1);
    CHECK(spool.store->replay(kDefaultLane, revivals).value() == 1);
    CHECK(read_all(*spool.store) == std::vector<std::string>{"mended"});
}

TEST_CASE("spool/rocks_store: a purge whose sync failed may be tried again") {
    FailingSpool spool;
    REQUIRE(spool.commit(make_segment("a", 2)).has_value());
    const std::vector<DeadLetter> dead{test::make_dead(1, "a.0")};
    REQUIRE(spool.store->ack({kDefaultLane, 3, dead}).has_value());
    const std::vector<DeadLetter> rejected{test::make_dead(0, "bad", DeadKind::admission)};
    REQUIRE(spool.store->commit({}, rejected).has_value());
    const std::vector<DeadKey> keys{{DeadKind::upstream, kDefaultLane, 1},
                                    {DeadKind::admission, kDefaultLane, 1}};
    spool.disk->fault = Fault::sync_fails;
    CHECK(spool.store->purge_dead(keys).has_error());
    spool.disk->fault = Fault::none;
    REQUIRE(spool.store->reopen().has_value());
    REQUIRE(spool.store->purge_dead(keys).has_value());
    CHECK(test::all_dead(*spool.store).empty());
    CHECK(spool.store->stats().dead_letters == 0);
}

TEST_CASE("spool/rocks_store: a full volume is told apart, loses nothing and ends") {
    FailingSpool spool;
    REQUIRE(spool.commit(make_segment("a", 2)).has_value());
    spool.disk->fault = Fault::volume_full;
    CHECK(spool.commit(make_segment("b", 1)).error().code == Errc::spool_full);
    CHECK(read_all(*spool.store) == names("a", 0, 2));
    CHECK(spool.next_write() == 3);
    spool.disk->fault = Fault::none;
    REQUIRE(spool.store->reopen().has_value());
    REQUIRE(spool.commit(make_segment("b", 1)).has_value());
    CHECK(read_all(*spool.store) == std::vector<std::string>{"a.0", "a.1", "b.0"});
}

}  // namespace
}  // namespace opsrelay::spool
