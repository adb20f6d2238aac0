// `flush` waits until what was accepted before has its outcome.
#include <fmt/format.h>
#include <poll.h>
#include <rapidjson/document.h>

#include <algorithm>

#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/json_fields.h"
#include "cli/spool_ask.h"
#include "config/fields.h"
#include "core/clock.h"
#include "core/json_text.h"

namespace opsrelay::cli {

namespace {

constexpr const char* kFooter = R"(
Waits until every event that was accepted before is delivered, or a dead letter; events that come
later are not waited for. A lane that backs off or is parked tries at once, one time; where upstream
asked to wait (Retry-After) it waits. A deferred event is tried once more, and is left if that
fails. Ends at once when all that is left are paused lanes, lanes that are not configured any more,
and deferred events.

Examples:
  opsrelay flush --timeout 25s          in a preStop hook
  opsrelay flush --lane europe --output json

Exit codes: 0 nothing is left; 1 something is, with the reasons; 2 usage.)";

constexpr milliseconds kLookEvery{200};
constexpr milliseconds kAnswerTimeMin{1'000};  // of a request, however little time is left

struct FlushOptions {
    ClientFlags where;
    std::string lane;
    std::string timeout = "30s";
    Output output = Output::text;
};

/// What is left of one lane, and why.
struct LaneLeft {
    std::string lane;
    std::uint64_t events = 0;
    std::uint64_t resting = 0;  // of these, deferred: tried, and not due for long
    std::string state;
    std::string error;
    std::string next;
};

std::string ends_body(const rapidjson::Value& reply) {
    std::string out;
    if (const auto* const ends = member(reply, "ends"); ends != nullptr && ends->IsObject()) {
        for (const auto& end : ends->GetObject()) {
            out += fmt::format("{}{}:{}", out.empty() ? "" : ",", json_string(text(end.name)),
                               count(end.value));
        }
    }
    return fmt::format("{{\"ends\":{{{}}}}}", out);
}

/// One daemon, asked until a moment.
struct Patience {
    const AdminTarget& target;
    const Clock& clock;
    TimePoint due;

    [[nodiscard]] TimePoint answer_due() const {
        return std::max(due, clock.now() + kAnswerTimeMin);
    }
    void rest() const {
        const auto next = std::min(due, clock.now() + kLookEvery);
        (void)::poll(nullptr, 0, poll_timeout(clock, next));  // ended early: asks early
    }
    // As ask_json(); a daemon that is busy, or waits for its disk, is asked again.
    Result<void> ask(std::string_view path, const std::string& body,
                     rapidjson::Document& reply) const {
        const Ask post = [this](std::string_view where, std::string_view what) {
            return http_post(target, where, what, clock, answer_due());
        };
        for (;;) {
            auto asked = ask_json(post, path, body, reply);
            if (asked || asked.error().code != Errc::timed_out) return asked;
            if (clock.now() >= due) {
                return Error{Errc::timed_out,
                             fmt::format("{}; the daemon may be waiting for its disk: see its log",
                                         asked.error().context)};
            }
            rest();
        }
    }
};

Result<std::vector<LaneLeft>> look(const Patience& daemon, const std::string& ends) {
    rapidjson::Document reply;
    const auto asked = daemon.ask("/lanes/left", ends, reply);
    if (!asked) return asked.error();
    std::vector<LaneLeft> all;
    const auto* const left = member(reply, "left");
    if (left == nullptr || !left->IsObject()) {
        return Error{Errc::refused, "/lanes/left: the answer is not from this version of opsrelay"};
    }
    const auto* const resting = member(reply, "resting");
    for (const auto& lane : left->GetObject()) {
        if (count(lane.value) == 0) continue;
        LaneLeft one{text(lane.name), count(lane.value), 0, {}, {}, {}};
        if (resting != nullptr && resting->IsObject()) {
            one.resting = count(*resting, one.lane.c_str());
        }
        all.push_back(std::move(one));
    }
    return all;
}

// Nothing more is going to happen to it soon.
bool rests(const LaneLeft& one) {
    return one.state == "paused" || one.state == "not_configured" || one.events == one.resting;
}

// Why nothing, or not everything, is sent. Without an answer the reasons stay empty.
void add_reasons(const Patience& daemon, std::vector<LaneLeft>& left) {
    const auto reply = http_get(daemon.target, "/status", daemon.clock, daemon.answer_due());
    if (!reply) return;
    rapidjson::Document status;
    status.Parse(reply->body.data(), reply->body.size());
    const auto* const lanes = status.HasParseError() ? nullptr : member(status, "lanes");
    if (lanes == nullptr || !lanes->IsArray()) return;
    for (const auto& lane : lanes->GetArray()) {
        for (auto& one : left) {
            if (one.lane != text(lane, "name")) continue;
            one.state = text(lane, "state");
            one.error = text(lane, "last_error");
            one.next = text(lane, "next");
        }
    }
}

std::string why(const LaneLeft& one) {
    // What failed before the pause is not why nothing is sent.
    if (one.state == "paused") return "paused by an operator";
    return fmt::format("{}{}{}", one.state, one.error.empty() ? "" : ": ", one.error);
}

void show(const std::vector<LaneLeft>& left, Output output, Program& program) {
    if (output == Output::json) {
        std::string lanes;
        for (const auto& one : left) {
            lanes += fmt::format(
                "{}{{\"name\":{},\"left\":{},\"deferred\":{},\"state\":{},"
                "\"last_error\":{}}}",
                lanes.empty() ? "" : ",", json_string(one.lane), one.events, one.resting,
                json_string(one.state), json_string(one.error));
        }
        fmt::print(program.out, "{{\"empty\":{},\"lanes\":[{}]}}\n", left.empty(), lanes);
        return;
    }
    if (left.empty()) fmt::print(program.out, "everything accepted before has its outcome\n");
    for (const auto& one : left) {
        const auto deferred =
            one.resting == 0 ? "" : fmt::format(" ({} of them deferred)", one.resting);
        fmt::print(program.err, "opsrelay: lane {}: {} events left{}, {}{}{}\n", one.lane,
                   one.events, deferred, why(one), one.next.empty() ? "" : "; ", one.next);
    }
}

int flush(const FlushOptions& given, Program& program) {
    using std::chrono_literals::operator""ms;
    using std::chrono_literals::operator""h;
    const auto timeout = config::duration_field("--timeout", given.timeout, {0ms, 24h});
    if (!timeout) return fail(program, timeout.error());
    const auto target = find_daemon(given.where, program);
    if (!target) return fail(program, target.error());
    const SystemClock clock;
    const Patience daemon{*target, clock, clock.now() + *timeout};
    const auto body =
        given.lane.empty() ? "{}" : fmt::format("{{\"lane\":{}}}", json_string(given.lane));
    rapidjson::Document reply;
    const auto begun = daemon.ask("/lanes/flush", body, reply);
    if (!begun) return fail(program, begun.error());
    const auto ends = ends_body(reply);
    for (;;) {
        auto left = look(daemon, ends);
        if (!left) return fail(program, left.error());
        if (!left->empty()) add_reasons(daemon, *left);
        const bool at_rest = std::all_of(left->begin(), left->end(), rests);
        if (at_rest || clock.now() >= daemon.due) {  // also when nothing is left
            show(*left, given.output, program);
            return left->empty() ? 0 : kExitFailed;
        }
        daemon.rest();
    }
}

}  // namespace

void add_flush(Command app, Program& program, Action& action) {
    const auto command =
        app.add_subcommand("flush", "Wait until what was accepted is delivered or dead");
    const auto given =
        std::make_shared<FlushOptions>();  // lives as long as the option refers to it
    add_client_flags(command, given->where);
    command.add_option("--lane", given->lane, "Only this lane").type_name("NAME");
    command.add_option("--timeout", given->timeout, "Wait at most this long; default 30s")
        .type_name("DURATION");
    add_output(command, given->output);
    command.footer(kFooter);
    command.callback([given, &program, &action] {
        action = [given, &program] { return flush(*given, program); };
    });
}

}  // namespace opsrelay::cli
