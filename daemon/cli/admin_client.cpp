#include "cli/admin_client.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <optional>

#include "cli/connect.h"
#include "cli/http_head.h"

namespace opsrelay::cli {

namespace {

Result<void> write_all(int fd, std::string_view bytes, const Clock& clock, TimePoint due) {
    while (!bytes.empty()) {
        const auto sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent >= 0) {
            bytes.remove_prefix(static_cast<std::size_t>(sent));
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            const auto ready = wait_for(fd, POLLOUT, clock, due);
            if (!ready) return ready;
        } else if (errno != EINTR) {
            return errno_error(Errc::io, "send", errno);
        }
    }
    return {};
}

// One read into `bytes`; false at the end of the stream.
Result<bool> read_some(int fd, std::string& bytes, const Clock& clock, TimePoint due) {
    std::array<char, 16U << 10U> chunk{};
    for (;;) {
        const auto ready = wait_for(fd, POLLIN, clock, due);
        if (!ready) return ready.error();
        const auto got = ::recv(fd, chunk.data(), chunk.size(), 0);
        if (got > 0) {
            bytes.append(chunk.data(), static_cast<std::size_t>(got));
            return true;
        }
        if (got == 0) return false;
        if (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK) {
            return errno_error(Errc::io, "receive", errno);
        }
    }
}

Result<HttpReply> read_reply(int fd, const Clock& clock, TimePoint due) {
    std::string bytes;
    std::optional<HttpHead> head;
    for (;;) {
        const auto more = read_some(fd, bytes, clock, due);
        if (!more) return more.error();
        if (!head) {
            const auto parsed = parse_http_head(bytes);
            if (!parsed) return parsed.error();
            head = *parsed;
        }
        if (bytes.size() > kReplyBytesMax) return not_http("it is too large");
        if (head && head->length && bytes.size() - head->size >= *head->length) {
            return HttpReply{head->status, bytes.substr(head->size, *head->length)};
        }
        if (*more) continue;
        if (!head || head->length) return not_http("it is cut short");
        return HttpReply{head->status, bytes.substr(head->size)};
    }
}

Result<HttpReply> exchange(const AdminTarget& target, std::string_view request, const Clock& clock,
                           TimePoint due) {
    const auto socket = target.socket.empty() ? connect_tcp(target.address, target.port, clock, due)
                                              : connect_unix(target.socket, clock, due);
    if (!socket) return socket.error();
    const auto written = write_all(socket->get(), request, clock, due);
    if (!written) return with_prefix(written.error(), target.name());
    auto reply = read_reply(socket->get(), clock, due);
    if (!reply) return with_prefix(reply.error(), target.name());
    return reply;
}

}  // namespace

std::string AdminTarget::name() const {
    if (!socket.empty()) return socket;
    const bool v6 = address.find(':') != std::string::npos;
    return v6 ? fmt::format("[{}]:{}", address, port) : fmt::format("{}:{}", address, port);
}

Result<HttpReply> http_get(const AdminTarget& target, std::string_view path, const Clock& clock,
                           TimePoint due) {
    const auto request = fmt::format(
        "GET {} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nConnection: close\r\n"
        "\r\n",
        path);
    return exchange(target, request, clock, due);
}

Result<HttpReply> http_post(const AdminTarget& target, std::string_view path, std::string_view body,
                            const Clock& clock, TimePoint due) {
    const auto request = fmt::format(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Content-Length: {}\r\nConnection: close\r\n\r\n{}",
        path, body.size(), body);
    return exchange(target, request, clock, due);
}

}  // namespace opsrelay::cli
