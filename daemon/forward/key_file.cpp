#include "forward/key_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/this_coro.hpp>
#include <utility>

#include "core/secret_file.h"

namespace opsrelay::forward {

namespace {

constexpr seconds kPollInterval{1};
constexpr minutes kLogInterval{1};
constexpr std::string_view kNextStep =
    "put the workspace's API key into it, readable by opsrelay's user";

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

}  // namespace

Result<Secret> check_api_key(std::string_view text, std::string_view source) {
    while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
    while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
    if (text.empty()) {
        return Error{Errc::config_invalid,
                     fmt::format("API key in {} is empty; {}", source, kNextStep)};
    }
    if (text.size() > kKeyBytesMax) {
        return Error{Errc::config_invalid,
                     fmt::format("API key in {} is longer than {} bytes; it must hold the key and "
                                 "nothing else",
                                 source, kKeyBytesMax)};
    }
    const auto printable = [](char c) { return c > ' ' && c < '\x7f'; };
    if (!std::all_of(text.begin(), text.end(), printable)) {
        return Error{Errc::config_invalid,
                     fmt::format("API key in {} has spaces, control characters or non-ASCII bytes "
                                 "inside; it must hold the key and nothing else",
                                 source)};
    }
    return Secret(text);
}

Result<Secret> read_api_key(const std::string& path) {
    constexpr std::size_t kSpaceMax = 64;  // white space around the longest key
    const auto text = read_secret_file(path, fmt::format("API key file {}", path),
                                       kKeyBytesMax + kSpaceMax, kNextStep);
    if (!text) return text.error();
    return check_api_key(text->view(), fmt::format("file {}", path));
}

KeyFile::KeyFile(std::string path, Clock& clock)
    : path_(std::move(path)), clock_(clock), throttle_(clock, kLogInterval) {}

Result<Secret> KeyFile::load() {
    stamp_ = stamp_of(path_);  // before reading: a change in between is seen by the next poll
    auto key = read_api_key(path_);
    if (key) key_ = *key;
    // A file that is there and could not be read (EMFILE, EIO) is read again by the next poll,
    // changed or not; one that is missing looks like this anyway.
    if (!key && key.error().code == Errc::io) stamp_ = {};
    return key;
}

std::optional<Secret> KeyFile::poll() {
    if (stamp_of(path_) == stamp_) return std::nullopt;
    return read_again();
}

std::optional<Secret> KeyFile::read_again() {
    const auto before = key_;
    const auto key = load();
    if (!key) {
        if (const auto hidden = throttle_.allow(to_string(key.error().code))) {
            log::warn("forward", "api key file cannot be used; the key last read stays in use",
                      {{"error", key.error().context}, {"suppressed", *hidden}});
        }
        return std::nullopt;
    }
    if (*key == before) return std::nullopt;
    log::info("forward", "api key read from file", {{"file", path_}});
    return *key;
}

asio::awaitable<void> KeyFile::watch(std::function<void(const Secret&)> on_key) {
    const auto stop = co_await asio::this_coro::cancellation_state;
    while (stop.cancelled() == asio::cancellation_type::none) {
        if (auto key = poll()) on_key(*key);
        co_await clock_.sleep_for(kPollInterval);
    }
}

}  // namespace opsrelay::forward
