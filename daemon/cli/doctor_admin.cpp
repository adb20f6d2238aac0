#include "cli/doctor_admin.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "cli/admin_client.h"
#include "config/fields.h"

namespace opsrelay::cli {

namespace {

constexpr const char* kOtherSettings = "the daemon runs with other settings: give doctor its flags";

/// A path, and what shows that an opsrelay answered.
struct Page {
    const char* path;
    std::string_view mark;
};
constexpr Page kMetrics{"/metrics", "opsrelay_build_info"};
constexpr Page kAdminPages[] = {{"/livez", R"("live":true)"}, {"/readyz", R"("ready":)"}, kMetrics};

// One that listens everywhere is asked on this machine.
std::string reachable(const std::string& address) {
    if (address == "0.0.0.0") return "127.0.0.1";
    return address == "::" ? "::1" : address;
}

Finding ask(const char* check, const AdminTarget& target, std::span<const Page> pages,
            const Clock& clock, TimePoint due) {
    std::string answered;
    for (const auto& page : pages) {
        const auto reply = http_get(target, page.path, clock, due);
        if (!reply) {
            const bool hangs = reply.error().code == Errc::timed_out;
            return {check,
                    {},
                    Health::fail,
                    fmt::format("{}: {}", page.path, reply.error().context),
                    hangs ? "the daemon hangs, or something else listens there: see its log"
                          : kOtherSettings};
        }
        // Not ready is an answer.
        const bool known = reply->status == 200 || reply->status == 503;
        if (!known || reply->body.find(page.mark) == std::string::npos) {
            return {check,
                    {},
                    Health::fail,
                    fmt::format("{}: {}: HTTP {}, and not as opsrelay answers", target.name(),
                                page.path, reply->status),
                    "find out what listens there: ss -ltnp"};
        }
        answered += fmt::format("{}{}", answered.empty() ? "" : ", ", page.path);
    }
    return {check,
            {},
            Health::ok,
            fmt::format("{}: {} answer{}", target.name(), answered, pages.size() == 1 ? "s" : ""),
            {}};
}

Finding judge_free(const char* check, const std::string& address, std::uint16_t port, bool silent) {
    const auto where = config::format_endpoint(address, port);
    const int why = try_bind(address, port, SOCK_STREAM);
    if (why == 0) return {check, {}, Health::ok, where + ": free", {}};
    if (silent && why == EADDRINUSE) {
        return {check, {}, Health::ok, where + ": in use, as by a daemon", {}};
    }
    return {check,
            {},
            Health::fail,
            fmt::format("{}: {}", where, std::strerror(why)),
            "stop what uses it, or configure another port; a parent that holds it for opsrelay, "
            "such as a socket unit of systemd, is in its right"};
}

}  // namespace

Findings check_admin_ports(const config::Config& config, const DaemonCheck& daemon,
                           const Clock& clock, TimePoint due) {
    Findings all;
    const auto check = [&](const char* name, const auto& listener, std::span<const Page> pages) {
        if (!listener.enabled) return;
        if (listener.port == 0) {
            all.push_back(
                {name, {}, Health::ok, listener.address + ": any free port, at start", {}});
        } else if (daemon.running) {
            const AdminTarget target{{}, reachable(listener.address), listener.port};
            all.push_back(ask(name, target, pages, clock, due));
        } else {
            all.push_back(judge_free(name, listener.address, listener.port, daemon.silent));
        }
    };
    check("listener.admin", config.admin, kAdminPages);
    check("listener.metrics", config.metrics, {&kMetrics, 1});
    return all;
}

}  // namespace opsrelay::cli
