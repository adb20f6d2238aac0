// One POST an event, over several connections.
#include <sys/socket.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "event_pool.h"
#include "load.h"
#include "system_call.h"

namespace opsrelay::bench {

namespace {

/// One keep-alive connection that posts an event and waits for the reply.
class Poster {
public:
    explicit Poster(const Options& options)
        : fd_(connected_socket(place(options.place), SOCK_STREAM)) {}

    // The status of the reply.
    int post(std::string_view event) {
        request_ =
            "POST /v1/ingest/llm-request HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
            "application/json\r\nContent-Length: " +
            std::to_string(event.size()) + "\r\n\r\n";
        request_ += event;
        send_all(fd_.get(), request_);
        reply_.clear();
        for (;;) {
            char buffer[4096];
            const auto got = checked(::recv(fd_.get(), buffer, sizeof buffer, 0), "recv");
            if (got == 0) throw std::runtime_error("closed before a reply");
            reply_.append(buffer, static_cast<std::size_t>(got));
            if (complete()) return std::atoi(reply_.c_str() + std::strlen("HTTP/1.1 "));
        }
    }

private:
    [[nodiscard]] bool complete() const {
        const auto head = reply_.find("\r\n\r\n");
        if (head == std::string::npos) return false;
        const auto length = reply_.find("Content-Length: ");
        if (length > head) throw std::runtime_error("a reply without Content-Length");
        return reply_.size() >= head + 4 + std::stoul(reply_.substr(length + 16, 10));
    }

    UniqueFd fd_;
    std::string request_;
    std::string reply_;
};

}  // namespace

void run_http(const Options& options) {
    EventPool pool(options.seed);
    const Pace pace(options.rate);
    std::mutex mutex;  // of the pool and everything below
    std::uint64_t taken = 0;
    std::uint64_t bytes = 0;
    std::uint64_t refused = 0;
    Times times;
    std::exception_ptr failed;
    const auto start = Clock::now();
    const auto work = [&] {
        Poster poster(options);
        Times mine;
        for (std::string event;;) {
            std::uint64_t number = 0;
            {
                const std::lock_guard lock(mutex);
                if (taken == options.events || failed) break;
                number = taken++;
                event = pool.take(1);
            }
            pace.wait_for(number);
            const auto begin = Clock::now();
            const bool taken_there = poster.post(event) == 200;
            mine.add(Clock::now() - begin);
            const std::lock_guard lock(mutex);
            bytes += event.size();
            if (!taken_there) ++refused;
        }
        const std::lock_guard lock(mutex);
        times.add_all(mine);
    };
    std::vector<std::thread> threads;
    for (std::uint64_t i = 0; i < options.connections; ++i) {
        threads.emplace_back([&] {
            try {
                work();
            } catch (...) {
                const std::lock_guard lock(mutex);
                failed = std::current_exception();
            }
        });
    }
    for (auto& thread : threads) thread.join();
    if (failed) std::rethrow_exception(failed);
    print_begin(options, bytes, seconds_since(start));
    std::printf(R"(,"refused":%llu)", static_cast<unsigned long long>(refused));
    times.print("reply");
    std::puts("}");
}

}  // namespace opsrelay::bench
