#include "listen/listeners.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/this_coro.hpp>
#include <cerrno>
#include <fstream>
#include <optional>
#include <utility>

#include "core/assert.h"
#include "core/log.h"
#include "listen/acceptor.h"
#include "listen/datagram_source.h"
#include "listen/http_session.h"
#include "listen/socket.h"
#include "listen/stream_session.h"
#include "listen/unix_path.h"

namespace opsrelay::listen {

namespace {

constexpr std::size_t kScratchBytes = 64U << 10U;
constexpr milliseconds kLogInterval{60'000};
constexpr long kDatagramQueueMin = 64;  // fewer, and a burst of a busy sender meets EAGAIN

// Who sent a datagram costs something to find out: only where somebody asks.
bool asks_for_senders(const ListenerOptions& options) noexcept {
    return options.kind == ListenerKind::unix_datagram &&
           (!options.allow_uids.empty() || !options.allow_gids.empty() || options.rate_limit != 0);
}

void warn_of_short_queue() {
    long length = 0;
    std::ifstream file("/proc/sys/net/unix/max_dgram_qlen");
    if (!(file >> length) || length >= kDatagramQueueMin) return;
    log::warn("listen", "few datagrams fit a Unix socket; use the stream socket or HTTP for bursts",
              {{"net.unix.max_dgram_qlen", length}, {"recommended", kDatagramQueueMin}});
}

Result<TokenSet> read_tokens(const ListenerOptions& options, Clock& clock) {
    auto tokens = TokenFile(options.token_file, clock).load();
    if (tokens) return tokens;
    return Error{Errc::config_invalid, with_prefix(tokens.error(), "token_file").context};
}

}  // namespace

Result<void> check_files(const ListenerOptions& options, Clock& clock) {
    if (options.group) {
        const auto group = find_group(*options.group, options.path);
        if (!group) return with_prefix(group.error(), to_string(options.kind));
    }
    if (!options.token_file.empty()) {
        const auto tokens = read_tokens(options, clock);
        if (!tokens) return with_prefix(tokens.error(), to_string(options.kind));
    }
    return {};
}

struct Listeners::Listener {
    std::size_t index;  // in Options::listeners
    ListenerKind kind;
    std::optional<UnixPath> place;  // Unix sockets that are ours
    UniqueFd fd;                    // until start()
    Bytes receive_buffer;
    ListenerState state;
    std::unique_ptr<DatagramSource> datagrams;
    std::unique_ptr<Acceptor> acceptor;

