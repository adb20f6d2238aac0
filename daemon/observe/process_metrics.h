// process_*: what the operating system says of this process, by the names that Prometheus' client
// libraries use.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "observe/metrics.h"

namespace opsrelay::observe {

/// Fields of /proc/PID/stat (proc(5)) that are shown.
struct ProcessStat {
    std::uint64_t threads = 0;
    std::uint64_t start_ticks = 0;  // since boot, sysconf(_SC_CLK_TCK) a second
    std::uint64_t virtual_bytes = 0;
    std::uint64_t resident_pages = 0;
};
/// `text` is the file's content. nullopt: not of that form.
[[nodiscard]] std::optional<ProcessStat> parse_process_stat(std::string_view text) noexcept;

/// Reads /proc/self and sets the metrics; one that cannot be read keeps its last value. Any thread.
void publish_process(Registry& registry);

}  // namespace opsrelay::observe
