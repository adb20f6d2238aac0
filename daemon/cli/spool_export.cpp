// `spool export`: every record without an outcome, as it would be sent.
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <set>
#include <tuple>

#include "cli/spool_offline.h"

namespace opsrelay::cli {

namespace {

constexpr const char* kFooter = R"(
Prints one event a line, lane by lane. Nothing is changed: the records stay in the spool. With
--from any directory with logs and tables is read file by file, a moved-aside database for example.

Examples:
  opsrelay spool export > events.ndjson
  opsrelay spool export --lane default --output-file events.ndjson
  opsrelay spool export --from /var/lib/opsrelay/damaged-1790000000000

Exit codes: 0 ok; 1 failed, or records are missing or cannot be read, or a file cannot be read
whole; 2 usage; 3 a daemon has it open; 4 no spool, or a newer format.)";

struct Given {
    OfflineFlags where;
    std::optional<std::string> from;
    std::optional<std::string> lane;
    std::optional<std::string> file;
};

struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
};

Result<spool::ExportReport> export_from(const Given& given, const Program& program,
                                        const spool::RecordSink& sink) {
    if (given.from) {
        return spool::export_files(
            std::filesystem::absolute(*given.from).lexically_normal().string(), sink);
    }
    const auto options = spool_options(given.where, program);
    if (!options) return options.error();
    return spool::export_records(*options, sink);
}

/// Which records are wanted, and which lanes there are. The names of lanes may be lost.
class LaneChoice {
public:
    explicit LaneChoice(std::optional<std::string> wanted) : wanted_(std::move(wanted)) {}

    [[nodiscard]] bool take(LaneId lane, std::string_view name) {
        const bool fits = !wanted_ || *wanted_ == name || *wanted_ == number(lane);
        met_ = met_ || fits;
        if (!fits) others_.emplace(name.empty() ? number(lane) : name);
        return fits;
    }
    /// Errors: config_invalid: the lane is none of those that there are.
    [[nodiscard]] Result<void> check(const std::vector<LaneName>& lanes) {
        for (const auto& lane : lanes) std::ignore = take(lane.lane, lane.name);
        if (met_ || !wanted_) return {};
        return Error{Errc::config_invalid, fmt::format("lane \"{}\" is not there; there are: {}",
                                                       *wanted_, fmt::join(others_, ", "))};
    }

private:
    static std::string number(LaneId lane) {
        return fmt::format("{}", static_cast<unsigned>(lane));
    }

    const std::optional<std::string> wanted_;
    std::set<std::string> others_;
    bool met_ = false;
};

int run(const Given& given, Program& program) {
    std::unique_ptr<std::FILE, Close> file;
    if (given.file) {
        file.reset(std::fopen(given.file->c_str(), "wxe"));  // never over another file
        if (!file) return fail(program, errno_error(Errc::io, *given.file, errno));
    }
    std::FILE* const out = file ? file.get() : program.out;
    std::uint64_t written = 0;
    int trouble = 0;  // errno of the write that failed
    LaneChoice choice(given.lane);
    std::optional<ProgressLine> progress;
    if (::isatty(::fileno(out)) == 0) progress.emplace(program);  // else the events show it
    const auto sink = [&](const spool::StoredRecord& record) {
        if (!choice.take(record.lane, record.lane_name)) return true;
        ++written;
        const bool good =
            std::fwrite(record.event.data(), 1, record.event.size(), out) == record.event.size() &&
            std::fputc('\n', out) != EOF;
        if (!good) trouble = errno;
        if (progress) progress->show_records(written);
        return good;
    };
    const auto report = export_from(given, program, sink);
    progress.reset();
    if (!report) return fail(program, report.error());
    if (trouble == 0 && std::fflush(out) != 0) trouble = errno;
    if (trouble != 0) {
        return fail(program,
                    errno_error(Errc::io, given.file.value_or("standard output"), trouble));
    }
    if (auto known = choice.check(report->lanes); !known) {
        std::error_code ignored;
        if (given.file) std::filesystem::remove(*given.file, ignored);  // it is ours, and empty
        return fail(program, known.error());
    }
    fmt::print(program.err, "{} records exported\n", written);
    if (report->lost == 0 && report->damaged_files == 0) return 0;
    if (report->lost > 0) {
        fmt::print(program.err, "{} records are missing or cannot be read, by their numbers\n",
                   report->lost);
    }
    if (report->damaged_files > 0) {
        fmt::print(program.err, "{} files cannot be read whole\n", report->damaged_files);
    }
    if (!given.from) fmt::print(program.err, "`opsrelay spool verify` says what is damaged\n");
    return kExitFailed;
}

}  // namespace

void add_spool_export(Command group, Program& program, Action& action) {
    const auto command = group.add_subcommand("export", "Print every record that waits, as NDJSON");
    const auto given = std::make_shared<Given>();  // lives as long as options refer to it
    add_offline_flags(command, given->where);
    command
        .add_option("--from", given->from, "Read the files of this directory instead of the spool")
        .type_name("DIR")
        .excludes("--spool-dir")
        .excludes("--config");
    command.add_option("--lane", given->lane, "Only this lane, by name or number")
        .type_name("LANE");
    command.add_option("--output-file", given->file, "Write to FILE, which must not exist")
        .type_name("FILE");
    command.footer(kFooter);
    command.callback([given, &program, &action] {
        action = [given, &program] { return run(*given, program); };
    });
}

}  // namespace opsrelay::cli
