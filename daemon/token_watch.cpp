#include "token_watch.h"

#include <boost/asio/this_coro.hpp>
#include <string>
#include <utility>

namespace opsrelay {

namespace {

constexpr seconds kPollInterval{1};

}  // namespace

void TokenWatch::start(const listen::Options& options, const OnTokens& on_tokens) {
    for (std::size_t i = 0; i < options.listeners.size(); ++i) {
        const auto& path = options.listeners[i].token_file;
        if (!path.empty()) tasks_.spawn("tokens", watch(path, i, on_tokens));
    }
}

// The listener read the file before; the first look here reads it again.
asio::awaitable<void> TokenWatch::watch(std::string path, std::size_t listener,
                                        OnTokens on_tokens) {
    const auto stop = co_await asio::this_coro::cancellation_state;
    listen::TokenFile file(std::move(path), clock_);
    while (stop.cancelled() == asio::cancellation_type::none) {
        if (auto tokens = file.poll()) on_tokens(listener, std::move(*tokens));
        co_await clock_.sleep_for(kPollInterval);
    }
}

asio::awaitable<void> TokenWatch::stop() {
    tasks_.cancel(asio::cancellation_type::terminal);
    co_await tasks_.join();
}

}  // namespace opsrelay
