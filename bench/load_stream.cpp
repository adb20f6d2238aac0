// Lines over a stream, with the daemon's acks or without.
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "event_pool.h"
#include "load.h"
#include "system_call.h"

namespace opsrelay::bench {

namespace {

/// Reads the daemon's cumulative acks; for a paced run it keeps the time from write to ack.
class AckReader {
public:
    AckReader(int fd, const std::vector<std::atomic<Clock::rep>>& sent_at)
        : fd_(fd), sent_at_(sent_at) {
        latencies_.reserve(sent_at.size());
    }

    void run(std::uint64_t events) {
        char buffer[4096];
        auto last = Clock::now();
        while (durable_ + rejected_ < events) {
            const auto got = checked(::recv(fd_, buffer, sizeof buffer, 0), "recv");
            if (got == 0) throw std::runtime_error("closed before everything was acknowledged");
            const auto now = Clock::now();
            longest_gap_ = std::max(longest_gap_, now - last);
            last = now;
            text_.append(buffer, static_cast<std::size_t>(got));
            take_lines(now);
        }
    }
    void print() {
        std::printf(R"(,"durable":%llu,"rejected":%llu,"longest_gap_us":%.0f)",
                    static_cast<unsigned long long>(durable_),
                    static_cast<unsigned long long>(rejected_),
                    std::chrono::duration<double, std::micro>(longest_gap_).count());
        latencies_.print("ack");
    }

private:
    void take_lines(Clock::time_point now) {
        std::size_t from = 0;
        for (auto end = text_.find('\n'); end != std::string::npos; end = text_.find('\n', from)) {
            unsigned long long durable = 0;
            unsigned long long rejected = 0;
            if (std::sscanf(text_.c_str() + from, R"({"durable":%llu,"rejected":%llu})", &durable,
                            &rejected) != 2) {
                throw std::runtime_error("not an ack: " + text_.substr(from, end - from));
            }
            for (auto i = durable_; i < durable && i < sent_at_.size(); ++i) {
                latencies_.add(now.time_since_epoch() -
                               Clock::duration(sent_at_[i].load(std::memory_order_relaxed)));
            }
            durable_ = durable;
            rejected_ = rejected;
            from = end + 1;
        }
        text_.erase(0, from);
    }

    int fd_;
    const std::vector<std::atomic<Clock::rep>>& sent_at_;
    std::string text_;
    std::uint64_t durable_ = 0;
    std::uint64_t rejected_ = 0;
    Clock::duration longest_gap_{};
    Times latencies_;
};

// Writes everything; returns the bytes. `sent_at` is filled where it has room.
std::uint64_t write_lines(int fd, const Options& options,
                          std::vector<std::atomic<Clock::rep>>& sent_at) {
    EventPool pool(options.seed);
    const Pace pace(options.rate);
    std::uint64_t bytes = 0;
    for (std::uint64_t sent = 0; sent < options.events;) {
        pace.wait_for(sent);
        const auto count = std::min(options.per_write, options.events - sent);
        const auto piece = pool.take(count);
        const auto now = Clock::now().time_since_epoch().count();
        for (auto i = sent; i < sent + count && i < sent_at.size(); ++i) {
            sent_at[i].store(now, std::memory_order_relaxed);
        }
        send_all(fd, piece);
        bytes += piece.size();
        sent += count;
    }
    return bytes;
}

}  // namespace

void run_stream(const Options& options, bool acks) {
    const auto fd = connected_socket(place(options.place), SOCK_STREAM);
    std::vector<std::atomic<Clock::rep>> sent_at(acks && options.rate > 0 ? options.events : 0);
    if (acks) send_all(fd.get(), "{\"opsrelay\":{\"acks\":true}}\n");
    AckReader reader(fd.get(), sent_at);
    std::exception_ptr failed;
    const auto start = Clock::now();
    std::thread reading([&] {
        try {
            if (acks) reader.run(options.events);
        } catch (...) {
            failed = std::current_exception();
            (void)::shutdown(fd.get(), SHUT_RDWR);  // ends the sender too
        }
    });
    std::uint64_t bytes = 0;
    try {
        bytes = write_lines(fd.get(), options, sent_at);
    } catch (...) {
        (void)::shutdown(fd.get(), SHUT_RDWR);
        reading.join();
        throw;
    }
    reading.join();
    if (failed) std::rethrow_exception(failed);
    print_begin(options, bytes, seconds_since(start));
    if (acks) reader.print();
    std::puts("}");
}

}  // namespace opsrelay::bench
