// Collects the log lines of one test instead of stderr.
#pragma once

#include <cstddef>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "core/log.h"

namespace opsrelay::test {

/// Lines written by any thread while it lives. One at a time.
class LogCapture {
public:
    struct Line {
        log::Level level;
        std::string text;
    };

    LogCapture();
    LogCapture(const LogCapture&) = delete;
    LogCapture& operator=(const LogCapture&) = delete;
    ~LogCapture();

    [[nodiscard]] std::vector<Line> lines() const;
    /// Lines that contain `text`.
    [[nodiscard]] std::size_t count(std::string_view text) const;
    /// Lines of at least this level.
    [[nodiscard]] std::size_t count(log::Level at_least) const;
    void clear();

private:
    static void take(void* self, log::Level level, std::string_view line);

    mutable std::mutex mutex_;
    std::vector<Line> lines_;
};

}  // namespace opsrelay::test
