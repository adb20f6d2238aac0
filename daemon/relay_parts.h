// The daemon's parts, and how they hang together: used by relay.cpp, which starts and stops them,
// and relay_admin.cpp, which answers for them.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/signal_set.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "config/config.h"
#include "control/admin_server.h"
#include "control/status.h"
#include "control/tail.h"
#include "core/log.h"
#include "core/plan_state.h"
#include "core/random.h"
#include "core/signal.h"
#include "core/task_group.h"
#include "lanes.h"
#include "listen/inherited.h"
#include "listen/listeners.h"
#include "listen/unix_path.h"
#include "operate/desk.h"
#include "pipeline.h"
#include "relay.h"
#include "spool/store.h"
#include "storage_watch.h"
#include "thread_loop.h"
#include "token_watch.h"
#include "workspace_desk.h"

namespace opsrelay {

/// Everything that exists while the daemon runs. Members are in the order of their lifetimes.
class Relay {
public:
    Relay(config::Config config, LoadConfig load)
        : config_(std::move(config)),
          load_(std::move(load)),
          ingest_("ingest"),
          storage_("storage"),
          forward_("forward"),
          maintenance_("maintenance"),
          lanes_(forward_.executor(), clock_, plans_),
          main_tasks_(forward_.executor(), clock_),
          workspace_(ingest_.executor(), forward_.executor(), clock_, plans_,
                     [this](LaneId lane, std::function<void()> done) {
                         ask_workspace(lane, std::move(done));
                     }),
          tokens_(forward_.executor(), clock_),
          wake_(forward_.executor(), clock_) {}

    Result<void> open(listen::InheritedSockets inherited);
    int run();

private:
    Result<void> open_store();
    [[nodiscard]] Pipeline::Options pipeline_options();
    Result<void> open_listeners(listen::InheritedSockets inherited);
    struct AdminSockets {
        std::optional<listen::InheritedSockets::Taken> tcp;
        std::optional<listen::InheritedSockets::Taken> metrics;
        std::optional<listen::InheritedSockets::Taken> local;
    };
    [[nodiscard]] AdminSockets take_admin_sockets(listen::InheritedSockets& inherited) const;
    /// Makes those that were not inherited.
    Result<void> open_admin(AdminSockets inherited);
    /// Makes admin.sock anew when its path is gone, and the run directory if it was ours.
    asio::awaitable<void> watch_admin_path();
    void look_after_run_dir();
    void look_after_admin_path();
    void ask_workspace(LaneId lane, std::function<void()> done);
    void log_start() const;
    /// The keys that changed. Errors: config_invalid; what the spool refuses. Then nothing changed.
    asio::awaitable<Result<std::vector<std::string>>> reload();
    asio::awaitable<Result<std::vector<std::string>>> reload_now();
    asio::awaitable<void> take_over(config::Config next, std::unique_ptr<Lanes::Change> lanes);
    asio::awaitable<void> reload_on_signal();
    asio::awaitable<control::AdminResponse> answer_reload();
    asio::awaitable<void> run_until_stopped();
    asio::awaitable<void> watch_signals();
    asio::awaitable<void> shut_down();
    asio::awaitable<void> end_without_disk(TimePoint due);
    [[noreturn]] void leave();
    static void log_ledger(const observe::Ledger& ledger);
    asio::awaitable<control::AdminResponse> answer(control::AdminRequest request);
    asio::awaitable<control::AdminResponse> change(control::AdminRequest request);
    void make_desk();
    void make_tail();
    asio::awaitable<control::StatusView> status();
    asio::awaitable<std::string> metrics();
    [[nodiscard]] std::vector<std::string> not_ready(const Snapshot& snapshot) const;

    config::Config config_;  // forward thread once it runs
    const LoadConfig load_;
    const bool run_dir_made_ = config_.run_dir_made;
    SystemClock clock_;
    Xoshiro intake_rng_ = Xoshiro::from_system();
    Xoshiro forward_rng_ = Xoshiro::from_system();
    Xoshiro operate_rng_ = Xoshiro::from_system();
    observe::Registry registry_;
    PlanStates plans_;
    ThreadLoop ingest_;
    ThreadLoop storage_;
    ThreadLoop forward_;
    ThreadLoop maintenance_;
    observe::Tap tap_{forward_.executor()};
    std::unique_ptr<spool::Store> store_;
    Lanes lanes_;
    std::unique_ptr<Pipeline> pipeline_;
    std::optional<StorageWatch> storage_watch_;
    std::optional<operate::Desk> desk_;  // storage thread
    std::unique_ptr<listen::Listeners> listeners_;
    std::optional<listen::UnixPath> admin_path_;
    std::optional<control::Tail> tail_;
    std::unique_ptr<control::AdminServer> admin_;
    std::unique_ptr<asio::signal_set> signals_;
    TaskGroup main_tasks_;
    WorkspaceDesk workspace_;  // ingest thread
    TokenWatch tokens_;

    // Forward thread.
    Signal wake_;
    int stop_signal_ = 0;
    std::optional<Error> failure_;
    log::Throttle throttle_{clock_, minutes{1}};
    bool reloading_ = false;
    bool reload_asked_ = false;  // by a signal, and not begun
    bool stopping_ = false;
    bool stopped_ = false;
    int exit_code_ = 0;
};

}  // namespace opsrelay
