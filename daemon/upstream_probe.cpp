#include "upstream_probe.h"

#include <fmt/format.h>

#include <boost/asio/io_context.hpp>
#include <memory>
#include <utility>

#include "core/task_group.h"
#include "forward/connector.h"
#include "forward/http_date.h"
#include "forward/key_file.h"
#include "forward/retry.h"

namespace opsrelay {

namespace {

using cli::UpstreamReport;

milliseconds since(TimePoint began, const Clock& clock) {
    return std::chrono::round<milliseconds>(clock.now() - began);
}

Secret read_key(const forward::Options& options, UpstreamReport& report) {
    if (options.api_key_file.empty()) {
        if (!options.api_key.empty()) report.key = UpstreamReport::Key::read;
        return options.api_key;
    }
    auto key = forward::read_api_key(options.api_key_file);
    report.key = key ? UpstreamReport::Key::read : UpstreamReport::Key::unreadable;
    if (key) return *std::move(key);
    report.key_error = key.error().context;
    return {};
}

class Attempt {
public:
    Attempt(asio::any_io_executor executor, Clock& clock, const forward::Options& options,
            Secret key, milliseconds timeout, UpstreamReport& report)
        : executor_(std::move(executor)),
          clock_(clock),
          options_(options),
          key_(std::move(key)),
          timeout_(timeout),
          report_(report),
          resolver_(executor_, clock) {}

    asio::awaitable<void> run() {
        auto made = forward::Connector::make(executor_, clock_, resolver_, options_);
        if (!made) {
            report_.unusable = made.error().context;
            co_return;
        }
        const auto connector = std::move(*made);
        const bool found = co_await look_up(connector->endpoint());
        if (!found) co_return;
        const auto connection = co_await connect(*connector);
        if (connection && !key_.empty()) co_await ask(connector->endpoint(), *connection);
    }

private:
    asio::awaitable<bool> look_up(const forward::Endpoint& endpoint) {
        if (!endpoint.unix_path.empty()) co_return true;
        report_.host = options_.proxy ? options_.proxy->host : endpoint.host;
        const auto began = clock_.now();
        const auto found = co_await resolver_.resolve(report_.host, began + timeout_);
        report_.resolve_time = since(began, clock_);
        if (!found) {
            report_.resolve_error = found.error().context;
            co_return false;
        }
        for (const auto& address : *found) report_.addresses.push_back(address.to_string());
        co_return true;
    }

    asio::awaitable<std::unique_ptr<forward::Connection>> connect(forward::Connector& connector) {
        const auto began = clock_.now();
        auto opened = co_await connector.open(began + timeout_);
        report_.connect_time = since(began, clock_);
        report_.tls = connector.endpoint().tls;
        if (!opened.connection) {
            report_.connect_error =
                fmt::format("{}: {}", to_string(opened.failure.transport), opened.failure.error);
            co_return nullptr;
        }
        auto connection = std::move(opened.connection);
        report_.connected = true;
        report_.address = connection->address ? connection->address->to_string() : options_.url;
        if (const auto shown = connection->certificate()) {
            report_.certificate_issuer = shown->issuer;
            report_.certificate_end_unix_ms = unix_ms(shown->not_after);
        }
        co_return connection;
    }

    asio::awaitable<void> ask(const forward::Endpoint& endpoint, forward::Connection& connection) {
        const Secret request{"GET ",
                             endpoint.target(options_.status_path),
                             " HTTP/1.1\r\nHost: ",
                             endpoint.host_header,
                             "\r\nUser-Agent: opsrelay/",
                             OPSRELAY_VERSION,
                             "\r\nAccept: application/json\r\nX-API-Key: ",
                             key_.view(),
                             "\r\n\r\n"};
        report_.asked = true;
        connection.keep_date();
        const auto began = clock_.now();
        const auto answer = co_await connection.exchange(request.view(), began + timeout_);
        report_.reply_time = since(began, clock_);
        const auto& reply = answer.reply;
        if (reply.transport != forward::Transport::ok) {
            report_.ask_error = fmt::format("{}: {}", to_string(reply.transport), reply.error);
            co_return;
        }
        const auto now = clock_.wall_now();
        report_.status = reply.status;
        report_.verdict = to_string(forward::classify(reply, now).verdict);
        const auto workspace = forward::read_workspace_status(reply);
        report_.readable = workspace.readable;
        report_.paused = workspace.paused;
        report_.over_budget = workspace.plan.budget_exceeded.value_or(false);
        report_.replied_unix_ms = unix_ms(now);
        if (!reply.date) co_return;
        if (const auto date = forward::parse_http_date(*reply.date, now)) {
            report_.date_unix_ms = unix_ms(*date);
        }
    }

    asio::any_io_executor executor_;
    Clock& clock_;
    const forward::Options& options_;
    const Secret key_;
    const milliseconds timeout_;
    UpstreamReport& report_;
    forward::Resolver resolver_;
};

}  // namespace

UpstreamReport try_upstream(const forward::Options& options, milliseconds timeout) {
    UpstreamReport report;
    asio::io_context io;
    SystemClock clock;
    Attempt attempt(io.get_executor(), clock, options, read_key(options, report), timeout, report);
    TaskGroup group(io.get_executor(), clock);
    group.spawn("upstream", attempt.run());
    while (group.size() > 0) io.run_one();
    return report;
}

}  // namespace opsrelay
