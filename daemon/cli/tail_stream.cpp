#include "cli/tail_stream.h"

#include <fmt/format.h>
#include <poll.h>
#include <rapidjson/document.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "cli/admin_client.h"
#include "cli/connect.h"
#include "cli/http_head.h"
#include "cli/json_fields.h"

namespace opsrelay::cli {

namespace {

constexpr std::size_t kReadBytes = 64U << 10U;

// Appends what is there; 0: the end.
Result<std::size_t> receive(int fd, std::string& into) {
    std::array<char, kReadBytes> chunk{};
    for (;;) {
        const auto got = ::recv(fd, chunk.data(), chunk.size(), 0);
        if (got >= 0) {
            into.append(chunk.data(), static_cast<std::size_t>(got));
            return static_cast<std::size_t>(got);
        }
        if (errno != EINTR) return errno_error(Errc::io, "receive", errno);
    }
}

Error refusal(int status, std::string_view body) {
    rapidjson::Document reply;
    reply.Parse(body.data(), body.size());
    const bool json = !reply.HasParseError() && reply.IsObject();
    const auto reason = json ? text(reply, "reason") : std::string{};
    const auto message = json ? text(reply, "message") : std::string{};
    if (status == 404) {
        return {Errc::refused, "the daemon is older than this command and has no tail"};
    }
    return {
        status == 400 ? Errc::config_invalid : Errc::refused,
        message.empty() ? fmt::format("the daemon answered HTTP {} {}", status, reason) : message};
}

}  // namespace

Result<TailStream> TailStream::open(const std::string& socket, std::string_view path,
                                    const Clock& clock, TimePoint due) {
    auto connected = connect_unix(socket, clock, due);
    if (!connected) return connected.error();
    const int fd = connected->get();
    const auto request = fmt::format("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
    // Into the empty buffer of a new connection.
    if (::send(fd, request.data(), request.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(request.size())) {
        return errno_error(Errc::io, socket, errno);
    }
    std::string bytes;
    std::optional<HttpHead> head;
    for (;;) {
        const auto ready = wait_for(fd, POLLIN, clock, due);
        if (!ready) return with_prefix(ready.error(), socket);
        const auto got = receive(fd, bytes);
        if (!got) return with_prefix(got.error(), socket);
        const auto parsed = parse_http_head(bytes);
        if (!parsed) return with_prefix(parsed.error(), socket);
        head = *parsed;
        const auto whole = head ? head->size + head->length.value_or(0) : 0;
        if (head && (head->status == 200 || bytes.size() >= whole)) break;
        if (*got == 0) return with_prefix(not_http("it is cut short"), socket);
    }
    if (head->status != 200) {
        return refusal(head->status, std::string_view(bytes).substr(head->size));
    }
    return TailStream(std::move(*connected), bytes.substr(head->size));
}

Result<std::optional<std::string_view>> TailStream::next(const Interrupt& interrupt,
                                                         const Clock& clock) {
    auto due = clock.now() + kTailSilenceMax;
    for (;;) {
        const auto end = buffer_.find('\n', used_);
        if (end != std::string::npos) {
            const auto line = std::string_view(buffer_).substr(used_, end - used_);
            used_ = end + 1;
            if (!line.empty()) return std::optional(line);
            continue;
        }
        buffer_.erase(0, std::exchange(used_, 0));
        if (buffer_.size() > kTailLineMax) return not_http("a line has no end");
        std::array<pollfd, 2> entries{
            {{socket_.get(), POLLIN, 0}, {interrupt.descriptor(), POLLIN, 0}}};
        const int ready = ::poll(entries.data(), entries.size(), poll_timeout(clock, due));
        if (ready < 0 && errno != EINTR) return errno_error(Errc::io, "poll", errno);
        if (entries[1].revents != 0) return std::optional<std::string_view>{};
        if (entries[0].revents == 0) {
            if (clock.now() >= due) return Error{Errc::timed_out, "the daemon says nothing more"};
            continue;
        }
        const auto got = receive(socket_.get(), buffer_);
        if (!got) return got.error();
        if (*got == 0) return Error{Errc::io, "the daemon ended the connection"};
        due = clock.now() + kTailSilenceMax;
    }
}

}  // namespace opsrelay::cli
