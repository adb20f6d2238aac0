#include "forward/address_order.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

namespace opsrelay::forward {

namespace {

std::vector<asio::ip::address> addresses(const std::string& text) {
    std::vector<asio::ip::address> out;
    std::size_t from = 0;
    while (from < text.size()) {
        const auto end = std::min(text.find(' ', from), text.size());
        out.push_back(asio::ip::make_address(text.substr(from, end - from)));
        from = end + 1;
    }
    return out;
}

std::string text(const std::vector<asio::ip::address>& list) {
    std::string out;
    for (const auto& address : list) out += (out.empty() ? "" : " ") + address.to_string();
    return out;
}

}  // namespace

TEST_CASE("forward/address_order: families take turns, the resolver's first one begins") {
    struct Case {
        const char* name;
        const char* given;
        const char* ordered;
    };
    const Case cases[] = {
        {"none", "", ""},
        {"one family", "10.0.0.1 10.0.0.2", "10.0.0.1 10.0.0.2"},
        {"v6 first", "::1 ::2 ::3 10.0.0.1", "::1 10.0.0.1 ::2 ::3"},
        {"v4 first", "10.0.0.1 10.0.0.2 ::1", "10.0.0.1 ::1 10.0.0.2"},
        {"the same twice", "10.0.0.1 10.0.0.1 ::1 ::1", "10.0.0.1 ::1"},
        {"more than are tried", "::1 ::2 ::3 ::4 ::5 ::6 ::7 ::8 ::9 10.0.0.1",
         "::1 10.0.0.1 ::2 ::3 ::4 ::5 ::6 ::7"},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        AddressOrder order;
        CHECK(text(order.order(addresses(test.given), TimePoint{})) == test.ordered);
    }
}

TEST_CASE("forward/address_order: what failed comes last until it is forgotten or good again") {
    AddressOrder order;
    const auto all = addresses("::1 ::2 10.0.0.1");
    const TimePoint start{};
    order.note_failed(all[0], start);
    CHECK(text(order.order(all, start)) == "10.0.0.1 ::2 ::1");
    order.note_failed(all[2], start + minutes{1});
    CHECK(text(order.order(all, start + minutes{1})) == "::2 ::1 10.0.0.1");
    order.note_failed(all[1], start + minutes{1});
    CHECK(text(order.order(all, start + minutes{2})) == "::1 10.0.0.1 ::2");  // all: as they come
    order.note_good(all[1]);
    CHECK(text(order.order(all, start + minutes{2})) == "::2 ::1 10.0.0.1");
    CHECK(text(order.order(all, start + kAddressAvoidFor)) == "::1 ::2 10.0.0.1");
    CHECK(text(order.order(all, start + kAddressAvoidFor + minutes{1})) == "::1 10.0.0.1 ::2");
}

TEST_CASE("forward/address_order: it remembers a bounded number of failures") {
    AddressOrder order;
    const auto first = asio::ip::make_address("10.0.0.1");
    order.note_failed(first, TimePoint{});
    for (unsigned i = 0; i < kAddressesMax * 4; ++i) {
        order.note_failed(asio::ip::address_v4(0x0b000000U + i), TimePoint{});
    }
    const std::vector<asio::ip::address> both{first, asio::ip::make_address("10.0.0.2")};
    CHECK(text(order.order(both, TimePoint{})) == "10.0.0.1 10.0.0.2");
}

}  // namespace opsrelay::forward
