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
        {"small volume, a tenth left", 10_MiB, 100_MiB, Intake::open},
        {"small volume, less", 10_MiB - 1_B, 100_MiB, Intake::volume_full},
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

}  // namespace
}  // namespace opsrelay::spool
