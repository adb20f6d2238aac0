#include "cli/doctor_system.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <fstream>

namespace opsrelay::cli {

namespace {

constexpr std::uint64_t kDatagramsMin = 64;      // fewer, and a burst of a busy sender meets EAGAIN
constexpr std::uint64_t kDescriptorsKept = 256;  // beside those of connections

std::optional<std::uint64_t> read_number(const char* path) {
    std::uint64_t value = 0;
    std::ifstream file(path);
    if (!(file >> value)) return std::nullopt;
    return value;
}

Finding finding(const char* check, bool good, std::string detail, std::string remedy) {
    return {fmt::format("system.{}", check),
            {},
            good ? Health::ok : Health::warn,
            std::move(detail),
            good ? std::string{} : std::move(remedy)};
}

}  // namespace

SystemFacts look_at_system() {
    SystemFacts facts;
    facts.rmem_max = read_number("/proc/sys/net/core/rmem_max");
    facts.max_dgram_qlen = read_number("/proc/sys/net/unix/max_dgram_qlen");
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) facts.open_files = limit.rlim_max;
    return facts;
}

Findings judge_system(const config::Config& config, const SystemFacts& facts) {
    const auto& listeners = config.listen.listeners;
    const auto listens = [&listeners](ListenerKind kind) {
        return std::any_of(listeners.begin(), listeners.end(),
                           [kind](const auto& one) { return one.kind == kind; });
    };
    Findings found;
    if (facts.rmem_max && listens(ListenerKind::udp)) {
        const auto wanted = config.listen.receive_buffer.count;
        found.push_back(finding("rmem_max", *facts.rmem_max >= wanted,
                                fmt::format("net.core.rmem_max is {} bytes", *facts.rmem_max),
                                fmt::format("bursts over UDP are dropped by the kernel sooner: "
                                            "sysctl -w net.core.rmem_max={}",
                                            wanted)));
    }
    if (facts.max_dgram_qlen && listens(ListenerKind::unix_datagram)) {
        found.push_back(
            finding("max_dgram_qlen", *facts.max_dgram_qlen >= kDatagramsMin,
                    fmt::format("net.unix.max_dgram_qlen is {} datagrams", *facts.max_dgram_qlen),
                    "use the stream socket or HTTP for bursts, put several events into a "
                    "datagram, or sysctl -w net.unix.max_dgram_qlen=512 (in a pod it is 10)"));
    }
    if (facts.open_files) {
        const auto wanted = config.listen.connections_max + kDescriptorsKept;
        found.push_back(finding("open_files", *facts.open_files >= wanted,
                                fmt::format("a process may have {} files open", *facts.open_files),
                                fmt::format("fewer connections are served than {}: raise the hard "
                                            "limit (LimitNOFILE={})",
                                            config.listen.connections_max, wanted)));
    }
    return found;
}

}  // namespace opsrelay::cli
