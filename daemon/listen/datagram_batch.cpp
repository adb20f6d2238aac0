#include "listen/datagram_batch.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

namespace opsrelay::listen {

namespace {

constexpr std::size_t kMappedBytes = DatagramBatch::kSlots * DatagramBatch::kSlotBytes;

char* map_slots() {
    void* const mapped = ::mmap(nullptr, kMappedBytes, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    // Where the system gives large pages unasked, a small datagram would cost 2 MiB.
    (void)::madvise(mapped, kMappedBytes, MADV_NOHUGEPAGE);
    return static_cast<char*>(mapped);
}

}  // namespace

void DatagramBatch::Unmap::operator()(char* bytes) const noexcept {
    (void)::munmap(bytes, kMappedBytes);
}

DatagramBatch::DatagramBatch() : bytes_(map_slots()) {
    for (std::size_t i = 0; i < kSlots; ++i) {
        iov_[i] = {bytes_.get() + i * kSlotBytes, kSlotBytes};
        headers_[i].msg_hdr.msg_name = &names_[i];
        headers_[i].msg_hdr.msg_iov = &iov_[i];
        headers_[i].msg_hdr.msg_iovlen = 1;
        headers_[i].msg_hdr.msg_control = controls_[i].data();
    }
}

boost::system::error_code DatagramBatch::receive(int socket) noexcept {
    // The kernel overwrites msg_controllen with what it used, so it is set anew every time.
    for (auto& header : headers_) {
        header.msg_hdr.msg_controllen = sizeof(Control);
        header.msg_hdr.msg_namelen = sizeof(sockaddr_storage);
    }
    int count = 0;
    // MSG_TRUNC: msg_len is the length that was sent, whatever was read of it.
    do {
        count = ::recvmmsg(socket, headers_.data(), kSlots, MSG_DONTWAIT | MSG_TRUNC, nullptr);
    } while (count < 0 && errno == EINTR);
    filled_ = count < 0 ? 0 : static_cast<std::size_t>(count);
    if (count < 0) return {errno, boost::system::system_category()};
    if (filled_ > 0) note_drops();
    return {};
}

DatagramBatch::Datagram DatagramBatch::operator[](std::size_t index) const noexcept {
    const std::size_t length = headers_[index].msg_len;
    return {{bytes_.get() + index * kSlotBytes, std::min(length, kSlotBytes)}, length};
}

void DatagramBatch::release() noexcept {
    for (std::size_t i = 0; i < filled_; ++i) {
        if (headers_[i].msg_len <= kKeptBytes) continue;
        (void)::madvise(bytes_.get() + i * kSlotBytes + kKeptBytes, kSlotBytes - kKeptBytes,
                        MADV_DONTNEED);
    }
    filled_ = 0;
}

std::optional<ucred> DatagramBatch::sender(std::size_t index) noexcept {
    auto& header = headers_[index].msg_hdr;
    for (auto* control = CMSG_FIRSTHDR(&header); control != nullptr;
         control = CMSG_NXTHDR(&header, control)) {
        if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_CREDENTIALS) continue;
        ucred sender{};
        std::memcpy(&sender, CMSG_DATA(control), sizeof sender);
        return sender;
    }
    return std::nullopt;
}

PeerKey DatagramBatch::peer(std::size_t index) noexcept {
    if (const auto known = sender(index)) return key_of(*known);
    return headers_[index].msg_hdr.msg_namelen > 0 ? key_of(names_[index]) : PeerKey{};
}

// The counter is cumulative, so the last message of the burst has the newest one.
void DatagramBatch::note_drops() noexcept {
    auto& header = headers_[filled_ - 1].msg_hdr;
    for (auto* control = CMSG_FIRSTHDR(&header); control != nullptr;
         control = CMSG_NXTHDR(&header, control)) {
        if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SO_RXQ_OVFL) continue;
        std::memcpy(&kernel_drops_, CMSG_DATA(control), sizeof kernel_drops_);
    }
}

}  // namespace opsrelay::listen
