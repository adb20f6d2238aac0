// Where the peers of a comparison deliver to.
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "event_pool.h"
#include "load.h"
#include "system_call.h"

namespace opsrelay::bench {

namespace {

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

}  // namespace

void run_sink(const Options& options) {
    struct sigaction action {};
    action.sa_handler = [](int) { stop_asked = 1; };
    checked(::sigaction(SIGTERM, &action, nullptr), "sigaction");
    Sink(options.port).run();
}

}  // namespace opsrelay::bench
