#include "core/browser_rules.h"

#include <algorithm>
#include <array>

namespace opsrelay {

namespace {

char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](char x, char y) { return lower(x) == lower(y); });
}

bool is_port(std::string_view text) noexcept {
    return !text.empty() && text.size() <= 5 &&
           std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

bool is_named(std::string_view host, std::string_view name) noexcept {
    if (host.size() < name.size()) return false;
    if (!equal_ignoring_case(host.substr(0, name.size()), name)) return false;
    const auto rest = host.substr(name.size());
    return rest.empty() || (rest.front() == ':' && is_port(rest.substr(1)));
}

}  // namespace

bool is_local_host(std::string_view host) noexcept {
    constexpr std::array<std::string_view, 3> kNames{"localhost", "127.0.0.1", "[::1]"};
    return std::any_of(kNames.begin(), kNames.end(),
                       [host](std::string_view name) { return is_named(host, name); });
}

bool is_named_host(std::string_view host, std::span<const std::string> names) noexcept {
    return std::any_of(names.begin(), names.end(),
                       [host](const std::string& name) { return is_named(host, name); });
}

bool is_local_origin(std::string_view origin) noexcept {
    if (origin.empty()) return true;
    constexpr std::array<std::string_view, 2> kSchemes{"http://", "https://"};
    return std::any_of(kSchemes.begin(), kSchemes.end(), [origin](std::string_view scheme) {
        return origin.substr(0, scheme.size()) == scheme &&
               is_local_host(origin.substr(scheme.size()));
    });
}

}  // namespace opsrelay
