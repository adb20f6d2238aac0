// The API key in a file: read at start, and again whenever the file changes (a rotated secret, a
// Kubernetes volume's symbolic link).
#pragma once

#include <boost/asio/awaitable.hpp>
#include <functional>
#include <optional>
#include <string>

#include "core/clock.h"
#include "core/error.h"
#include "core/file_stamp.h"
#include "core/log.h"
#include "core/secret.h"

namespace opsrelay::forward {

inline constexpr std::size_t kKeyBytesMax = 4096;

/// The key itself: white space around it removed. Errors (Errc::config_invalid, io) name the file
/// and the next step, never its content: not readable, not a regular file, empty, over 4 KiB, or
/// with control characters, spaces or non-ASCII bytes inside (they cannot go into a header).
[[nodiscard]] Result<Secret> read_api_key(const std::string& path);
/// The same rules for a key from elsewhere; `source` names it in errors.
[[nodiscard]] Result<Secret> check_api_key(std::string_view text, std::string_view source);

/// Watches one file. A file that becomes unreadable or invalid is logged (once a minute) and the
/// key last read stays in use. Thread: forward.
class KeyFile {
public:
    KeyFile(std::string path, Clock& clock);

    /// Reads the file and remembers its state, unless it is there and could not be read: then the
    /// next poll() tries again.
    [[nodiscard]] Result<Secret> load();
    /// Looks once a second and calls `on_key` with every new key, until cancelled. Call load()
    /// first.
    [[nodiscard]] asio::awaitable<void> watch(std::function<void(const Secret&)> on_key);
    /// One look: the new key, if there is one. watch() is this in a loop.
    [[nodiscard]] std::optional<Secret> poll();

    /// As poll(), but reads a file that does not look changed, too.
    [[nodiscard]] std::optional<Secret> read_again();

private:
    std::string path_;
    Clock& clock_;
    log::Throttle throttle_;
    FileStamp stamp_;
    Secret key_;
};

}  // namespace opsrelay::forward
