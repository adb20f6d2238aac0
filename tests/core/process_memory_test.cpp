#include "core/process_memory.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>

namespace opsrelay {

namespace {

// RssFile of /proc/self/status: resident pages of files, in KiB.
std::uint64_t resident_file_kib() {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;) {
        std::uint64_t kib = 0;
        if (word == "RssFile:" && status >> kib) return kib;
    }
    return 0;
}

}  // namespace

TEST_CASE("core/process_memory: pages of the start are given back, and everything goes on") {
    const auto before = resident_file_kib();
    release_startup_memory();
    const auto after = resident_file_kib();
    CHECK(after > 0);
    CHECK(after < before);
    // Relocated tables, constants and unwinding still work.
    CHECK_THROWS_AS(throw std::runtime_error(fmt::format("{:.2f}", 1.5)), std::runtime_error);
    release_startup_memory();
    CHECK(fmt::format("{} {}", std::string(100, 'x').size(), 2.25) == "100 2.25");
}

}  // namespace opsrelay
