// One datagram after the other, over a Unix socket or UDP.
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "event_pool.h"
#include "load.h"
#include "system_call.h"

namespace opsrelay::bench {

void run_datagram(const Options& options) {
    const auto fd = connected_socket(place(options.place), SOCK_DGRAM);
    EventPool pool(options.seed);
    Times times;
    if (options.nonblocking) times.reserve(options.events / options.per_write + 1);
    std::uint64_t bytes = 0;
    std::uint64_t refused = 0;
    const auto start = Clock::now();
    const Pace pace(options.rate);
    for (std::uint64_t sent = 0; sent < options.events;) {
        pace.wait_for(sent);
        const auto count = std::min(options.per_write, options.events - sent);
        auto piece = pool.take(count);
        piece.remove_suffix(1);  // a datagram needs no newline at its end
        const auto begin = Clock::now();
        const auto result = ::send(fd.get(), piece.data(), piece.size(),
                                   MSG_NOSIGNAL | (options.nonblocking ? MSG_DONTWAIT : 0));
        if (options.nonblocking) times.add(Clock::now() - begin);
        if (result < 0 && errno == EAGAIN) {
            refused += count;
        } else {
            checked(result, "send");
        }
        bytes += piece.size();
        sent += count;
    }
    print_begin(options, bytes, seconds_since(start));
    std::printf(R"(,"refused":%llu)", static_cast<unsigned long long>(refused));
    times.print("send");
    std::puts("}");
}

}  // namespace opsrelay::bench
