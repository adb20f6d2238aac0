// The lines that the daemon sends to `tail`, over admin.sock.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "cli/interrupt.h"
#include "core/clock.h"
#include "core/error.h"
#include "core/unique_fd.h"

namespace opsrelay::cli {

/// A daemon that lives says something every 5 s.
inline constexpr seconds kTailSilenceMax{20};

/// Thread: one.
class TailStream {
public:
    /// Asks for `path` with its query. Errors: io, timed_out (nobody answers); refused (the answer
    /// is no); config_invalid (a filter is wrong), with the daemon's words.
    [[nodiscard]] static Result<TailStream> open(const std::string& socket, std::string_view path,
                                                 const Clock& clock, TimePoint due);

    /// The next line that is not empty, without its newline; nullopt: interrupted. Valid until the
    /// next call. Errors: io, timed_out: the daemon is gone, or hangs.
    [[nodiscard]] Result<std::optional<std::string_view>> next(const Interrupt& interrupt,
                                                               const Clock& clock);
    /// A line is there without waiting.
    [[nodiscard]] bool has_line() const noexcept {
        return buffer_.find('\n', used_) != std::string::npos;
    }

private:
    TailStream(UniqueFd socket, std::string rest)
        : socket_(std::move(socket)), buffer_(std::move(rest)) {}

    UniqueFd socket_;
    std::string buffer_;  // of a line that has no end yet: at most kTailLineMax
    std::size_t used_ = 0;
};
inline constexpr std::size_t kTailLineMax = 64U << 10U;

}  // namespace opsrelay::cli
