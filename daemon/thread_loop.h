// One of the daemon's threads.
#pragma once

#include <pthread.h>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <thread>

#include "core/clock.h"

namespace opsrelay {

/// A thread that runs an io_context until its work guard is gone.
class ThreadLoop {
public:
    explicit ThreadLoop(const char* name) : name_(name) {}
    void start() {
        thread_ = std::thread([this] {
            ::pthread_setname_np(::pthread_self(), name_);
            io_.run();
        });
    }
    void stop() {
        work_.reset();
        if (thread_.joinable()) thread_.join();
    }
    [[nodiscard]] asio::io_context& io() noexcept { return io_; }
    [[nodiscard]] asio::any_io_executor executor() noexcept { return io_.get_executor(); }

private:
    const char* name_;
    asio::io_context io_{1};
    asio::executor_work_guard<asio::io_context::executor_type> work_{io_.get_executor()};
    std::thread thread_;
};

}  // namespace opsrelay
