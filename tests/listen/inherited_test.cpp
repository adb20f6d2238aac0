#include "listen/inherited.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "listen/socket.h"
#include "listen/world.h"
#include "support/log_capture.h"

using namespace opsrelay;
using namespace opsrelay::listen;
using namespace opsrelay::listen::testing;

namespace {

// What a parent holds: sockets that exist before the daemon and after it.
struct Parent {
    std::vector<UniqueFd> held;
    std::vector<std::string> names;

    std::string unix_socket(int type, const std::string& path) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        REQUIRE(path.size() < sizeof address.sun_path);
        std::memcpy(address.sun_path, path.data(), path.size());
        UniqueFd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
        REQUIRE(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
                0);
        if (type == SOCK_STREAM) REQUIRE(::listen(socket.get(), 16) == 0);
        held.push_back(std::move(socket));
        names.emplace_back();
        return path;
    }

    std::string ip_socket(int type) {
        auto socket = bind_ip(type, "127.0.0.1", 0);
        REQUIRE(socket.has_value());
        held.push_back(std::move(socket->fd));
        names.emplace_back();
        return socket->address;
    }

    // What the child gets, in an order that says nothing.
    [[nodiscard]] InheritedSockets adopted() const {
        std::vector<NamedFd> copies;
        for (std::size_t i = held.size(); i-- > 0;) {
            copies.push_back({UniqueFd(::dup(held[i].get())), names[i]});
        }
        auto sockets = InheritedSockets::adopt(std::move(copies));
        REQUIRE(sockets.has_value());
        return std::move(*sockets);
    }
};

std::uint16_t port_of(const std::string& address) {
    return static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1)));
}

std::string complaint(int fd, const char* name = "") {
    std::vector<NamedFd> descriptors;
    descriptors.push_back({UniqueFd(fd), name});
    const auto sockets = InheritedSockets::adopt(std::move(descriptors));
    return sockets ? std::string{} : sockets.error().context;
}

int option_of(int socket, int level, int name) {
    int value = 0;
    socklen_t length = sizeof value;
    REQUIRE(::getsockopt(socket, level, name, &value, &length) == 0);
    return value;
}

}  // namespace

TEST_CASE("listen/inherited: sockets are told apart by address and type") {
    World world;
    Parent parent;
    const auto datagrams = parent.unix_socket(SOCK_DGRAM, world.dir / "d.sock");
    const auto stream = parent.unix_socket(SOCK_STREAM, world.dir / "s.sock");
    parent.names.back() = "stream.socket";
    const auto udp = parent.ip_socket(SOCK_DGRAM);
    const auto http = parent.ip_socket(SOCK_STREAM);
    auto sockets = parent.adopted();
    REQUIRE(sockets.any());

    CHECK_FALSE(sockets.take(SOCK_STREAM, stream + ".other").has_value());
    CHECK_FALSE(sockets.take(SOCK_STREAM, "").has_value());
    CHECK_FALSE(sockets.take(SOCK_DGRAM, stream).has_value());
    const auto first = sockets.take(SOCK_DGRAM, datagrams);
    REQUIRE(first.has_value());
    CHECK(first->address == datagrams);
    CHECK((::fcntl(first->fd.get(), F_GETFD) & FD_CLOEXEC) != 0);
    CHECK((::fcntl(first->fd.get(), F_GETFL) & O_NONBLOCK) != 0);
    CHECK_FALSE(sockets.take(SOCK_DGRAM, datagrams).has_value());  // once

    const auto tcp_port = port_of(http);
    CHECK_FALSE(sockets.take(SOCK_STREAM, "127.0.0.1", 0).has_value());  // one that is free
    CHECK_FALSE(sockets.take(SOCK_STREAM, "127.0.0.2", tcp_port).has_value());
    CHECK_FALSE(sockets.take(SOCK_STREAM, "::1", tcp_port).has_value());
    const auto second = sockets.take(SOCK_STREAM, "127.0.0.1", tcp_port);
    REQUIRE(second.has_value());
    CHECK(second->address == http);
    CHECK_FALSE(sockets.take(SOCK_STREAM, "127.0.0.1", port_of(udp)).has_value());

    const auto left = sockets.all_taken();
    REQUIRE_FALSE(left.has_value());
    CHECK(left.error().code == Errc::config_invalid);
    CHECK(left.error().context ==
          "inherited, and belongs to no listener: datagram socket " + udp + ", stream socket " +
              stream +
              " \"stream.socket\"; configure a listener of this type with this very path or "
              "address, or do not pass it");
    const auto third = sockets.take(SOCK_DGRAM, "127.0.0.1", port_of(udp));
    REQUIRE(third.has_value());
    CHECK(option_of(third->fd.get(), SOL_SOCKET, SO_RXQ_OVFL) == 1);
    CHECK(sockets.take(SOCK_STREAM, stream).has_value());
    CHECK(sockets.all_taken().has_value());
}

