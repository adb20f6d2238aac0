// Looks after the token files of HTTP listeners.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <cstddef>
#include <functional>

#include "core/clock.h"
#include "core/task_group.h"
#include "listen/options.h"
#include "listen/token_file.h"

namespace opsrelay {

/// Reads each file once a second if it is another one than before, on a thread that a slow disk
/// does no harm to. Thread: forward. stop() has returned before it is destroyed.
class TokenWatch {
public:
    /// Given new tokens, and the listener's place in the options.
    using OnTokens = std::function<void(std::size_t listener, listen::TokenSet tokens)>;

    TokenWatch(asio::any_io_executor forward, Clock& clock)
        : clock_(clock), tasks_(forward, clock) {}

    void start(const listen::Options& options, const OnTokens& on_tokens);
    [[nodiscard]] asio::awaitable<void> stop();

private:
    asio::awaitable<void> watch(std::string path, std::size_t listener, OnTokens on_tokens);

    Clock& clock_;
    TaskGroup tasks_;
};

}  // namespace opsrelay
