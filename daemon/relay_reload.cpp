// Takes over a changed configuration while everything runs: all of it, or nothing.
#include <fmt/format.h>

#include <boost/asio/this_coro.hpp>
#include <utility>

#include "config/reload.h"
#include "core/json_text.h"
#include "core/log.h"
#include "core/log_level.h"
#include "core/run_on.h"
#include "relay_parts.h"

namespace opsrelay {

namespace {

constexpr seconds kFinishInFlight{2};  // requests of a lane that ends

std::string json_list(const std::vector<std::string>& texts) {
    std::string out;
    for (const auto& text : texts)
        out += fmt::format("{}{}", out.empty() ? "" : ",", json_string(text));
    return fmt::format("[{}]", out);
}

}  // namespace

asio::awaitable<Result<std::vector<std::string>>> Relay::reload() {
    while (reloading_) co_await wake_.wait();
    reload_asked_ = false;  // from here on the file is read
    if (stopping_) co_return Error{Errc::refused, "the daemon is stopping"};
    reloading_ = true;
    auto done = co_await reload_now();
    reloading_ = false;
    wake_.notify_all();
    if (done) {
        log::info("config", "configuration reloaded",
                  {{"changed", fmt::format("{}", fmt::join(*done, ", "))}});
    } else {
        log::error("config", "configuration not reloaded",
                   {{"error", done.error().context},
                    {"next", "nothing changed; correct it and reload again"}});
    }
    co_return done;
}

asio::awaitable<Result<std::vector<std::string>>> Relay::reload_now() {
    auto next = load_();
    if (!next) co_return next.error();
    auto changed = config::changed_keys(config_, *next);
    if (!changed) co_return changed.error();
    for (std::size_t i = 0; i < next->listen.listeners.size(); ++i) {
        if (next->listen.listeners[i].by_default || listeners_->is_on(i)) continue;
        co_return Error{Errc::config_invalid,
                        fmt::format("listeners[{}]: by default it stayed off, since its socket was "
                                    "not inherited; restart opsrelay to make it",
                                    i)};
    }
    auto lanes = co_await lanes_.prepare(next->lanes);
    if (!lanes) co_return lanes.error();
    for (const auto& warning : next->warnings) log::warn("config", warning);
    co_await take_over(*std::move(next), *std::move(lanes));
    co_return changed;
}

// Nothing in here can fail. Listeners leave a lane before it ends, and come to one that exists.
asio::awaitable<void> Relay::take_over(config::Config next, std::unique_ptr<Lanes::Change> lanes) {
    for (auto& one : next.listen.listeners) one.lane.lane = lanes_.number(*lanes, one.lane.name);
    for (const auto& [name, upstream] : next.lanes) {
        next.listen.lanes.push_back({lanes_.number(*lanes, name), name});
    }
    auto at_intake = [this, events = next.events, listen = next.listen] {
        pipeline_->intake().configure(events);
        listeners_->configure(listen);
    };
    co_await run_on(ingest_.executor(), std::move(at_intake));
    auto at_desk = [this, events = next.events] { desk_->configure(events); };
    co_await run_on(storage_.executor(), std::move(at_desk));
    co_await pipeline_->set_limits(next.spool);
    log::set_level(next.log_level);
    const auto max_age = next.spool.max_age;
    config_ = std::move(next);
    co_await lanes_.apply(std::move(lanes), max_age, clock_.now() + kFinishInFlight);
}

asio::awaitable<void> Relay::reload_on_signal() {
    const auto done = co_await reload();
    static_cast<void>(done);  // it was logged
}

asio::awaitable<control::AdminResponse> Relay::answer_reload() {
    const auto done = co_await reload();
    control::AdminResponse response;
    if (done) {
        response.body = fmt::format(R"({{"ok":true,"changed":{}}})", json_list(*done));
    } else {
        const bool asked_wrong = done.error().code == Errc::config_invalid;
        response.status = asked_wrong ? 400 : 503;
        response.body = fmt::format(R"({{"ok":false,"reason":{},"message":{}}})",
                                    json_string(to_string(done.error().code)),
                                    json_string(done.error().context));
    }
    co_return response;
}

}  // namespace opsrelay
