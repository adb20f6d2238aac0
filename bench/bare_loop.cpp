// The least that durable intake can do, to compare the daemon with: receive, append to a file,
// fdatasync. No checks, no ids, no way to read it back.
//   bare_loop SOCKET FILE [--lz4] [--overlap] [--datagram N]
// Stream: takes one connection that speaks the daemon's protocol with acks, acknowledges after each
// sync and ends with the connection. --datagram: takes N datagrams, one event each.
// --lz4: blocks are compressed first. --overlap: a thread of its own receives while another writes.
// Prints "listening", then events, seconds from the first byte to the last sync, and bytes written.
// Exit code 1 with a message when a call fails.
#include <fcntl.h>
#include <lz4.h>
#include <poll.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "system_call.h"

namespace opsrelay::bench {
namespace {

constexpr std::size_t kBlockBytes = 512U << 10U;    // what a segment of the daemon holds
constexpr std::size_t kDatagramBytes = 64U << 10U;  // room kept for the next one
constexpr std::size_t kLengthBytes = 8;             // raw and stored length before an LZ4 block

struct Options {
    const char* socket = nullptr;
    const char* file = nullptr;
    bool lz4 = false;
    bool overlap = false;
    std::uint64_t datagrams = 0;  // 0: a stream
};

/// Bytes on their way to the file; events are counted by newlines.
struct Block {
    Block() : bytes(kBlockBytes) {}
    [[nodiscard]] char* end() { return bytes.data() + filled; }
    [[nodiscard]] std::size_t room() const { return bytes.size() - filled; }

    std::vector<char> bytes;
    std::size_t filled = 0;
};

/// Fills blocks from the socket.
class Source {
public:
    explicit Source(const Options& options) : datagrams_(options.datagrams) {
        const auto where = place(options.socket);
        if (datagrams_ > 0) {
            fd_ = bound_socket(where, SOCK_DGRAM);
            announce();
            return;
        }
        const auto listener = bound_socket(where, SOCK_STREAM);
        checked(::listen(listener.get(), 1), "listen");
        announce();
        fd_ = UniqueFd{checked(::accept(listener.get(), nullptr, nullptr), "accept")};
    }

    /// Waits for the first bytes, then takes what is there. False: nothing more will come.
    bool fill(Block& block) { return datagrams_ > 0 ? fill_datagrams(block) : fill_stream(block); }
    [[nodiscard]] bool has_acks() const { return datagrams_ == 0; }
    [[nodiscard]] int native() const { return fd_.get(); }

private:
    static void announce() {
        std::puts("listening");
        (void)std::fflush(stdout);
    }

    bool fill_stream(Block& block) {
        const auto got = checked(::recv(fd_.get(), block.end(), block.room(), 0), "recv");
        block.filled += static_cast<std::size_t>(got);
        return got > 0;
    }

    bool fill_datagrams(Block& block) {
        if (taken_ == datagrams_) return false;
        int flags = 0;
        while (taken_ < datagrams_ && block.room() > kDatagramBytes) {
            const auto got = ::recv(fd_.get(), block.end(), block.room() - 1, flags);
            if (got < 0 && errno == EAGAIN) break;
            block.filled += static_cast<std::size_t>(checked(got, "recv"));
            block.bytes[block.filled++] = '\n';
            ++taken_;
            flags = MSG_DONTWAIT;
        }
        return true;
    }

    std::uint64_t datagrams_;
    std::uint64_t taken_ = 0;
    UniqueFd fd_;
};

class BareLoop {
public:
    explicit BareLoop(const Options& options)
        : options_(options),
          source_(options),
          file_(checked(
              ::open(options.file, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600),
              "open")),
          packed_(kLengthBytes + static_cast<std::size_t>(LZ4_compressBound(kBlockBytes))) {}

    void run() {
        if (options_.overlap) {
            run_overlapped();
            return;
        }
        Block block;
        while (source_.fill(block)) store(block);
    }

    void print() const {
        const std::chrono::duration<double> seconds = last_ - first_;
        std::printf("events=%llu seconds=%.6f events_per_s=%.0f file_bytes=%llu\n",
                    static_cast<unsigned long long>(events_), seconds.count(),
                    static_cast<double>(events_) / std::max(seconds.count(), 1e-9),
                    static_cast<unsigned long long>(file_bytes_));
    }

private:
    using Clock = std::chrono::steady_clock;

