#include "relay.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <csignal>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "control/admin_server.h"
#include "control/status.h"
#include "core/log.h"
#include "core/nothrow.h"
#include "core/process_memory.h"
#include "core/run_on.h"
#include "forward/http_upstream.h"
#include "forward/key_file.h"
#include "listen/listeners.h"
#include "listen/unix_path.h"
#include "operate/desk.h"
#include "pipeline.h"
#include "spool/rocks_store.h"
#include "status_view.h"
#include "storage_watch.h"

namespace opsrelay {

namespace {

constexpr seconds kFinishInFlight{
    2};                              // P13: requests in flight when the spool outlives the process
constexpr seconds kCommitAtStop{5};  // for a disk that refuses while we stop
constexpr seconds kCloseAtStop{5};   // more, for one that does not answer

/// A thread that runs an io_context until its work guard is gone.
class Loop {
public:
    explicit Loop(const char* name) : name_(name) {}
    void start() {
        thread_ = std::thread([this] {
            ::pthread_setname_np(::pthread_self(), name_);
            io_.run();
        });
    }
    void stop() {
        work_.reset();
        if (thread_.joinable()) thread_.join();
    }
    [[nodiscard]] asio::io_context& io() noexcept { return io_; }
    [[nodiscard]] asio::any_io_executor executor() noexcept { return io_.get_executor(); }

private:
    const char* name_;
    asio::io_context io_{1};
    asio::executor_work_guard<asio::io_context::executor_type> work_{io_.get_executor()};
    std::thread thread_;
};

// Connections, RocksDB and the upstream share it; many systems start processes with 1,024.
void raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) {
        log::warn(
            "relay", "the limit of open files cannot be raised, fewer connections are served",
            {{"wanted", limit.rlim_max},
             {"error", std::generic_category().message(errno)},
             {"next", "raise the soft limit before opsrelay starts (LimitNOFILE, ulimit -n)"}});
    }
}

/// Everything that exists while the daemon runs. Members are in the order of their lifetimes.
class Relay {
public:
    explicit Relay(const config::Config& config)
        : config_(config),
          ingest_("ingest"),
          storage_("storage"),
          forward_("forward"),
          maintenance_("maintenance"),
          main_tasks_(forward_.executor(), clock_),
          key_tasks_(forward_.executor(), clock_),
          wake_(forward_.executor(), clock_) {}

    Result<void> open();
    int run();

private:
    Result<void> open_store();
    [[nodiscard]] Pipeline::Options pipeline_options();
    [[nodiscard]] const forward::Options& upstream_options() const {
        return config_.lanes.begin()->second;
    }
    Result<void> open_listeners();
    void log_start() const;
    void load_key();
    asio::awaitable<void> run_until_stopped();
    asio::awaitable<void> watch_signals();
    asio::awaitable<void> shut_down();
    asio::awaitable<void> end_without_disk(TimePoint due);
    [[noreturn]] void leave();
    static void log_ledger(const observe::Ledger& ledger);
    asio::awaitable<control::AdminResponse> answer(control::AdminRequest request);
    asio::awaitable<control::AdminResponse> change(control::AdminRequest request);
    void make_desk();
    asio::awaitable<control::StatusView> status();
    asio::awaitable<std::string> metrics();
    [[nodiscard]] std::vector<std::string> not_ready(const Snapshot& snapshot) const;

    const config::Config& config_;
    SystemClock clock_;
    Xoshiro intake_rng_ = Xoshiro::from_system();
    Xoshiro forward_rng_ = Xoshiro::from_system();
    Xoshiro operate_rng_ = Xoshiro::from_system();
    observe::Registry registry_;
    PlanState plan_;
    Loop ingest_;
    Loop storage_;
    Loop forward_;
    Loop maintenance_;
    std::unique_ptr<spool::Store> store_;
    std::optional<forward::Resolver> resolver_;
    std::unique_ptr<forward::HttpUpstream> upstream_;
    std::unique_ptr<Pipeline> pipeline_;
    std::optional<StorageWatch> storage_watch_;
    std::optional<operate::Desk> desk_;  // storage thread
    std::optional<forward::KeyFile> key_file_;
    std::unique_ptr<listen::Listeners> listeners_;
    std::optional<listen::UnixPath> admin_path_;
    std::unique_ptr<control::AdminServer> admin_;
    std::unique_ptr<asio::signal_set> signals_;
    TaskGroup main_tasks_;
    TaskGroup key_tasks_;

    // Forward thread.
    Signal wake_;
    int stop_signal_ = 0;
    std::optional<Error> failure_;
    bool stopping_ = false;
    bool stopped_ = false;
    int exit_code_ = 0;
};

Result<void> Relay::open_store() {
    auto store = spool::open_rocks_store(config_.spool);
    if (!store) return store.error();
    store_ = std::move(*store);
    return {};
}

