#include "spool/id_log_marks.h"

#include <doctest/doctest.h>

namespace opsrelay::spool {
namespace {

TEST_CASE("spool/id_log_marks: at least ids_max ids stay, and little more") {
    constexpr std::size_t kIdsMax = 1000;
    IdLogMarks marks(kIdsMax);
    CHECK(marks.first_needed() == 0);
    for (std::uint64_t number = 1; number <= 10'000; ++number) {
        marks.add(number, 7);
        (void)marks.trim();
        if (number * 7 >= kIdsMax) CHECK(marks.ids() >= kIdsMax);
        CHECK(marks.ids() <= kIdsMax + kIdsMax / 8 + 2 * 7);
        CHECK((number + 1 - marks.first_needed()) * 7 == marks.ids());
    }
}

TEST_CASE("spool/id_log_marks: a segment larger than ids_max replaces what was before") {
    IdLogMarks marks(10);
    marks.add(1, 5);
    CHECK_FALSE(marks.trim());
    marks.add(2, 100);
    CHECK(marks.trim());
    CHECK(marks.first_needed() == 2);
    CHECK(marks.ids() == 100);
}

}  // namespace
}  // namespace opsrelay::spool
