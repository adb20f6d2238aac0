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

#include "core/units.h"
#include "listen/peer.h"

namespace opsrelay::listen {

/// Of a longer datagram the kernel throws the end away. Larger than a Unix socket's default send
/// buffer (about 208 KiB) lets a datagram be; UDP's end at 65,507 bytes.
inline constexpr Bytes kDatagramBytesMax{256U << 10U};

/// Owns the buffers; not movable, because the headers point into them. Only pages that datagrams
/// reached are resident, and those of large ones until release(). Thread: one.
class DatagramBatch {
public:
    /// At most 11 datagrams wait in a Unix socket with the kernel's default queue length.
    static constexpr std::size_t kSlots = 16;
    static constexpr std::size_t kSlotBytes = kDatagramBytesMax.count;
    /// Of each slot this much stays resident; any UDP datagram fits.
    static constexpr std::size_t kKeptBytes = 64U << 10U;

    struct Datagram {
        std::string_view bytes;  // at most kSlotBytes of it
        std::size_t length = 0;  // of all of it
    };

    /// Throws std::bad_alloc when there is no address space.
    DatagramBatch();
    DatagramBatch(const DatagramBatch&) = delete;
    DatagramBatch& operator=(const DatagramBatch&) = delete;

    /// Fills up to kSlots; would_block: wait until readable. What the batch held before is gone.
    [[nodiscard]] boost::system::error_code receive(int socket) noexcept;

    /// Gives back what large datagrams took; the batch is empty then.
    void release() noexcept;

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

    struct Unmap {
        void operator()(char* bytes) const noexcept;
    };

    void note_drops() noexcept;

    std::unique_ptr<char[], Unmap> bytes_;  // mapped: untouched pages cost no memory
    alignas(cmsghdr) std::array<Control, kSlots> controls_{};
    std::array<sockaddr_storage, kSlots> names_{};
    std::array<iovec, kSlots> iov_{};
    std::array<mmsghdr, kSlots> headers_{};
    std::size_t filled_ = 0;
    std::uint32_t kernel_drops_ = 0;
};

}  // namespace opsrelay::listen
