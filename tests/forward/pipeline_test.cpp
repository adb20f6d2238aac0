// Several requests under way on one connection: the real client against a server on loopback.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <boost/asio/ip/tcp.hpp>
#include <deque>

#include "core/task_group.h"
#include "forward/http_upstream.h"
#include "forward/upstream_world.h"

namespace opsrelay::forward {

namespace {

using test::LoopbackServer;
using test::Served;
using World = test::UpstreamWorld;

/// No reply yet, or none at all.
Served later() { return {"", false, true}; }

std::string body_of(const std::string& request) {
    return request.substr(request.find("\r\n\r\n") + 4);
}

/// 200 with the request's own body, so that a reply that went astray shows.
std::string echo(const std::string& request, std::string_view fields = {}) {
    const auto body = body_of(request);
    return fmt::format("HTTP/1.1 200 OK\r\n{}Content-Length: {}\r\n\r\n{}", fields, body.size(),
                       body);
}

/// Calls that are under way at the same time.
struct Calls {
    explicit Calls(World& w) : world(w), group(w.io.get_executor(), w.clock) {}
    ~Calls() {
        if (group.size() > 0) group.cancel(asio::cancellation_type::terminal);
        wait();
    }
    Reply& send(std::string body, milliseconds timeout = seconds{30}) {
        auto& call = calls.emplace_back();
        call.body = std::move(body);
        const auto deadline = world.clock.now() + timeout;
        group.spawn("test", World::keep(world.upstream->send(call.body, deadline), call.reply));
        return call.reply;
    }
    void send_many(std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) send(fmt::format("[{}]", calls.size()));
    }
    void wait() {
        world.io.restart();
        while (group.size() > 0) world.io.run_one();
    }
    void run_until_received(std::size_t requests) {
        world.io.restart();
        while (world.server.requests().size() < requests) world.io.run_one();
    }
    [[nodiscard]] std::size_t count(Transport transport) const {
        return static_cast<std::size_t>(std::count_if(
            calls.begin(), calls.end(),
            [transport](const auto& call) { return call.reply.transport == transport; }));
    }
    /// Every reply that is one is to its own request.
    [[nodiscard]] bool matched() const {
        return std::all_of(calls.begin(), calls.end(), [](const auto& call) {
            return call.reply.transport != Transport::ok || call.reply.body == call.body;
        });
    }

    struct Call {
        std::string body;
        Reply reply;
    };
    World& world;
    std::deque<Call> calls;  // a deque: tasks hold references
    TaskGroup group;
};

/// Answers the first request; then lets `company` come together, and `last` says what they get.
struct Gathering {
    using Last = std::function<Served(const std::vector<std::string>& requests)>;
    Gathering(std::size_t company, Last last) : state_(std::make_shared<State>()) {
        state_->company = company;
        state_->last = std::move(last);
    }
    Served operator()(std::size_t index, const std::string& request) const {
        auto& state = *state_;
        if (index == 0 || state.over) return {echo(request)};
        state.waiting.push_back(request);
        state.most = std::max(state.most, state.waiting.size());
        if (state.waiting.size() < state.company) return later();
        auto served = state.last(state.waiting);
        state.waiting.clear();
        state.over = served.close;
        return served;
    }
    [[nodiscard]] std::size_t most() const { return state_->most; }

private:
    struct State {
        std::size_t company = 0;
        Last last;
        std::vector<std::string> waiting;
        std::size_t most = 0;
        bool over = false;  // all that comes now is answered
    };
    std::shared_ptr<State> state_;
};

Served echo_all(const std::vector<std::string>& requests) {
    Served all;
    for (const auto& request : requests) all.bytes += echo(request);
    return all;
}

/// A depth of 16 over one connection, which has answered one request.
void begin(World& world, unsigned depth = 16, unsigned connections = 1) {
    world.options.pipeline = depth;
    world.options.connections = connections;
    world.connect(world.options.url);
    CHECK(world.send("first").status == 200);
}

}  // namespace

TEST_CASE("forward/pipeline: sixteen replies in one packet find their requests, in order") {
    const Gathering server(16, echo_all);
    World world(server);
    begin(world);
    Calls calls(world);
    calls.send_many(64);
    calls.wait();
    CHECK(calls.count(Transport::ok) == 64);
    CHECK(calls.matched());
    CHECK(server.most() == 16);  // and no more were sent before the replies came
    CHECK(world.server.connections() == 1);
    for (std::size_t i = 0; i < 64; ++i) {
        CHECK(body_of(world.server.requests()[i + 1]) == calls.calls[i].body);
    }
}

