// Every kind of call that fails on every kind of file, at any moment of random work on RocksStore:
// what was said to be durable is there exactly once, what failed is there as a whole or not at all.
// RELAYTEST_SWEEP_SEEDS=N runs N worlds a fault (3), RELAYTEST_SWEEP_FIRST=S begins with number S,
// RELAYTEST_SWEEP_ROW=R runs only the R-th fault.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "core/enum_table.h"
#include "core/random.h"
#include "spool/fault_world.h"
#include "support/fault_matrix.h"

namespace opsrelay::spool {
namespace {

using test::DiskFault;
using test::FaultCall;
using test::FaultMode;
using test::FaultSite;

/// The worst that is allowed, in words.
constexpr std::array<EnumName<Came>, 4> kWorsts{{
    {Came::unnoticed, "goes on, nothing to be seen"},
    {Came::kept, "at worst the batch is kept until the disk takes it"},
    {Came::reopened, "at worst opened again in place, the batch retried"},
    {Came::restarted, "at worst exit 6, and the next start has everything"},
}};
static_assert(dense(kWorsts));

struct Row {
    const char* fault;
    DiskFault disk;
    Came worst;
};

/// How often, and with what error.
std::vector<Row> rows() {
    constexpr auto forever = std::uint64_t{0};
    std::vector<Row> all;
    const auto add = [&all](const char* text, FaultSite site, FaultCall call, Came worst,
                            bool no_space, FaultMode mode, std::uint64_t times) {
        all.push_back({text, {site, call, no_space, mode, 0, times}, worst});
    };
    const auto add_others = [&add](FaultSite site, Came worst) {
        if (site == FaultSite::options) return;  // nothing is read from it
        add("read EIO once", site, FaultCall::read, worst, false, FaultMode::fail, 1);
        add("read EIO for ever", site, FaultCall::read, worst, false, FaultMode::fail, forever);
        add("unlink EIO once", site, FaultCall::remove, worst, false, FaultMode::fail, 1);
        add("unlink EIO for ever", site, FaultCall::remove, worst, false, FaultMode::fail, forever);
        add("close EIO once", site, FaultCall::close, worst, false, FaultMode::fail, 1);
        add("close EIO for ever", site, FaultCall::close, worst, false, FaultMode::fail, forever);
    };
    for (const auto& site : test::kFaultSites) {
        const auto worst = site.value == FaultSite::options ? Came::unnoticed : Came::restarted;
        if (site.value == FaultSite::directory) continue;
        add("write EIO once", site.value, FaultCall::append, worst, false, FaultMode::fail, 1);
        add("write EIO for ever", site.value, FaultCall::append, worst, false, FaultMode::fail,
            forever);
        add("write half, then EIO", site.value, FaultCall::append, worst, false, FaultMode::half,
            1);
        add("write ENOSPC for a while", site.value, FaultCall::append, worst, true, FaultMode::fail,
            forever);
        add("write half, then ENOSPC", site.value, FaultCall::append, worst, true, FaultMode::half,
            2);
        add("sync EIO once", site.value, FaultCall::sync, worst, false, FaultMode::fail, 1);
        add("sync EIO once, later ones lie", site.value, FaultCall::sync, worst, false,
            FaultMode::silent, 1);
        add("sync EIO once, though it worked", site.value, FaultCall::sync, worst, false,
            FaultMode::half, 1);
        add("sync EIO for ever", site.value, FaultCall::sync, worst, false, FaultMode::silent,
            forever);
        add("open EIO once", site.value, FaultCall::make, worst, false, FaultMode::fail, 1);
        add("open EIO for ever", site.value, FaultCall::make, worst, false, FaultMode::fail,
            forever);
        add("open ENOSPC for a while", site.value, FaultCall::make, worst, true, FaultMode::fail,
            forever);
        add_others(site.value, worst);
    }
    add("rename EIO once", FaultSite::manifest, FaultCall::rename, Came::restarted, false,
        FaultMode::fail, 1);
    add("sync EIO once", FaultSite::directory, FaultCall::sync, Came::restarted, false,
        FaultMode::fail, 1);
    add("sync EIO for ever", FaultSite::directory, FaultCall::sync, Came::restarted, false,
        FaultMode::fail, forever);
    return all;
}

std::uint64_t from_environment(const char* name, std::uint64_t fallback) {
    const char* text = std::getenv(name);
    return text == nullptr ? fallback : std::strtoull(text, nullptr, 10);
}

/// The worlds of a row.
struct Worlds {
    std::uint64_t first = 1;
    std::uint64_t count = 3;
    std::uint64_t count_max = 40;  // until one has met the fault
};

/// The worst that came of it.
Came run_row(const Row& row, std::size_t number, const Worlds& worlds) {
    std::optional<Came> worst;
    for (auto seed = worlds.first; seed < worlds.first + worlds.count_max; ++seed) {
        if (seed >= worlds.first + worlds.count && worst) break;
        CAPTURE(seed);
        Xoshiro rng(seed * 1000 + number);
        auto fault = row.disk;
        if (fault.site != FaultSite::options) fault.skip = rng.between(0, rng.between(0, 8));
        FaultWorld world(rng.next());
        world.run(fault);
        if (world.hits() > 0) worst = std::max(worst.value_or(Came::unnoticed), world.came());
    }
    CHECK_MESSAGE(worst, "no world met the fault");
    return worst.value_or(Came::unnoticed);
}

/// Faults of a site that come to the same share a row.
void add_row(std::vector<test::FaultRow>& matrix, const test::FaultRow& row) {
    const auto found = std::find_if(matrix.begin(), matrix.end(), [&row](const auto& other) {
        return other.site == row.site && other.outcome == row.outcome;
    });
    if (found == matrix.end()) return matrix.push_back(row);
    found->fault += "; " + row.fault;
}

TEST_CASE("spool/fault_sweep: whatever fails whenever, what was durable is there exactly once") {
    Worlds worlds;
    worlds.first = from_environment("RELAYTEST_SWEEP_FIRST", worlds.first);
    worlds.count = from_environment("RELAYTEST_SWEEP_SEEDS", worlds.count);
    worlds.count_max = std::max(worlds.count_max, worlds.count);
    const auto all = rows();
    const auto only = from_environment("RELAYTEST_SWEEP_ROW", all.size());
    std::vector<test::FaultRow> matrix;
    for (std::size_t number = 0; number < all.size(); ++number) {
        const auto& row = all[number];
        const std::string site(test::kFaultSites[index_of(row.disk.site)].name);
        const std::string fault = row.fault;
        add_row(matrix, {site, fault, std::string(kWorsts[index_of(row.worst)].name)});
        if (only < all.size() && number != only) continue;
        CAPTURE(number);
        CAPTURE(site);
        CAPTURE(fault);
        CHECK(run_row(row, number, worlds) <= row.worst);
    }
    const auto complaint = test::check_matrix("spool/fault_sweep", matrix);
    CHECK_MESSAGE(complaint.empty(), complaint);
}

}  // namespace
}  // namespace opsrelay::spool