Pipeline::Options Relay::pipeline_options() {
    auto forward = upstream_options();
    forward.max_age = config_.spool.max_age;
    return {.intake = {.parse = config_.events, .admit = {.table_ids = config_.spool.ids.seal_ids}},
            .spool = config_.spool,
            .lanes = {{.name = {}, .forward = forward, .upstream = *upstream_, .plan = plan_}}};
}

Result<void> Relay::open_listeners() {
    listeners_ = std::make_unique<listen::Listeners>(ingest_.executor(), pipeline_->intake(),
                                                     clock_, config_.listen, registry_, plan_);
    if (auto opened = listeners_->open(); !opened) return opened;
    admin_ = std::make_unique<control::AdminServer>(
        forward_.executor(), clock_,
        [this](control::AdminRequest request) { return answer(std::move(request)); });
    if (config_.admin.enabled) {
        auto bound = admin_->listen_tcp(config_.admin.address, config_.admin.port);
        if (!bound) return bound;
    }
    auto path = listen::UnixPath::claim(
        {.type = SOCK_STREAM, .path = config_.admin.socket, .mode = 0600, .group = std::nullopt});
    if (!path) return with_prefix(path.error(), "admin.socket");
    auto socket = path->bind();
    if (!socket) return with_prefix(socket.error(), "admin.socket");
    admin_path_.emplace(std::move(*path));
    return admin_->adopt_unix(std::move(*socket));
}

Result<void> Relay::open() {
    // First: a signal that comes while the spool is being opened waits for run().
    signals_ = std::make_unique<asio::signal_set>(forward_.io(), SIGTERM, SIGINT);
    resolver_.emplace(forward_.executor(), clock_);
    auto upstream =
        forward::HttpUpstream::make(forward_.executor(), clock_, *resolver_, upstream_options());
    if (!upstream) return upstream.error();
    upstream_ = std::move(*upstream);
    if (auto opened = open_store(); !opened) return opened;
    pipeline_ =
        std::make_unique<Pipeline>(Executors{ingest_.executor(), storage_.executor(),
                                             forward_.executor(), maintenance_.executor()},
                                   clock_, intake_rng_, forward_rng_, *store_, pipeline_options(),
                                   registry_, [this](const Error& error) {
                                       asio::post(forward_.executor(), [this, error] {
                                           failure_ = error;
                                           wake_.notify_all();
                                       });
                                   });
    storage_watch_.emplace(forward_.executor(), clock_, *pipeline_);
    if (auto recovered = pipeline_->recover(); !recovered) return recovered;
    make_desk();
    return open_listeners();
}

void Relay::make_desk() {
    desk_.emplace(*store_, pipeline_->settler(), clock_, operate_rng_, config_.events,
                  operate::DeskHooks{
                      .configured = [this](LaneId lane) { return pipeline_->configured(lane); },
                      .sending = true,
                      .replayed = [this](LaneId lane) { pipeline_->note_replayed(lane); },
                  });
}

void Relay::log_start() const {
    if (admin_->port() != 0) {
        log::info("control", "listening",
                  {{"type", "admin"},
                   {"address", fmt::format("{}:{}", config_.admin.address, admin_->port())}});
    }
    log::info("relay", "ready",
              {{"version", OPSRELAY_VERSION},
               {"spool", config_.spool.dir},
               {"upstream", upstream_options().url},
               {"admin_socket", config_.admin.socket},
               {"pid", ::getpid()}});
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
    co_return registry_.exposition();
}

