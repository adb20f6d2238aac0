#include "cli/doctor_sockets.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <rapidjson/document.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "cli/admin_client.h"
#include "cli/connect.h"
#include "cli/doctor_disk.h"
#include "cli/json_fields.h"
#include "config/fields.h"

namespace opsrelay::cli {

namespace {

constexpr mode_t kPermissionBits = 07777;
// By the daemon that could not be asked, as far as one can see.
constexpr const char* kTaken = ": in use, as by a daemon";

DaemonCheck daemon_found(Health health, std::string detail, std::string remedy = {}) {
    return {false, false, {"daemon", {}, health, std::move(detail), std::move(remedy)}, {}};
}

DaemonCheck silent_found(Health health, std::string detail, std::string remedy) {
    auto check = daemon_found(health, std::move(detail), std::move(remedy));
    check.silent = true;
    return check;
}

constexpr const char* kOtherUser = "run doctor as root or as the daemon's user";

DaemonCheck silent_daemon(const config::Config& config, const Error& error) {
    if (is_denied(config.admin.socket)) {
        return silent_found(Health::warn, error.context + ": this user may not ask", kOtherUser);
    }
    if (error.code == Errc::timed_out) {
        return silent_found(Health::fail, error.context,
                            "it hangs: see its log, then restart it; the spool keeps everything");
    }
    if (const auto holder = spool_holder(config.spool.dir)) {
        return silent_found(
            Health::fail,
            fmt::format("process {} has the spool {} open, but {}", *holder, config.spool.dir,
                        error.context),
            "run doctor as root or as that process's user, with its --run-dir or --config");
    }
    return daemon_found(Health::warn, fmt::format("no daemon runs: {}", error.context),
                        "start it: systemctl start opsrelay, or opsrelay run");
}

int socket_type(ListenerKind kind) {
    const bool datagram = kind == ListenerKind::unix_datagram || kind == ListenerKind::udp;
    return datagram ? SOCK_DGRAM : SOCK_STREAM;
}

// errno of connecting to a path; 0: somebody listens there.
int try_unix(const std::string& path, int type) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) return ENAMETOOLONG;
    std::memcpy(address.sun_path, path.data(), path.size());
    const UniqueFd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) return errno;
    const bool connected =
        ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    if (connected || errno == EAGAIN) return 0;  // EAGAIN: its queue is full
    return errno;
}

class ListenerCheck {
public:
    ListenerCheck(const listen::ListenerOptions& listener, const DaemonCheck& daemon)
        : listener_(listener), running_(daemon.running), silent_(daemon.silent) {
        for (const auto& one : daemon.listeners) {
            any_inherited_ |= one.inherited;
            if (one.type == to_string(listener.kind) && one.address == place()) known_ = &one;
        }
    }

    Finding judge(const Clock& clock, TimePoint due) {
        if (running_ && any_inherited_ && known_ == nullptr && listener_.by_default) {
            return found(Health::ok, place() +
                                         ": off, the daemon's sockets are inherited and this "
                                         "is not among them");
        }
        return listener_.path.empty() ? port(clock, due) : unix_socket();
    }

private:
    Finding unix_socket() {
        const auto& path = listener_.path;
        struct stat there {};
        if (::stat(path.c_str(), &there) != 0) {
            const int why = errno;
            if (!running_ && why == ENOENT) return found(Health::ok, path + ": made at start");
            if (why != ENOENT) return denied(path, why);
            return found(Health::fail, path + ": it is not there, though a daemon runs",
                         "the daemon makes it again within a second; if not, it runs with other "
                         "settings: give doctor its flags");
        }
        if (!S_ISSOCK(there.st_mode)) {
            return found(Health::fail, path + ": something else than a socket is in its place",
                         "move it away, or name another path");
        }
        const int why = try_unix(path, socket_type(listener_.kind));
        if (!running_) return left_behind(path, why);
        if (why != 0) return denied(path, why);
        const auto mode = there.st_mode & kPermissionBits;
        const auto detail = fmt::format("{}: reachable, mode {:04o}", path, mode);
        const bool inherited = known_ != nullptr && known_->inherited;
        if (inherited) return found(Health::ok, detail + ", inherited");
        if (mode == listener_.mode) return found(Health::ok, detail);
        return found(Health::warn,
                     fmt::format("{}, but {:04o} is configured", detail, listener_.mode),
                     "restart the daemon, or find out who changes the mode");
    }

    Finding port(const Clock& clock, TimePoint due) {
        const auto where = fmt::format("{} port {}", listener_.address, listener_.port);
        if (listener_.port == 0) return found(Health::ok, where + ": any free one, at start");
        const int type = socket_type(listener_.kind);
        if (!running_) {
            const int why = try_bind(listener_.address, listener_.port, type);
            if (why == 0) return found(Health::ok, where + ": free");
            if (silent_ && why == EADDRINUSE) return found(Health::ok, where + kTaken);
            return found(Health::fail, fmt::format("{}: {}", where, std::strerror(why)),
                         "stop what uses it, or configure another port");
        }
        if (type == SOCK_DGRAM) {
            // Nothing answers over UDP; that the port is taken is what can be seen.
            if (try_bind(listener_.address, listener_.port, type) == EADDRINUSE) {
                return found(Health::ok, where + ": bound");
            }
            return found(Health::fail, where + ": nobody receives there, though a daemon runs",
                         "it runs with other settings: give doctor its flags");
        }
        const auto socket = connect_tcp(listener_.address, listener_.port, clock, due);
        if (socket) return found(Health::ok, where + ": reachable");
        return found(Health::fail, socket.error().context,
                     "the daemon runs with other settings: give doctor its flags");
    }