TEST_CASE("listen/inherited: what is no listening socket is refused by number and name") {
    CHECK(complaint(::open("/dev/null", O_RDONLY | O_CLOEXEC), "x.socket")
              .find("\"x.socket\" is no datagram or stream socket") != std::string::npos);
    CHECK(complaint(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)).find("is no datagram") !=
          std::string::npos);
    CHECK(complaint(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)).find("does not listen") !=
          std::string::npos);
    CHECK(complaint(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)).find("has no path") !=
          std::string::npos);
    CHECK(complaint(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0)).find("not bound") !=
          std::string::npos);
    CHECK(complaint(::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, 0)).find("neither a Unix") !=
          std::string::npos);
}

TEST_CASE("listen/inherited: listeners by default stay off, configured ones bind or fail") {
    World world;
    world.add(ListenerKind::unix_datagram, "d.sock");
    world.add(ListenerKind::unix_stream, "s.sock");
    world.add(ListenerKind::udp);
    world.options.listeners[1].by_default = true;
    Parent parent;
    parent.unix_socket(SOCK_DGRAM, world.dir / "d.sock");
    Listeners listeners(world.io.get_executor(), world.inlet, world.clock, world.options,
                        world.registry, world.plans);
    SUBCASE("both") {
        REQUIRE(listeners.open(parent.adopted()).has_value());
        const auto status = listeners.status();
        REQUIRE(status.size() == 2);
        CHECK(status[0].kind == ListenerKind::unix_datagram);
        CHECK(status[1].kind == ListenerKind::udp);
        CHECK_FALSE(std::filesystem::exists(world.dir / "s.sock"));
        CHECK(status[0].inherited);
        CHECK_FALSE(status[1].inherited);
        // What follows counts the listeners as the configuration does.
        CHECK(listeners.is_on(0));
        CHECK_FALSE(listeners.is_on(1));
        CHECK(listeners.is_on(2));
        listeners.configure(world.options);
        listeners.set_tokens(1, TokenSet{});  // of one that stays off: nothing to do
        listeners.set_tokens(2, TokenSet{});
    }
    SUBCASE("nothing inherited: all of them") {
        parent.held.clear();
        REQUIRE(std::filesystem::remove(world.dir / "d.sock"));
        REQUIRE(listeners.open().has_value());
        CHECK(listeners.status().size() == 3);
    }
    SUBCASE("one that cannot bind is an error all the same") {
        world.options.listeners[1].by_default = false;
        world.options.listeners[1].path = world.dir / "none/s.sock";
        Listeners strict(world.io.get_executor(), world.inlet, world.clock, world.options,
                         world.registry, world.plans);
        CHECK_FALSE(strict.open(parent.adopted()).has_value());
        CHECK(strict.status().empty());
        CHECK(std::filesystem::exists(world.dir / "d.sock"));
    }
    SUBCASE("one that belongs to nobody is an error") {
        parent.unix_socket(SOCK_STREAM, world.dir / "other.sock");
        const auto opened = listeners.open(parent.adopted());
        REQUIRE_FALSE(opened.has_value());
        CHECK(opened.error().code == Errc::config_invalid);
        CHECK(listeners.status().empty());
    }
}

