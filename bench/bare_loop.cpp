// The least that durable intake can do, to compare the daemon with: receive from a Unix stream
// socket, append to a file, fdatasync, acknowledge. No checks, no ids, no way to read it back.
//   bare_loop SOCKET FILE [--lz4]
// Prints "listening", takes one connection that speaks the daemon's stream protocol with acks, ends
// with it, and prints events, seconds from the first byte to the last sync, and bytes of the file.
// Exit code 1 with a message when a call fails.
#include <fcntl.h>
#include <lz4.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "core/unique_fd.h"

namespace opsrelay::bench {
namespace {

constexpr std::size_t kBlockBytes = 512U << 10U;  // what a segment of the daemon holds
constexpr std::size_t kLengthBytes = 8;           // raw and stored length before an LZ4 block

// The value of a system call, or its error with the call's name.
template <typename T>
T checked(T value, const char* call) {
    if (value < 0) throw std::system_error(errno, std::generic_category(), call);
    return value;
}

UniqueFd accept_one(const char* path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string_view name(path);
    if (name.size() >= sizeof(address.sun_path)) throw std::runtime_error("SOCKET is too long");
    std::copy(name.begin(), name.end(), address.sun_path);
    const UniqueFd listener{checked(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")};
    checked(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
            "bind");
    checked(::listen(listener.get(), 1), "listen");
    std::puts("listening");
    (void)std::fflush(stdout);
    return UniqueFd{checked(::accept(listener.get(), nullptr, nullptr), "accept")};
}

void write_all(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        const auto written = checked(::write(fd, bytes.data(), bytes.size()), "write");
        bytes.remove_prefix(static_cast<std::size_t>(written));
    }
}

class BareLoop {
public:
    BareLoop(UniqueFd connection, const char* file, bool lz4)
        : connection_(std::move(connection)),
          file_(checked(::open(file, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600),
                        "open")),
          lz4_(lz4),
          block_(kBlockBytes),
          packed_(kLengthBytes + static_cast<std::size_t>(LZ4_compressBound(kBlockBytes))) {}

    void run() {
        for (;;) {
            const auto got =
                checked(::recv(connection_.get(), block_.data(), block_.size(), 0), "recv");
            if (got == 0) return;
            if (first_ == Clock::time_point{}) first_ = Clock::now();
            store({block_.data(), static_cast<std::size_t>(got)});
        }
    }

    void print() const {
        const std::chrono::duration<double> seconds = last_ - first_;
        std::printf("events=%llu seconds=%.3f events_per_s=%.0f file_bytes=%llu\n",
                    static_cast<unsigned long long>(events_), seconds.count(),
                    static_cast<double>(events_) / std::max(seconds.count(), 1e-9),
                    static_cast<unsigned long long>(file_bytes_));
    }

private:
    using Clock = std::chrono::steady_clock;

    void store(std::string_view bytes) {
        const auto stored = lz4_ ? pack(bytes) : bytes;
        write_all(file_.get(), stored);
        checked(::fdatasync(file_.get()), "fdatasync");
        last_ = Clock::now();
        file_bytes_ += stored.size();
        lines_ += static_cast<std::uint64_t>(std::count(bytes.begin(), bytes.end(), '\n'));
        events_ = lines_ == 0 ? 0 : lines_ - 1;  // the first line asks for acks
        write_all(connection_.get(),
                  "{\"durable\":" + std::to_string(events_) + ",\"rejected\":0}\n");
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

    const UniqueFd connection_;
    const UniqueFd file_;
    const bool lz4_;
    std::vector<char> block_;
    std::vector<char> packed_;
    std::uint64_t lines_ = 0;
    std::uint64_t events_ = 0;
    std::uint64_t file_bytes_ = 0;
    Clock::time_point first_;
    Clock::time_point last_;
};

int run(int argc, char** argv) {
    const bool lz4 = argc == 4 && std::string_view(argv[3]) == "--lz4";
    if (argc != 3 && !lz4) {
        std::fputs("usage: bare_loop SOCKET FILE [--lz4]\n", stderr);
        return 2;
    }
    BareLoop loop(accept_one(argv[1]), argv[2], lz4);
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
