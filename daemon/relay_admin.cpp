// What the daemon answers to probes, scrapes and operators.
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "core/run_on.h"
#include "observe/process_metrics.h"
#include "relay_parts.h"
#include "status_view.h"

namespace opsrelay {

namespace {

constexpr seconds kCommitAtFlush{5};  // the admin server gives a request ten

}  // namespace

void Relay::make_desk() {
    desk_.emplace(
        *store_, pipeline_->settler(), operate_rng_, config_.events,
        operate::DeskHooks{
            .configured = [this](LaneId lane) { return pipeline_->configured(lane); },
            .sending = true,
            .replayed = [this](LaneId lane) { pipeline_->note_replayed(lane); },
            .paused = [this](LaneId lane, bool paused) { pipeline_->note_paused(lane, paused); },
            .flush = [this](LaneId lane) { pipeline_->note_flush(lane); },
        });
}

Relay::AdminSockets Relay::take_admin_sockets(listen::InheritedSockets& inherited) const {
    AdminSockets taken;
    const auto& metrics = config_.metrics;
    if (config_.admin.enabled) {
        taken.tcp = inherited.take(SOCK_STREAM, config_.admin.address, config_.admin.port);
    }
    if (metrics.enabled) {
        taken.metrics = inherited.take(SOCK_STREAM, metrics.address, metrics.port);
    }
    taken.local = inherited.take(SOCK_STREAM, config_.admin.socket);
    return taken;
}

Result<void> Relay::open_admin(AdminSockets inherited) {
    admin_ = std::make_unique<control::AdminServer>(
        forward_.executor(), clock_,
        [this](control::AdminRequest request) { return answer(std::move(request)); });
    make_tail();
    if (config_.admin.enabled) {
        auto opened = inherited.tcp ? admin_->adopt_tcp(std::move(inherited.tcp->fd))
                                    : admin_->listen_tcp(config_.admin.address, config_.admin.port);
        if (!opened) return opened;
    }
    if (config_.metrics.enabled) {
        auto opened = inherited.metrics
                          ? admin_->adopt_metrics(std::move(inherited.metrics->fd))
                          : admin_->listen_metrics(config_.metrics.address, config_.metrics.port);
        if (!opened) return opened;
    }
    if (inherited.local) return admin_->adopt_unix(std::move(inherited.local->fd));
    auto path = listen::UnixPath::claim(
        {.type = SOCK_STREAM, .path = config_.admin.socket, .mode = 0600, .group = std::nullopt});
    if (!path) return with_prefix(path.error(), "admin.socket");
    auto socket = path->bind();
    if (!socket) return with_prefix(socket.error(), "admin.socket");
    admin_path_.emplace(std::move(*path));
    return admin_->adopt_unix(std::move(*socket));
}

asio::awaitable<void> Relay::watch_admin_path() {
    while (stop_signal_ == 0 && !failure_) {
        const auto due = clock_.now() + config_.listen.watch_interval;
        while (stop_signal_ == 0 && !failure_ && clock_.now() < due) co_await wake_.wait_until(due);
        look_after_run_dir();
        look_after_admin_path();
    }
}

// The listeners' sockets are made again by the listeners, once the directory is there.
void Relay::look_after_run_dir() {
    const auto& path = config_.run_dir;
    if (!run_dir_made_ || ::access(path.c_str(), F_OK) == 0 || errno != ENOENT) return;
    if (::mkdir(path.c_str(), config::kRunDirMode) != 0 ||
        ::chmod(path.c_str(), config::kRunDirMode) != 0) {
        const auto error = errno_error(Errc::listener_failed, path, errno, "make it");
        if (const auto hidden = throttle_.allow("no run_dir")) {
            log::error("relay", "run_dir is gone and cannot be made again, trying again",
                       {{"error", error.context},
                        {"retry_in_ms", config_.listen.watch_interval.count()},
                        {"suppressed", *hidden}});
        }
        return;
    }
    if (const auto hidden = throttle_.allow("run_dir")) {
        log::warn("relay", "run_dir was removed, made again",
                  {{"path", path}, {"suppressed", *hidden}});
    }
}

void Relay::look_after_admin_path() {
    if (!admin_path_ || !admin_path_->lost()) return;
    auto socket = admin_path_->bind();
    const auto replaced =
        socket ? admin_->replace_unix(std::move(*socket)) : Result<void>(socket.error());
    if (!replaced) {
        if (const auto hidden = throttle_.allow("no admin.socket")) {
            log::error("control", "admin.socket is gone and cannot be made again, trying again",
                       {{"error", replaced.error().context},
                        {"retry_in_ms", config_.listen.watch_interval.count()},
                        {"suppressed", *hidden}});
        }
        return;
    }
    if (const auto hidden = throttle_.allow("admin.socket")) {
        log::warn("control", "admin.socket was removed, made again",
                  {{"address", admin_path_->path()}, {"suppressed", *hidden}});
    }
}

void Relay::make_tail() {
    const auto name = [this](LaneId lane) {
        if (const auto* const pump = pipeline_->find_pump(lane)) return pump->lane().name;
        for (const auto& other : storage_watch_->last().unconfigured) {
            if (other.name.lane == lane) return other.name.name;
        }
        return std::string();
    };
    const auto names = [this] {
        std::vector<std::string> all;
        for (const auto& lane : pipeline_->lanes()) all.push_back(lane.name);
        for (const auto& other : storage_watch_->last().unconfigured) {
            all.push_back(other.name.name);
        }
        return all;
    };
    tail_.emplace(forward_.executor(), clock_, tap_, control::TailLanes{name, names});
    admin_->serve_tail(*tail_);
}

std::vector<std::string> Relay::not_ready(const Snapshot& snapshot) const {
    std::vector<std::string> reasons;
    if (stopping_) reasons.emplace_back("stopping");
    if (failure_) reasons.push_back(fmt::format("spool failed: {}", failure_->context));
    if (!pipeline_->queue().spool_open()) reasons.emplace_back("spool_full");
    if (!pipeline_->queue().has_room()) reasons.emplace_back("memory_full");
    if (const auto stalled = storage_watch_->stalled(); stalled.count() > 0) {
        reasons.push_back(fmt::format("disk_stalled: no answer for {} ms", stalled.count()));
    }
    if (!snapshot.trouble.empty()) {
        reasons.push_back(fmt::format("spool writes fail: {}", snapshot.trouble));
    }
    return reasons;
}

asio::awaitable<control::StatusView> Relay::status() {
    const auto snapshot = co_await storage_watch_->snapshot();
    auto view = status_view(snapshot, pipeline_->lanes(), listeners_->status(), clock_.wall_now());
    view.version = OPSRELAY_VERSION;
    view.reasons = not_ready(snapshot);
    view.ready = view.reasons.empty();
    view.spool_limit = config_.spool.bytes_max.count;
    co_return view;
}

asio::awaitable<std::string> Relay::metrics() {
    const auto view = co_await status();
    publish(view, registry_);
    registry_.gauge(observe::kOutageLeft).set(storage_watch_->outage_seconds_left());
    observe::publish_process(registry_);
    co_return registry_.exposition();
}

// No co_await inside the expression that makes a response: g++ 12 destroys its temporaries twice.
asio::awaitable<control::AdminResponse> Relay::answer(control::AdminRequest request) {
    if (request.post) co_return co_await change(std::move(request));
    const auto& path = request.path;
    control::AdminResponse response;
    if (path == "/livez") {
        response.body = R"({"live":true})";
    } else if (path == control::kMetricsPath) {
        response.body = co_await metrics();
        response.content_type = "text/plain; version=0.0.4; charset=utf-8";
    } else if (path == "/status") {
        const auto view = co_await status();
        response.body = to_json(view);
    } else if (path == "/readyz") {
        const auto view = co_await status();
        response.status = view.ready ? 200U : 503U;
        response.body = readiness_json(view);
    } else {
        response.status = 404;
        response.body = R"({"ok":false,"reason":"not_found",)"
                        R"("paths":["/livez","/readyz","/metrics","/status"]})";
    }
    co_return response;
}

asio::awaitable<control::AdminResponse> Relay::change(control::AdminRequest request) {
    if (request.path == "/reload") co_return co_await answer_reload();
    if (request.path == "/lanes/flush") {
        // What was taken in before counts as accepted: it gets its numbers first.
        const bool committed = co_await pipeline_->commit_pending(clock_.now() + kCommitAtFlush);
        if (!committed) {
            control::AdminResponse response;
            response.status = 503;
            response.body = R"({"ok":false,"reason":"disk_stalled",)"
                            R"("message":"events wait for the disk: see opsrelay status"})";
            co_return response;
        }
    }
    auto job = [this, request = std::move(request)] {
        return desk_->answer(request.path, request.body);
    };
    co_return co_await run_on(storage_.executor(), std::move(job));
}

}  // namespace opsrelay
