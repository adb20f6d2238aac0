// Sends events to opsrelay from C++17: one header, POSIX sockets and threads, nothing else.
//
//   opsrelay::Emitter relay("/run/opsrelay/telemetry.stream.sock");
//   relay.emit(R"({"externalRequestId":"r-1","provider":"openai","model":"gpt-4o-mini"})");
//
// emit() copies the event into a bounded buffer and returns: no system call but to wake a thread,
// which connects, writes all that is there in one write, and keeps it until the relay has answered
// that it is durable. After a broken connection what was not is sent again, with the same ids. What
// the buffer does not hold is dropped, counted, and reported to the relay, which exports it as
// opsrelay_client_dropped_total. Not for use across fork(): make the emitter in the child.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

namespace opsrelay {

struct EmitterOptions {
    std::size_t buffer_bytes_max = 1U << 20U;  // of events that are not durable yet
    std::chrono::milliseconds retry{100};      // between two tries to connect
    std::chrono::milliseconds answer{15'000};  // without progress: connect again
    std::chrono::milliseconds close{1'000};    // the destructor waits this long for the rest
};

/// Of events; durable + rejected + dropped + pending were emitted.
struct EmitterCounts {
    std::uint64_t durable = 0;
    std::uint64_t rejected = 0;  // broke the contract: a dead letter at the relay
    std::uint64_t dropped = 0;   // given up here
    std::uint64_t pending = 0;
};

/// Any thread may call any member; none of them throws for the relay's sake.
class Emitter {
public:
    explicit Emitter(std::string path, EmitterOptions options = {})
        : path_(std::move(path)), options_(options), thread_([this] { run(); }) {}
    Emitter(const Emitter&) = delete;
    Emitter& operator=(const Emitter&) = delete;
    /// Waits up to EmitterOptions::close; what is pending then is lost, and nobody is told.
    ~Emitter() {
        flush(options_.close);
        {
            const std::lock_guard lock(mutex_);
            stopping_ = true;
        }
        changed_.notify_all();
        thread_.join();
        disconnect();
    }

    /// Takes one event, a JSON object; false: no event at all, or dropped. Newlines, which JSON has
    /// only between tokens, become spaces.
    bool emit(std::string_view event) {
        if (event.find_first_not_of(" \t\r\n") == std::string_view::npos) return false;
        const std::lock_guard lock(mutex_);
        if (waiting_.size() + writing_bytes_ + event.size() + 1 > options_.buffer_bytes_max) {
            counts_.dropped += 1;
            changed_.notify_all();
            return false;
        }
        const auto begin = static_cast<std::ptrdiff_t>(waiting_.size());
        waiting_ += event;
        std::replace(waiting_.begin() + begin, waiting_.end(), '\n', ' ');
        waiting_ += '\n';
        counts_.pending += 1;
        if (begin == 0) changed_.notify_all();
        return true;
    }

    /// Waits until nothing is pending and drops are reported; false when not within so long.
    bool flush(std::chrono::milliseconds patience) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, patience, [this] {
            return counts_.pending == 0 && counts_.dropped == reported_;
        });
    }

    [[nodiscard]] EmitterCounts counts() const {
        const std::lock_guard lock(mutex_);
        return counts_;
    }

private:
    using Clock = std::chrono::steady_clock;

    void run() {
        std::unique_lock lock(mutex_);
        while (!stopping_) {
            changed_.wait(lock, [this] {
                return stopping_ || !waiting_.empty() || counts_.dropped > reported_;
            });
            auto batch = std::exchange(waiting_, {});
            writing_bytes_ = batch.size();
            while (!stopping_) {
                const auto dropped = counts_.dropped;
                const auto unreported = dropped - reported_;
                lock.unlock();
                const bool written = write_batch(batch, unreported);
                lock.lock();
                if (written) reported_ = dropped;
                changed_.notify_all();
                lock.unlock();
                const bool settled = written && read_acks(batch);
                if (!settled) disconnect();
                lock.lock();
                if (settled) break;
                changed_.wait_for(lock, options_.retry, [this] { return stopping_; });
            }
            writing_bytes_ = 0;
        }
    }

