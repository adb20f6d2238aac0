#include "listen/datagram_source.h"

#include <linux/sock_diag.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/error.hpp>
#include <boost/asio/this_coro.hpp>
#include <utility>

#include "listen/control_line.h"

namespace opsrelay::listen {

namespace {

constexpr std::size_t kBatchesPerTurn = 16;    // then the streams get a turn
constexpr std::size_t kDrainBatchesMax = 512;  // more than a 4 MiB buffer holds at 768 bytes each
constexpr milliseconds kErrorPause{100};
constexpr milliseconds kLogInterval{60'000};

}  // namespace

DatagramSource::DatagramSource(const asio::any_io_executor& ingest, UniqueFd socket,
                               ListenerState& state)
    : state_(state),
      socket_(ingest, std::move(socket)),
      burst_(state),
      throttle_(state.clock, kLogInterval) {
    if (!state.inherited) return;
    drops_seen_ = kernel_drops().value_or(0);
    if (drops_seen_ == 0) return;
    log::info("listen", "the kernel dropped datagrams of the inherited socket before this start",
              {{"listener", state_.address}, {"datagrams", drops_seen_}});
}

asio::awaitable<void> DatagramSource::run() {
    const auto stop = co_await asio::this_coro::cancellation_state;
    while (stop.cancelled() == asio::cancellation_type::none) {
        if (replacement_) swap_socket();
        // Waiting also yields: a socket that is readable again waits behind the others.
        if (co_await socket_.readable() == WaitEnd::aborted) continue;
        if (receive_turn(kBatchesPerTurn) == Turn::failed) {
            co_await state_.clock.sleep_for(kErrorPause);
        }
    }
    if (!is_terminal(stop)) (void)receive_turn(kDrainBatchesMax);
    socket_.close();
}

void DatagramSource::refuse_senders() noexcept { (void)::shutdown(socket_.native(), SHUT_RD); }

void DatagramSource::replace(UniqueFd socket) {
    replacement_ = std::move(socket);
    socket_.cancel();
}

void DatagramSource::swap_socket() {
    refuse_senders();  // those that are still connected to the old one
    (void)receive_turn(kDrainBatchesMax);
    socket_.replace(std::move(*replacement_));
    replacement_.reset();
    drops_seen_ = 0;
}

DatagramSource::Turn DatagramSource::receive_turn(std::size_t batches_max) {
    for (std::size_t i = 0; i < batches_max; ++i) {
        const auto ec = batch_.receive(socket_.native());
        if (ec == asio::error::would_block || ec == asio::error::try_again) return Turn::drained;
        if (ec) {
            if (const auto hidden = throttle_.allow("receive")) {
                log::warn("listen", "cannot receive datagrams, trying again",
                          {{"listener", state_.address},
                           {"error", ec.message()},
                           {"retry_in_ms", kErrorPause.count()},
                           {"suppressed", *hidden}});
            }
            return Turn::failed;
        }
        const bool full = batch_.size() == DatagramBatch::kSlots;
        offer_batch();
        note_kernel_drops(batch_.kernel_drops());
        if (!full) return Turn::drained;
    }
    return Turn::more;
}

void DatagramSource::offer_batch() {
    for (std::size_t i = 0; i < batch_.size(); ++i) {
        if (!allowed(i)) continue;
        if (!state_.limiter.off()) sender_ = batch_.peer(i);
        split(batch_[i]);
    }
    (void)burst_.offer();  // nobody to tell: the inlet counts
    batch_.release();
}

bool DatagramSource::allowed(std::size_t index) {
    if (state_.access.everybody()) return true;
    const auto sender = batch_.sender(index);
    if (sender && state_.access.allows(*sender)) return true;
    state_.counts.peers_refused_metric.add();
    if (const auto hidden = throttle_.allow("peer")) {
        log::warn("listen", "sender is in neither allow_uids nor allow_gids, datagram ignored",
                  {{"listener", state_.address}, {"suppressed", *hidden}});
    }
    return false;
}

void DatagramSource::split(const DatagramBatch::Datagram& datagram) {
    auto rest = datagram.bytes;
    for (auto newline = rest.find('\n'); newline != std::string_view::npos;
         newline = rest.find('\n')) {
        add_line(rest.substr(0, newline));
        rest.remove_prefix(newline + 1);
    }
    if (datagram.length > datagram.bytes.size()) {
        add_cut(rest, datagram.length);
    } else {
        add_line(rest);
    }
}

// How many events the end held is not known: it counts as one.
void DatagramSource::add_cut(std::string_view rest, std::size_t datagram_bytes) {
    add({.bytes = rest.substr(0, kEventBytesMax.count),
         .oversize = true,
         .length = datagram_bytes - kDatagramBytesMax.count + rest.size(),
         .limit = "a datagram may have at most 256 KiB; this is the end of a longer one"});
    if (const auto hidden = throttle_.allow("cut")) {
        log::warn("listen",
                  "a datagram is too long: its end is rejected; put fewer events into one",
                  {{"listener", state_.address},
                   {"bytes", datagram_bytes},
                   {"limit", kDatagramBytesMax.count},
                   {"suppressed", *hidden}});
    }
}

void DatagramSource::add_line(std::string_view line) {
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) return;
    if (const auto control = parse_control_line(line);
        control && control->kind == ControlLine::Kind::dropped) {
        state_.inlet.note_client_drops(control->dropped);
        return;
    }
    if (line.size() > kEventBytesMax.count) {
        add({.bytes = line.substr(0, kEventBytesMax.count),
             .oversize = true,
             .length = line.size()});
    } else {
        add({.bytes = line});
    }
}

void DatagramSource::add(Message message) {
    if (!state_.limiter.off()) {
        message.over_rate = !state_.limiter.take(sender_, state_.clock.now());
    }
    burst_.add(message);
    if (burst_.full()) (void)burst_.offer();
}

void DatagramSource::note_kernel_drops(std::uint32_t total) {
    if (total == 0) return;                            // absent until there was a drop
    const auto fresh = total - drops_seen_;            // modulo 2^32
    if (fresh == 0 || fresh > UINT32_MAX / 2) return;  // known from the poll
    drops_seen_ = total;
    state_.counts.add_kernel_drops(fresh);
}

void DatagramSource::poll_kernel_drops() {
    if (const auto total = kernel_drops()) note_kernel_drops(*total);
}

std::optional<std::uint32_t> DatagramSource::kernel_drops() noexcept {
    // Unix senders wait or get EAGAIN.
    if (state_.origin.kind != ListenerKind::udp) return std::nullopt;
    std::array<std::uint32_t, SK_MEMINFO_VARS> info{};
    socklen_t length = sizeof info;
    if (::getsockopt(socket_.native(), SOL_SOCKET, SO_MEMINFO, info.data(), &length) != 0) {
        return std::nullopt;
    }
    return info[SK_MEMINFO_DROPS];
}

}  // namespace opsrelay::listen
