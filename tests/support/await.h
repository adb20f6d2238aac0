// Runs a coroutine to its end in virtual time.
#pragma once

#include <doctest/doctest.h>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <exception>
#include <optional>
#include <utility>

#include "support/sim_clock.h"

namespace opsrelay::test {

/// The result of `task`. Fails the test when it throws, or is not there by `limit`.
template <typename T>
T await(asio::io_context& io, SimClock& clock, asio::awaitable<T> task, TimePoint limit) {
    std::optional<T> result;
    auto keep = [&](const std::exception_ptr& error, T value) {
        REQUIRE_FALSE(error);
        result = std::move(value);
    };
    asio::co_spawn(io, std::move(task), keep);
    clock.run_until(
        io, [&] { return result.has_value(); }, limit);
    REQUIRE(result.has_value());
    return *std::move(result);
}

}  // namespace opsrelay::test
