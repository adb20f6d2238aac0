#include "listen/datagram_batch.h"

#include <cerrno>
#include <cstring>

namespace opsrelay::listen {

DatagramBatch::DatagramBatch() : bytes_(new char[kSlots * kSlotBytes]) {
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
    do {
        count = ::recvmmsg(socket, headers_.data(), kSlots, MSG_DONTWAIT, nullptr);
    } while (count < 0 && errno == EINTR);
    filled_ = count < 0 ? 0 : static_cast<std::size_t>(count);
    if (count < 0) return {errno, boost::system::system_category()};
    if (filled_ > 0) note_drops();
    return {};
}

DatagramBatch::Datagram DatagramBatch::operator[](std::size_t index) const noexcept {
    const auto& header = headers_[index];
    return {{bytes_.get() + index * kSlotBytes, header.msg_len},
            (header.msg_hdr.msg_flags & MSG_TRUNC) != 0};
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
