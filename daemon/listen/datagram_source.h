// Reads one datagram socket, Unix or UDP, for as long as the daemon runs.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <optional>

#include "core/log.h"
#include "core/unique_fd.h"
#include "listen/datagram_batch.h"
#include "listen/listener_state.h"
#include "listen/ready_fd.h"

namespace opsrelay::listen {

/// Always reads, whatever the inlet can take: a sender never waits for our disk, and what does not
/// fit is shed and counted by the inlet. A datagram is one or more lines; of one over
/// kDatagramBytesMax the complete lines are offered and the rest is one oversize message. Thread:
/// ingest.
class DatagramSource {
public:
    DatagramSource(const asio::any_io_executor& ingest, UniqueFd socket, ListenerState& state);

    /// Runs until cancelled. After `total` what the kernel had queued is still read (bounded),
    /// after `terminal` it is not.
    [[nodiscard]] asio::awaitable<void> run();
    /// Of a Unix socket that is ours alone: whoever still sends to it gets EPIPE from now on, and
    /// so knows that it will not be read; what the kernel has queued still can be. Not for an
    /// inherited one, which goes on.
    void refuse_senders() noexcept;
    /// The socket's path was made anew: reads the old socket empty and goes on with this one.
    void replace(UniqueFd socket);
    /// Reads the kernel's drop counter of an idle socket (UDP).
    void poll_kernel_drops();

private:
    enum class Turn : std::uint8_t { drained, more, failed };

    [[nodiscard]] Turn receive_turn(std::size_t batches_max);
    void offer_batch();
    void split(const DatagramBatch::Datagram& datagram);
    void add_line(std::string_view line);
    /// `rest` is what was read of the last line.
    void add_cut(std::string_view rest, std::size_t datagram_bytes);
    void add(Message message);
    [[nodiscard]] bool allowed(std::size_t index);  // of the datagram in the batch
    void note_kernel_drops(std::uint32_t total);
    /// Of UDP, since the socket was made.
    [[nodiscard]] std::optional<std::uint32_t> kernel_drops() noexcept;
    void swap_socket();

    ListenerState& state_;
    ReadyFd socket_;
    std::optional<UniqueFd> replacement_;
    DatagramBatch batch_;
    Burst burst_;
    PeerKey sender_{};  // of the datagram in hand; only with a rate limit
    log::Throttle throttle_;
    std::uint32_t drops_seen_ = 0;
};

}  // namespace opsrelay::listen