TEST_CASE("listen/inherited: the socket outlives the daemon, with what the kernel holds for it") {
    World world;
    world.add(ListenerKind::unix_datagram, "d.sock");
    world.add(ListenerKind::unix_stream, "s.sock");
    world.inlet.settle_at_once = true;
    Parent parent;
    const auto path = parent.unix_socket(SOCK_DGRAM, world.dir / "d.sock");
    const auto streams = parent.unix_socket(SOCK_STREAM, world.dir / "s.sock");
    Client client(SOCK_DGRAM, path);
    world.start(parent.adopted());
    client.send(world, "one\n");
    world.run_until([&] { return world.inlet.recorded.size() == 1; });
    world.stop(milliseconds{50});
    CHECK(std::filesystem::exists(path));
    CHECK(std::filesystem::exists(streams));
    client.send(world, "two\n");
    Client waiting(SOCK_STREAM, streams);
    waiting.send(world, "three\n");
    world.start(parent.adopted());
    world.run_until([&] { return world.inlet.recorded.size() == 3; });
    world.stop(milliseconds{50});
    std::vector<std::string> bytes;
    for (const auto& one : world.inlet.recorded) bytes.push_back(one.bytes);
    std::sort(bytes.begin(), bytes.end());
    CHECK(bytes == std::vector<std::string>{"one", "three", "two"});
}

TEST_CASE("listen/inherited: a path that is removed is told, not made again") {
    World world;
    world.add(ListenerKind::unix_datagram, "d.sock");
    world.options.watch_interval = milliseconds{1};
    Parent parent;
    const auto path = parent.unix_socket(SOCK_DGRAM, world.dir / "d.sock");
    test::LogCapture log;
    world.start(parent.adopted());
    CHECK(log.count("path of the inherited socket is gone") == 0);
    REQUIRE(std::filesystem::remove(path));
    world.run_until([&] { return log.count("path of the inherited socket is gone") == 1; });
    CHECK_FALSE(std::filesystem::exists(path));
}

TEST_CASE("listen/inherited: senders are known where the listener asks for them") {
    World world;
    world.add(ListenerKind::unix_datagram, "d.sock");
    world.inlet.settle_at_once = true;
    Parent parent;
    const auto path = parent.unix_socket(SOCK_DGRAM, world.dir / "d.sock");
    SUBCASE("access") { world.options.listeners[0].allow_uids = {::getuid()}; }
    SUBCASE("rate") { world.options.listeners[0].rate_limit = 100; }
    world.start(parent.adopted());
    Client client(SOCK_DGRAM, path);
    client.send(world, "one\n");
    world.run_until([&] { return world.inlet.recorded.size() == 1; });
    CHECK(option_of(parent.held[0].get(), SOL_SOCKET, SO_PASSCRED) == 1);
}

TEST_CASE("listen/inherited: a receive buffer that the parent made large is not cut") {
    World world;
    Parent parent;
    const auto udp = parent.ip_socket(SOCK_DGRAM);
    world.add(ListenerKind::udp);
    world.options.listeners[0].port = port_of(udp);
    const int socket = parent.held[0].get();
    const auto before = option_of(socket, SOL_SOCKET, SO_RCVBUF);
    world.options.receive_buffer = {4096};  // asking for it would cut the buffer
    REQUIRE(static_cast<std::uint64_t>(before) > 2 * 4096);
    world.start(parent.adopted());
    CHECK(option_of(socket, SOL_SOCKET, SO_RCVBUF) == before);
    CHECK(world.listeners->status()[0].receive_buffer.count ==
          static_cast<std::uint64_t>(before) / 2);
    CHECK(world.listeners->status()[0].address == udp);
}

TEST_CASE("listen/inherited: what the kernel dropped for an earlier process is not counted again") {
    World world;
    Parent parent;
    const auto udp = parent.ip_socket(SOCK_DGRAM);
    world.add(ListenerKind::udp);
    world.options.listeners[0].port = port_of(udp);
    world.inlet.settle_at_once = true;
    const int small = 1;  // the kernel makes it its minimum
    REQUIRE(::setsockopt(parent.held[0].get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0);
    const UniqueFd sender(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(port_of(udp));
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::connect(sender.get(), reinterpret_cast<const sockaddr*>(&where), sizeof where) == 0);
    const std::string datagram(1000, 'x');
    for (int i = 0; i < 100; ++i) {
        REQUIRE(::send(sender.get(), datagram.data(), datagram.size(), 0) ==
                static_cast<ssize_t>(datagram.size()));
    }
    world.start(parent.adopted());
    const auto received = [&] { return world.listeners->status()[0].received; };
    world.run_until([&] { return received() > 0; });
    const auto held = received();
    REQUIRE(held < 100);
    // One more tells the counter that comes with it.
    REQUIRE(::send(sender.get(), datagram.data(), datagram.size(), 0) > 0);
    world.run_until([&] { return received() > held; });
    CHECK(world.listeners->status()[0].kernel_drops == 0);
}
