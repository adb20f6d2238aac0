// Sends events to one of the daemon's sockets and says how that went, as one line of JSON. It is
// not part of what is measured: ids are written into ready-made events, everything else is a system
// call.
//
//   load stream|lines|datagram|udp|http PLACE [OPTIONS]      PLACE: a path with a slash, or a port
//   load sink [--port N]          takes lines over TCP and counts them, until SIGTERM
//   load ids --events N           the ids that N events of this seed have, one per line
//
//   stream    lines, with acks; ends when the last event is settled
//   lines     lines without acks; ends when the last write was taken
//   datagram  one event each, as fast as they are taken; --nonblocking as an app sends: a full
//             queue loses the event, which is counted, and each call's time is kept
//   http      one POST an event, --connections at a time, each waits for its reply
//
//   --events N      how many (100000)      --per-write N  events in one write or datagram (1)
//   --rate N        per second, evenly; 0: as fast as possible (0)
//   --seed N        of ids and contents (1)
#include <poll.h>
#include <sys/prctl.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>
#include <unordered_set>
#include <vector>

#include "event_pool.h"
#include "system_call.h"

namespace opsrelay::bench {
namespace {

using Clock = std::chrono::steady_clock;
using Nanoseconds = std::chrono::nanoseconds;

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
        std::printf(R"(,"%s_p50_us":%.2f,"%s_p99_us":%.2f,"%s_max_us":%.2f)", name, at(50), name,
                    at(99), name, at(100));
    }

private:
    [[nodiscard]] double at(std::size_t percent) const {
        const auto index = std::min(times_.size() * percent / 100, times_.size() - 1);
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

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

void print_begin(const Options& options, std::uint64_t raw_bytes, double seconds) {
    std::printf(R"({"mode":"%s","events":%llu,"raw_bytes":%llu,"seconds":%.6f)",
                options.mode.c_str(), static_cast<unsigned long long>(options.events),
                static_cast<unsigned long long>(raw_bytes), seconds);
}

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

volatile std::sig_atomic_t stop_asked = 0;

/// Takes lines from TCP connections and counts them and the distinct ids among them: what the peers
/// deliver to. Prints the counts when they changed, ten times a second at most.
class Sink {
public:
    explicit Sink(std::uint64_t port)
        : listener_(checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")) {
        const auto where = place(std::to_string(port));
        const int on = 1;
        checked(::setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), "reuse");
        checked(::bind(listener_.get(), where.address(), where.length), "bind");
        checked(::listen(listener_.get(), kConnectionsMax), "listen");
        sockaddr_in bound{};
        socklen_t length = sizeof bound;
        checked(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&bound), &length),
                "getsockname");
        std::printf("listening on %u\n", ntohs(bound.sin_port));
        (void)std::fflush(stdout);
    }

    void run() {
        while (stop_asked == 0) {
            std::vector<pollfd> wait{{listener_.get(), POLLIN, 0}};
            for (const auto& peer : peers_) wait.push_back({peer.fd.get(), POLLIN, 0});
            if (::poll(wait.data(), wait.size(), 50) < 0 && errno != EINTR) checked(-1, "poll");
            for (std::size_t i = wait.size() - 1; i > 0; --i) {
                if (wait[i].revents != 0 && !receive(peers_[i - 1])) {
                    peers_.erase(peers_.begin() + static_cast<std::ptrdiff_t>(i) - 1);
                }
            }
            if ((wait[0].revents & POLLIN) != 0 && peers_.size() < kConnectionsMax) {
                auto& peer = peers_.emplace_back();
                peer.fd = UniqueFd{checked(::accept(listener_.get(), nullptr, nullptr), "accept")};
            }
            print();
        }
    }

