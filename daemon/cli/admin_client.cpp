#include "cli/admin_client.h"

#include <fmt/format.h>
#include <poll.h>
#include <strings.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <optional>

#include "cli/connect.h"

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

std::string_view trim(std::string_view text) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
    return text;
}

bool same_name(std::string_view a, std::string_view b) {
    return a.size() == b.size() && ::strncasecmp(a.data(), b.data(), a.size()) == 0;
}

std::optional<std::size_t> parse_number(std::string_view text) {
    std::size_t value = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size()) return std::nullopt;
    return value;
}

Error not_http(std::string_view why) {
    return {Errc::refused, fmt::format("the answer is not from opsrelay: {}", why)};
}

// RFC 9112: status line, fields, and where the body begins. The body ends with Content-Length or,
// without one, with the connection; we never ask for anything that is sent in chunks.
struct Head {
    int status = 0;
    std::size_t size = 0;
    std::optional<std::size_t> length;
};

Result<std::optional<Head>> parse_head(std::string_view bytes) {
    constexpr std::size_t kHeadMax = 16U << 10U;
    const auto end = bytes.find("\r\n\r\n");
    if (end == std::string_view::npos) {
        if (bytes.size() > kHeadMax) return not_http("its header is too long");
        return std::optional<Head>{};
    }
    Head head;
    head.size = end + 4;
    auto rest = bytes.substr(0, end + 2);
    const auto line = rest.substr(0, rest.find("\r\n"));
    const auto status = line.size() >= 12 ? parse_number(line.substr(9, 3)) : std::nullopt;
    if (!line.starts_with("HTTP/1.") || !status) return not_http("it has no HTTP status line");
    head.status = static_cast<int>(*status);
    rest.remove_prefix(line.size() + 2);
    while (!rest.empty()) {
        const auto field = rest.substr(0, rest.find("\r\n"));
        rest.remove_prefix(field.size() + 2);
        const auto colon = field.find(':');
        if (colon == std::string_view::npos) return not_http("it has a broken header");
        const auto name = field.substr(0, colon);
        if (same_name(name, "Transfer-Encoding")) return not_http("it is sent in chunks");
        if (!same_name(name, "Content-Length")) continue;
        head.length = parse_number(trim(field.substr(colon + 1)));
        if (!head.length) return not_http("it has a broken Content-Length");
    }
    return std::optional<Head>(head);
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
    std::optional<Head> head;
    for (;;) {
        const auto more = read_some(fd, bytes, clock, due);
        if (!more) return more.error();
        if (!head) {
            const auto parsed = parse_head(bytes);
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
