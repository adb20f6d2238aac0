// `dead` looks at events that will not be sent, puts them back, or gives them up.
#include <fmt/format.h>
#include <rapidjson/document.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <algorithm>
#include <cerrno>

#include "cli/commands.h"
#include "cli/dead_text.h"
#include "cli/spool_ask.h"
#include "cli/status_text.h"
#include "core/json_text.h"

namespace opsrelay::cli {

namespace {

using Json = rapidjson::Value;

constexpr std::size_t kPageMax = 1000;  // letters in a reply, keys in a request
constexpr std::size_t kRefusedShown = 20;

constexpr const char* kFooter = R"(
Dead letters are events that will not be sent: rejected before acceptance (kind admission), or
accepted and then refused by upstream for good (kind upstream). Asks the daemon over admin.sock;
without a daemon the spool itself is opened.

Examples:
  opsrelay dead list --reason upstream_400
  opsrelay dead show upstream-0-12
  opsrelay dead replay upstream-0-12 --set model=gpt-4o-mini
  opsrelay dead replay --all --kind upstream
  opsrelay dead export --format csv > dead.csv
  opsrelay dead purge --all --reason bad_tokens --yes

Exit codes: 0 ok; 1 failed, or some letters could not be put back; 2 usage; 3 the spool is locked by
a daemon that does not answer; 4 spool unusable.)";

enum class Format : std::uint8_t { ndjson, csv };

struct DeadOptions {
    SpoolFlags where;
    std::string kind;
    std::string lane;
    std::string reason;
    std::string after;
    std::size_t limit = 100;
    std::vector<std::string> keys;
    std::vector<std::string> set;
    bool all = false;
    bool yes = false;
    Format format = Format::ndjson;
    Output output = Output::text;
};

/// The body of a request, member by member.
class Body {
public:
    void add(std::string_view name, std::string_view json) {
        text_ += fmt::format("{}{}:{}", text_.empty() ? "" : ",", json_string(name), json);
    }
    void add_text(std::string_view name, std::string_view value) {
        if (!value.empty()) add(name, json_string(value));
    }
    [[nodiscard]] std::string text() const { return "{" + text_ + "}"; }

private:
    std::string text_;
};

Body filters(const DeadOptions& given) {
    Body body;
    body.add_text("kind", given.kind);
    body.add_text("lane", given.lane);
    body.add_text("reason", given.reason);
    return body;
}

const Json* member(const Json& object, const char* name) {
    const auto found = object.FindMember(name);
    return found == object.MemberEnd() ? nullptr : &found->value;
}

std::string text_of(const Json& object, const char* name) {
    const auto* const value = member(object, name);
    if (value == nullptr || !value->IsString()) return {};
    return {value->GetString(), value->GetStringLength()};
}

std::uint64_t count_of(const Json& object, const char* name) {
    const auto* const value = member(object, name);
    return value != nullptr && value->IsUint64() ? value->GetUint64() : 0;
}

/// Calls `each` with every letter that matches, at most `limit`. Returns where more begin: "" none.
Result<std::string> visit(const Ask& ask, const DeadOptions& given, std::size_t limit, bool events,
                          Program& program, const std::function<void(const Json&)>& each) {
    auto after = given.after;
    while (limit > 0) {
        auto body = filters(given);
        body.add_text("after", after);
        body.add("limit", fmt::format("{}", std::min(limit, kPageMax)));
        if (events) body.add("events", "true");
        rapidjson::Document reply;
        if (auto asked = ask_json(ask, "/dead/list", body.text(), reply); !asked) {
            return asked.error();
        }
        const auto* const letters = member(reply, "letters");
        if (letters == nullptr || !letters->IsArray()) {
            return Error{Errc::refused, "/dead/list: the reply has no letters"};
        }
        for (const auto& letter : letters->GetArray()) each(letter);
        limit -= std::min<std::size_t>(limit, letters->Size());
        if (const auto damaged = count_of(reply, "damaged"); damaged > 0) {
            fmt::print(program.err, "opsrelay: {} dead letters are damaged and left out\n",
                       damaged);
        }
        after = text_of(reply, "next");
        if (after.empty()) break;
    }
    return after;
}

int list(const DeadOptions& given, Program& program) {
    const auto ask = open_ask(given.where, program);
    if (!ask) return fail(program, ask.error());
    std::size_t shown = 0;
    const bool json = given.output == Output::json;
    if (json) fmt::print(program.out, "{{\"letters\":[");
    const auto print = [&](const Json& letter) {
        if (json) {
            fmt::print(program.out, "{}{}", shown == 0 ? "" : ",", json_text(letter));
        } else {
            fmt::print(program.out, "{}{}", shown == 0 ? table_heading() : "", table_row(letter));
        }
        ++shown;
    };
    const auto next = visit(*ask, given, given.limit, false, program, print);
    if (!next) return fail(program, next.error());
    if (json) {
        fmt::print(program.out, "],\"next\":{}}}\n", next->empty() ? "null" : json_string(*next));
    } else if (shown == 0) {
        fmt::print(program.out, "no dead letters{}\n", next->empty() ? "" : " up to there");
    }
    if (!json && !next->empty()) fmt::print(program.out, "more: --after {}\n", printable(*next));
    return 0;
}

int show(const DeadOptions& given, Program& program) {
    const auto ask = open_ask(given.where, program);
    if (!ask) return fail(program, ask.error());
    Body body;
    body.add("keys", fmt::format("[{}]", json_string(given.keys.front())));
    rapidjson::Document reply;
    const auto asked = ask_json(*ask, "/dead/show", body.text(), reply);
    if (!asked) return fail(program, asked.error());
    const auto* const letter = member(reply, "letter");
    if (letter == nullptr) {
        return fail(program, {Errc::refused, "/dead/show: the reply has no letter"});
    }
    if (given.output == Output::json) {
        fmt::print(program.out, "{}\n", json_text(*letter));
    } else {
        fmt::print(program.out, "{}", letter_text(*letter));
    }
    return 0;
}

int export_all(const DeadOptions& given, Program& program) {
    const auto ask = open_ask(given.where, program);
    if (!ask) return fail(program, ask.error());
    const bool csv = given.format == Format::csv;
    if (csv) fmt::print(program.out, "{}", csv_heading());
    const auto print = [&](const Json& letter) {
        fmt::print(program.out, "{}", csv ? csv_row(letter) : json_text(letter) + "\n");
    };
    const auto done =
        visit(*ask, given, std::numeric_limits<std::size_t>::max(), true, program, print);
    return done ? 0 : fail(program, done.error());
}

/// "field=value": a value that is JSON is taken as that, any other as a text.
Result<std::string> set_json(const std::vector<std::string>& edits) {
    Body body;
    for (const auto& edit : edits) {
        const auto equals = edit.find('=');
        if (equals == 0 || equals == std::string::npos) {
            return Error{Errc::config_invalid,
                         fmt::format("--set {}: write it as field=value", edit)};
        }
        const auto value = edit.substr(equals + 1);
        rapidjson::Document json;
        json.Parse<rapidjson::kParseIterativeFlag>(value.data(), value.size());
        body.add(edit.substr(0, equals), json.HasParseError() ? json_string(value) : value);
    }
    return body.text();
}

/// The requests that a replay or purge is made of, and what they came to.
struct Change {
    std::uint64_t done = 0;
    std::uint64_t refused = 0;
};

void note_refused(const Json& reply, Change& change, Program& program) {
    const auto* const refused = member(reply, "refused");
    if (refused == nullptr || !refused->IsArray()) return;
    for (const auto& one : refused->GetArray()) {
        if (++change.refused > kRefusedShown) continue;
        fmt::print(program.err, "opsrelay: {}: {}\n", printable(text_of(one, "key")),
                   printable(text_of(one, "message")));
    }
}

/// Sends `path` for one page after the other, or for the keys in groups.
Result<Change> change(const Ask& ask, const DeadOptions& given, std::string_view path,
                      const char* count_name, const std::string& set, Program& program) {
    Change change;
    std::string after;
    std::string as_of;
    for (std::size_t first = 0;;) {
        auto body = filters(given);
        if (given.all) {
            body.add("all", "true");
            body.add_text("after", after);
        } else {
            std::string keys;
            const auto end = std::min(given.keys.size(), first + kPageMax);
            for (; first < end; ++first) {
                keys +=
                    fmt::format("{}{}", keys.empty() ? "" : ",", json_string(given.keys[first]));
            }
            body.add("keys", fmt::format("[{}]", keys));
        }
        if (!set.empty()) body.add("set", set);
        if (!as_of.empty()) body.add("as_of", as_of);
        rapidjson::Document reply;
        if (auto asked = ask_json(ask, path, body.text(), reply); !asked) return asked.error();
        change.done += count_of(reply, count_name);
        note_refused(reply, change, program);
        after = text_of(reply, "next");
        if (const auto* const told = member(reply, "as_of")) as_of = json_text(*told);
        if (given.all ? after.empty() : first >= given.keys.size()) return change;
    }
}

// nullopt: go on.
std::optional<int> wrong_choice(const DeadOptions& given, Program& program) {
    const auto refuse = [&](const char* what) {
        fmt::print(program.err, "opsrelay: {}\n", what);
        return kExitUsage;
    };
    if (given.all == !given.keys.empty()) return refuse("give keys, or --all");
    const bool filtered = !given.kind.empty() || !given.lane.empty() || !given.reason.empty();
    if (!given.all && filtered) return refuse("--kind, --lane and --reason go with --all");
    return std::nullopt;
}

int replay(const DeadOptions& given, Program& program) {
    if (const auto code = wrong_choice(given, program)) return *code;
    const auto set = given.set.empty() ? Result<std::string>{std::string{}} : set_json(given.set);
    if (!set) return fail(program, set.error());
    const auto ask = open_ask(given.where, program);
    if (!ask) return fail(program, ask.error());
    const auto done = change(*ask, given, "/dead/replay", "replayed", *set, program);
    if (!done) return fail(program, done.error());
    if (done->refused > kRefusedShown) {
        fmt::print(program.err, "opsrelay: and {} more\n", done->refused - kRefusedShown);
    }
    if (given.output == Output::json) {
        fmt::print(program.out, "{{\"replayed\":{},\"refused\":{}}}\n", done->done, done->refused);
    } else {
        fmt::print(program.out, "{} put back, {} left\n", done->done, done->refused);
    }
    return done->refused == 0 ? 0 : kExitFailed;
}

int purge(const DeadOptions& given, Program& program) {
    if (const auto code = wrong_choice(given, program)) return *code;
    if (!given.yes) {
        fmt::print(program.err,
                   "opsrelay: purged dead letters are gone for good; `opsrelay dead export` keeps "
                   "them. Repeat with --yes\n");
        return kExitUsage;
    }
    const auto ask = open_ask(given.where, program);
    if (!ask) return fail(program, ask.error());
    const auto done = change(*ask, given, "/dead/purge", "purged", {}, program);
    if (!done) return fail(program, done.error());
    if (given.output == Output::json) {
        fmt::print(program.out, "{{\"purged\":{}}}\n", done->done);
    } else {
        fmt::print(program.out, "{} purged\n", done->done);
    }
    return 0;
}

void add_filters(Command command, DeadOptions& into) {
    command.add_option("--kind", into.kind, "admission or upstream").type_name("KIND");
    command.add_option("--lane", into.lane, "Of this lane").type_name("NAME");
    command.add_option("--reason", into.reason, "With this reason, such as upstream_400")
        .type_name("REASON");
}

void add_choice(Command command, DeadOptions& into) {
    command.add_option("keys", into.keys, "Keys, as `dead list` shows them").type_name("KEY");
    command.add_flag("--all", into.all, "All that match the filters");
    add_filters(command, into);
}

}  // namespace

