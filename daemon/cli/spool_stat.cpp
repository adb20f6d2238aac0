// `spool stat` and `spool verify`: what is in a spool, and whether it is whole.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>

#include "cli/spool_offline.h"
#include "cli/status_text.h"
#include "core/json_text.h"

namespace opsrelay::cli {

namespace {

struct Given {
    OfflineFlags where;
    Output output = Output::text;
};

std::string time_text(std::int64_t unix_ms) {
    if (unix_ms == 0) return "-";
    return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                       fmt::gmtime(static_cast<std::time_t>(unix_ms / 1000)));
}

void print_json(const spool::SpoolSummary& summary, Program& program) {
    std::string bytes;
    for (const auto& [kind, count] : summary.bytes) {
        bytes += fmt::format("{}{}:{}", bytes.empty() ? "" : ",", json_string(kind), count);
    }
    std::string lanes;
    for (const auto& lane : summary.lanes) {
        lanes += fmt::format(
            R"({}{{"lane":{},"name":{},"records":{},"deferred":{},"oldest":{}}})",
            lanes.empty() ? "" : ",", static_cast<unsigned>(lane.lane), json_string(lane.name),
            lane.records, lane.deferred,
            lane.oldest_unix_ms == 0 ? "null" : json_string(time_text(lane.oldest_unix_ms)));
    }
    std::string kept;
    for (const auto& one : summary.kept) {
        kept += fmt::format(R"({}{{"path":{},"bytes":{},"open":{},"repaired":{}}})",
                            kept.empty() ? "" : ",", json_string(one.path), one.bytes, one.open,
                            one.repaired);
    }
    fmt::print(program.out,
               R"({{"bytes":{},"files":{{{}}},"lanes":[{}],)"
               R"("dead_letters":{{"admission":{},"upstream":{}}},"ids":{},"kept":[{}],)"
               R"("trouble":{}}})"
               "\n",
               summary.bytes_total, bytes, lanes, summary.dead_admission, summary.dead_upstream,
               summary.ids, kept, summary.trouble.empty() ? "null" : json_string(summary.trouble));
}

void print_text(const spool::SpoolSummary& summary, Program& program) {
    fmt::print(program.out, "bytes {}\n", summary.bytes_total);
    for (const auto& [kind, count] : summary.bytes) {
        fmt::print(program.out, "  {:<16} {}\n", kind, count);
    }
    if (!summary.trouble.empty()) {
        fmt::print(
            program.out,
            "the database cannot be opened as it is: {}\n"
            "  a start of the daemon opens what it can, and moves it aside when nothing helps;\n"
            "  so does `opsrelay spool repair --write`, which then takes back what can be read.\n"
            "  Until then `opsrelay spool export` reads its files\n",
            printable(summary.trouble));
    }
    for (const auto& lane : summary.lanes) {
        fmt::print(program.out, "lane {} {}: {} records{}, oldest {}\n",
                   static_cast<unsigned>(lane.lane), printable(lane.name), lane.records,
                   lane.deferred == 0 ? "" : fmt::format(", {} of them deferred", lane.deferred),
                   time_text(lane.oldest_unix_ms));
    }
    if (summary.trouble.empty()) {
        fmt::print(program.out, "dead letters: {} never accepted, {} refused upstream\nids: {}\n",
                   summary.dead_admission, summary.dead_upstream, summary.ids);
    }
    for (const auto& one : summary.kept) {
        fmt::print(program.out, "kept {}: {} bytes{}\n", printable(one.path), one.bytes,
                   one.open ? ", not taken back"
                   : one.repaired
                       ? ", repaired; nothing needs it any more: look at it, then delete it"
                       : "");
    }
}

int stat(const Given& given, Program& program) {
    const auto options = spool_options(given.where, program);
    if (!options) return fail(program, options.error());
    const auto summary = spool::summarize(*options);
    if (!summary) return fail(program, summary.error());
    if (given.output == Output::json) {
        print_json(*summary, program);
    } else {
        print_text(*summary, program);
    }
    return 0;
}

void print_report(const spool::VerifyReport& report, const Given& given, Program& program) {
    if (given.output == Output::json) {
        std::string findings;
        for (const auto& finding : report.findings) {
            findings += fmt::format(R"({}{{"where":{},"what":{}}})", findings.empty() ? "" : ",",
                                    json_string(finding.where), json_string(finding.what));
        }
        fmt::print(program.out,
                   R"({{"damaged":{},"files":{},"bytes":{},"segments":{},"records":{},)"
                   R"("findings":[{}]}})"
                   "\n",
                   report.damaged, report.files, report.bytes, report.segments, report.records,
                   findings);
        return;
    }
    for (const auto& finding : report.findings) {
        fmt::print(program.out, "{}: {}\n", printable(finding.where), printable(finding.what));
    }
    if (report.damaged > report.findings.size()) {
        fmt::print(program.out, "and {} more\n", report.damaged - report.findings.size());
    }
    fmt::print(program.out, "{}: {} files, {} bytes, {} segments of {} records\n",
               report.damaged == 0 ? "clean" : fmt::format("{} damaged", report.damaged),
               report.files, report.bytes, report.segments, report.records);
}

int verify(const Given& given, Program& program) {
    const auto options = spool_options(given.where, program);
    if (!options) return fail(program, options.error());
    Result<spool::VerifyReport> report = spool::VerifyReport{};
    {
        ProgressLine line(program);
        report = spool::verify(*options, line.callback());
    }
    if (!report) return fail(program, report.error());
    print_report(*report, given, program);
    return report->damaged == 0 ? 0 : kExitFailed;
}

void add(Command group, Program& program, Action& action, const char* name, const char* help,
         int (*run)(const Given&, Program&)) {
    const auto command = group.add_subcommand(name, help);
    const auto given = std::make_shared<Given>();  // lives as long as options refer to it
    add_offline_flags(command, given->where);
    add_output(command, given->output);
    command.callback([given, run, &program, &action] {
        action = [given, run, &program] { return run(*given, program); };
    });
}

}  // namespace

void add_spool_stat(Command group, Program& program, Action& action) {
    add(group, program, action, "stat", "Sizes, lanes, records, dead letters, ids, kept damage",
        stat);
}

void add_spool_verify(Command group, Program& program, Action& action) {
    add(group, program, action, "verify", "Read everything and check every checksum", verify);
}

}  // namespace opsrelay::cli
