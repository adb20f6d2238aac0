// The one way to run a job on another thread and wait for its result.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <type_traits>
#include <utility>

#include "core/clock.h"

namespace opsrelay {

/// Posts `job` to `executor` and resumes the caller on its own executor with the job's result
/// (which must be default-constructible or void). Cannot be cancelled: a job once posted runs.
/// `job` must not throw, and must be a named object (a capturing lambda inside a co_await
/// expression is destroyed twice by g++ 12, GCC bug 107288).
template <typename Job>
[[nodiscard]] auto run_on(asio::any_io_executor executor, Job job)
    -> asio::awaitable<std::invoke_result_t<Job&>> {
    using Value = std::invoke_result_t<Job&>;
    if constexpr (std::is_void_v<Value>) {
        auto initiate = [](auto handler, asio::any_io_executor target, Job work) {
            auto home = asio::make_work_guard(asio::get_associated_executor(handler));
            asio::post(target, [handler = std::move(handler), home = std::move(home),
                                work = std::move(work)]() mutable {
                work();
                asio::post(home.get_executor(),
                           [handler = std::move(handler)]() mutable { std::move(handler)(); });
            });
        };
        return asio::async_initiate<const asio::use_awaitable_t<>, void()>(
            std::move(initiate), asio::use_awaitable, std::move(executor), std::move(job));
    } else {
        auto initiate = [](auto handler, asio::any_io_executor target, Job work) {
            auto home = asio::make_work_guard(asio::get_associated_executor(handler));
            asio::post(target, [handler = std::move(handler), home = std::move(home),
                                work = std::move(work)]() mutable {
                asio::post(home.get_executor(),
                           [handler = std::move(handler), value = work()]() mutable {
                               std::move(handler)(std::move(value));
                           });
            });
        };
        return asio::async_initiate<const asio::use_awaitable_t<>, void(Value)>(
            std::move(initiate), asio::use_awaitable, std::move(executor), std::move(job));
    }
}

}  // namespace opsrelay
