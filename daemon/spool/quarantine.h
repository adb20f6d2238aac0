// Damaged files are kept: logs and tables in quarantine/<Unix ms>/, a database that cannot be
// opened at all as damaged-<Unix ms>/, and as repaired-<Unix ms>/ when a repair left some of it.
// Names are times of equal length, so they sort by age.
#pragma once

#include <cstdint>
#include <string>
#include <system_error>
#include <vector>

#include "core/error.h"
#include "spool/options.h"

namespace opsrelay::spool {

/// Of quarantines whose files were salvaged; the oldest go first. Together they take at most
/// DiskPlan::quarantines, for what was in them is in the spool again.
inline constexpr std::size_t kQuarantinesMax = 4;

/// Where the database and the kept files lie within Options::dir.
[[nodiscard]] std::string database_dir(const Options& options);
[[nodiscard]] std::string quarantine_dir(const Options& options);
/// Where tables are set aside while the database is being opened.
[[nodiscard]] std::string tables_dir(const Options& options);

/// The files of one mishap. Thread: storage.
class Quarantine {
public:
    /// Makes the directory. Errors: spool_unusable.
    [[nodiscard]] static Result<Quarantine> make(const Options& options);

    /// Links `file` into it, or copies it where that is impossible.
    [[nodiscard]] std::error_code keep(const std::string& file, const std::string& as);
    /// keep() for every write log of `database`. Returns the first error, after trying all.
    [[nodiscard]] std::error_code keep_logs(const std::string& database);

    [[nodiscard]] const std::string& dir() const noexcept { return dir_; }
    /// Of what was kept.
    [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

private:
    explicit Quarantine(std::string dir) : dir_(std::move(dir)) {}

    std::string dir_;
    std::uint64_t bytes_ = 0;
};

/// Quarantines from which nothing was taken back yet, oldest first: a crash came before.
[[nodiscard]] std::vector<std::string> unsalvaged_quarantines(const Options& options);
/// Durable: what is in it is never looked at again, and it may go for its size.
[[nodiscard]] std::error_code mark_salvaged(const Options& options, const std::string& quarantine);

/// The write logs in a directory, oldest first.
[[nodiscard]] std::vector<std::string> log_files(const std::string& dir);

/// Renames the database to damaged-<Unix ms>, durably, with what was kept of it and not taken back.
/// Returns its new path. Errors: spool_unusable.
[[nodiscard]] Result<std::string> move_database_aside(const Options& options);

/// Durably says that a damaged-<ms> was repaired: it becomes repaired-<ms> beside it. Returns its
/// new path. Errors: io.
[[nodiscard]] Result<std::string> mark_repaired(const std::string& database);

/// What was kept.
struct KeptDamage {
    std::vector<std::string> databases;    // paths, oldest first; not repaired
    std::vector<std::string> repaired;     // likewise: what could be read of them is in the spool
    std::vector<std::string> quarantines;  // likewise; repaired or not
};
[[nodiscard]] KeptDamage find_damage(const Options& options);

}  // namespace opsrelay::spool