    Listener(Listeners& owner, std::size_t at, RoomWatch& room, const ListenerOptions& options,
             std::string address)
        : Listener(owner, at, room, Origin{options.kind, options.lane.lane, options.defaults},
                   options, std::move(address)) {}

private:
    Listener(Listeners& owner, std::size_t at, RoomWatch& room, const Origin& origin,
             const ListenerOptions& options, std::string address)
        : index(at),
          kind(origin.kind),
          state{owner.options_,
                owner.inlet_,
                owner.clock_,
                room,
                owner.connections_,
                owner.input_room_,
                origin,
                owner.plans_,
                owner.refresh_workspace_,
                AccessList(options.allow_uids, options.allow_gids),
                RateLimiter(options.rate_limit),
                std::nullopt,
                {owner.registry_, std::string(to_string(origin.kind)) + ":" + address},
                address} {}
};

Listeners::Listeners(asio::any_io_executor ingest, Inlet& inlet, Clock& clock, Options options,
                     observe::Registry& registry, PlanStates& plans,
                     RefreshWorkspace refresh_workspace)
    : ingest_(std::move(ingest)),
      inlet_(inlet),
      clock_(clock),
      options_(std::move(options)),
      registry_(registry),
      plans_(plans),
      refresh_workspace_(std::move(refresh_workspace)),
      input_room_(ingest_, clock, options_.unfinished_patience),
      room_(ingest_, inlet, clock),
      scratch_(new char[kScratchBytes]),
      throttle_(clock, kLogInterval),
      sources_(ingest_, clock),
      services_(ingest_, clock) {}

Listeners::~Listeners() = default;

Result<void> Listeners::open(InheritedSockets inherited) {
    bool unix_datagrams = false;
    bool streams = false;
    for (std::size_t i = 0; i < options_.listeners.size(); ++i) {
        const auto& one = options_.listeners[i];
        const int type = socket_type(one.kind);
        auto taken = one.path.empty() ? inherited.take(type, one.address, one.port)
                                      : inherited.take(type, one.path);
        if (!taken && inherited.any() && one.by_default) {
            log::info(
                "listen", "not inherited, stays off",
                {{"type", to_string(one.kind)},
                 {"address", one.path.empty() ? show_endpoint(one.address, one.port) : one.path}});
            continue;
        }
        if (const auto opened = open_one(i, std::move(taken)); !opened) {
            listeners_.clear();
            return with_prefix(opened.error(), to_string(one.kind));
        }
        unix_datagrams |= one.kind == ListenerKind::unix_datagram;
        streams |= type == SOCK_STREAM;
    }
    if (const auto taken = inherited.all_taken(); !taken) {
        listeners_.clear();
        return taken;
    }
    if (unix_datagrams) warn_of_short_queue();
    if (streams) limit_connections();
    return {};
}

// Connections must not take the descriptors that the spool and upstream open later.
void Listeners::limit_connections() {
    rlimit descriptors{RLIM_INFINITY, RLIM_INFINITY};
    (void)::getrlimit(RLIMIT_NOFILE, &descriptors);  // fails only for bad arguments
    const auto limit = affordable_connections(options_.connections_max, descriptors.rlim_cur);
    connections_.set_limit(limit);
    if (limit == options_.connections_max) return;
    log::warn("listen",
              "too few descriptors for the connection limit, serving fewer; raise RLIMIT_NOFILE "
              "(systemd: LimitNOFILE, shell: ulimit -n)",
              {{"asked", options_.connections_max},
               {"limit", limit},
               {"descriptors", descriptors.rlim_cur},
               {"kept_for_others", kDescriptorsKept},
               {"recommended_descriptors", options_.connections_max + kDescriptorsKept}});
}

Result<void> Listeners::open_one(std::size_t index,
                                 std::optional<InheritedSockets::Taken> inherited) {
    const auto& options = options_.listeners[index];
    const int type = socket_type(options.kind);
    std::optional<UnixPath> place;
    UniqueFd fd;
    std::string address;
    if (inherited) {
        fd = std::move(inherited->fd);
        address = std::move(inherited->address);
    } else if (!options.path.empty()) {
        auto claimed = UnixPath::claim(
            {type, options.path, options.mode, options.group, asks_for_senders(options)});
        if (!claimed) return claimed.error();
        place.emplace(std::move(*claimed));
        auto bound = place->bind();
        if (!bound) return bound.error();
        fd = std::move(*bound);
        address = options.path;
    } else {
        auto bound = bind_ip(type, options.address, options.port, options.allow_remote);
        if (!bound) return bound.error();
        fd = std::move(bound->fd);
        address = std::move(bound->address);
    }
    auto listener = std::make_unique<Listener>(*this, index, room_, options, std::move(address));
    if (!options.token_file.empty()) {
        auto tokens = read_tokens(options, clock_);
        if (!tokens) return tokens.error();
        listener->state.tokens = std::move(*tokens);
    }
    if (place) listener->place.emplace(std::move(*place));
    listener->fd = std::move(fd);
    listener->state.inherited = inherited.has_value();
    if (type == SOCK_DGRAM) settle_datagrams(*listener);
    log::info("listen", "listening",
              {{"type", to_string(options.kind)},
               {"address", listener->state.address},
               {"inherited", inherited.has_value()}});
    listeners_.push_back(std::move(listener));
    return {};
}

void Listeners::settle_datagrams(Listener& listener) {
    const int socket = listener.fd.get();
    const bool inherited = listener.state.inherited;
    if (inherited && asks_for_senders(options_.listeners[listener.index])) {
        ask_for_senders(socket);
    }
    // What the parent granted may be more than this process could ask for again.
    listener.receive_buffer =
        inherited ? receive_buffer_of(socket) : set_receive_buffer(socket, options_.receive_buffer);
    if (listener.receive_buffer >= options_.receive_buffer) return;
    log::warn("listen",
              inherited ? "receive buffer of the inherited socket is smaller than recommended; let "
                          "the parent ask for more (systemd: ReceiveBuffer)"
                        : "receive buffer is smaller than asked; raise net.core.rmem_max",
              {{"listener", listener.state.address},
               {"asked_bytes", options_.receive_buffer.count},
               {"granted_bytes", listener.receive_buffer.count}});
}

void Listeners::start() {
    for (const auto& listener : listeners_) begin(*listener);
    services_.spawn("room watch", room_.run());
    services_.spawn("listener watch", watch());
}

void Listeners::begin(Listener& listener) {
    auto& state = listener.state;
    const std::span<char> scratch(scratch_.get(), kScratchBytes);
    if (socket_type(listener.kind) == SOCK_DGRAM) {
        listener.datagrams =
            std::make_unique<DatagramSource>(ingest_, std::move(listener.fd), state);
        sources_.spawn("datagrams of " + state.address, listener.datagrams->run());
        return;
    }
    Acceptor::Serve serve;
    Acceptor::Refuse refuse;
    if (listener.kind == ListenerKind::http) {
        serve = [this, &state, scratch](UniqueFd fd) {
            return serve_http(std::move(fd), state, ingest_, scratch);
        };
        refuse = refuse_http;
    } else {
        serve = [this, &state, scratch](UniqueFd fd) {
            return serve_stream(std::move(fd), state, sources_, scratch);
        };
    }
    listener.acceptor = std::make_unique<Acceptor>(sources_, std::move(listener.fd), state,
                                                   std::move(serve), std::move(refuse));
    sources_.spawn("connections of " + state.address, listener.acceptor->run());
}

void Listeners::configure(const Options& options) {
    OPSRELAY_ASSERT(options.listeners.size() == options_.listeners.size());
    options_.http_ack_timeout = options.http_ack_timeout;
    options_.http_allowed_hosts = options.http_allowed_hosts;
    options_.http_mirror_upstream = options.http_mirror_upstream;
    options_.http_body_max = options.http_body_max;
    options_.stream_ack_timeout = options.stream_ack_timeout;
    options_.lanes = options.lanes;
    for (const auto& listener : listeners_) {
        const auto& one = options.listeners[listener->index];
        auto& state = listener->state;
        OPSRELAY_ASSERT(state.origin.kind == one.kind);
        state.origin.lane = one.lane.lane;
        state.origin.defaults = one.defaults;
    }
}

Listeners::Listener* Listeners::find(std::size_t index) const {
    const auto found =
        std::find_if(listeners_.begin(), listeners_.end(),
                     [index](const auto& listener) { return listener->index == index; });
    return found == listeners_.end() ? nullptr : found->get();
}

bool Listeners::is_on(std::size_t listener) const { return find(listener) != nullptr; }

void Listeners::set_tokens(std::size_t listener, TokenSet tokens) {
    if (auto* const found = find(listener)) found->state.tokens = std::move(tokens);
}

asio::awaitable<void> Listeners::stop(TimePoint deadline) {
    for (const auto& listener : listeners_) {
        listener->state.stopping = true;
        if (listener->place) {
            listener->place->remove();
            if (listener->datagrams) listener->datagrams->refuse_senders();
        }
        listener->fd.reset();
    }
    sources_.cancel(asio::cancellation_type::total);
    const bool joined = co_await sources_.join_until(deadline);
    if (!joined) {
        log::warn("listen", "deadline passed, closing connections",
                  {{"connections", connections()}});
        // A session may have begun to wait between two rounds.
        while (sources_.size() > 0) {
            sources_.cancel(asio::cancellation_type::terminal);
            room_.wake_all();
            co_await sources_.join_until(clock_.now() + milliseconds{10});
        }
    }
    services_.cancel(asio::cancellation_type::terminal);
    co_await services_.join();
}

// Unix paths that something removed (a cleaner of /run, an unlucky rm) are made anew.
asio::awaitable<void> Listeners::watch() {
    const auto stop = co_await asio::this_coro::cancellation_state;
    while (stop.cancelled() == asio::cancellation_type::none) {
        co_await clock_.sleep_for(options_.watch_interval);
        for (const auto& listener : listeners_) look_after(*listener);
    }
}

// The parent's path is not ours to make.
void Listeners::warn_of_lost_path(const Listener& listener) {
    const auto& path = options_.listeners[listener.index].path;
    if (path.empty() || ::access(path.c_str(), F_OK) == 0 || errno != ENOENT) return;
    if (const auto hidden = throttle_.allow(path)) {
        log::error("listen", "path of the inherited socket is gone, no client can find it",
                   {{"address", path},
                    {"next", "restart what holds it (systemctl restart opsrelay.socket)"},
                    {"suppressed", *hidden}});
    }
}

void Listeners::look_after(Listener& listener) {
    if (listener.state.stopping) return;
    if (listener.datagrams) listener.datagrams->poll_kernel_drops();
    if (listener.state.inherited) {
        warn_of_lost_path(listener);
        return;
    }
    if (!listener.place || !listener.place->lost()) return;
    auto bound = listener.place->bind();
    if (!bound) {
        if (const auto hidden = throttle_.allow(listener.state.address)) {
            log::error("listen", "socket path is gone and cannot be made again, trying again",
                       {{"error", bound.error().context},
                        {"retry_in_ms", options_.watch_interval.count()},
                        {"suppressed", *hidden}});
        }
        return;
    }
    if (const auto hidden = throttle_.allow(listener.state.address + " made again")) {
        log::warn("listen", "socket path was removed, made again",
                  {{"address", listener.state.address}, {"suppressed", *hidden}});
    }
    if (listener.datagrams) {
        (void)set_receive_buffer(bound->get(), options_.receive_buffer);
        listener.datagrams->replace(std::move(*bound));
    } else {
        listener.acceptor->replace(std::move(*bound));
    }
}

std::vector<ListenerStatus> Listeners::status() const {
    std::vector<ListenerStatus> all;
    all.reserve(listeners_.size());
    for (const auto& listener : listeners_) {
        const auto& counts = listener->state.counts;
        all.push_back({listener->kind, listener->state.address,
                       counts.received.load(std::memory_order_relaxed),
                       counts.kernel_drops.load(std::memory_order_relaxed),
                       listener->receive_buffer, listener->state.inherited});
    }
    return all;
}

}  // namespace opsrelay::listen
