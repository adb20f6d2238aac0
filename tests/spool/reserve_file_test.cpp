#include "spool/reserve_file.h"

#include <doctest/doctest.h>

#include <filesystem>

#include "support/temp_dir.h"

namespace opsrelay::spool {

TEST_CASE("spool/reserve_file: it takes space that nobody else can have, until it is given back") {
    const test::TempDir dir;
    const ReserveFile reserve(dir.path());
    CHECK(reserve.held() == Bytes{});
    REQUIRE(reserve.hold(3_MiB).has_value());
    CHECK(reserve.held() >= 3_MiB);
    CHECK(ReserveFile(dir.path()).held() == reserve.held());  // as the next process finds it
    REQUIRE(reserve.hold(1_MiB).has_value());
    CHECK(reserve.held() < 3_MiB);
    REQUIRE(reserve.hold({}).has_value());
    CHECK(reserve.held() == Bytes{});
    CHECK(reserve.hold({}).has_value());
}

TEST_CASE("spool/reserve_file: what cannot be had leaves nothing behind, and says why") {
    const test::TempDir dir;
    const auto refused = ReserveFile(dir / "gone").hold(1_MiB);
    REQUIRE(refused.has_error());
    CHECK(refused.error().code == Errc::spool_io);
    CHECK(refused.error().context.find("gone/reserve: No such file") != std::string::npos);
    const ReserveFile huge(dir.path());
    const auto too_much = huge.hold(Bytes{1ULL << 60U});
    REQUIRE(too_much.has_error());
    CHECK(huge.held() == Bytes{});
    CHECK(std::filesystem::is_empty(dir.path()));
}

}  // namespace opsrelay::spool
