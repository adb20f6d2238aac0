#include "observe/process_metrics.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <string>

namespace opsrelay::observe {

namespace {

// Numbers of the fields of /proc/PID/stat in proc(5).
constexpr unsigned kFirstAfterName = 3;
constexpr unsigned kThreads = 20;
constexpr unsigned kStartTime = 22;
constexpr unsigned kVirtualSize = 23;
constexpr unsigned kResidentPages = 24;

constexpr std::size_t kBootLinesMax = 65'536;

std::string read_all(const char* path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

std::optional<std::uint64_t> number(std::string_view text) noexcept {
    std::uint64_t value = 0;
    const auto* const end = text.data() + text.size();
    const auto [at, ec] = std::from_chars(text.data(), end, value);
    if (ec != std::errc{} || at != end) return std::nullopt;
    return value;
}

// Unix seconds at which the machine booted; nullopt: not told.
std::optional<std::uint64_t> boot_time() {
    std::ifstream file("/proc/stat");
    std::string line;
    for (std::size_t lines = 0; lines < kBootLinesMax && std::getline(file, line); ++lines) {
        constexpr std::string_view kKey = "btime ";
        if (line.starts_with(kKey)) return number(std::string_view(line).substr(kKey.size()));
    }
    return std::nullopt;
}

double seconds(const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

// The descriptor that reads the directory is not counted.
std::optional<std::uint64_t> open_descriptors() {
    auto* const directory = ::opendir("/proc/self/fd");
    if (directory == nullptr) return std::nullopt;
    std::uint64_t entries = 0;
    while (::readdir(directory) != nullptr) ++entries;
    ::closedir(directory);
    constexpr std::uint64_t kNotOurs = 3;  // ".", "..", the directory itself
    return entries > kNotOurs ? entries - kNotOurs : 0;
}

void publish_usage(Registry& registry) {
    rusage usage{};
    if (::getrusage(RUSAGE_SELF, &usage) == 0) {
        registry.gauge(kProcessCpu).set(seconds(usage.ru_utime) + seconds(usage.ru_stime));
    }
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        registry.gauge(kProcessMaxFds).set(static_cast<double>(limit.rlim_cur));
    }
    if (const auto open = open_descriptors()) {
        registry.gauge(kProcessOpenFds).set(static_cast<double>(*open));
    }
}

}  // namespace

std::optional<ProcessStat> parse_process_stat(std::string_view text) noexcept {
    // The second field, the name, is in brackets and may contain anything.
    const auto name_end = text.rfind(')');
    if (name_end == std::string_view::npos) return std::nullopt;
    auto rest = text.substr(name_end + 1);
    ProcessStat stat;
    for (unsigned field = kFirstAfterName; field <= kResidentPages; ++field) {
        if (!rest.starts_with(' ')) return std::nullopt;
        rest.remove_prefix(1);
        const auto end = std::min(rest.find_first_of(" \n"), rest.size());
        const auto value = number(rest.substr(0, end));
        rest.remove_prefix(end);
        auto* const into = field == kThreads         ? &stat.threads
                           : field == kStartTime     ? &stat.start_ticks
                           : field == kVirtualSize   ? &stat.virtual_bytes
                           : field == kResidentPages ? &stat.resident_pages
                                                     : nullptr;
        if (into == nullptr) continue;
        if (!value) return std::nullopt;
        *into = *value;
    }
    return stat;
}

void publish_process(Registry& registry) {
    publish_usage(registry);
    const auto stat = parse_process_stat(read_all("/proc/self/stat"));
    if (!stat) return;
    registry.gauge(kProcessThreads).set(static_cast<double>(stat->threads));
    registry.gauge(kProcessVirtual).set(static_cast<double>(stat->virtual_bytes));
    registry.gauge(kProcessResident)
        .set(static_cast<double>(stat->resident_pages) *
             static_cast<double>(::sysconf(_SC_PAGESIZE)));
    if (const auto boot = boot_time()) {
        const auto ticks = static_cast<double>(::sysconf(_SC_CLK_TCK));
        registry.gauge(kProcessStart)
            .set(static_cast<double>(*boot) + static_cast<double>(stat->start_ticks) / ticks);
    }
}

}  // namespace opsrelay::observe
