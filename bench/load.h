// What the modes of the load generator share: options, pace, times.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

namespace opsrelay::bench {

using Clock = std::chrono::steady_clock;
using Nanoseconds = std::chrono::nanoseconds;

/// As the usage in load.cpp says.
struct Options {
    std::string mode;
    std::string place;
    std::uint64_t events = 100'000;
    std::uint64_t per_write = 1;
    std::uint64_t rate = 0;
    std::uint64_t seed = 1;
    std::uint64_t connections = 8;
    std::uint64_t port = 0;
    bool nonblocking = false;
};

/// Durations of one kind; prints their percentiles in microseconds.
class Times {
public:
    void reserve(std::size_t count) { times_.reserve(count); }
    void add(Clock::duration time) { times_.push_back(time); }
    void add_all(const Times& more) {
        times_.insert(times_.end(), more.times_.begin(), more.times_.end());
    }

    void print(const char* name) {
        if (times_.empty()) return;
        std::sort(times_.begin(), times_.end());
        std::printf(R"(,"%s_p50_us":%.2f,"%s_p99_us":%.2f,"%s_p999_us":%.2f,"%s_max_us":%.2f)",
                    name, at(500), name, at(990), name, at(999), name, at(1000));
    }

private:
    [[nodiscard]] double at(std::size_t per_mille) const {
        const auto index = std::min(times_.size() * per_mille / 1000, times_.size() - 1);
        return std::chrono::duration<double, std::micro>(times_[index]).count();
    }

    std::vector<Clock::duration> times_;
};

/// Even spacing: event i is due at start + i / rate, however late the one before was.
class Pace {
public:
    explicit Pace(std::uint64_t rate) : rate_(rate) {}

    void wait_for(std::uint64_t number) const {
        if (rate_ == 0) return;
        // Whole seconds apart, so that the product stays small.
        const auto due = start_ + std::chrono::seconds(number / rate_) +
                         Nanoseconds(number % rate_ * 1'000'000'000 / rate_);
        while (Clock::now() < due) std::this_thread::sleep_until(due);
    }

private:
    std::uint64_t rate_;
    Clock::time_point start_ = Clock::now();
};

inline double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

/// The beginning of the line of JSON that a mode prints; the mode adds its own and ends it.
inline void print_begin(const Options& options, std::uint64_t raw_bytes, double seconds) {
    std::printf(R"({"mode":"%s","events":%llu,"raw_bytes":%llu,"seconds":%.6f)",
                options.mode.c_str(), static_cast<unsigned long long>(options.events),
                static_cast<unsigned long long>(raw_bytes), seconds);
}

/// The modes; each throws what ends it early.
void run_stream(const Options& options, bool acks);
void run_datagram(const Options& options);
void run_http(const Options& options);
void run_sink(const Options& options);

}  // namespace opsrelay::bench
