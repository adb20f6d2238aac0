#include "listen/line_framer.h"

#include <algorithm>
#include <utility>

#include "core/assert.h"

namespace opsrelay::listen {

namespace {

constexpr std::size_t kKeptCapacity = 4096;

bool blank(std::string_view line) noexcept {
    return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

}  // namespace

void LineFramer::feed(std::string_view chunk) noexcept {
    OPSRELAY_ASSERT(chunk_.empty());
    release(finished_);
    chunk_ = chunk;
}

std::optional<Message> LineFramer::next() {
    while (!chunk_.empty()) {
        const auto newline = chunk_.find('\n');
        if (newline == std::string_view::npos) return keep_rest();
        auto line = chunk_.substr(0, newline);
        chunk_.remove_prefix(newline + 1);
        if (std::exchange(discarding_, false)) continue;
        const auto length = unfinished_.size() + line.size() - (line.ends_with('\r') ? 1 : 0);
        if (!unfinished_.empty()) {
            // Of an overlong line the beginning is enough: the message is oversize either way.
            const auto room =
                line_bytes_max_ + 2 - std::min(line_bytes_max_ + 2, unfinished_.size());
            unfinished_.append(line.substr(0, room));
            finished_ = std::exchange(unfinished_, std::move(finished_));
            unfinished_.clear();
            line = finished_;
        }
        if (auto message = complete(line, length)) return message;
    }
    return std::nullopt;
}

std::optional<Message> LineFramer::finish() {
    OPSRELAY_ASSERT(chunk_.empty());
    discarding_ = false;
    finished_ = std::exchange(unfinished_, {});
    return complete(finished_, finished_.size());
}

bool LineFramer::too_long(std::string_view line) const noexcept {
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    return line.size() > line_bytes_max_;
}

Message LineFramer::overlong(std::string_view line, std::size_t length) const noexcept {
    return {.bytes = line.substr(0, line_bytes_max_), .oversize = true, .length = length};
}

std::optional<Message> LineFramer::complete(std::string_view line, std::size_t length) noexcept {
    if (too_long(line)) return overlong(line, length);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (blank(line)) return std::nullopt;
    return Message{.bytes = line};
}

std::optional<Message> LineFramer::keep_rest() {
    const auto rest = std::exchange(chunk_, {});
    if (discarding_) return std::nullopt;
    const auto length = unfinished_.size() + rest.size();
    const auto room = line_bytes_max_ + 2 - std::min(line_bytes_max_ + 2, unfinished_.size());
    unfinished_.append(rest.substr(0, room));
    if (!too_long(unfinished_)) return std::nullopt;
    discarding_ = true;
    finished_ = std::exchange(unfinished_, {});
    return overlong(finished_, length);
}

void LineFramer::release(std::string& buffer) noexcept {
    if (buffer.capacity() > kKeptCapacity) {
        std::string().swap(buffer);  // assigning would keep the capacity
    } else {
        buffer.clear();
    }
}

}  // namespace opsrelay::listen
