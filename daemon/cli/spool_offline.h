// What the offline `spool` commands share: where the spool is, and showing progress on a terminal.
#pragma once

#include <optional>
#include <string>

#include "cli/commands.h"
#include "spool/offline.h"

namespace opsrelay::cli {

struct OfflineFlags {
    std::optional<std::string> file;
    std::optional<std::string> spool_dir;
};
/// --config and --spool-dir.
void add_offline_flags(Command command, OfflineFlags& into);
/// The spool's options as `run` would have them.
[[nodiscard]] Result<spool::Options> spool_options(const OfflineFlags& given,
                                                   const Program& program);

/// Shows how much was read, four times a second, while standard error is a terminal.
class ProgressLine {
public:
    explicit ProgressLine(Program& program) : program_(program) {}
    ProgressLine(const ProgressLine&) = delete;
    ProgressLine& operator=(const ProgressLine&) = delete;
    ~ProgressLine();

    /// Refers to this object.
    [[nodiscard]] spool::Progress callback();
    /// The same for what has no known end.
    void show_records(std::uint64_t done);

private:
    [[nodiscard]] bool due();

    Program& program_;
    TimePoint next_{};
    bool shown_ = false;
};

}  // namespace opsrelay::cli
