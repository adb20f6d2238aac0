// `status` shows what the daemon is doing and serves as exec probe.
#include <fmt/format.h>
#include <rapidjson/document.h>

#include <charconv>
#include <cstdio>
#include <utility>

#include "cli/admin_client.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/locate.h"
#include "cli/paint.h"
#include "cli/status_text.h"
#include "cli/watch.h"
#include "config/fields.h"
#include "core/clock.h"
#include "core/json_text.h"

namespace opsrelay::cli {

namespace {

constexpr const char* kFooter = R"(
Asks the daemon over admin.sock in its run directory, else over its admin port.

Examples:
  opsrelay status
  opsrelay status --output json --run-dir /run/opsrelay
  opsrelay status --watch 5      again every 5 seconds, with rates, until it is interrupted
  opsrelay status --ready        as readiness probe: exit 0 while events are accepted
  opsrelay status --live         as liveness probe: exit 0 while the daemon answers

Exit codes: 0 ok, or the watch was interrupted; 1 not reachable, not ready or not live; 2 usage.)";

constexpr seconds kWatchDefault{2};
constexpr double kWatchMin = 0.1;
constexpr double kWatchMax = 3600;
constexpr const char* kClear = "\x1b[H\x1b[2J";

struct StatusOptions {
    ClientFlags where;
    std::optional<std::uint16_t> admin_port;
    std::string timeout = "3s";
    bool ready = false;
    bool live = false;
    bool watched = false;
    std::string interval;  // seconds; "": the default
    Colour colour = Colour::automatic;
    Output output = Output::text;
};

// The first target that answers; else an error that names all that were tried.
Result<HttpReply> ask(const StatusOptions& given, std::string_view path, const Program& program) {
    using std::chrono_literals::operator""ms;
    using std::chrono_literals::operator""min;
    const auto timeout = config::duration_field("--timeout", given.timeout, {1ms, 10min});
    if (!timeout) return timeout.error();
    const auto targets = admin_targets(given.where, given.admin_port, program);
    if (!targets) return targets.error();
    const SystemClock clock;
    const auto due = clock.now() + *timeout;
    Attempts attempts;
    for (const auto& target : *targets) {
        auto reply = http_get(target, path, clock, due);
        if (reply) return reply;
        attempts.add(target, reply.error());
    }
    return attempts.error(
        "start it with `opsrelay run`, or say where it is with --run-dir or --admin-port");
}

// Reasons as lines; a body of another shape as it is.
std::string probe_text(const std::string& body) {
    rapidjson::Document document;
    document.Parse(body.data(), body.size());
    if (!document.HasParseError() && document.IsObject()) {
        const rapidjson::Value& object = document;
        const auto reasons = object.FindMember("reasons");
        if (reasons != object.MemberEnd() && reasons->value.IsArray()) {
            std::string out;
            for (const auto& reason : reasons->value.GetArray()) {
                if (!reason.IsString()) continue;
                out += printable({reason.GetString(), reason.GetStringLength()}) + '\n';
            }
            return out;
        }
    }
    auto out = printable(body);
    if (!out.empty()) out += '\n';
    return out;
}

int probe(const StatusOptions& given, Program& program) {
    const auto reply = ask(given, given.ready ? "/readyz" : "/livez", program);
    if (!reply) return fail(program, reply.error());
    const bool good = reply->status == 200;
    if (given.output == Output::json) {
        fmt::print(program.out, "{}\n", reply->body);
    } else {
        const char* const word = given.ready ? "ready" : "live";
        fmt::print(program.out, "{}{}\n", good ? "" : "not ", word);
        if (!good) fmt::print(program.out, "{}", probe_text(reply->body));
    }
    return good ? 0 : kExitFailed;
}

Result<std::string> ask_status(const StatusOptions& given, const Program& program) {
    auto reply = ask(given, "/status", program);
    if (!reply) return reply.error();
    if (reply->status == 200) return std::move(reply->body);
    return Error{Errc::refused, fmt::format("/status: the daemon answered HTTP {}", reply->status)};
}

Result<milliseconds> watch_interval(const std::string& text) {
    if (text.empty()) return kWatchDefault;
    double value = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool number = parsed.ec == std::errc{} && parsed.ptr == text.data() + text.size();
    if (number && value >= kWatchMin && value <= kWatchMax) {
        return std::chrono::round<milliseconds>(std::chrono::duration<double>(value));
    }
    return Error{Errc::config_invalid, fmt::format("--watch: {} is not a number of seconds from "
                                                   "{} to {}",
                                                   text, kWatchMin, kWatchMax)};
}

/// Shows the status again and again.
class Watch {
public:
    Watch(const StatusOptions& given, Program& program, milliseconds interval)
        : given_(given), program_(program), interval_(interval), paint_(given.colour, program) {}

