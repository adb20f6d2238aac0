#include "support/log_capture.h"

#include <algorithm>

namespace opsrelay::test {

LogCapture::LogCapture() { log::redirect(&LogCapture::take, this); }
LogCapture::~LogCapture() { log::redirect(nullptr, nullptr); }

void LogCapture::take(void* self, log::Level level, std::string_view line) {
    auto& capture = *static_cast<LogCapture*>(self);
    const std::lock_guard lock(capture.mutex_);
    capture.lines_.push_back({level, std::string(line)});
}

std::vector<LogCapture::Line> LogCapture::lines() const {
    const std::lock_guard lock(mutex_);
    return lines_;
}

std::size_t LogCapture::count(std::string_view text) const {
    const std::lock_guard lock(mutex_);
    return static_cast<std::size_t>(std::count_if(
        lines_.begin(), lines_.end(),
        [text](const Line& line) { return line.text.find(text) != std::string::npos; }));
}

std::size_t LogCapture::count(log::Level at_least) const {
    const std::lock_guard lock(mutex_);
    return static_cast<std::size_t>(
        std::count_if(lines_.begin(), lines_.end(),
                      [at_least](const Line& line) { return line.level >= at_least; }));
}

void LogCapture::clear() {
    const std::lock_guard lock(mutex_);
    lines_.clear();
}

}  // namespace opsrelay::test