    // The writer swaps its empty block for what gathered in the receiver's.
    void run_overlapped() {
        std::mutex mutex;
        std::condition_variable changed;
        Block gathered;
        bool ended = false;
        std::thread receiver([&] {
            Block fresh;
            for (bool more = true; more;) {
                more = source_.fill(fresh);
                std::unique_lock lock(mutex);
                changed.wait(lock, [&] { return gathered.room() >= fresh.filled; });
                std::memcpy(gathered.end(), fresh.bytes.data(), fresh.filled);
                gathered.filled += std::exchange(fresh.filled, 0);
                ended = !more;
                changed.notify_one();
            }
        });
        for (Block block;;) {
            {
                std::unique_lock lock(mutex);
                changed.wait(lock, [&] { return gathered.filled > 0 || ended; });
                if (gathered.filled == 0) break;
                std::swap(block, gathered);
                changed.notify_one();
            }
            store(block);
        }
        receiver.join();
    }

    void store(Block& block) {
        if (block.filled == 0) return;
        if (first_ == Clock::time_point{}) first_ = Clock::now();
        const std::string_view bytes(block.bytes.data(), block.filled);
        const auto stored = options_.lz4 ? pack(bytes) : bytes;
        write_all(stored);
        checked(::fdatasync(file_.get()), "fdatasync");
        last_ = Clock::now();
        file_bytes_ += stored.size();
        events_ += static_cast<std::uint64_t>(std::count(bytes.begin(), bytes.end(), '\n'));
        block.filled = 0;
        if (!source_.has_acks()) return;
        if (!std::exchange(asked_, true)) --events_;  // the first line asks for acks
        send_all(source_.native(),
                 "{\"durable\":" + std::to_string(events_) + ",\"rejected\":0}\n");
    }

    void write_all(std::string_view bytes) {
        while (!bytes.empty()) {
            const auto written = checked(::write(file_.get(), bytes.data(), bytes.size()), "write");
            bytes.remove_prefix(static_cast<std::size_t>(written));
        }
    }

    std::string_view pack(std::string_view bytes) {
        const auto raw = static_cast<std::uint32_t>(bytes.size());
        const auto size =
            LZ4_compress_default(bytes.data(), packed_.data() + kLengthBytes, static_cast<int>(raw),
                                 static_cast<int>(packed_.size() - kLengthBytes));
        if (size <= 0) throw std::runtime_error("LZ4_compress_default failed");
        const auto stored = static_cast<std::uint32_t>(size);
        std::memcpy(packed_.data(), &raw, sizeof(raw));
        std::memcpy(packed_.data() + sizeof(raw), &stored, sizeof(stored));
        return {packed_.data(), kLengthBytes + stored};
    }

    const Options options_;
    Source source_;
    const UniqueFd file_;
    std::vector<char> packed_;
    std::uint64_t events_ = 0;
    std::uint64_t file_bytes_ = 0;
    bool asked_ = false;
    Clock::time_point first_;
    Clock::time_point last_;
};

bool parse(int argc, char** argv, Options& options) {
    if (argc < 3) return false;
    options.socket = argv[1];
    options.file = argv[2];
    for (int i = 3; i < argc; ++i) {
        const std::string_view name(argv[i]);
        if (name == "--lz4") {
            options.lz4 = true;
        } else if (name == "--overlap") {
            options.overlap = true;
        } else if (name == "--datagram" && i + 1 < argc) {
            options.datagrams = std::strtoull(argv[++i], nullptr, 10);
            if (options.datagrams == 0) return false;
        } else {
            return false;
        }
    }
    return true;
}

int run(int argc, char** argv) {
    Options options;
    if (!parse(argc, argv, options)) {
        std::fputs("usage: bare_loop SOCKET FILE [--lz4] [--overlap] [--datagram N]\n", stderr);
        return 2;
    }
    BareLoop loop(options);
    loop.run();
    loop.print();
    return 0;
}

}  // namespace
}  // namespace opsrelay::bench

int main(int argc, char** argv) {
    try {
        return opsrelay::bench::run(argc, argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "bare_loop: %s\n", error.what());
        return 1;
    }
}
