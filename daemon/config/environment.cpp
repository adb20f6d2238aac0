#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string_view>

#include "config/config.h"

namespace opsrelay::config {

namespace {

constexpr std::string_view kSecret = "OPSRELAY_API_KEY";

bool is_ours(std::string_view name) {
    return name.starts_with("OPSRELAY_") || name == "XDG_RUNTIME_DIR" || name == "XDG_STATE_HOME" ||
           name == "HOME";
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
        if (!is_ours(name)) continue;
        taken.variables.insert_or_assign(std::string(name), std::string(whole.substr(equals + 1)));
        // /proc/PID/environ shows the bytes of the initial environment, even after unsetenv().
        if (name == kSecret) std::memset(*entry + equals + 1, 0, whole.size() - equals - 1);
    }
    ::unsetenv(std::string(kSecret).c_str());
    return taken;
}

}  // namespace opsrelay::config
