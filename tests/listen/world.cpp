#include "listen/world.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "core/assert.h"
#include "core/log.h"

namespace opsrelay::listen::testing {

namespace {

constexpr seconds kPatience{60};  // only a hang takes that long

asio::awaitable<void> stop_all(Listeners& listeners, TimePoint deadline, bool& done) {
    co_await listeners.stop(deadline);
    done = true;
}

int connect_to(int fd, const std::string& address) {
    if (address.starts_with('/')) {
        sockaddr_un to{};
        to.sun_family = AF_UNIX;
        std::memcpy(to.sun_path, address.data(), address.size());
        return ::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to);
    }
    const auto colon = address.rfind(':');
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<std::uint16_t>(std::stoi(address.substr(colon + 1))));
    OPSRELAY_ASSERT(::inet_pton(AF_INET, address.substr(0, colon).c_str(), &to.sin_addr) == 1);
    return ::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to);
}

}  // namespace

World::World() : inlet(io.get_executor(), clock), work_(io.get_executor()) {
    log::redirect([](void*, log::Level, std::string_view) {}, nullptr);
    options.stream_ack_delay = milliseconds{5};
    options.watch_interval = milliseconds{5};
}

World::~World() {
    if (listeners && !stopped_) stop(milliseconds{50});
    listeners.reset();
}

void World::add(ListenerKind kind, const std::string& name) {
    ListenerOptions one;
    one.kind = kind;
    if (name.empty()) {
        one.address = "127.0.0.1";
    } else {
        one.path = dir / name;
    }
    options.listeners.push_back(one);
}

void World::start(InheritedSockets inherited) {
    stopped_ = false;
    listeners =
        std::make_unique<Listeners>(io.get_executor(), inlet, clock, options, registry, plans);
    const auto opened = listeners->open(std::move(inherited));
    REQUIRE_MESSAGE(opened.has_value(), (opened ? std::string{} : opened.error().context));
    listeners->start();
    run_ready();
}

void World::run_until(const std::function<bool()>& done) {
    const auto give_up = clock.now() + kPatience;
    while (!done()) {
        io.run_one_for(milliseconds{2});
        io.poll();
        REQUIRE(clock.now() < give_up);
    }
}

void World::run_ready() {
    while (io.poll() > 0) {
    }
}

void World::run_one() { REQUIRE(io.run_one_for(kPatience) == 1); }

void World::stop(milliseconds patience) {
    bool done = false;
    TaskGroup tasks(io.get_executor(), clock);
    tasks.spawn("stop", stop_all(*listeners, clock.now() + patience, done));
    run_until([&] { return done && tasks.size() == 0; });
    stopped_ = true;
    CHECK(listeners->connections() == 0);
}

std::string World::address(std::size_t index) const {
    return listeners->status().at(index).address;
}

std::uint64_t World::refused(std::size_t index) {
    const auto status = listeners->status().at(index);
    const auto label = std::string(to_string(status.kind)) + ":" + status.address;
    return registry.counter(observe::kConnectionsRefused, label).value();
}

Client::Client(int type, const std::string& address)
    : fd(::socket(address.starts_with('/') ? AF_UNIX : AF_INET, type | SOCK_CLOEXEC, 0)) {
    REQUIRE(fd);
    const int connected = connect_to(fd.get(), address);
    REQUIRE_MESSAGE(connected == 0, std::strerror(errno));
}

void Client::send(World& world, std::string_view bytes) {
    while (!bytes.empty()) {
        const auto sent = try_send(bytes);
        if (sent > 0) {
            bytes.remove_prefix(static_cast<std::size_t>(sent));
            continue;
        }
        REQUIRE(sent == -EAGAIN);
        world.io.run_one_for(milliseconds{2});
        world.io.poll();
    }
}

long Client::try_send(std::string_view bytes) {
    const auto sent = ::send(fd.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent < 0 ? -errno : sent;
}

void Client::finish() { ::shutdown(fd.get(), SHUT_WR); }

bool Client::read() {
    std::array<char, 16384> buffer;
    while (!closed_) {
        const auto got = ::recv(fd.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (got > 0) {
            received.append(buffer.data(), static_cast<std::size_t>(got));
        } else if (got == 0 || errno != EAGAIN) {
            closed_ = true;
        } else {
            break;
        }
    }
    return !closed_;
}

void Client::expect(World& world, std::string_view text) {
    world.run_until([&] { return !read() || received.ends_with(text); });
    const auto shown = received.size() > text.size() + 200 ? received.substr(0, 200) : received;
    CHECK_MESSAGE(received.ends_with(text), shown);
}

}  // namespace opsrelay::listen::testing