private:
    static constexpr int kConnectionsMax = 64;
    static constexpr std::string_view kKey = R"("externalRequestId":")";
    struct Peer {
        UniqueFd fd;
        std::string unfinished;
    };

    // False: the connection has ended.
    bool receive(Peer& peer) {
        const auto got = ::recv(peer.fd.get(), buffer_.data(), buffer_.size(), 0);
        if (got <= 0) return false;
        peer.unfinished.append(buffer_.data(), static_cast<std::size_t>(got));
        std::size_t from = 0;
        for (auto end = peer.unfinished.find('\n'); end != std::string::npos;
             end = peer.unfinished.find('\n', from)) {
            take(std::string_view(peer.unfinished).substr(from, end - from));
            from = end + 1;
        }
        peer.unfinished.erase(0, from);
        return true;
    }

    void take(std::string_view line) {
        ++lines_;
        const auto key = line.find(kKey);
        if (key == std::string_view::npos) return;
        ids_.emplace(line.substr(key + kKey.size(), kIdBytes));
    }

    void print() {
        const auto now = Clock::now();
        if (lines_ == printed_ || now - printed_at_ < std::chrono::milliseconds(100)) return;
        printed_at_ = now;
        printed_ = lines_;
        std::printf("lines=%llu distinct=%zu\n", static_cast<unsigned long long>(lines_),
                    ids_.size());
        (void)std::fflush(stdout);
    }

    UniqueFd listener_;
    std::vector<Peer> peers_;
    std::vector<char> buffer_ = std::vector<char>(256U << 10U);
    std::uint64_t lines_ = 0;
    std::uint64_t printed_ = 0;
    Clock::time_point printed_at_;
    std::unordered_set<std::string> ids_;
};

void run_sink(const Options& options) {
    struct sigaction action {};
    action.sa_handler = [](int) { stop_asked = 1; };
    checked(::sigaction(SIGTERM, &action, nullptr), "sigaction");
    Sink(options.port).run();
}

void run_ids(const Options& options) {
    char id[kIdBytes + 1] = {};
    for (std::uint64_t i = 0; i < options.events; ++i) {
        write_id(options.seed, i, id);
        std::puts(id);
    }
}

constexpr const char* kUsage =
    "usage: load stream|lines|datagram|udp|http PLACE | sink | ids\n"
    "            [--events N] [--per-write N] [--rate N] [--seed N] [--connections N] [--port N]\n"
    "            [--nonblocking]\n";

// False: not understood.
bool parse(int argc, char** argv, Options& options) {
    if (argc < 2) return false;
    options.mode = argv[1];
    int at = 2;
    if (options.mode != "sink" && options.mode != "ids") {
        if (argc < 3) return false;
        options.place = argv[at++];
    }
    const struct {
        const char* name;
        std::uint64_t& value;
    } numbers[] = {{"--events", options.events},
                   {"--per-write", options.per_write},
                   {"--rate", options.rate},
                   {"--seed", options.seed},
                   {"--connections", options.connections},
                   {"--port", options.port}};
    while (at < argc) {
        const std::string_view name(argv[at++]);
        if (name == "--nonblocking") {
            options.nonblocking = true;
            continue;
        }
        bool known = false;
        for (const auto& number : numbers) {
            if (name != number.name || at == argc) continue;
            number.value = std::strtoull(argv[at++], nullptr, 10);
            known = true;
        }
        if (!known) return false;
    }
    return options.events > 0 && options.per_write > 0 && options.connections > 0 &&
           EventPool::kBodies % options.per_write == 0;
}

int run(int argc, char** argv) {
    Options options;
    if (!parse(argc, argv, options)) {
        std::fputs(kUsage, stderr);
        return 2;
    }
    // Sleeps of a paced run end within microseconds, not within the usual 50.
    (void)::prctl(PR_SET_TIMERSLACK, 1000);
    if (options.mode == "stream" || options.mode == "lines") {
        run_stream(options, options.mode == "stream");
    } else if (options.mode == "datagram" || options.mode == "udp") {
        run_datagram(options);
    } else if (options.mode == "http") {
        run_http(options);
    } else if (options.mode == "sink") {
        run_sink(options);
    } else if (options.mode == "ids") {
        run_ids(options);
    } else {
        std::fputs(kUsage, stderr);
        return 2;
    }
    return 0;
}

}  // namespace
}  // namespace opsrelay::bench

int main(int argc, char** argv) {
    try {
        return opsrelay::bench::run(argc, argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "load: %s\n", error.what());
        return 1;
    }
}