TEST_CASE("forward/pipeline: replies byte by byte, with interim ones and bodies in chunks") {
    World world(Gathering(8, [](const auto& requests) {
        Served all;
        for (const auto& request : requests) {
            all.bytes += "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
            const auto body = body_of(request);
            all.bytes += fmt::format(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
                body.size(), body);
        }
        all.piece = 1;
        return all;
    }));
    begin(world);
    Calls calls(world);
    calls.send_many(8);
    calls.wait();
    CHECK(calls.count(Transport::ok) == 8);
    CHECK(calls.matched());
}

TEST_CASE("forward/pipeline: a new connection carries one request until it has answered it") {
    std::size_t waiting = 0;
    std::size_t most = 0;
    World world([&](std::size_t index, const std::string& request) {
        if (index == 0) return later();
        most = std::max(most, ++waiting);
        return Served{echo(request)};
    });
    world.options.pipeline = 8;
    world.options.connections = 1;
    world.connect(world.options.url);
    Calls calls(world);
    calls.send_many(5);
    calls.run_until_received(1);
    world.run(World::pause(world.clock));
    CHECK(world.server.requests().size() == 1);
    CHECK(most == 0);
}

TEST_CASE("forward/pipeline: the third of eight replies ends the connection, others go on") {
    struct Case {
        const char* name;
        std::string_view fields;  // of the third reply
        std::string_view behind;  // of the fourth one
        bool reset;
        std::size_t ok;
        std::size_t failed;
        unsigned depth;
    };
    const Case cases[] = {
        {"it says so", "Connection: close\r\n", "", false, 4, 0, 16},
        {"it only does it", "", "", false, 4, 0, 16},
        {"by reset", "", "", true, 4, 0, 16},
        {"within the fourth reply", "", "HTTP/1.1 200 OK\r\nContent-Le", true, 3, 1, 1},
        {"within its body", "", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", false, 3, 1, 1},
        {"the fourth one is not HTTP", "", "SSH-2.0-OpenSSH_9.2\r\n\r\n", false, 3, 1, 1},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        World world(Gathering(8, [&test](const auto& requests) {
            Served served;
            for (std::size_t i = 0; i < 3; ++i) {
                served.bytes += echo(requests[i], i == 2 ? test.fields : "");
            }
            served.bytes += test.behind;
            served.close = true;
            served.reset = test.reset;
            return served;
        }));
        begin(world);
        Calls calls(world);
        calls.send_many(8);
        calls.wait();
        CHECK(calls.matched());
        CHECK(calls.count(Transport::ok) == test.ok);
        CHECK(calls.count(Transport::reset) == test.failed);
        CHECK(calls.count(Transport::unanswered) == 8 - test.ok - test.failed);
        const auto now = world.upstream->pipelining();
        CHECK(now.depth == test.depth);
        CHECK(now.cause.empty() == (test.depth == 16));
        // They go again, and that is that.
        Calls again(world);
        for (const auto& call : calls.calls) {
            if (call.reply.transport != Transport::ok) again.send(call.body);
        }
        again.wait();
        CHECK(again.count(Transport::ok) == again.calls.size());
        CHECK(again.matched());
    }
}

TEST_CASE("forward/pipeline: a server that closes after each reply is asked one by one") {
    for (const bool says_so : {true, false}) {
        CAPTURE(says_so);
        World world([says_so](std::size_t, const std::string& request) {
            return Served{echo(request, says_so ? "Connection: close\r\n" : ""), true};
        });
        world.options.pipeline = 8;
        world.options.connections = 2;
        world.connect(world.options.url);
        std::size_t rounds = 0;
        while (world.upstream->pipelining().depth > 1 && ++rounds < 20) {
            Calls calls(world);
            calls.send_many(8);
            calls.wait();
            CHECK(calls.matched());
            CHECK(calls.count(Transport::ok) > 0);
            CHECK(calls.count(Transport::timeout) == 0);
        }
        CHECK(world.upstream->pipelining().depth == 1);
        CHECK(world.upstream->pipelining().cause == "connections are closed after few replies");
        Calls calls(world);
        calls.send_many(2);  // as many as there are connections
        calls.wait();
        CHECK(calls.count(Transport::ok) == 2);
    }
}

TEST_CASE(
    "forward/pipeline: no reply in time fails the first one only, and one by one it goes on") {
    World world(Gathering(100, echo_all));
    begin(world);
    Calls calls(world);
    const auto& first = calls.send("first", milliseconds{30});
    for (int i = 0; i < 4; ++i) calls.send("next");
    calls.wait();
    CHECK(first.transport == Transport::timeout);
    CHECK(calls.count(Transport::unanswered) == 4);
    CHECK(world.upstream->pipelining().depth == 1);
    CHECK(world.upstream->pipelining().cause == "no answer in time");
    CHECK(world.upstream->pipelining().retry_at > world.clock.now() + minutes{9});
    CHECK(world.upstream->idle_connections() == 0);
}

TEST_CASE("forward/pipeline: a request behind others has a deadline of its own") {
    World world(Gathering(3, echo_all));
    begin(world);
    Calls calls(world);
    calls.send("first");
    const auto& second = calls.send("second", milliseconds{20});
    calls.run_until_received(3);
    while (second.transport == Transport::ok) world.io.run_one();
    CHECK(second.transport == Transport::timeout);
    calls.send("third");
    calls.wait();
    CHECK(calls.count(Transport::ok) == 2);
    CHECK(calls.matched());  // the second's reply was nobody's
    CHECK(world.server.connections() == 1);
    CHECK(world.upstream->pipelining().depth == 16);
}

TEST_CASE("forward/pipeline: a connection whose last reply nobody waits for any more goes") {
    World world([](std::size_t index, const std::string& request) {
        Served served{echo(request)};
        served.pause = milliseconds{index == 1 ? 60 : 0};
        return index == 2 ? later() : served;
    });
    begin(world);
    Calls calls(world);
    const auto& first = calls.send("first");
    const auto& second = calls.send("second", milliseconds{20});
    calls.wait();
    CHECK(first.status == 200);
    CHECK(second.transport == Transport::timeout);
    CHECK(world.upstream->idle_connections() == 0);
    CHECK(world.send("fourth").status == 200);
    CHECK(world.server.connections() == 2);
}

TEST_CASE("forward/pipeline: a reply that is cut ends the connection, not those behind it") {
    World world(Gathering(3, [](const auto& requests) {
        Served served = test::ok(std::string(kReplyBodyMax + 1, 'b'));
        served.bytes += echo(requests[1]) + echo(requests[2]);
        served.close = true;
        return served;
    }));
    begin(world);
    Calls calls(world);
    calls.send_many(3);
    calls.wait();
    CHECK(calls.calls[0].reply.body_cut);
    CHECK(calls.calls[0].reply.status == 200);
    CHECK(calls.calls[1].reply.body == "[1]");  // on a connection of its own
    CHECK(calls.calls[2].reply.transport == Transport::unanswered);
    CHECK(world.upstream->pipelining().depth == 16);
}

TEST_CASE("forward/pipeline: all that are under way can be cancelled") {
    World world(Gathering(100, echo_all));
    begin(world);
    Calls calls(world);
    calls.send_many(12);
    calls.run_until_received(13);
    calls.send_many(8);  // four of them wait for room
    calls.group.cancel(asio::cancellation_type::terminal);
    calls.wait();
    CHECK(calls.count(Transport::ok) == 0);
    CHECK(world.upstream->idle_connections() == 0);
    CHECK(world.upstream->pipelining().depth == 16);  // it was our doing
}

TEST_CASE("forward/pipeline: a key that is replaced counts for the requests after it") {
    World world(Gathering(4, echo_all));
    begin(world);
    world.upstream->set_api_key("sk-before");
    Calls calls(world);
    calls.send("a sk-before");
    calls.send("b sk-after");
    calls.run_until_received(3);
    world.upstream->set_api_key("sk-after");
    calls.send("c sk-before");
    calls.send("d sk-after");
    calls.wait();
    const auto& requests = world.server.requests();
    for (std::size_t i = 1; i <= 4; ++i) {
        const auto* const key =
            i <= 2 ? "\r\nX-API-Key: sk-before\r\n" : "\r\nX-API-Key: sk-after\r\n";
        CHECK(requests[i].find(key) != std::string::npos);
    }
    CHECK(calls.calls[0].reply.body == "a ***");  // each hides the key that it was sent with
    CHECK(calls.calls[1].reply.body == "b sk-after");
    CHECK(calls.calls[2].reply.body == "c sk-before");
    CHECK(calls.calls[3].reply.body == "d ***");
}

TEST_CASE("forward/pipeline: TLS carries them as well, and long ones among short ones") {
    const auto identity = test::make_certificate("localhost", hours{-1}, hours{1});
    const Gathering server(16, echo_all);
    World world(server, identity, true);
    begin(world);
    Calls calls(world);
    for (std::size_t i = 0; i < 48; ++i) {
        calls.send(fmt::format("{} {}", i, std::string(i % 5 == 0 ? 40'000 : 10, 'x')));
    }
    calls.wait();
    CHECK(calls.count(Transport::ok) == 48);
    CHECK(calls.matched());
    CHECK(server.most() == 16);
    CHECK(world.server.connections() == 1);
}

TEST_CASE("forward/pipeline: more than the sockets hold, in both directions") {
    World world([](std::size_t, const std::string& request) {
        return Served{echo(request)};  // it does not read while nobody takes what it writes
    });
    begin(world);
    Calls calls(world);
    for (std::size_t i = 0; i < 200; ++i) {
        calls.send(fmt::format("{} {}", i, std::string(60'000, 'y')));
    }
    calls.wait();
    CHECK(calls.count(Transport::ok) == 200);
    CHECK(calls.matched());
}

TEST_CASE("forward/pipeline: workspace-status has a connection to itself") {
    bool hold = true;
    World world([&hold](std::size_t index, const std::string& request) {
        if (request.starts_with("GET")) return opsrelay::test::ok("status");
        return index > 0 && hold ? later() : Served{echo(request)};
    });
    begin(world, 16, 2);
    Calls calls(world);
    calls.send_many(2);
    calls.run_until_received(2);
    CHECK(world.status().body == "status");
    CHECK(world.server.connections() >= 2);
}

TEST_CASE("forward/pipeline: connections are filled evenly") {
    World world([](std::size_t index, const std::string& request) {
        return index < 4 ? Served{echo(request)} : later();
    });
    world.options.pipeline = 4;
    world.options.connections = 4;
    world.connect(world.options.url);
    Calls calls(world);
    calls.send_many(4);
    calls.wait();
    CHECK(world.server.connections() == 4);
    Calls more(world);
    more.send_many(16);
    more.run_until_received(20);
    CHECK(world.server.connections() == 4);
    CHECK(world.upstream->idle_connections() == 0);
}

TEST_CASE("forward/pipeline: a rebuilt pool ends the old connection with its last reply") {
    World world([](std::size_t index, const std::string& request) {
        Served served{echo(request)};
        served.pause = milliseconds{index == 1 ? 30 : 0};
        return served;
    });
    begin(world);
    Calls calls(world);
    calls.send_many(2);
    calls.run_until_received(2);
    world.upstream->tend_connections(true);
    calls.send("b");
    calls.wait();
    CHECK(calls.count(Transport::ok) == 3);
    CHECK(calls.matched());
    CHECK(world.server.connections() == 2);
    CHECK(world.upstream->idle_connections() == 1);
}

TEST_CASE("forward/pipeline: no connection: one request failed, the others were not sent") {
    World world(Gathering(2, echo_all));
    world.options.pipeline = 16;
    world.options.connections = 1;
    world.connect("http://127.0.0.1:1");
    Calls calls(world);
    calls.send_many(20);
    calls.wait();
    CHECK(calls.count(Transport::refused) == 1);
    CHECK(calls.count(Transport::unanswered) == 19);
}

TEST_CASE("forward/pipeline: a thousand requests to a server that ends connections after a few") {
    std::size_t on_this = 0;
    World world([&on_this](std::size_t, const std::string& request) {
        const bool last = ++on_this == 100;
        if (last) on_this = 0;
        return Served{echo(request, last ? "Connection: close\r\n" : ""), last};
    });
    begin(world);
    std::deque<std::string> todo;
    for (int i = 0; i < 1000; ++i) todo.push_back(fmt::format("<{}>", i));
    std::size_t rounds = 0;
    while (!todo.empty() && ++rounds < 200) {
        Calls calls(world);
        for (std::size_t i = 0; i < 16 && !todo.empty(); ++i) {
            calls.send(todo.front());
            todo.pop_front();
        }
        calls.wait();
        CHECK(calls.matched());
        for (auto& call : calls.calls) {
            CHECK((call.reply.transport == Transport::ok ||
                   call.reply.transport == Transport::unanswered));
            if (call.reply.transport != Transport::ok) todo.push_back(call.body);
        }
    }
    CHECK(todo.empty());
    CHECK(world.upstream->pipelining().depth == 16);
    CHECK(world.server.connections() >= 10);
}

}  // namespace opsrelay::forward
