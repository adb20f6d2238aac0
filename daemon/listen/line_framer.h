// Cuts a byte stream into lines. Knows nothing about sockets; used by one stream session.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "listen/inlet.h"

namespace opsrelay::listen {

/// Newline framing with bounded memory: a trailing CR is dropped, blank lines are skipped, and of a
/// line over `line_bytes_max` only the beginning is kept: it becomes one oversize message as soon
/// as that is certain, and the rest is thrown away up to its newline.
class LineFramer {
public:
    explicit LineFramer(std::size_t line_bytes_max) noexcept : line_bytes_max_(line_bytes_max) {}

    /// Adds bytes that stay valid until next() has returned nullopt. The one before must be used
    /// up.
    void feed(std::string_view chunk) noexcept;
    /// The next line, or nullopt when the chunk is used up (its unfinished last line is kept). A
    /// message is valid until the next feed(), finish() or release().
    [[nodiscard]] std::optional<Message> next();
    /// At the end of the stream: the last line when no newline ended it, if there is one.
    [[nodiscard]] std::optional<Message> finish();

    /// After the last use of what next() returned: gives its memory back.
    void release() noexcept { release(finished_); }
    /// Of the line whose end has not come.
    [[nodiscard]] std::size_t unfinished_bytes() const noexcept { return unfinished_.size(); }
    /// Memory held between two chunks; at most twice line_bytes_max and a little.
    [[nodiscard]] std::size_t held_bytes() const noexcept {
        return unfinished_.capacity() + finished_.capacity();
    }

private:
    [[nodiscard]] bool too_long(std::string_view line) const noexcept;
    /// `length`: of all that came of the line.
    [[nodiscard]] Message overlong(std::string_view line, std::size_t length) const noexcept;
    [[nodiscard]] std::optional<Message> complete(std::string_view line,
                                                  std::size_t length) noexcept;
    [[nodiscard]] std::optional<Message> keep_rest();
    void release(std::string& buffer) noexcept;

    const std::size_t line_bytes_max_;
    std::string_view chunk_;   // not yet looked at
    std::string unfinished_;   // beginning of the line that the last chunk left open
    std::string finished_;     // storage of the line that began in an earlier chunk
    bool discarding_ = false;  // inside a line that was reported as oversize
};

}  // namespace opsrelay::listen
