// `send` puts events into a running daemon and knows of each what became of it.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>

#include "cli/acked_sender.h"
#include "cli/commands.h"
#include "cli/locate.h"
#include "config/fields.h"
#include "core/clock.h"
#include "core/json_text.h"

namespace opsrelay::cli {

namespace {

constexpr const char* kFooter = R"(
Events come from the arguments, from --file, or from standard input, one JSON object per line. They
travel over the daemon's stream socket with acknowledgements; after a broken connection those that
were not confirmed are sent again. Give every event an externalRequestId, so that the daemon can
tell a repeat from a new event.

Examples:
  opsrelay send '{"provider":"openai","model":"gpt-4o","externalRequestId":"r-1","inputTokens":12}'
  opsrelay send --file events.ndjson --output json
  zcat archive.ndjson.gz | opsrelay send --run-dir /run/opsrelay

Exit codes: 0 every event is durable or a duplicate of one that is; 1 otherwise; 2 usage.)";

struct SendOptions {
    ClientFlags where;
    std::optional<std::string> socket;
    std::optional<std::string> file;
    std::vector<std::string> events;
    std::string timeout = "30s";
    unsigned retries = 5;
    bool quiet = false;
    Output output = Output::text;
};

/// Where the events come from; owns the file, if there is one.
struct Input {
    UniqueFd file;
    LineSource source;
};

Result<Input> open_input(const SendOptions& given, const Program& program) {
    const bool is_stdin = given.file == "-" || given.events == std::vector<std::string>{"-"};
    if (!given.events.empty() && !is_stdin) return Input{UniqueFd{}, LineSource(given.events)};
    if (given.file && !is_stdin) {
        UniqueFd fd(::open(given.file->c_str(), O_RDONLY | O_CLOEXEC));
        if (!fd) return errno_error(Errc::io, fmt::format("--file {}", *given.file), errno);
        struct stat info {};
        if (::fstat(fd.get(), &info) == 0 && S_ISDIR(info.st_mode)) {
            return errno_error(Errc::io, fmt::format("--file {}", *given.file), EISDIR,
                               "name a file of events, one JSON object a line");
        }
        const int number = fd.get();
        return Input{std::move(fd), LineSource(number)};
    }
    if (program.in_is_terminal && !is_stdin) {
        return Error{Errc::config_invalid,
                     "no events: give them as arguments, with --file, or on standard input"};
    }
    return Input{UniqueFd{}, LineSource(program.in)};
}

Result<SenderOptions> sender_options(const SendOptions& given, const Program& program) {
    using std::chrono_literals::operator""ms;
    using std::chrono_literals::operator""h;
    SenderOptions options;
    const auto timeout = config::duration_field("--timeout", given.timeout, {1ms, 24h});
    if (!timeout) return timeout.error();
    options.timeout = *timeout;
    options.retries = given.retries;
    if (given.socket) {
        options.sockets = {*given.socket};
        return options;
    }
    auto sockets = stream_sockets(given.where, program);
    if (!sockets) return sockets.error();
    options.sockets = *std::move(sockets);
    return options;
}

// What went wrong, with the reason or where it is.
void print_trouble(const SendReport& report, std::FILE* err) {
    if (!report.failure.empty()) {
        fmt::print(err, "opsrelay: {}{}{}\n", report.failure,
                   report.input_left ? "; the input was not read to its end" : "",
                   report.input_failed ? "" : "; is the daemon running? See opsrelay status");
    }
    if (report.too_long != 0) {
        fmt::print(err, "opsrelay: {} rejected and not sent: longer than {} bytes\n",
                   report.too_long, kLineBytesMax);
    }
    if (report.messages != 0) {
        fmt::print(
            err,
            "opsrelay: {} rejected and not sent: a line that begins with {{\"opsrelay\" is a "
            "message to the daemon, not an event\n",
            report.messages);
    }
    const auto told = report.rejected - report.too_long - report.messages;
    if (told != 0) {
        fmt::print(err, "opsrelay: {} rejected: `opsrelay dead list --kind admission` says why\n",
                   told);
    }
}

void print_report(const SendReport& report, const SendOptions& given, Program& program) {
    print_trouble(report, program.err);
    if (given.quiet) return;
    if (given.output == Output::json) {
        fmt::print(program.out,
                   R"({{"events":{},"durable":{},"rejected":{},"unconfirmed":{},"reconnects":{},)"
                   R"("complete":{},"failure":{}}})"
                   "\n",
                   report.events, report.durable, report.rejected, report.unconfirmed,
                   report.reconnects, !report.input_left,
                   report.failure.empty() ? "null" : json_string(report.failure));
        return;
    }
    fmt::print(program.out, "{} event{}: {} durable, {} rejected, {} unconfirmed\n", report.events,
               report.events == 1 ? "" : "s", report.durable, report.rejected, report.unconfirmed);
}

int send(const SendOptions& given, Program& program) {
    auto options = sender_options(given, program);
    if (!options) return fail(program, options.error());
    auto input = open_input(given, program);
    if (!input) return fail(program, input.error());

    const SystemClock clock;
    AckedSender sender(*std::move(options), input->source, clock);
    auto shown = clock.now();
    bool line_open = false;
    const auto show = [&](const SendReport& report) {
        constexpr milliseconds kInterval{250};
        if (clock.now() - shown < kInterval) return;
        shown = clock.now();
        line_open = true;
        fmt::print(program.err, "\r{} durable, {} rejected ", report.durable, report.rejected);
        std::fflush(program.err);
    };
    const bool progress = program.err_is_terminal && !given.quiet;
    const auto report = progress ? sender.run(show) : sender.run();
    if (line_open) fmt::print(program.err, "\r\x1b[K");
    print_report(report, given, program);
    return report.all_durable() ? 0 : kExitFailed;
}

}  // namespace

void add_send(Command app, Program& program, Action& action) {
    const auto command = app.add_subcommand("send", "Send events and wait until they are durable");
    const auto given = std::make_shared<SendOptions>();  // lives as long as options refer to it
    const auto events = command
                            .add_option("events", given->events,
                                        "Events, one JSON object each; - alone is standard input")
                            .type_name("EVENT");
    command.add_option("--file", given->file, "Read the events from FILE; - is standard input")
        .type_name("FILE")
        .excludes(events);
    command.add_option("--socket", given->socket, "Path of the daemon's stream socket")
        .type_name("PATH");
    add_client_flags(command, given->where);
    command
        .add_option("--timeout", given->timeout,
                    "Give up when nothing was confirmed for this long; default 30s")
        .type_name("DURATION");
    command
        .add_option("--retries", given->retries,
                    "Connections in a row without progress before giving up; default 5")
        .type_name("N")
        .range(0, 1'000'000);
    command.add_flag("--quiet", given->quiet, "Print errors only");
    add_output(command, given->output);
    command.footer(kFooter);
    command.callback([given, &program, &action] {
        action = [given, &program] { return send(*given, program); };
    });
}

}  // namespace opsrelay::cli
