#include "core/time_stamp.h"

#include <doctest/doctest.h>

#include <limits>

namespace opsrelay {

TEST_CASE("core/time_stamp: the same form for every time there is") {
    CHECK(TimeStamp(0).text() == "1970-01-01T00:00:00.000Z");
    CHECK(TimeStamp(-1).text() == "1969-12-31T23:59:59.999Z");
    CHECK(TimeStamp(951'782'400'001).text() == "2000-02-29T00:00:00.001Z");
    CHECK(TimeStamp(WallTime{milliseconds{1'777'863'721'007}}).text() ==
          "2026-05-04T03:02:01.007Z");
    CHECK(TimeStamp(std::numeric_limits<std::int64_t>::min()).text() == "0001-01-01T00:00:00.000Z");
    CHECK(TimeStamp(std::numeric_limits<std::int64_t>::max()).text() == "9999-12-31T23:59:59.999Z");
}

}  // namespace opsrelay
