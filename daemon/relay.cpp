#include "relay.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <csignal>
#include <system_error>
#include <utility>

#include "config/fields.h"
#include "core/log.h"
#include "core/nothrow.h"
#include "core/process_memory.h"
#include "core/run_on.h"
#include "relay_parts.h"
#include "spool/rocks_store.h"

namespace opsrelay {

namespace {

constexpr seconds kFinishInFlight{
    2};  // P13: requests in flight when the spool outlives the process
constexpr seconds kReloadAtStop{4};
constexpr seconds kCommitAtStop{5};  // for a disk that refuses while we stop
constexpr seconds kCloseAtStop{5};   // more, for one that does not answer

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

Result<listen::InheritedSockets> inherited_sockets() {
    auto inherited = config::take_inherited();
    if (!inherited) return inherited.error();
    if (inherited->for_process) {
        log::warn("relay", "LISTEN_FDS is meant for another process, its sockets are not taken",
                  {{"process", *inherited->for_process},
                   {"own", ::getpid()},
                   {"next", "let the parent, or a shell between, exec opsrelay itself"}});
    }
    return listen::InheritedSockets::adopt(std::move(inherited->sockets));
}

int refuse_to_start(const Error& error) {
    log::error("relay", error.context, {{"code", to_string(error.code)}});
    return exit_code(error.code);
}

}  // namespace

Result<void> Relay::open_store() {
    auto store = spool::open_rocks_store(config_.spool);
    if (!store) return store.error();
    store_ = std::move(*store);
    return {};
}

Pipeline::Options Relay::pipeline_options() {
    return {.intake = {.parse = config_.events, .admit = {.table_ids = config_.spool.ids.seal_ids}},
            .spool = config_.spool,
            .lanes = lanes_.list(),
            .tap = &tap_};
}

Result<void> Relay::open_listeners(listen::InheritedSockets inherited) {
    auto options = config_.listen;
    for (auto& one : options.listeners) one.lane.lane = lanes_.number(one.lane.name);
    for (const auto& [name, upstream] : config_.lanes) {
        options.lanes.push_back({lanes_.number(name), name});
    }
    listeners_ = std::make_unique<listen::Listeners>(
        ingest_.executor(), pipeline_->intake(), clock_, options, registry_, plans_,
        [this](LaneId lane, TimePoint due) { return workspace_.refresh(lane, due); });
    auto admin = take_admin_sockets(inherited);
    if (auto opened = listeners_->open(std::move(inherited)); !opened) return opened;
    return open_admin(std::move(admin));
}

void Relay::ask_workspace(LaneId lane, std::function<void()> done) {
    if (auto* const pump = pipeline_->find_pump(lane)) return pump->ask_status(std::move(done));
    done();
}

Result<void> Relay::open(listen::InheritedSockets inherited) {
    // First: a signal that comes while the spool is being opened waits for run().
    signals_ = std::make_unique<asio::signal_set>(forward_.io(), SIGTERM, SIGINT, SIGHUP);
    auto lanes = lanes_.open(config_.lanes, config_.spool.max_age);
    if (!lanes) return lanes;
    if (auto opened = open_store(); !opened) return opened;
    if (auto numbered = lanes_.number_in(*store_); !numbered) return numbered;
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
    return open_listeners(std::move(inherited));
}

void Relay::log_start() const {
    const auto tell = [](std::string_view type, const auto& listener, std::uint16_t port) {
        if (port == 0) return;
        log::info("control", "listening",
                  {{"type", type}, {"address", config::format_endpoint(listener.address, port)}});
    };
    tell("admin", config_.admin, admin_->port());
    tell("metrics", config_.metrics, admin_->metrics_port());
    log::info(
        "relay", "ready",
        {{"version", OPSRELAY_VERSION},
         {"spool", config_.spool.dir},
         {"upstream", config_.lanes.size() == 1 ? config_.lanes.begin()->second.url
                                                : fmt::format("{} lanes", config_.lanes.size())},
         {"admin_socket", config_.admin.socket},
         {"pid", ::getpid()}});
}

asio::awaitable<void> Relay::watch_signals() {
    for (;;) {
        const auto [ec, number] = co_await signals_->async_wait(nothrow);
        if (ec) co_return;
        if (number == SIGHUP) {
            const bool asked = std::exchange(reload_asked_, true);
            if (!asked) main_tasks_.spawn("reload", reload_on_signal());
            continue;
        }
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
    // A reload under way ends first, unless the disk hangs.
    const auto patience = clock_.now() + kReloadAtStop;
    while (reloading_ && clock_.now() < patience) co_await wake_.wait_until(patience);
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
    co_await lanes_.stop();
    co_await tokens_.stop();
    co_await storage_watch_->stop();
    const auto snapshot = co_await pipeline_->snapshot();
    auto close = [this] { store_->close(); };
    co_await run_on(storage_.executor(), std::move(close));
    co_await admin_->stop();
    co_await tail_->stop();
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
        lanes_.start(*pipeline_);
        tokens_.start(config_.listen, [this](std::size_t listener, listen::TokenSet tokens) {
            asio::post(ingest_.executor(), [this, listener, tokens = std::move(tokens)] {
                listeners_->set_tokens(listener, tokens);
            });
        });
        main_tasks_.spawn("signals", watch_signals());
        main_tasks_.spawn("admin socket", watch_admin_path());
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

int run_relay(const config::Config& config, const LoadConfig& load) {
    forbid_dumps();
    bound_heap();
    raise_descriptor_limit();
    std::signal(SIGPIPE, SIG_IGN);
    std::signal(SIGHUP, SIG_IGN);  // until open() takes it
    auto inherited = inherited_sockets();
    if (!inherited) return refuse_to_start(inherited.error());
    Relay relay(config, load);
    const auto opened = relay.open(std::move(*inherited));
    return opened ? relay.run() : refuse_to_start(opened.error());
}

}  // namespace opsrelay
