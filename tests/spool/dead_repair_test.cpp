#include "spool/dead_repair.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "offline_spool.h"
#include "spool/rocks_tables.h"

namespace opsrelay::spool {
namespace {

namespace fs = std::filesystem;
using test::kOther;
using test::read_all;
using Spool = test::OfflineSpool;

void move_aside(const Spool& spool) {
    spool.remove_manifest();
    spool.open()->close();
    REQUIRE(find_damage(spool.options).databases.size() == 1);
}

RepairSource repaired(const Spool& spool) {
    auto done = repair(spool.options, true, Spool::id_of, {}).value();
    REQUIRE(done.sources.size() == 1);
    return done.sources[0];
}

std::vector<std::string> tables_of(const std::string& dir, std::string_view family) {
    std::vector<std::string> found;
    for (const auto& table : table_files(dir)) {
        if (family_of_table(table) == family) found.push_back(table);
    }
    REQUIRE_FALSE(found.empty());
    return found;
}

TEST_CASE("spool/dead_repair: repair takes dead letters over, beside those that came since") {
    const Spool spool;
    spool.remove_manifest();
    {
        const auto store = spool.open();
        Spool::commit(*store, {"a9"}, {test::make_dead(0, "new", DeadKind::admission)});
        const std::vector<DeadLetter> refused{test::make_dead(2, "another record 2")};
        REQUIRE(store->ack({kDefaultLane, 3, refused}).has_value());
        store->close();
    }
    CHECK(repair(spool.options, false, Spool::id_of, {}).value().sources.at(0).dead == 2);
    const auto moved = find_damage(spool.options).databases.front();
    fs::copy(moved, spool.dir / "copy", fs::copy_options::recursive);
    const auto source = repaired(spool);
    CHECK(source.dead == 2);
    CHECK(source.dead_admitted == 2);
    CHECK(source.deleted);
    fs::rename(spool.dir / "copy", moved);  // as if it had not come so far
    const auto again = repaired(spool);
    CHECK(again.dead_admitted == 0);
    CHECK(again.dead_known == 2);

    const auto store = spool.open();
    const auto letters = test::all_dead(*store);
    REQUIRE(letters.size() == 4);
    CHECK(letters[0].payload == "new");
    CHECK(letters[1].payload.empty());  // as it was kept
    CHECK(letters[2].payload == "another record 2");
    CHECK(letters[3].payload == "refused");
    CHECK(letters[3].reason == "upstream_400");
    CHECK(letters[3].seq >= kForeignDead);
    CHECK(store->dead_usage().letters == 2);
    CHECK(store->dead_ends().contains(key_of(letters[3])));
    const std::vector<Revival> back{{.key = key_of(letters[3])}};
    CHECK(store->replay(kDefaultLane, back).value() == 1);
    CHECK(read_all(*store).back() == "refused");
}

TEST_CASE("spool/dead_repair: a database that nothing moved aside yet is repaired in one go") {
    const Spool spool;
    spool.remove_manifest();
    const auto before = spool.contents();
    const auto plan = repair(spool.options, false, Spool::id_of, {}).value();
    REQUIRE(plan.sources.size() == 1);
    CHECK(plan.sources[0].records == 14);
    CHECK(plan.sources[0].dead == 2);
    CHECK(spool.contents() == before);
    const auto source = repaired(spool);
    CHECK(source.admitted == 14);
    CHECK(source.dead_admitted == 2);
    CHECK(source.deleted);
    CHECK(repair(spool.options, true, Spool::id_of, {}).value().sources.empty());
}

TEST_CASE("spool/dead_repair: dead letters wait where they are when there is no room for them") {
    Spool spool;
    spool.remove_manifest();
    spool.options.dead_bytes_max = Bytes{64U << 10U};
    {
        const auto store = spool.open();
        Spool::commit(*store, {"a9"});
        const std::vector<DeadLetter> refused{test::make_dead(1, std::string(65'400, 'x'))};
        REQUIRE(store->ack({kDefaultLane, 2, refused}).has_value());
        store->close();
    }
    auto source = repaired(spool);
    CHECK(source.dead_left == 1);
    CHECK(source.dead_admitted == 1);  // of an event that was never accepted
    CHECK(source.admitted == 14);
    CHECK(source.kept_as.empty());
    CHECK(find_damage(spool.options).databases.size() == 1);
    {
        const auto store = spool.open();
        const std::vector<DeadKey> keys{{DeadKind::upstream, kDefaultLane, 1}};
        CHECK(store->purge_dead(keys).value() == 1);
        store->close();
    }
    source = repaired(spool);
    CHECK(source.dead_left == 0);
    CHECK(source.dead_admitted == 1);
    CHECK(source.dead_known == 1);
    CHECK(source.known == 14);
    CHECK(source.deleted);
}

TEST_CASE(
    "spool/dead_repair: a dead letter says that its record has an outcome when no cursor does") {
    const Spool spool;
    {
        const auto store = spool.open();
        Spool::commit(*store, {"a3"});  // records 10 to 12
        const std::vector<DeadLetter> refused{test::make_dead(11, "a3.1")};
        const std::vector<Seq> ahead{5, 11};
        REQUIRE(store->ack({kDefaultLane, 4, refused, ahead}).has_value());
        store->close();
    }
    move_aside(spool);
    const auto moved = find_damage(spool.options).databases.front();
    for (const auto& table : tables_of(moved, "default")) fs::remove(table);
    const auto source = repaired(spool);
    CHECK(source.dead_admitted == 3);
    const auto store = spool.open();
    const auto records = read_all(*store);
    const auto count = [&](const char* name) {
        return std::count(records.begin(), records.end(), name);
    };
    CHECK(count("a3.0") == 1);
    CHECK(count("a3.1") == 0);
    CHECK(count("a1.1") == 1);  // nothing tells that it was delivered
}

TEST_CASE("spool/dead_repair: dead letters that were purged stay gone as far as logs tell") {
    const Spool spool;
    {
        const auto store = spool.open();
        const std::vector<DeadKey> keys{{DeadKind::upstream, kDefaultLane, 2}};
        CHECK(store->purge_dead(keys).value() == 1);
        test::copy_as_killed(spool.options.dir, spool.dir / "killed");
    }
    auto killed = spool.options;
    killed.dir = spool.dir / "killed";
    for (const auto& entry : fs::directory_iterator(database_dir(killed))) {
        if (entry.path().filename().string().starts_with("MANIFEST")) fs::remove(entry.path());
    }
    open_rocks_store(killed).value()->close();
    const auto done = repair(killed, true, Spool::id_of, {}).value();
    REQUIRE(done.sources.size() == 1);
    CHECK(done.sources[0].dead == 1);  // the one of an event that was never accepted
}

TEST_CASE(
    "spool/dead_repair: dead letters that cannot be read are counted, the others taken over") {
    const Spool spool;
    move_aside(spool);
    const auto moved = find_damage(spool.options).databases.front();
    const auto tables = tables_of(moved, "dead");
    std::uint64_t damaged = 1;
    SUBCASE("a block") {
        std::fstream stream(tables.front(), std::ios::in | std::ios::out | std::ios::binary);
        stream.seekp(5);
        stream << "X";
    }
    SUBCASE("the end of the table, which says whose it is") {
        damaged = 0;
        fs::resize_file(tables.front(), fs::file_size(tables.front()) - 10);
    }
    const auto source = repaired(spool);
    CHECK(source.dead_damaged == damaged);
    CHECK(source.dead == 0);
    CHECK(source.admitted == 14);
    CHECK(source.damaged_files == 1);
    CHECK(fs::exists(source.kept_as));
}

}  // namespace
}  // namespace opsrelay::spool
