#include "observe/process_metrics.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <string>

namespace opsrelay::observe {

TEST_CASE("observe/process_metrics: /proc/PID/stat is read, whatever the process is called") {
    const std::string after = " S 1 2 3 0 -1 4 5 6 7 8 9 10 11 12 20 0 17 0 4711 123456 789 1844\n";
    for (const std::string name : {"opsrelay", "a b", "x) R 9 (", ")"}) {
        CAPTURE(name);
        const auto stat = parse_process_stat("42 (" + name + ")" + after);
        REQUIRE(stat.has_value());
        CHECK(stat->threads == 17);
        CHECK(stat->start_ticks == 4711);
        CHECK(stat->virtual_bytes == 123'456);
        CHECK(stat->resident_pages == 789);
    }
}

TEST_CASE("observe/process_metrics: what is not such a file says nothing") {
    for (const std::string text :
         {"", "42", "42 (x)", "42 (x) S 1 2 3",
          "42 (x) S 1 2 3 0 -1 4 5 6 7 8 9 10 11 12 20 0 x 0 1 2 3",
          "42 (x) S 1 2 3 0 -1 4 5 6 7 8 9 10 11 12 20 0 17 0 4711 123456 ",
          "42 (x) S 1 2 3 0 -1 4 5 6 7 8 9 10 11 12 20 0 17 0 99999999999999999999 2 3"}) {
        CAPTURE(text);
        CHECK_FALSE(parse_process_stat(text).has_value());
    }
}

TEST_CASE("observe/process_metrics: those of this process") {
    Registry registry;
    publish_process(registry);
    const auto open = registry.gauge(kProcessOpenFds).value();
    CHECK(open >= 1);
    CHECK(open <= registry.gauge(kProcessMaxFds).value());
    const int fd = ::dup(0);
    REQUIRE(fd >= 0);
    publish_process(registry);
    CHECK(registry.gauge(kProcessOpenFds).value() == open + 1);
    ::close(fd);
    CHECK(registry.gauge(kProcessThreads).value() >= 1);
    CHECK(registry.gauge(kProcessResident).value() > 0);
    CHECK(registry.gauge(kProcessVirtual).value() > registry.gauge(kProcessResident).value());
    CHECK(registry.gauge(kProcessStart).value() > 1e9);
    CHECK(registry.gauge(kProcessCpu).value() > 0);
}

}  // namespace opsrelay::observe
