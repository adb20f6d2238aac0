// A loopback server and the real client on one thread.
#pragma once

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <boost/asio/io_context.hpp>
#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "core/task_group.h"
#include "forward/http_upstream.h"
#include "forward/loopback_server.h"
#include "forward/resolver.h"
#include "support/temp_dir.h"

namespace opsrelay::test {

/// The system's time, and what a test lets pass at once.
class ShiftedClock final : public Clock {
public:
    void pass(nanoseconds time) noexcept { shift_ += time; }
    [[nodiscard]] TimePoint now() const noexcept override { return system_.now() + shift_; }
    [[nodiscard]] WallTime wall_now() const noexcept override { return system_.wall_now(); }
    void arm(asio::steady_timer& timer, TimePoint due) override {
        system_.arm(timer, due - shift_);
    }
    void disarm(asio::steady_timer& timer) noexcept override { system_.disarm(timer); }

private:
    SystemClock system_;
    nanoseconds shift_{0};
};

/// A loopback server and the real client on one thread.
struct UpstreamWorld {
    explicit UpstreamWorld(LoopbackServer::Handler handler)
        : server(io, clock, std::move(handler)) {
        connect(fmt::format("http://127.0.0.1:{}", server.port()));
    }
    UpstreamWorld(LoopbackServer::Handler handler, const Certificate& identity, bool trusted,
                  const std::string& client_pem = {})
        : server(io, clock, std::move(handler), identity, client_pem) {
        const auto file = dir / "ca.pem";
        std::ofstream(file) << identity.certificate_pem;
        if (trusted) options.ca_file = file;
        connect(fmt::format("https://localhost:{}", server.port()));
    }
    ~UpstreamWorld() {
        upstream.reset();
        run(server.stop());
    }
    void connect(const std::string& url) {
        options.url = url;
        auto made = forward::HttpUpstream::make(io.get_executor(), clock, resolver, options);
        REQUIRE_MESSAGE(made.has_value(), (made ? "" : made.error().context));
        upstream = std::move(*made);
        upstream->set_api_key("secret");
    }
    void run(asio::awaitable<void> task) {
        TaskGroup group(io.get_executor(), clock);
        group.spawn("test", std::move(task));
        io.restart();
        while (group.size() > 0) io.run_one();
    }
    static asio::awaitable<void> keep(asio::awaitable<forward::Reply> call, forward::Reply& into) {
        into = co_await std::move(call);
    }
    forward::Reply send(std::string_view body, milliseconds timeout = seconds{30}) {
        forward::Reply reply;
        run(keep(upstream->send(body, clock.now() + timeout), reply));
        return reply;
    }
    forward::Reply status() {
        forward::Reply reply;
        run(keep(upstream->workspace_status(clock.now() + seconds{30}), reply));
        return reply;
    }
    static asio::awaitable<void> pause(Clock& clock) { co_await clock.sleep_for(milliseconds{5}); }

    asio::io_context io;
    ShiftedClock clock;
    TempDir dir;
    forward::Options options;
    LoopbackServer server;
    forward::Resolver resolver{io.get_executor(), clock};
    std::unique_ptr<forward::HttpUpstream> upstream;
};

}  // namespace opsrelay::test