    int run() {
        auto status = ask_status(given_, program_);
        if (!status) return fail(program_, status.error());
        for (;;) {
            const auto at = clock_.now();
            show(status, at);
            std::fflush(program_.out);
            if (interrupt_.wait_until(clock_, at + interval_)) return 0;
            status = ask_status(given_, program_);
        }
    }

private:
    void show(const Result<std::string>& status, TimePoint at) {
        const auto now = time_text(clock_.wall_now());
        std::optional<Rates> rates;
        if (status) rates = meter_.look(*status, at);
        if (!status) meter_.forget();
        if (given_.output == Output::json) {
            if (status) {
                fmt::print(program_.out, "{{\"at\":\"{}\",\"rates\":{},\"status\":{}}}\n", now,
                           rates_json(rates), *status);
            } else {
                fmt::print(program_.out, "{{\"at\":\"{}\",\"error\":{}}}\n", now,
                           json_string(status.error().context));
            }
            return;
        }
        auto text = status ? status_text(*status, paint_) : status.error();
        // A terminal shows the newest alone, anything else all of them.
        fmt::print(
            program_.out, "{}{}  {}\n\n{}\n", program_.out_is_terminal ? kClear : "", now,
            rates_text(rates),
            text ? *text : paint_.bad("opsrelay: " + printable(text.error().context)) + "\n");
    }

    const StatusOptions& given_;
    Program& program_;
    const milliseconds interval_;
    const Paint paint_;
    const SystemClock clock_;
    const Interrupt interrupt_;
    RateMeter meter_;
};

int status(const StatusOptions& given, Program& program) {
    if (given.ready || given.live) return probe(given, program);
    if (given.watched) {
        const auto interval = watch_interval(given.interval);
        if (!interval) return fail(program, interval.error());
        return Watch(given, program, *interval).run();
    }
    const auto reply = ask_status(given, program);
    if (!reply) return fail(program, reply.error());
    if (given.output == Output::json) {
        fmt::print(program.out, "{}\n", *reply);
        return 0;
    }
    const auto text = status_text(*reply, Paint(given.colour, program));
    if (!text) return fail(program, text.error());
    fmt::print(program.out, "{}", *text);
    return 0;
}

}  // namespace

void add_status(Command app, Program& program, Action& action) {
    const auto command = app.add_subcommand("status", "Show the state of a running daemon");
    const auto given = std::make_shared<StatusOptions>();  // lives as long as options refer to it
    add_client_flags(command, given->where);
    command
        .add_option("--admin-port", given->admin_port,
                    "Port of the daemon's admin listener on 127.0.0.1")
        .type_name("N");
    command.add_option("--timeout", given->timeout, "Wait this long for the answer; default 3s")
        .type_name("DURATION");
    const auto ready = command.add_flag("--ready", given->ready,
                                        "Exit 0 if it accepts events, else 1 with reasons");
    command.add_flag("--live", given->live, "Exit 0 if it is alive, else 1").excludes(ready);
    const auto watch = command
                           .add_option("--watch", given->interval,
                                       "Show it again every SECONDS, with rates; default 2")
                           .type_name("SECONDS")
                           .expected(0, 1)
                           .excludes("--ready")
                           .excludes("--live");
    add_colour(command, given->colour);
    add_output(command, given->output);
    command.footer(kFooter);
    command.callback([given, watch, &program, &action] {
        given->watched = watch.given();
        action = [given, &program] { return status(*given, program); };
    });
}

}  // namespace opsrelay::cli
