#include "config/memory_plan.h"

#include <doctest/doctest.h>

#include "core/random.h"

namespace opsrelay::config {
namespace {

Bytes sum(const MemoryPlan& plan) {
    // Ids that are durable and in no run: four tables, and what the keeper holds of them.
    return plan.write_buffers + plan.block_cache + plan.filters +
           Bytes{plan.table_ids * 4 * (48 + 16)};
}

TEST_CASE("config/memory_plan: the default remembers ten million ids in 64 MiB") {
    const auto plan = plan_memory({64_MiB, 8_MiB, 10'000'000});
    REQUIRE(plan.has_value());
    CHECK(plan->table_ids == 32'768);
    CHECK(plan->filters.count * 8 / 10'000'000 == 11);  // bits an id
    CHECK(plan->write_buffers >= 8_MiB);
    CHECK(plan->block_cache >= 1_MiB);
}

TEST_CASE("config/memory_plan: what few ids leave goes to RocksDB") {
    const auto plan = plan_memory({64_MiB, 8_MiB, 1'000'000});
    REQUIRE(plan.has_value());
    CHECK(plan->filters.count == 2'000'000);
    CHECK(plan->write_buffers > 16_MiB);
}

TEST_CASE("config/memory_plan: plenty is not spent for its own sake") {
    const auto plan = plan_memory({4096_MiB, 8_MiB, 10'000'000});
    REQUIRE(plan.has_value());
    CHECK(plan->filters.count == 20'000'000);
    CHECK(plan->write_buffers == 32_MiB);
    CHECK(plan->block_cache == 16_MiB);
    CHECK(plan->table_ids == 65'536);
}

TEST_CASE("config/memory_plan: what does not fit is named, and what would fit fits") {
    const auto plan = plan_memory({64_MiB, 32_MiB, 100'000'000});
    REQUIRE(plan.has_error());
    CHECK(plan.error().code == Errc::config_invalid);
    CHECK(plan.error().context ==
          "memory.max_bytes: 64MiB is too little for 100000000 ids (dedupe.max_ids), "
          "memory.stall_buffer 32MiB and a lane with 8 connections; at least 174MiB");
    CHECK(plan_memory({174_MiB, 32_MiB, 100'000'000}).has_value());
    CHECK(plan_memory({173_MiB, 32_MiB, 100'000'000}).has_error());
    CHECK(plan_memory({32_MiB, 1_MiB, 1'000'000}).has_value());
}

TEST_CASE("config/memory_plan: lanes and their connections take from what is shared out") {
    const auto few = plan_memory({64_MiB, 8_MiB, 10'000'000}).value();
    const auto many = plan_memory({64_MiB, 8_MiB, 10'000'000, 8, 64}).value();
    CHECK(sum(many) < sum(few));
    const auto plain = plan_memory({64_MiB, 8_MiB, 10'000'000, 8, 0, 64}).value();
    CHECK(sum(plain) > sum(many));
    const auto most = plan_memory({64_MiB, 8_MiB, 10'000'000, 16, 128});
    REQUIRE(most.has_error());
    CHECK(most.error().context ==
          "memory.max_bytes: 64MiB is too little for 10000000 ids (dedupe.max_ids), "
          "memory.stall_buffer 8MiB and 16 lanes with 128 connections; at least 69MiB");
    CHECK(plan_memory({69_MiB, 8_MiB, 10'000'000, 16, 128}).has_value());
    CHECK(plan_memory({64_MiB, 8_MiB, 1'000'000, 16, 128}).has_value());
}

TEST_CASE("config/memory_plan: shares are within their bounds and the whole") {
    Xoshiro rng(1);
    for (int i = 0; i < 2000; ++i) {
        const MemoryNeeds needs{Bytes{rng.between(32, 2048) << 20U},
                                Bytes{rng.between(1, 64) << 20U}, rng.between(10'000, 100'000'000)};
        const auto plan = plan_memory(needs);
        if (!plan) continue;
        CAPTURE(needs.max.count);
        CAPTURE(needs.ids);
        CHECK(sum(*plan) + needs.stall_buffer < needs.max);
        CHECK(plan->filters.count >= needs.ids);
        CHECK(plan->filters.count <= 2 * needs.ids);
        CHECK(plan->write_buffers >= 6_MiB);
        CHECK(plan->write_buffers <= 32_MiB);
        CHECK(plan->block_cache >= 1_MiB);
        CHECK(plan->block_cache <= 16_MiB);
    }
}

}  // namespace
}  // namespace opsrelay::config
