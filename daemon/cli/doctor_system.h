// Limits of the kernel and of the process, for `doctor`.
#pragma once

#include <cstdint>
#include <optional>

#include "cli/doctor_report.h"
#include "config/config.h"

namespace opsrelay::cli {

/// nullopt: this system does not tell.
struct SystemFacts {
    std::optional<std::uint64_t> rmem_max;        // net.core.rmem_max
    std::optional<std::uint64_t> max_dgram_qlen;  // net.unix.max_dgram_qlen
    std::optional<std::uint64_t> open_files;      // the hard limit, which `run` takes
};
[[nodiscard]] SystemFacts look_at_system();

/// The checks system.rmem_max, system.max_dgram_qlen and system.open_files, as far as a listener
/// that is configured depends on them. Pure.
[[nodiscard]] Findings judge_system(const config::Config& config, const SystemFacts& facts);

}  // namespace opsrelay::cli