    bool write_batch(const std::string& batch, std::uint64_t unreported) {
        if (socket_ < 0 && !connect()) return false;
        if (unreported == 0) return write(batch);
        return write("{\"opsrelay\":{\"dropped\":" + std::to_string(unreported) + "}}\n" + batch);
    }

    /// Takes from the front of the batch what the relay settles, until it is empty.
    bool read_acks(std::string& batch) {
        while (!batch.empty()) {
            if (!read_ack(batch)) return false;
        }
        return true;
    }

    bool connect() {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        if (path_.size() >= sizeof address.sun_path) return false;
        std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
        socket_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (socket_ < 0) return false;
        acked_durable_ = acked_rejected_ = 0;
        replies_.clear();
        return ::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
                   0 &&
               write("{\"opsrelay\":{\"acks\":true}}\n");
    }

    void disconnect() {
        if (socket_ >= 0) ::close(socket_);
        socket_ = -1;
    }

    bool write(std::string_view bytes) {
        auto due = Clock::now() + options_.answer;
        while (!bytes.empty()) {
            const auto sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (sent > 0) {
                bytes.remove_prefix(static_cast<std::size_t>(sent));
                due = Clock::now() + options_.answer;
            } else if (errno == EAGAIN) {
                if (!wait_for(POLLOUT, due)) return false;
            } else if (errno != EINTR) {
                return false;
            }
        }
        return true;
    }

    /// Waits for one ack, {"durable":N,"rejected":M} since the connection was made, and drops as
    /// many lines from the front of the batch as it settles.
    bool read_ack(std::string& batch) {
        const auto due = Clock::now() + options_.answer;
        std::size_t end = 0;
        while ((end = replies_.find('\n')) == std::string::npos) {
            char buffer[4096];
            const auto got = ::recv(socket_, buffer, sizeof buffer, 0);
            if (got > 0) {
                replies_.append(buffer, static_cast<std::size_t>(got));
                if (replies_.size() > sizeof buffer * 2) return false;  // not a relay
            } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
                return false;
            } else if (!wait_for(POLLIN, due)) {
                return false;
            }
        }
        unsigned long long durable = 0;
        unsigned long long rejected = 0;
        const int fields = std::sscanf(replies_.c_str(), "{\"durable\":%llu,\"rejected\":%llu}",
                                       &durable, &rejected);
        replies_.erase(0, end + 1);
        if (fields != 2 || durable < acked_durable_ || rejected < acked_rejected_) return false;
        settle(batch, durable - std::exchange(acked_durable_, durable),
               rejected - std::exchange(acked_rejected_, rejected));
        return true;
    }

    void settle(std::string& batch, std::uint64_t durable, std::uint64_t rejected) {
        std::size_t bytes = 0;
        for (auto lines = durable + rejected; lines > 0 && bytes < batch.size(); --lines) {
            bytes = batch.find('\n', bytes) + 1;
        }
        batch.erase(0, bytes);
        {
            const std::lock_guard lock(mutex_);
            writing_bytes_ = batch.size();
            counts_.durable += durable;
            counts_.rejected += rejected;
            counts_.pending -= std::min(counts_.pending, durable + rejected);
        }
        changed_.notify_all();
    }

    /// In slices, so that the destructor need not wait for a relay that does not answer.
    bool wait_for(short events, Clock::time_point due) {
        while (Clock::now() < due) {
            {
                const std::lock_guard lock(mutex_);
                if (stopping_) return false;
            }
            pollfd one{socket_, events, 0};
            if (::poll(&one, 1, 20) > 0) return true;
        }
        return false;
    }

    const std::string path_;
    const EmitterOptions options_;

    // Protected by mutex_.
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::string waiting_;            // lines that wait to be written
    std::size_t writing_bytes_ = 0;  // of lines that were taken from there and are not settled
    EmitterCounts counts_;
    std::uint64_t reported_ = 0;  // of the dropped
    bool stopping_ = false;

    // The thread's own.
    int socket_ = -1;
    std::string replies_;
    std::uint64_t acked_durable_ = 0;
    std::uint64_t acked_rejected_ = 0;

    std::thread thread_;  // last: it uses the others
};

}  // namespace opsrelay