void add_dead(Command app, Program& program, Action& action) {
    const auto group = app.add_subcommand("dead", "Dead letters: events that will not be sent");
    group.require_subcommand();
    group.footer(kFooter);
    const auto given = std::make_shared<DeadOptions>();  // lives as long as options refer to it
    const auto add = [&](const char* name, const char* help,
                         int (*run)(const DeadOptions&, Program&)) {
        const auto command = group.add_subcommand(name, help);
        add_spool_flags(command, given->where);
        command.callback([given, run, &program, &action] {
            action = [given, run, &program] { return run(*given, program); };
        });
        return command;
    };

    auto command = add("list", "List them, oldest of each kind and lane first", list);
    add_filters(command, *given);
    command.add_option("--limit", given->limit, "At most this many; default 100")
        .range(1, 1'000'000)
        .type_name("N");
    command.add_option("--after", given->after, "Begin behind this key").type_name("KEY");
    add_output(command, given->output);

    command = add("show", "Print everything that is kept of one", show);
    command.add_option("key", given->keys, "Its key").required().expected(1, 1).type_name("KEY");
    add_output(command, given->output);

    command = add("export", "Print all of them with their events", export_all);
    add_filters(command, *given);
    command.add_choice<Format>("--format", given->format, "ndjson (default) or csv",
                               {{"ndjson", Format::ndjson}, {"csv", Format::csv}});

    command = add("replay", "Put them back to be sent, changed if need be", replay);
    add_choice(command, *given);
    command
        .add_option("--set", given->set,
                    "Change a field of each event; the value is JSON or else a text")
        .type_name("FIELD=VALUE")
        .repeatable();
    add_output(command, given->output);

    command = add("purge", "Give them up for good", purge);
    add_choice(command, *given);
    command.add_flag("--yes", given->yes, "Do it");
    add_output(command, given->output);
}

}  // namespace opsrelay::cli
