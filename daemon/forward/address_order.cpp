#include "forward/address_order.h"

#include <algorithm>

namespace opsrelay::forward {

namespace {

constexpr std::size_t kFailedMax = kAddressesMax * 4;

}  // namespace

std::vector<asio::ip::address> AddressOrder::order(const std::vector<asio::ip::address>& addresses,
                                                   TimePoint now) {
    forget(now);
    std::vector<asio::ip::address> first;  // the family that the resolver prefers
    std::vector<asio::ip::address> second;
    for (const auto& address : addresses) {
        auto& family = address.is_v6() == addresses.front().is_v6() ? first : second;
        if (std::find(family.begin(), family.end(), address) == family.end()) {
            family.push_back(address);
        }
    }
    std::vector<asio::ip::address> ordered;
    for (std::size_t i = 0; i < std::max(first.size(), second.size()); ++i) {
        if (i < first.size()) ordered.push_back(first[i]);
        if (i < second.size()) ordered.push_back(second[i]);
    }
    std::stable_partition(ordered.begin(), ordered.end(), [this](const auto& address) {
        return std::none_of(failed_.begin(), failed_.end(),
                            [&](const Failed& failed) { return failed.address == address; });
    });
    if (ordered.size() > kAddressesMax) ordered.resize(kAddressesMax);
    return ordered;
}

void AddressOrder::note_failed(const asio::ip::address& address, TimePoint now) {
    note_good(address);
    if (failed_.size() == kFailedMax) failed_.erase(failed_.begin());
    failed_.push_back({address, now + kAddressAvoidFor});
}

void AddressOrder::note_good(const asio::ip::address& address) {
    std::erase_if(failed_, [&](const Failed& failed) { return failed.address == address; });
}

void AddressOrder::forget(TimePoint now) {
    std::erase_if(failed_, [now](const Failed& failed) { return failed.until <= now; });
}

}  // namespace opsrelay::forward
