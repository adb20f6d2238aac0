// Events as lines, from arguments, a file or a pipe, read as far as there is room for them.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace opsrelay::cli {

/// A longer line is counted and not sent. The relay's own limit is lower, and it says so itself.
inline constexpr std::size_t kLineBytesMax = 1U << 20U;

/// Lines without newline, trailing CR and surrounding emptiness: blank lines are skipped, since the
/// relay would not count them.
class LineSource {
public:
    /// Each argument is one event; a newline in it, which JSON allows between tokens only, becomes
    /// a space.
    explicit LineSource(std::vector<std::string> arguments);
    /// Newline-delimited events from a descriptor that outlives this object.
    explicit LineSource(int fd);

    /// To be polled for reading before fill(), or -1: fill() never waits.
    [[nodiscard]] int fd() const noexcept { return fd_; }
    [[nodiscard]] bool at_end() const noexcept { return ended_; }
    /// Appends what one read gives and returns its held_bytes(). Error: io.
    [[nodiscard]] Result<std::size_t> fill(std::deque<std::string>& lines);
    /// Memory that a line takes in the queue, about.
    [[nodiscard]] static std::size_t held_bytes(const std::string& line) noexcept {
        return line.size() + sizeof line;
    }
    /// Lines that are not sent because they are over kLineBytesMax.
    [[nodiscard]] std::uint64_t too_long() const noexcept { return too_long_; }
    /// Lines that are not sent because the relay would take them for a message rather than an
    /// event.
    [[nodiscard]] std::uint64_t messages() const noexcept { return messages_; }

private:
    std::size_t take(std::string_view line, std::deque<std::string>& lines);
    std::size_t split(std::string_view chunk, std::deque<std::string>& lines);

    int fd_ = -1;
    std::vector<std::string> arguments_;
    std::size_t next_argument_ = 0;
    std::string partial_;    // a line whose end has not been read; at most kLineBytesMax
    bool skipping_ = false;  // within a line that is too long
    bool ended_ = false;
    std::uint64_t too_long_ = 0;
    std::uint64_t messages_ = 0;
};

}  // namespace opsrelay::cli
