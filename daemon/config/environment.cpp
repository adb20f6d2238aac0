#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string_view>

#include "config/config.h"

namespace opsrelay::config {

namespace {

// Of ours, those that hold a key or a password.
constexpr std::array<std::string_view, 2> kSecrets{"OPSRELAY_API_KEY", "OPSRELAY_UPSTREAM__PROXY"};

constexpr std::array<std::string_view, 12> kOthers{
    "NO_COLOR",       "TERM",        "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME", "HOME",        "CREDENTIALS_DIRECTORY",
    "https_proxy",    "HTTPS_PROXY", "http_proxy",
    "HTTP_PROXY",     "no_proxy",    "NO_PROXY"};

bool is_among(std::span<const std::string_view> names, std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
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

}  // namespace opsrelay::config
