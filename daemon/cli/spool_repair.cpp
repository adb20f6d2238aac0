// `spool repair`: takes records back from databases that were moved aside.
#include <fmt/format.h>
#include <rapidjson/document.h>

#include "admit/dedupe.h"
#include "cli/spool_offline.h"
#include "cli/status_text.h"
#include "core/json_text.h"

namespace opsrelay::cli {

namespace {

constexpr const char* kFooter = R"(
Reads every damaged-<time> beside the database file by file and puts its records at the end of
their lanes, unless their externalRequestId is known to the spool, and takes its dead letters over.
Opening the spool takes back what lies in quarantine; a database that cannot be opened is treated
as at a start of the daemon, and repaired when it had to be moved aside. A database of which
everything is in the spool then is deleted. One of which something is only there (damaged bytes,
records that are missing between others, dead letters beyond their bound) is renamed to
repaired-<time>: nothing needs it any more, but it counts towards spool.max_bytes, so look at it and
delete it. One with something for which there was no room or no lane stays: repeat then, what was
taken back does not come twice. Ids of events that were delivered before are not taken back.

Without --write nothing is changed; it says what would be looked through.

Examples:
  opsrelay spool repair
  opsrelay spool repair --write --spool-dir /var/lib/opsrelay

Exit codes: 0 ok; 1 failed, or not everything could be taken back; 2 usage; 3 a daemon has it open;
4 no spool, or a newer format.)";

struct Given {
    OfflineFlags where;
    bool write = false;
    Output output = Output::text;
};

std::optional<IdHash> id_of(std::uint64_t salt, LaneId lane, std::string_view event) {
    rapidjson::Document document;
    document.Parse<rapidjson::kParseIterativeFlag>(event.data(), event.size());
    if (document.HasParseError() || !document.IsObject()) return std::nullopt;
    const rapidjson::Value& object = document;
    const auto id = object.FindMember("externalRequestId");
    if (id == object.MemberEnd() || !id->value.IsString()) return std::nullopt;
    return admit::hash_id(salt, lane, {id->value.GetString(), id->value.GetStringLength()});
}

std::string whereabouts(const spool::RepairSource& source) {
    if (source.deleted) return "deleted: all of it is in the spool";
    if (source.kept_as.empty()) return "it stays as it is: something was left";
    return fmt::format(
        "kept as {}; nothing needs it any more, but it counts towards spool.max_bytes: look at it, "
        "then delete it",
        printable(source.kept_as));
}

void print_source(const spool::RepairSource& source, const Given& given, Program& program) {
    if (!given.write) {
        fmt::print(program.out, "{}: {} records and {} dead letters would be looked through\n",
                   printable(source.path), source.records, source.dead);
        return;
    }
    fmt::print(program.out, "{}: {} records: {} taken back, {} known already",
               printable(source.path), source.records, source.admitted, source.known);
    if (source.no_lane > 0) {
        fmt::print(program.out, ", {} of an unknown lane; see `spool export --from`",
                   source.no_lane);
    }
    fmt::print(program.out, "\n  {} dead letters: {} taken back, {} known already", source.dead,
               source.dead_admitted, source.dead_known);
    if (source.dead_over > 0) {
        fmt::print(program.out, ", {} of events never accepted are too many", source.dead_over);
    }
    if (source.dead_left > 0) {
        fmt::print(program.out,
                   ", {} left: make room with `opsrelay dead replay` or `opsrelay dead purge`, "
                   "then repeat",
                   source.dead_left);
    }
    if (source.dead_damaged > 0) {
        fmt::print(program.out, "; {} more or tables of them cannot be read", source.dead_damaged);
    }
    if (source.damaged_files > 0) {
        fmt::print(program.out, "\n  {} of its files cannot be read whole", source.damaged_files);
    }
    if (source.missing > 0) {
        fmt::print(program.out, "\n  {} records that it had are in none of its files",
                   source.missing);
    }
    fmt::print(program.out, "\n  {}\n", whereabouts(source));
}

std::string dead_json(const spool::RepairSource& source) {
    return fmt::format(
        R"({{"found":{},"admitted":{},"known":{},"over":{},"left":{},"damaged":{}}})", source.dead,
        source.dead_admitted, source.dead_known, source.dead_over, source.dead_left,
        source.dead_damaged);
}

std::string source_json(const spool::RepairSource& source) {
    return fmt::format(R"({{"path":{},"records":{},"admitted":{},"known":{},"no_lane":{},)"
                       R"("missing":{},"damaged_files":{},"dead_letters":{},"deleted":{},)"
                       R"("kept_as":{}}})",
                       json_string(source.path), source.records, source.admitted, source.known,
                       source.no_lane, source.missing, source.damaged_files, dead_json(source),
                       source.deleted,
                       source.kept_as.empty() ? "null" : json_string(source.kept_as));
}

int run(const Given& given, Program& program) {
    const auto options = spool_options(given.where, program);
    if (!options) return fail(program, options.error());
    Result<spool::RepairReport> report = spool::RepairReport{};
    {
        ProgressLine line(program);
        report = spool::repair(*options, given.write, id_of, line.callback());
    }
    if (!report) return fail(program, report.error());
    bool whole = true;
    std::string json;
    for (const auto& source : report->sources) {
        whole = whole && source.whole();
        json += (json.empty() ? "" : ",") + source_json(source);
        if (given.output == Output::text) print_source(source, given, program);
    }
    if (given.output == Output::json) {
        fmt::print(program.out, "{{\"written\":{},\"sources\":[{}]}}\n", given.write, json);
    } else if (report->sources.empty()) {
        fmt::print(program.out, "nothing to repair\n");
    } else if (!given.write) {
        fmt::print(program.out, "nothing was changed; add --write to take back what can be read\n");
    }
    return whole ? 0 : kExitFailed;
}

}  // namespace

void add_spool_repair(Command group, Program& program, Action& action) {
    const auto command =
        group.add_subcommand("repair", "Take records back from databases that were moved aside");
    const auto given = std::make_shared<Given>();  // lives as long as options refer to it
    add_offline_flags(command, given->where);
    command.add_flag("--write", given->write, "Do it; without it nothing is changed");
    add_output(command, given->output);
    command.footer(kFooter);
    command.callback([given, &program, &action] {
        action = [given, &program] { return run(*given, program); };
    });
}

}  // namespace opsrelay::cli
