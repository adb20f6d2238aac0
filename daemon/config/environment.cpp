#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "config/config.h"

namespace opsrelay::config {

namespace {

// Of ours, those that hold a key or a password.
constexpr std::array<std::string_view, 2> kSecrets{"OPSRELAY_API_KEY", "OPSRELAY_UPSTREAM__PROXY"};

constexpr std::array<std::string_view, 13> kOthers{
    "NO_COLOR",       "TERM",        "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME", "HOME",        "CREDENTIALS_DIRECTORY",
    "https_proxy",    "HTTPS_PROXY", "http_proxy",
    "HTTP_PROXY",     "no_proxy",    "NO_PROXY",
    "SSL_CERT_FILE"};

constexpr long kInheritedMax = 64;  // descriptors; more are no listeners of ours

bool is_among(std::span<const std::string_view> names, std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

std::optional<std::string> take_variable(const char* name) {
    const char* const text = std::getenv(name);
    if (text == nullptr) return std::nullopt;
    std::string value(text);
    ::unsetenv(name);
    return value;
}

Result<long> whole_number(std::string_view name, std::string_view text, long max) {
    long value = 0;
    const auto* end = text.data() + text.size();
    const auto [stopped, ec] = std::from_chars(text.data(), end, value);
    if (ec == std::errc{} && stopped == end && value >= 0 && value <= max) return value;
    return Error{Errc::config_invalid,
                 fmt::format("{}: \"{}\" is no number from 0 to {}; see sd_listen_fds(3), or start "
                             "opsrelay without it",
                             name, text, max)};
}

}  // namespace

Environment take_environment() {
    Environment taken;
    taken.root = ::geteuid() == 0;
    for (char** entry = ::environ; entry != nullptr && *entry != nullptr; ++entry) {
        const std::string_view whole(*entry);
        const auto equals = whole.find('=');
        if (equals == std::string_view::npos) continue;
        const auto name = whole.substr(0, equals);
        if (!name.starts_with("OPSRELAY_") && !is_among(kOthers, name)) continue;
        taken.variables.insert_or_assign(std::string(name), std::string(whole.substr(equals + 1)));
        // /proc/PID/environ shows the bytes of the initial environment, even after unsetenv().
        if (is_among(kSecrets, name)) {
            ::explicit_bzero(*entry + equals + 1, whole.size() - equals - 1);
        }
    }
    for (const auto name : kSecrets) ::unsetenv(std::string(name).c_str());
    return taken;
}

Result<Inherited> take_inherited(int first) {
    const auto pid = take_variable("LISTEN_PID");
    const auto count = take_variable("LISTEN_FDS");
    const auto names = take_variable("LISTEN_FDNAMES");
    Inherited taken;
    if (!pid || !count) return taken;
    const auto process = whole_number("LISTEN_PID", *pid, INT_MAX);
    if (!process) return process.error();
    if (*process != ::getpid()) {
        taken.for_process = *process;
        return taken;
    }
    const auto sockets = whole_number("LISTEN_FDS", *count, kInheritedMax);
    if (!sockets) return sockets.error();
    std::string_view rest = names ? std::string_view(*names) : std::string_view();
    for (int fd = first; fd < first + *sockets; ++fd) {
        const auto name = rest.substr(0, rest.find(':'));
        rest.remove_prefix(std::min(rest.size(), name.size() + 1));
        if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
            return errno_error(Errc::config_invalid,
                               fmt::format("LISTEN_FDS={}: descriptor {} \"{}\"", *count, fd, name),
                               errno, "pass as many sockets as it says, from descriptor 3 on");
        }
        taken.sockets.push_back({UniqueFd(fd), std::string(name)});
    }
    return taken;
}

}  // namespace opsrelay::config
