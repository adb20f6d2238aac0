#include "cli/fake_server.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <utility>

namespace opsrelay::cli {

namespace {

constexpr int kPatienceMs = 10'000;

bool readable(int fd) {
    pollfd entry{fd, POLLIN, 0};
    return ::poll(&entry, 1, kPatienceMs) == 1;
}

}  // namespace

FakeServer::FakeServer(const std::string& path, std::vector<Handler> handlers)
    : listener_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), handlers_(std::move(handlers)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    REQUIRE(path.size() < sizeof address.sun_path);
    std::memcpy(address.sun_path, path.data(), path.size());
    REQUIRE(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
            0);
    REQUIRE(::listen(listener_.get(), 16) == 0);
    thread_ = std::thread([this] {
        for (const auto& handler : handlers_) {
            if (!readable(listener_.get())) return;
            const UniqueFd connection(::accept(listener_.get(), nullptr, nullptr));
            if (!connection) return;
            handler(connection.get());
            ++served_;
        }
        // Later connections are refused rather than left waiting.
        listener_.reset();
    });
}

FakeServer::~FakeServer() {
    if (thread_.joinable()) thread_.join();
}

std::size_t FakeServer::join() {
    if (thread_.joinable()) thread_.join();
    return served_;
}

std::string read_line(int fd) {
    std::string line;
    char c = 0;
    while (readable(fd) && ::read(fd, &c, 1) == 1) {
        if (c == '\n') break;
        line += c;
    }
    return line;
}

void write_text(int fd, const std::string& text) {
    // The peer may be gone on purpose.
    static_cast<void>(::send(fd, text.data(), text.size(), MSG_NOSIGNAL));
}

FakeServer::Handler http_answer(std::string bytes) {
    return [bytes = std::move(bytes)](int fd) {
        while (read_line(fd) != "\r") {
        }
        write_text(fd, bytes);
    };
}

std::string http_reply(int status, const std::string& body) {
    return fmt::format("HTTP/1.1 {} X\r\ncontent-length: {}\r\n\r\n{}", status, body.size(), body);
}

}  // namespace opsrelay::cli
