#include "spool/disk_budget.h"

#include <doctest/doctest.h>

namespace opsrelay::spool {
namespace {

StoreStats stats_of(Bytes disk, Bytes volume_free, Bytes volume_size) {
    StoreStats stats;
    stats.disk = disk;
    stats.volume_free = volume_free;
    stats.volume_size = volume_size;
    return stats;
}

TEST_CASE("spool/disk_budget: intake closes a headroom before the limit and reopens lower") {
    const Options options;  // 512 MiB; write buffers 8 MiB, a table file 16 MiB, stall buffer 8 MiB
    DiskBudget budget(options);
    CHECK(budget.refuse_above() == 480_MiB);
    CHECK(budget.resume_at() < budget.refuse_above());
    const auto decide = [&budget](Bytes disk) {
        return budget.decide(stats_of(disk, 10_GiB, 100_GiB));
    };
    CHECK(decide(480_MiB) == Intake::open);
    CHECK(decide(480_MiB + 1_B) == Intake::limit_reached);
    CHECK(decide(480_MiB) == Intake::limit_reached);
    CHECK(decide(budget.resume_at() + 1_B) == Intake::limit_reached);
    CHECK(decide(budget.resume_at()) == Intake::open);
    CHECK(decide(480_MiB) == Intake::open);
}

TEST_CASE("spool/disk_budget: a small spool keeps half its limit for records") {
    Options options;
    options.bytes_max = 32_MiB;
    CHECK(DiskBudget(options).refuse_above() == 16_MiB);
}

TEST_CASE("spool/disk_budget: the less room there is, the more often it is looked after") {
    Options options;
    const auto look_after = [&](Bytes disk, Bytes free) {
        return DiskBudget(options).look_after(stats_of(disk, free, 100_GiB));
    };
    CHECK(look_after(480_MiB, 10_GiB) == 2_MiB);
    CHECK(look_after(352_MiB, 10_GiB) == 2_MiB);
    CHECK(look_after(224_MiB, 10_GiB) == 4_MiB);
    CHECK(look_after(224_MiB, 64_MiB + 10_MiB) == 2_MiB);
    options.bytes_max = 64_GiB + 32_MiB;
    CHECK(look_after(0_B, 99_GiB) == 1_GiB);
    CHECK(look_after(63_GiB + 900_MiB, 99_GiB) == 2_MiB);
    options.bytes_max = 32_MiB;
    CHECK(look_after(16_MiB, 10_GiB) == 1_MiB);
    options.bytes_max = 320_KiB;
    CHECK(look_after(160_KiB, 10_GiB) == 10_KiB);
}

TEST_CASE("spool/disk_budget: the volume keeps its reserve") {
    struct Case {
        const char* name;
        Bytes free;
        Bytes size;
        Intake expected;
    };
    const Case cases[] = {
        {"large volume, 64 MiB left", 64_MiB, 100_GiB, Intake::open},
        {"large volume, less", 64_MiB - 1_B, 100_GiB, Intake::volume_full},
        {"a tenth left", 50_MiB, 500_MiB, Intake::open},
        {"less than a tenth", 50_MiB - 1_B, 500_MiB, Intake::volume_full},
        {"what is under way fits", 32_MiB, 200_MiB, Intake::open},
        {"less", 32_MiB - 1_B, 200_MiB, Intake::volume_full},
        {"small volume, a quarter left", 25_MiB, 100_MiB, Intake::open},
        {"small volume, less", 25_MiB - 1_B, 100_MiB, Intake::volume_full},
        {"unknown size", 0_B, 0_B, Intake::open},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        DiskBudget budget{Options{}};
        CHECK(budget.decide(stats_of(1_MiB, test.free, test.size)) == test.expected);
    }
}

TEST_CASE("spool/disk_budget: a full volume must get a quarter more than its reserve to reopen") {
    DiskBudget budget{Options{}};
    CHECK(budget.decide(stats_of(1_MiB, 63_MiB, 100_GiB)) == Intake::volume_full);
    CHECK(budget.decide(stats_of(1_MiB, 79_MiB, 100_GiB)) == Intake::volume_full);
    CHECK(budget.decide(stats_of(1_MiB, 80_MiB, 100_GiB)) == Intake::open);
    CHECK(budget.last() == Intake::open);
}

TEST_CASE("spool/disk_budget: volume_bytes counts in place of what the volume says") {
    Options options;
    options.volume_bytes = 1_GiB;  // reserve 64 MiB
    struct Case {
        const char* name;
        Bytes disk;
        Bytes free;
        Bytes size;
        Intake expected;
    };
    const Case cases[] = {
        {"a large volume, little of it ours", 100_MiB, 90_GiB, 100_GiB, Intake::open},
        {"our share is used up", 961_MiB, 90_GiB, 100_GiB, Intake::volume_full},
        {"others filled the volume", 100_MiB, 63_MiB, 100_GiB, Intake::volume_full},
        {"the volume does not say", 100_MiB, 0_B, 0_B, Intake::open},
        {"more than our share", 2_GiB, 90_GiB, 100_GiB, Intake::volume_full},
    };
    options.bytes_max = 8_GiB;
    for (const auto& test : cases) {
        CAPTURE(test.name);
        DiskBudget budget(options);
        CHECK(budget.decide(stats_of(test.disk, test.free, test.size)) == test.expected);
    }
}

TEST_CASE("spool/disk_budget: what is set aside, and when it is given back") {
    struct Case {
        const char* name;
        Bytes held;
        Bytes free;
        Bytes size;
        bool full;
        Bytes expected;
    };
    const Case cases[] = {
        {"space enough", 0_B, 10_GiB, 100_GiB, false, 16_MiB},
        {"held", 16_MiB, 10_GiB, 100_GiB, false, 16_MiB},
        {"intake is closed, others still have space", 16_MiB, 30_MiB, 100_GiB, false, 16_MiB},
        {"less than its own size is left", 16_MiB, 16_MiB - 1_B, 100_GiB, false, 0_B},
        {"a write met a full volume", 16_MiB, 10_GiB, 100_GiB, true, 0_B},
        {"given back, not a quarter to spare", 0_B, 80_MiB - 1_B, 100_GiB, false, 0_B},
        {"given back, space again", 0_B, 80_MiB, 100_GiB, false, 16_MiB},
        {"small volume: half of its quarter", 0_B, 50_MiB, 60_MiB, false, 7_MiB + 512_KiB},
        {"unknown volume", 0_B, 0_B, 0_B, false, 0_B},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        const DiskBudget budget{Options{}};
        auto stats = stats_of(1_MiB, test.free, test.size);
        stats.reserve = test.held;
        CHECK(budget.reserve_wanted(stats, test.full) == test.expected);
    }
}

TEST_CASE("spool/disk_budget: what is set aside counts as free, for it can be given back") {
    DiskBudget budget{Options{}};
    auto stats = stats_of(1_MiB, 48_MiB, 100_GiB);
    stats.reserve = 16_MiB;
    CHECK(budget.decide(stats) == Intake::open);
    stats.volume_free = 48_MiB - 1_B;
    CHECK(budget.decide(stats) == Intake::volume_full);
}

TEST_CASE("spool/disk_budget: records are dropped only where that was chosen and gives space") {
    Options options;
    CHECK_FALSE(DiskBudget(options).worth_dropping(100_MiB));
    options.on_full = OnFull::drop_oldest;
    const DiskBudget budget(options);
    CHECK(budget.worth_dropping(4_MiB));
    CHECK_FALSE(budget.worth_dropping(4_MiB - 1_B));
    CHECK_FALSE(budget.tight(stats_of(budget.resume_at(), 80_MiB, 100_GiB)));
    CHECK(budget.tight(stats_of(budget.resume_at() + 1_B, 80_MiB, 100_GiB)));
    CHECK(budget.tight(stats_of(1_MiB, 80_MiB - 1_B, 100_GiB)));
}

TEST_CASE("spool/disk_budget: what stays without records tells whether giving them up helps") {
    Options options;
    options.bytes_max = 512_MiB;
    options.volume_bytes = 0_B;
    const DiskBudget budget(options);
    const auto resume = budget.resume_at();
    const auto enough = budget.volume_reserve(100_GiB) + 16_MiB;
    struct Case {
        const char* name;
        Bytes records;
        StoreStats stats;
        bool tight;
    };
    const Case cases[] = {
        {"records are all there is", 490_MiB, stats_of(490_MiB, 10_GiB, 100_GiB), false},
        {"the rest just fits", 20_MiB, stats_of(resume + 20_MiB, 10_GiB, 100_GiB), false},
        {"the rest alone is too much", 20_MiB, stats_of(resume + 20_MiB + 1_B, 10_GiB, 100_GiB),
         true},
        {"memory tables count too", 500_MiB, stats_of(490_MiB, 10_GiB, 100_GiB), false},
        {"the volume has enough then", 20_MiB, stats_of(21_MiB, enough - 20_MiB, 100_GiB), false},
        {"others took it", 20_MiB, stats_of(21_MiB, enough - 20_MiB - 1_B, 100_GiB), true},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        CHECK(budget.tight_without(test.records, test.stats) == test.tight);
    }
}

TEST_CASE("spool/disk_budget: the room that is left, in the directory and on the volume") {
    Options options;
    options.bytes_max = 512_MiB;
    const DiskBudget budget(options);
    const auto most = budget.refuse_above();
    CHECK(budget.room(stats_of(0_B, 10_GiB, 100_GiB)) == most);
    CHECK(budget.room(stats_of(most - 5_MiB, 10_GiB, 100_GiB)) == 5_MiB);
    CHECK(budget.room(stats_of(most, 10_GiB, 100_GiB)) == 0_B);
    CHECK(budget.room(stats_of(most + 1_MiB, 10_GiB, 100_GiB)) == 0_B);
    const auto reserve = budget.volume_reserve(100_GiB);
    CHECK(budget.room(stats_of(0_B, reserve + 3_MiB, 100_GiB)) == 3_MiB);
    CHECK(budget.room(stats_of(0_B, reserve - 1_MiB, 100_GiB)) == 0_B);
    CHECK(budget.room(stats_of(0_B, 1_MiB, 0_B)) == most);  // the volume is not known
}

}  // namespace
}  // namespace opsrelay::spool
