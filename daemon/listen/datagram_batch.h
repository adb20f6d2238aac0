// A burst of datagrams by one recvmmsg(2).
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <boost/system/error_code.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "listen/peer.h"

namespace opsrelay::listen {

/// Owns the buffers; not movable, because the headers point into them. Only pages that datagrams
/// reached are resident. Thread: one.
class DatagramBatch {
public:
    /// At most 11 datagrams wait in a Unix socket with the kernel's default queue length.
    static constexpr std::size_t kSlots = 16;
    /// An event of 64 KiB and its line end fit; anything longer is seen as truncated.
    static constexpr std::size_t kSlotBytes = (64U << 10U) + 2;

    struct Datagram {
        std::string_view bytes;
        bool truncated = false;  // it was longer than a slot
    };

    DatagramBatch();
    DatagramBatch(const DatagramBatch&) = delete;
    DatagramBatch& operator=(const DatagramBatch&) = delete;

    /// Fills up to kSlots; would_block: wait until readable. What the batch held before is gone.
    [[nodiscard]] boost::system::error_code receive(int socket) noexcept;

    [[nodiscard]] std::size_t size() const noexcept { return filled_; }
    [[nodiscard]] Datagram operator[](std::size_t index) const noexcept;
    /// Who sent it; nullopt: the socket is none of Unix with SO_PASSCRED.
    [[nodiscard]] std::optional<ucred> sender(std::size_t index) noexcept;
    /// The same user and process, or the address it came from.
    [[nodiscard]] PeerKey peer(std::size_t index) noexcept;
    /// SO_RXQ_OVFL of the last message: what the kernel dropped since the socket was made, modulo
    /// 2^32. 0 until there was a drop.
    [[nodiscard]] std::uint32_t kernel_drops() const noexcept { return kernel_drops_; }

private:
    using Control = std::array<char, CMSG_SPACE(sizeof(std::uint32_t)) + CMSG_SPACE(sizeof(ucred))>;

    void note_drops() noexcept;

    std::unique_ptr<char[]> bytes_;  // uninitialised: untouched slots cost no memory
    alignas(cmsghdr) std::array<Control, kSlots> controls_{};
    std::array<sockaddr_storage, kSlots> names_{};
    std::array<iovec, kSlots> iov_{};
    std::array<mmsghdr, kSlots> headers_{};
    std::size_t filled_ = 0;
    std::uint32_t kernel_drops_ = 0;
};

}  // namespace opsrelay::listen
