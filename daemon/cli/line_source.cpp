#include "cli/line_source.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace opsrelay::cli {

namespace {

constexpr std::size_t kChunkBytes = 64U << 10U;

bool is_blank(std::string_view line) {
    return line.find_first_not_of(" \t\r\n\v\f") == std::string_view::npos;
}

}  // namespace

LineSource::LineSource(std::vector<std::string> arguments)
    : arguments_(std::move(arguments)), ended_(arguments_.empty()) {
    for (auto& argument : arguments_) std::replace(argument.begin(), argument.end(), '\n', ' ');
}

LineSource::LineSource(int fd) : fd_(fd) {}

std::size_t LineSource::take(std::string_view line, std::deque<std::string>& lines) {
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (is_blank(line)) return 0;
    const bool too_long = line.size() > kLineBytesMax;
    if (too_long || line.starts_with(R"({"opsrelay")")) {
        ++(too_long ? too_long_ : messages_);
        return 0;
    }
    lines.emplace_back(line);
    return held_bytes(lines.back());
}

std::size_t LineSource::split(std::string_view chunk, std::deque<std::string>& lines) {
    std::size_t bytes = 0;
    for (auto newline = chunk.find('\n'); newline != std::string_view::npos;
         newline = chunk.find('\n')) {
        const auto line = chunk.substr(0, newline);
        if (skipping_) {
            skipping_ = false;
        } else if (partial_.empty()) {
            bytes += take(line, lines);
        } else {
            partial_ += line;
            bytes += take(partial_, lines);
        }
        partial_.clear();
        chunk.remove_prefix(newline + 1);
    }
    if (skipping_) return bytes;
    partial_ += chunk;
    if (partial_.size() > kLineBytesMax) {
        ++too_long_;
        skipping_ = true;
        partial_ = {};
    }
    return bytes;
}

Result<std::size_t> LineSource::fill(std::deque<std::string>& lines) {
    if (ended_) return std::size_t{0};
    if (fd_ < 0) {
        const auto bytes = take(arguments_[next_argument_], lines);
        ended_ = ++next_argument_ == arguments_.size();
        return bytes;
    }
    std::array<char, kChunkBytes> chunk{};
    const auto got = ::read(fd_, chunk.data(), chunk.size());
    if (got > 0) return split({chunk.data(), static_cast<std::size_t>(got)}, lines);
    if (got < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK)) {
        return std::size_t{0};
    }
    ended_ = true;
    if (got < 0) return errno_error(Errc::io, "read the events", errno);
    const auto last = std::exchange(partial_, {});
    return skipping_ ? std::size_t{0} : take(last, lines);
}

}  // namespace opsrelay::cli
