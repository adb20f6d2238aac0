// Host names to addresses. getaddrinfo(3) blocks as long as the name server makes it, and nothing
// can interrupt it: each lookup has a thread of its own, which is left behind when nobody waits for
// it any more.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/address.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/error.h"

namespace opsrelay::forward {

/// Lookups that have not come back: of all names together, and of one.
inline constexpr std::size_t kLookupsMax = 32;
inline constexpr std::size_t kLookupsOfNameMax = 4;
/// Who asks for a name that is being looked up waits for that answer, unless it is this old: then
/// the system's resolver may have lost it, and is asked again.
inline constexpr seconds kLookupShared{30};

/// One for the process, so that the bound holds. Thread: forward, the executor's. Destroying it
/// abandons the lookups under way: their threads end by themselves, or with the process, and touch
/// nothing of this. No resolve() may be pending then.
class Resolver {
public:
    Resolver(asio::any_io_executor forward, Clock& clock);
    Resolver(const Resolver&) = delete;
    Resolver& operator=(const Resolver&) = delete;
    ~Resolver();

    /// The addresses of `host` in the system's order, at least one; a numeric address is itself.
    /// Ends early, without an answer, when the calling coroutine is cancelled. Errors: timed_out
    /// (no answer by `deadline`, or too many lookups have not come back), refused (the name has no
    /// address).
    [[nodiscard]] asio::awaitable<Result<std::vector<asio::ip::address>>> resolve(
        std::string host, TimePoint deadline);
    /// Lookups that have not come back.
    [[nodiscard]] std::size_t under_way() const noexcept { return lookups_.size(); }

private:
    struct Answer {
        std::vector<asio::ip::address> addresses;
        std::string error;
    };
    struct Lookup;
    struct Door;
    [[nodiscard]] static Answer look_up(const std::string& host);
    [[nodiscard]] Result<std::shared_ptr<Lookup>> join_or_begin(const std::string& host);
    void finish(std::uint64_t number, Answer answer);

    asio::any_io_executor executor_;
    Clock& clock_;
    std::uint64_t last_number_ = 0;
    std::vector<std::shared_ptr<Lookup>> lookups_;  // shared with the coroutines that wait
    std::shared_ptr<Door> door_;                    // shared with the threads, which may stay
};

}  // namespace opsrelay::forward
