#include "core/error.h"

#include <doctest/doctest.h>

#include <cerrno>

namespace opsrelay {

TEST_CASE("core/error: a prefix is put before the context") {
    const auto error = with_prefix(Error{Errc::io, "no such file"}, "upstream.api_key_file");
    CHECK(error.context == "upstream.api_key_file: no such file");
    CHECK(error.code == Errc::io);
}

TEST_CASE("core/error: an errno error names the thing, the cause and the next step") {
    const auto error = errno_error(Errc::io, "open /x", EACCES, "run as the owner");
    CHECK(error.context == "open /x: Permission denied; run as the owner");
}

TEST_CASE("core/error: exit codes are the documented ones") {
    CHECK(exit_code(Errc::config_invalid) == 2);
    CHECK(exit_code(Errc::spool_locked) == 3);
    CHECK(exit_code(Errc::spool_unusable) == 4);
    CHECK(exit_code(Errc::address_in_use) == 5);
    CHECK(exit_code(Errc::spool_reopen) == 6);
    CHECK(exit_code(Errc::listener_failed) == 1);
}

TEST_CASE("core/error: a Result carries the error to whoever asks") {
    const Result<int> failed = Error{Errc::timed_out, "too late"};
    REQUIRE_FALSE(failed);
    CHECK(failed.error().code == Errc::timed_out);
    CHECK_THROWS_WITH(static_cast<void>(failed.value()), "too late");
}

}  // namespace opsrelay
