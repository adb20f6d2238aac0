// All data listeners of the process: made, started, looked after, stopped.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/error.h"
#include "core/event.h"
#include "core/log.h"
#include "core/plan_state.h"
#include "core/task_group.h"
#include "listen/connection_budget.h"
#include "listen/inherited.h"
#include "listen/inlet.h"
#include "listen/input_room.h"
#include "listen/listener_state.h"
#include "listen/options.h"
#include "observe/metrics.h"

namespace opsrelay::listen {

/// One listener as `/status` shows it.
struct ListenerStatus {
    ListenerKind kind = ListenerKind::unix_datagram;
    std::string address;             // the path, or the address and port that were bound
    std::uint64_t received = 0;      // messages, blank and control lines excluded
    std::uint64_t kernel_drops = 0;  // UDP
    Bytes receive_buffer;            // granted; 0: not asked for (streams and HTTP)
    bool inherited = false;          // the parent's socket
};

/// Looks for the group and reads the token file that a listener names, as Listeners::open() does.
/// Errors: config_invalid. Thread: any.
[[nodiscard]] Result<void> check_files(const ListenerOptions& options, Clock& clock);

/// Owns the sockets and every coroutine that reads them. Thread: ingest, except where noted.
/// Metrics carry the listener as "<kind>:<address>", because UDP and HTTP may share an address.
class Listeners {
public:
    /// The references must outlive the object.
    Listeners(asio::any_io_executor ingest, Inlet& inlet, Clock& clock, Options options,
              observe::Registry& registry, PlanStates& plans,
              RefreshWorkspace refresh_workspace = {});
    Listeners(const Listeners&) = delete;
    Listeners& operator=(const Listeners&) = delete;
    /// stop() must have ended if start() was called. Unlinks the Unix sockets that are still ours.
    ~Listeners();

    /// Takes every listener's inherited socket, or binds it, and reads its tokens; after an error
    /// none is left. With any inherited, listeners by default that are not among them stay off.
    /// Inherited sockets keep their paths at the end and are not made again. Warns about kernel
    /// limits that will hurt. Errors: config_invalid, address_in_use, listener_failed. Before
    /// start(); any thread.
    [[nodiscard]] Result<void> open(InheritedSockets inherited = {});
    /// Begins to read. After open(); on the ingest thread or before it runs.
    void start();
    /// Takes nothing new: Unix paths are unlinked, what the kernel holds is read, sessions finish
    /// the request or line in hand and send their last acks. What is left at `deadline` is cut off.
    [[nodiscard]] asio::awaitable<void> stop(TimePoint deadline);

    /// Takes over timeouts, the limit of a body and the lanes, and of each listener lane and
    /// defaults; the listeners are the same, in the same order (asserted).
    void configure(const Options& options);

    /// Another content of the listener's token_file; `listener` counts as Options does.
    void set_tokens(std::size_t listener, TokenSet tokens);

    /// False of one that stays off, since its socket is not among those inherited; `listener`
    /// counts as Options does. Any thread, from open() to destruction.
    [[nodiscard]] bool is_on(std::size_t listener) const;
    /// Any thread, from open() to destruction.
    [[nodiscard]] std::vector<ListenerStatus> status() const;
    /// Connections being served. Thread: ingest.
    [[nodiscard]] std::size_t connections() const noexcept { return connections_.taken(); }

private:
    struct Listener;

    [[nodiscard]] Result<void> open_one(std::size_t index,
                                        std::optional<InheritedSockets::Taken> inherited);
    void settle_datagrams(Listener& listener);
    [[nodiscard]] Listener* find(std::size_t index) const;
    void limit_connections();
    void begin(Listener& listener);
    [[nodiscard]] asio::awaitable<void> watch();
    void look_after(Listener& listener);
    void warn_of_lost_path(const Listener& listener);

    // Constant after open().
    asio::any_io_executor ingest_;
    Inlet& inlet_;
    Clock& clock_;
    Options options_;
    observe::Registry& registry_;
    PlanStates& plans_;
    RefreshWorkspace refresh_workspace_;
    std::vector<std::unique_ptr<Listener>> listeners_;

    // Ingest thread.
    ConnectionBudget connections_;
    InputRoom input_room_;
    RoomWatch room_;
    std::unique_ptr<char[]> scratch_;  // read buffer of all sessions
    log::Throttle throttle_;
    TaskGroup sources_;   // accept and datagram loops, sessions
    TaskGroup services_;  // outlive the sources: room watch, path watch
};

}  // namespace opsrelay::listen