// No co_await inside the expression that makes a response: g++ 12 destroys its temporaries twice.
asio::awaitable<control::AdminResponse> Relay::answer(control::AdminRequest request) {
    if (request.post) co_return co_await change(std::move(request));
    const auto& path = request.path;
    control::AdminResponse response;
    if (path == "/livez") {
        response.body = R"({"live":true})";
    } else if (path == "/metrics") {
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
    auto job = [this, request = std::move(request)] {
        return desk_->answer(request.path, request.body);
    };
    co_return co_await run_on(storage_.executor(), std::move(job));
}

void Relay::load_key() {
    const auto& path = upstream_options().api_key_file;
    if (path.empty()) {
        pipeline_->pump().set_key(upstream_options().api_key);
        return;
    }
    key_file_.emplace(path, clock_);
    if (auto key = key_file_->load()) {
        pipeline_->pump().set_key(*key);
    } else {
        log::warn("forward",
                  "the API key could not be read; the file is read again when it changes",
                  {{"error", key.error().context}});
        pipeline_->pump().set_key({});
    }
    pipeline_->pump().set_key_source([this] { return key_file_->read_again(); });
    auto use = [this](const Secret& key) { pipeline_->pump().set_key(key); };
    key_tasks_.spawn("key", key_file_->watch(std::move(use)));
}

asio::awaitable<void> Relay::watch_signals() {
    for (;;) {
        const auto [ec, number] = co_await signals_->async_wait(nothrow);
        if (ec) co_return;
        if (stop_signal_ != 0) {
            log::warn("relay", "second signal, ending at once",
                      {{"next", "acknowledged events are durable; unsynced acks are sent again"}});
            ::_exit(1);
        }
        stop_signal_ = number;
        wake_.notify_all();
    }
}

asio::awaitable<void> Relay::run_until_stopped() {
    while (stop_signal_ == 0 && !failure_) co_await wake_.wait();
    if (failure_) {
        exit_code_ = exit_code(failure_->code);
    } else {
        log::info("relay", "stopping",
                  {{"signal", stop_signal_ == SIGTERM ? "SIGTERM" : "SIGINT"},
                   {"next", config_.ephemeral ? "deliver what is spooled, then exit"
                                              : "finish requests in flight, commit, exit"}});
    }
    co_await shut_down();
}

asio::awaitable<void> Relay::shut_down() {
    stopping_ = true;
    if (config_.ephemeral && !failure_) {
        const auto deadline = clock_.now() + config_.shutdown_deadline;
        const bool drained = co_await pipeline_->drain_until(deadline);
        if (!drained) {
            const auto snapshot = co_await storage_watch_->snapshot();
            log::error("relay", "not everything could be delivered before the spool ends",
                       {{"events", snapshot.ledger.spooled + snapshot.ledger.pending},
                        {"deadline_ms", config_.shutdown_deadline.count()}});
        }
    }
    const auto deadline = clock_.now() + kFinishInFlight;
    main_tasks_.spawn("end", end_without_disk(deadline + kCommitAtStop + kCloseAtStop));
    co_await asio::co_spawn(ingest_.executor(), listeners_->stop(deadline), asio::use_awaitable);
    co_await pipeline_->stop(deadline, kCommitAtStop);
    key_tasks_.cancel(asio::cancellation_type::terminal);
    co_await key_tasks_.join();
    co_await storage_watch_->stop();
    const auto snapshot = co_await pipeline_->snapshot();
    auto close = [this] { store_->close(); };
    co_await run_on(storage_.executor(), std::move(close));
    co_await admin_->stop();
    if (failure_) {
        exit_code_ = exit_code(failure_->code);
    } else if (snapshot.ledger.pending > 0) {
        exit_code_ = exit_code(Errc::spool_io);  // the disk did not take what was handed over
    }
    log_ledger(snapshot.ledger);
    stopped_ = true;
    wake_.notify_all();
    signals_->cancel();
}

// A thread that hangs in a disk cannot be joined. What it had not made durable was not confirmed.
asio::awaitable<void> Relay::end_without_disk(TimePoint due) {
    while (!stopped_ && clock_.now() < due) co_await wake_.wait_until(due);
    if (stopped_) co_return;
    exit_code_ = exit_code(Errc::spool_io);
    log::error("relay", "ending without the disk, which does not answer",
               {{"stalled_ms", storage_watch_->stalled().count()},
                {"next", "what was acknowledged is on it; check the volume"}});
    leave();
}

// Without joining any thread.
void Relay::leave() {
    listeners_.reset();
    admin_path_.reset();
    ::_exit(exit_code_);
}

void Relay::log_ledger(const observe::Ledger& ledger) {
    log::info("relay", "ledger",
              {{"received", ledger.intake.received},
               {"duplicates", ledger.duplicates()},
               {"rejected", ledger.rejected()},
               {"shed", ledger.shed()},
               {"accepted", ledger.storage.accepted},
               {"pending", ledger.pending},
               {"recovered", ledger.storage.recovered},
               {"replayed", ledger.storage.replayed},
               {"delivered", ledger.storage.delivered},
               {"dead", ledger.storage.dead},
               {"dropped", ledger.dropped()},
               {"spooled", ledger.spooled},
               {"imbalance", ledger.imbalance()}});
}

int Relay::run() {
    pipeline_->start();
    asio::post(ingest_.executor(), [this] { listeners_->start(); });
    asio::post(forward_.executor(), [this] {
        admin_->start();
        storage_watch_->start();
        load_key();
        main_tasks_.spawn("signals", watch_signals());
        main_tasks_.spawn("main", run_until_stopped());
    });
    log_start();
    release_startup_memory();
    ingest_.start();
    storage_.start();
    maintenance_.start();
    forward_.start();
    forward_.stop();  // returns when run_until_stopped() has
    ingest_.stop();
    storage_.stop();
    maintenance_.stop();
    return exit_code_;
}

}  // namespace

int run_relay(const config::Config& config) {
    forbid_dumps();
    bound_heap();
    raise_descriptor_limit();
    std::signal(SIGPIPE, SIG_IGN);
    Relay relay(config);
    if (const auto opened = relay.open(); !opened) {
        log::error("relay", opened.error().context, {{"code", to_string(opened.error().code)}});
        return exit_code(opened.error().code);
    }
    return relay.run();
}

}  // namespace opsrelay
