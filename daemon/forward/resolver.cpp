#include "forward/resolver.h"

#include <fmt/format.h>
#include <netdb.h>
#include <pthread.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "core/signal.h"

namespace opsrelay::forward {

/// Thread: forward.
struct Resolver::Lookup {
    Lookup(std::string name, std::uint64_t n, TimePoint now, const asio::any_io_executor& executor,
           Clock& clock)
        : host(std::move(name)), number(n), began(now), ended(executor, clock) {}
    std::string host;
    std::uint64_t number;
    TimePoint began;
    Signal ended;
    std::optional<Answer> answer;
};

/// What a lookup's thread finds of its resolver when it comes back.
struct Resolver::Door {
    std::mutex mutex;
    Resolver* owner = nullptr;  // null: gone. Written by the forward thread, under the mutex
};

Resolver::Resolver(asio::any_io_executor forward, Clock& clock)
    : executor_(std::move(forward)), clock_(clock), door_(std::make_shared<Door>()) {
    door_->owner = this;
}

Resolver::~Resolver() {
    const std::lock_guard lock(door_->mutex);
    door_->owner = nullptr;
}

Resolver::Answer Resolver::look_up(const std::string& host) {
    Answer answer;
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_ADDRCONFIG;
    addrinfo* found = nullptr;
    const int code = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
    if (code != 0) {
        const int error = errno;
        answer.error = code == EAI_SYSTEM ? std::generic_category().message(error)
                                          : std::string(::gai_strerror(code));
        return answer;
    }
    const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owned(found, &::freeaddrinfo);
    for (const auto* entry = found; entry != nullptr; entry = entry->ai_next) {
        if (entry->ai_family == AF_INET) {
            sockaddr_in address{};
            std::memcpy(&address, entry->ai_addr, sizeof address);
            answer.addresses.emplace_back(asio::ip::address_v4(ntohl(address.sin_addr.s_addr)));
        } else if (entry->ai_family == AF_INET6) {
            sockaddr_in6 address{};
            std::memcpy(&address, entry->ai_addr, sizeof address);
            asio::ip::address_v6::bytes_type bytes;
            std::memcpy(bytes.data(), &address.sin6_addr, bytes.size());
            answer.addresses.emplace_back(asio::ip::address_v6(bytes, address.sin6_scope_id));
        }
    }
    if (answer.addresses.empty()) answer.error = "the name has no address";
    return answer;
}

Result<std::shared_ptr<Resolver::Lookup>> Resolver::join_or_begin(const std::string& host) {
    const auto now = clock_.now();
    std::size_t of_name = 0;
    for (const auto& lookup : lookups_) {
        if (lookup->host != host) continue;
        if (now - lookup->began < kLookupShared) return lookup;
        ++of_name;
    }
    if (of_name >= kLookupsOfNameMax || lookups_.size() >= kLookupsMax) {
        return Error{Errc::timed_out,
                     fmt::format("{} earlier lookups have not come back from the system's resolver",
                                 of_name >= kLookupsOfNameMax ? of_name : lookups_.size())};
    }
    auto lookup = std::make_shared<Lookup>(host, ++last_number_, now, executor_, clock_);
    auto work = [door = door_, host, number = lookup->number, executor = executor_] {
        ::pthread_setname_np(::pthread_self(), "resolve");
        auto answer = look_up(host);
        const std::lock_guard lock(door->mutex);
        if (door->owner == nullptr) return;  // and perhaps the executor too
        asio::post(executor, [door, number, answer = std::move(answer)]() mutable {
            if (door->owner != nullptr) door->owner->finish(number, std::move(answer));
        });
    };
    try {
        std::thread(std::move(work)).detach();
    } catch (const std::system_error& error) {  // a limit of threads
        return Error{Errc::timed_out, fmt::format("no thread for the lookup: {}", error.what())};
    }
    lookups_.push_back(lookup);
    return lookup;
}

void Resolver::finish(std::uint64_t number, Answer answer) {
    const auto found = std::find_if(lookups_.begin(), lookups_.end(), [number](const auto& lookup) {
        return lookup->number == number;
    });
    if (found == lookups_.end()) return;
    const auto lookup = *found;
    lookups_.erase(found);
    lookup->answer = std::move(answer);
    lookup->ended.notify_all();
}

asio::awaitable<Result<std::vector<asio::ip::address>>> Resolver::resolve(std::string host,
                                                                          TimePoint deadline) {
    boost::system::error_code ec;
    if (const auto address = asio::ip::make_address(host, ec); !ec) {
        co_return std::vector{address};
    }
    const auto lookup = join_or_begin(host);
    if (!lookup) co_return with_prefix(lookup.error(), fmt::format("resolve {}", host));
    const auto& waiting = *lookup;
    if (!waiting->answer) co_await waiting->ended.wait_until(deadline);
    if (!waiting->answer) {
        co_return Error{Errc::timed_out, fmt::format("resolve {}: no answer in time", host)};
    }
    if (waiting->answer->addresses.empty()) {
        co_return Error{Errc::refused, fmt::format("resolve {}: {}", host, waiting->answer->error)};
    }
    co_return waiting->answer->addresses;
}

}  // namespace opsrelay::forward
