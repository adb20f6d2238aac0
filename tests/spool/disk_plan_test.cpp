#include "spool/disk_plan.h"

#include <doctest/doctest.h>

#include "spool/disk_budget.h"

namespace opsrelay::spool {
namespace {

Options options_of(Bytes limit) {
    Options options;
    options.bytes_max = limit;
    options.write_buffers = kWriteBuffersMax;
    return options;
}

// All that is in the directory when every record has been delivered.
Bytes standing(const DiskPlan& plan) {
    return Bytes{plan.ids * kDiskBytesPerId} + plan.dead + plan.dead_admission + plan.deferred +
           plan.set_aside + plan.quarantines + plan.manifest;
}

TEST_CASE("spool/disk_plan: what stays never keeps intake closed, and leaves room for records") {
    for (const auto limit : {64_MiB, 80_MiB, 96_MiB, 112_MiB, 128_MiB, 256_MiB, 512_MiB, 4_GiB}) {
        for (const auto stall : {1_MiB, 8_MiB, Bytes{limit.count / 4}}) {
            CAPTURE(limit.count);
            CAPTURE(stall.count);
            auto options = options_of(limit);
            options.stall_buffer = stall;
            options.dead_bytes_max = 16_GiB;
            options.ids.ids_max = 100'000'000;
            const auto plan = plan_disk(options);
            const Bytes a_tenth{plan.resume_at.count / 11};
            StoreStats stats;
            stats.volume_free = 10_GiB;
            stats.volume_size = 100_GiB;
            DiskBudget budget(options);
            stats.disk = limit;
            CHECK(budget.decide(stats) == Intake::limit_reached);
            stats.disk = standing(plan) + a_tenth;
            CHECK(budget.decide(stats) == Intake::open);
        }
    }
}

TEST_CASE("spool/disk_plan: a default spool has room for the most of everything") {
    const auto plan = plan_disk(options_of(Options{}.bytes_max));
    CHECK(plan.ids == IdOptions{}.ids_max);
    CHECK(plan.dead == Options{}.dead_bytes_max);
    CHECK(plan.dead_admission == 16_MiB);
    CHECK(plan.deferred == 16_MiB);
    CHECK(plan.set_aside == 16_MiB);
}

TEST_CASE("spool/disk_plan: a small spool has less of everything, a large one what was asked for") {
    const auto small = plan_disk(options_of(64_MiB));
    CHECK(small.ids == 716'800);
    CHECK(small.dead == 4_MiB + 704_KiB);
    CHECK(small.deferred == 1_MiB + 416_KiB);
    CHECK(plan_disk(options_of(Bytes{0})).ids == 1);
    auto large = options_of(16_GiB);
    large.ids.ids_max = 100'000'000;
    large.dead_bytes_max = 2_GiB;
    CHECK(plan_disk(large).ids == 100'000'000);
    CHECK(plan_disk(large).dead == 2_GiB);
    CHECK(plan_disk(large).deferred == 16_MiB);
}

TEST_CASE("spool/disk_plan: what is kept does not depend on the plan of memory") {
    auto little = options_of(64_MiB);
    little.write_buffers = 6_MiB;
    CHECK(plan_disk(little).ids == plan_disk(options_of(64_MiB)).ids);
    CHECK(plan_disk(little).dead == plan_disk(options_of(64_MiB)).dead);
    CHECK(plan_disk(little).under_way < plan_disk(options_of(64_MiB)).under_way);
}

}  // namespace
}  // namespace opsrelay::spool