    [[nodiscard]] std::string place() const {
        return listener_.path.empty() ? config::format_endpoint(listener_.address, listener_.port)
                                      : listener_.path;
    }

    [[nodiscard]] Finding found(Health health, std::string detail, std::string remedy = {}) const {
        return {fmt::format("listener.{}", to_string(listener_.kind)),
                {},
                health,
                std::move(detail),
                std::move(remedy)};
    }

    [[nodiscard]] Finding denied(const std::string& path, int why) const {
        return found(Health::fail, fmt::format("{}: {}", path, std::strerror(why)),
                     why == EACCES ? "this user is not let in: see the listener's mode and group, "
                                     "and the modes of the directories above"
                                   : "see the daemon's log");
    }

    [[nodiscard]] Finding left_behind(const std::string& path, int why) const {
        if (silent_ && why == 0) return found(Health::ok, path + kTaken);
        if (why == ECONNREFUSED || (!silent_ && why == EACCES)) {
            return found(Health::ok, path + ": left by a daemon that ended, replaced at start");
        }
        if (why != 0) return denied(path, why);
        return found(Health::fail, path + ": another process listens there",
                     "stop it, or name another path; a parent that holds it for opsrelay, such as "
                     "a socket unit of systemd, is in its right");
    }

    const listen::ListenerOptions& listener_;
    const bool running_;
    const bool silent_;
    const RunningListener* known_ = nullptr;
    bool any_inherited_ = false;
};

std::vector<RunningListener> running_listeners(const rapidjson::Document& status) {
    std::vector<RunningListener> all;
    const auto* const listeners = member(status, "listeners");
    if (listeners == nullptr || !listeners->IsArray()) return all;
    for (const auto& one : listeners->GetArray()) {
        const auto* const inherited = member(one, "inherited");
        all.push_back(
            {text(one, "type"), text(one, "address"), inherited != nullptr && inherited->IsTrue()});
    }
    return all;
}

}  // namespace

int try_bind(const std::string& address, std::uint16_t port, int type) {
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    const bool is_v4 = ::inet_pton(AF_INET, address.c_str(), &v4.sin_addr) == 1;
    if (!is_v4 && ::inet_pton(AF_INET6, address.c_str(), &v6.sin6_addr) != 1) return EINVAL;
    const UniqueFd fd(::socket(is_v4 ? AF_INET : AF_INET6, type | SOCK_CLOEXEC, 0));
    if (!fd) return errno;
    const int on = 1;  // as the daemon does: what lingers from the last one is not in the way
    if (type == SOCK_STREAM) ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    const auto* const where =
        is_v4 ? reinterpret_cast<const sockaddr*>(&v4) : reinterpret_cast<const sockaddr*>(&v6);
    const socklen_t size = is_v4 ? sizeof v4 : sizeof v6;
    return ::bind(fd.get(), where, size) == 0 ? 0 : errno;
}

DaemonCheck check_daemon(const config::Config& config, const Clock& clock, TimePoint due) {
    const AdminTarget target{config.admin.socket, {}, 0};
    const auto reply = http_get(target, "/status", clock, due);
    if (!reply) return silent_daemon(config, reply.error());
    if (reply->status == 403) {
        return silent_found(Health::warn, target.name() + ": this user may not ask", kOtherUser);
    }
    rapidjson::Document status;
    status.Parse(reply->body.data(), reply->body.size());
    if (reply->status != 200 || status.HasParseError() || !status.IsObject()) {
        return daemon_found(
            Health::fail,
            fmt::format("{}: the answer is not from an opsrelay of this version", target.name()),
            "find out what listens there");
    }
    auto detail = fmt::format("version {} answers at {}", text(status, "version"), target.name());
    DaemonCheck check = daemon_found(Health::ok, detail);
    check.running = true;
    check.listeners = running_listeners(status);
    const auto* const ready = member(status, "ready");
    if (ready != nullptr && ready->IsTrue()) return check;
    check.finding.health = Health::fail;
    check.finding.detail += ", not ready:";
    if (const auto* const reasons = member(status, "reasons");
        reasons != nullptr && reasons->IsArray()) {
        for (const auto& reason : reasons->GetArray()) check.finding.detail += " " + text(reason);
    }
    check.finding.remedy = "see opsrelay status and the daemon's log";
    return check;
}

Findings check_listeners(const config::Config& config, const DaemonCheck& daemon,
                         const Clock& clock, TimePoint due) {
    Findings all;
    for (const auto& listener : config.listen.listeners) {
        all.push_back(ListenerCheck(listener, daemon).judge(clock, due));
    }
    return all;
}

}  // namespace opsrelay::cli
