// The spool's directory and disk, measured for `doctor`.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "cli/doctor_report.h"
#include "config/config.h"
#include "core/clock.h"
#include "core/error.h"

namespace opsrelay::cli {

inline constexpr std::size_t kSyncSamples = 32;

/// What a look at the disk showed. Plain bytes: it comes from a child process.
struct DiskFacts {
    int open_error = 0;       // errno of making the file that is measured with; 0: it was made
    int write_error = 0;      // of writing or syncing it
    std::uint64_t total = 0;  // bytes of the volume
    std::uint64_t free = 0;   // that this user may take
    std::int64_t kind = 0;    // statfs(2): f_type
    std::uint32_t samples = 0;
    std::array<std::uint32_t, kSyncSamples> sync_us{};  // of a write of 4 KiB and its fdatasync
};

/// Measures with a file that never has a name in `directory`, in a child process, which a disk
/// that does not answer can keep: nothing is left behind either way. Errors: timed_out, io. Thread:
/// the only one.
[[nodiscard]] Result<DiskFacts> look_at_disk(const std::string& directory, const Clock& clock,
                                             TimePoint due);

/// The checks spool.directory, spool.filesystem, spool.space and spool.sync. Pure but for the
/// directory's existence: `directory` is where `facts` are from, spool.dir itself or, when that is
/// still to be made, what it will be made in.
[[nodiscard]] Findings judge_disk(const config::Config& config, const std::string& directory,
                                  const DiskFacts& facts);

/// Both, for spool.dir or what it will be made in.
[[nodiscard]] Findings check_disk(const config::Config& config, const Clock& clock, TimePoint due);

/// Who has the spool open, as the lock file tells: the process's number; nullopt: nobody, or there
/// is none yet.
[[nodiscard]] std::optional<int> spool_holder(const std::string& spool_dir);

}  // namespace opsrelay::cli
