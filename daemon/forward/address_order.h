// In which order the addresses of a name are tried.
#pragma once

#include <boost/asio/ip/address.hpp>
#include <cstddef>
#include <vector>

#include "core/clock.h"

namespace opsrelay::forward {

/// Addresses of one name that are tried for one connection.
inline constexpr std::size_t kAddressesMax = 8;
/// An address that failed is tried after the others for this long.
inline constexpr minutes kAddressAvoidFor{10};

/// The resolver's order (RFC 6724), with the families by turns (RFC 8305 section 4), so that one
/// that leads nowhere costs one attempt and not eight; what failed lately comes last. Pure.
/// Thread: one.
class AddressOrder {
public:
    [[nodiscard]] std::vector<asio::ip::address> order(
        const std::vector<asio::ip::address>& addresses, TimePoint now);
    /// A connection to it could not be made, or fell silent.
    void note_failed(const asio::ip::address& address, TimePoint now);
    void note_good(const asio::ip::address& address);

private:
    struct Failed {
        asio::ip::address address;
        TimePoint until;
    };
    void forget(TimePoint now);

    std::vector<Failed> failed_;  // at most kAddressesMax * 4, the oldest goes
};

}  // namespace opsrelay::forward
