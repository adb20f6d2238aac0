#include "cli/spool_offline.h"

#include <fmt/format.h>

#include "core/clock.h"

namespace opsrelay::cli {

void add_offline_flags(Command command, OfflineFlags& into) {
    command.add_option("--spool-dir", into.spool_dir, "Directory of the spool").type_name("DIR");
    command
        .add_option("--config", into.file, "The daemon's configuration file, to find the spool in")
        .type_name("FILE");
}

Result<spool::Options> spool_options(const OfflineFlags& given, const Program& program) {
    RunFlags flags;
    flags.file = given.file;
    flags.flags.spool_dir = given.spool_dir;
    const auto config = load(flags, program);
    if (!config) return config.error();
    return config->spool;
}

ProgressLine::~ProgressLine() {
    if (shown_) fmt::print(program_.err, "\r\x1b[K");
}

bool ProgressLine::due() {
    constexpr milliseconds kInterval{250};
    const auto now = SystemClock{}.now();
    if (!program_.err_is_terminal || now < next_) return false;
    next_ = now + kInterval;
    shown_ = true;
    return true;
}

spool::Progress ProgressLine::callback() {
    return [this](std::uint64_t done, std::uint64_t total) {
        if (!due()) return;
        fmt::print(program_.err, "\r{} of {} MiB ", done >> 20U, total >> 20U);
        std::fflush(program_.err);
    };
}

void ProgressLine::show_records(std::uint64_t done) {
    if (!due()) return;
    fmt::print(program_.err, "\r{} records ", done);
    std::fflush(program_.err);
}

}  // namespace opsrelay::cli
