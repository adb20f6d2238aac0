#include "cli/acked_sender.h"

#include <fmt/format.h>
#include <poll.h>
#include <rapidjson/document.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <utility>

#include "cli/connect.h"

namespace opsrelay::cli {

namespace {

constexpr std::string_view kHello = "{\"opsrelay\":{\"acks\":true}}\n";
constexpr std::size_t kOutputBytes = 64U << 10U;
constexpr std::size_t kAckBytesMax = 4096;
constexpr milliseconds kConnectTimeout{2'000};
constexpr milliseconds kRetryDelayMax{2'000};

struct Ack {
    std::uint64_t durable = 0;
    std::uint64_t rejected = 0;
};

std::optional<Ack> parse_ack(std::string_view line) {
    rapidjson::Document document;
    document.Parse(line.data(), line.size());
    if (document.HasParseError() || !document.IsObject()) return std::nullopt;
    const rapidjson::Value& object = document;
    const auto durable = object.FindMember("durable");
    const auto rejected = object.FindMember("rejected");
    if (durable == object.MemberEnd() || !durable->value.IsUint64() ||
        rejected == object.MemberEnd() || !rejected->value.IsUint64()) {
        return std::nullopt;
    }
    return Ack{durable->value.GetUint64(), rejected->value.GetUint64()};
}

}  // namespace

AckedSender::AckedSender(SenderOptions options, LineSource& source, const Clock& clock)
    : options_(std::move(options)), source_(source), clock_(clock) {}

bool AckedSender::source_open() const { return !source_.at_end() && source_failure_.empty(); }

bool AckedSender::done() const { return lines_.empty() && !source_open(); }

SendReport AckedSender::run(const std::function<void(const SendReport&)>& progress) {
    last_progress_ = clock_.now();
    while (!done() && report_.failure.empty()) {
        const auto settled = report_.durable + report_.rejected;
        if (source_.fd() < 0 && source_open() && held_bytes_ < options_.window.count) {
            read_source();
        }
        if (socket_ || lines_.empty() || connect()) step();
        if (progress && settled != report_.durable + report_.rejected) progress(report_);
    }
    if (report_.failure.empty() && !source_failure_.empty()) {
        report_.failure = source_failure_;
        report_.input_failed = true;
    }
    report_.unconfirmed = lines_.size();
    report_.too_long = source_.too_long();
    report_.messages = source_.messages();
    report_.rejected += report_.too_long + report_.messages;
    report_.events = report_.durable + report_.rejected + report_.unconfirmed;
    report_.input_left = !source_.at_end() || !source_failure_.empty();
    return report_;
}

void AckedSender::read_source() {
    const bool idle = lines_.empty();
    const auto bytes = source_.fill(lines_);
    if (!bytes) {
        // What was read before is still sent; the failure is reported in the end.
        source_failure_ = bytes.error().context;
        return;
    }
    held_bytes_ += *bytes;
    if (idle) last_progress_ = clock_.now();
}

bool AckedSender::connect() {
    if (std::exchange(tried_, true)) ++report_.reconnects;
    std::string failure;
    for (const auto& path : options_.sockets) {
        auto socket = connect_unix(path, clock_, clock_.now() + kConnectTimeout);
        if (socket) {
            socket_ = *std::move(socket);
            output_ = kHello;
            output_offset_ = 0;
            input_.clear();
            sent_lines_ = 0;
            durable_here_ = rejected_here_ = 0;
            half_closed_ = false;
            return true;
        }
        failure += fmt::format("{}{}", failure.empty() ? "" : "; ", socket.error().context);
    }
    disconnect(failure);
    return false;
}

// Forgets the connection and waits before the next one, unless the tries are used up.
void AckedSender::disconnect(std::string_view why) {
    socket_.reset();
    sent_lines_ = 0;
    last_failure_ = why;
    if (lines_.empty()) return;  // nothing is owed: the next event opens a connection
    if (!may_retry()) return;
    const auto doublings = std::min(failures_ - 1, 10U);
    const auto delay = std::min(options_.retry_delay * (1U << doublings), kRetryDelayMax);
    const auto due = std::min(clock_.now() + delay, last_progress_ + options_.timeout);
    while (clock_.now() < due) ::poll(nullptr, 0, poll_timeout(clock_, due));
}

bool AckedSender::may_retry() {
    ++failures_;
    if (clock_.now() - last_progress_ >= options_.timeout) {
        report_.failure = fmt::format("no event was confirmed for {} ms: {}",
                                      options_.timeout.count(), last_failure_);
    } else if (failures_ > options_.retries) {
        report_.failure = fmt::format("{} tries without progress: {}", failures_, last_failure_);
    }
    return report_.failure.empty();
}

void AckedSender::step() {
    const bool reading = source_.fd() >= 0 && source_open() && held_bytes_ < options_.window.count;
    const bool writing = output_offset_ < output_.size() || sent_lines_ < lines_.size();
    if (!socket_ && !reading) return;  // arguments: the next round reads or connects
    std::array<pollfd, 2> entries{
        {{socket_ ? socket_.get() : -1, POLLIN, 0}, {reading ? source_.fd() : -1, POLLIN, 0}}};
    if (writing) entries[0].events |= POLLOUT;
    // More arguments wait to be read: look, but do not wait.
    const bool hurry = source_.fd() < 0 && source_open() && held_bytes_ < options_.window.count;
    const auto due = last_progress_ + options_.timeout;
    const int timeout = hurry ? 0 : lines_.empty() ? -1 : poll_timeout(clock_, due);
    if (::poll(entries.data(), entries.size(), timeout) < 0 && errno != EINTR) {
        report_.failure = errno_error(Errc::io, "poll", errno).context;
        return;
    }
    if (entries[1].revents != 0) read_source();
    auto next = Step::going;
    if ((entries[0].revents & ~POLLOUT) != 0) next = read_acks();
    if (next != Step::broken && (entries[0].revents & POLLOUT) != 0) next = write_some();
    if (next == Step::broken) {
        disconnect(std::exchange(last_failure_, {}));
    } else if (!lines_.empty() && clock_.now() >= last_progress_ + options_.timeout) {
        report_.failure = fmt::format("no event was confirmed for {} ms by {}",
                                      options_.timeout.count(), options_.sockets.front());
    }
}

void AckedSender::fill_output() {
    output_.clear();
    output_offset_ = 0;
    while (sent_lines_ < lines_.size() && output_.size() < kOutputBytes) {
        output_ += lines_[sent_lines_++];
        output_ += '\n';
    }
}

AckedSender::Step AckedSender::write_some() {
    if (output_offset_ == output_.size()) fill_output();
    if (output_offset_ < output_.size()) {
        const auto sent = ::send(socket_.get(), output_.data() + output_offset_,
                                 output_.size() - output_offset_, MSG_NOSIGNAL);
        if (sent < 0) {
            const int error = errno;
            if (error == EINTR || error == EAGAIN || error == EWOULDBLOCK) return Step::going;
            // Acks that arrived before the end still count.
            while (read_acks() == Step::going) {
            }
            last_failure_ = errno_error(Errc::io, "send to the relay", error).context;
            return Step::broken;
        }
        output_offset_ += static_cast<std::size_t>(sent);
    }
    const bool all = output_offset_ == output_.size() && sent_lines_ == lines_.size();
    if (all && !source_open() && !half_closed_) {
        half_closed_ = true;  // lets the relay settle what it has without waiting for more
        ::shutdown(socket_.get(), SHUT_WR);
    }
    return Step::going;
}

AckedSender::Step AckedSender::read_acks() {
    std::array<char, kAckBytesMax> chunk{};
    const auto got = ::recv(socket_.get(), chunk.data(), chunk.size(), 0);
    if (got < 0) {
        if (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK) return Step::dry;
        last_failure_ = errno_error(Errc::io, "receive from the relay", errno).context;
        return Step::broken;
    }
    if (got == 0) {
        last_failure_ = "the relay closed the connection";
        return Step::broken;
    }
    input_.append(chunk.data(), static_cast<std::size_t>(got));
    std::string_view rest(input_);
    for (auto end = rest.find('\n'); end != std::string_view::npos; end = rest.find('\n')) {
        if (settle(rest.substr(0, end)) == Step::broken) return Step::broken;
        rest.remove_prefix(end + 1);
    }
    input_.erase(0, input_.size() - rest.size());
    if (input_.size() <= kAckBytesMax) return Step::going;
    last_failure_ = "the relay sent something that is not an ack";
    return Step::broken;
}

AckedSender::Step AckedSender::settle(std::string_view line) {
    const auto ack = parse_ack(line);
    if (!ack || ack->durable < durable_here_ || ack->rejected < rejected_here_) {
        last_failure_ = "the relay sent something that is not an ack";
        return Step::broken;
    }
    const auto durable = ack->durable - durable_here_;
    const auto rejected = ack->rejected - rejected_here_;
    if (durable > sent_lines_ || rejected > sent_lines_ - durable) {
        last_failure_ = "the relay confirmed more events than it was sent";
        return Step::broken;
    }
    durable_here_ = ack->durable;
    rejected_here_ = ack->rejected;
    report_.durable += durable;
    report_.rejected += rejected;
    const auto settled = static_cast<std::size_t>(durable + rejected);
    if (settled == 0) return Step::going;
    for (std::size_t i = 0; i < settled; ++i) {
        held_bytes_ -= LineSource::held_bytes(lines_.front());
        lines_.pop_front();
    }
    sent_lines_ -= settled;
    failures_ = 0;
    last_progress_ = clock_.now();
    return Step::going;
}

}  // namespace opsrelay::cli
