// `tail` shows events as they pass, with what becomes of them.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/locate.h"
#include "cli/paint.h"
#include "cli/tail_stream.h"
#include "cli/tail_text.h"
#include "config/fields.h"

namespace opsrelay::cli {

namespace {

constexpr const char* kFooter = R"(
Shows id, provider, model, tokens, status and lane of each event and what became of it, from now on;
never users, tenants, metadata or content. An event is seen when it is accepted and again at its
end. Outcomes: accepted, duplicate, rejected, shed, delivered, retried, dead, dropped. When more
pass than can be shown, or this command reads too slowly, it says how many were not shown, whether
they would have been chosen or not; the daemon never waits for it. At most 4 of them can watch at a
time. After a restart of the daemon it goes on.

Examples:
  opsrelay tail
  opsrelay tail --outcome rejected,dead,retried
  opsrelay tail --lane default --output json -n 100 > events.ndjson

Exit codes: 0 interrupted, or -n events were shown; 1 no daemon, or it did not return; 2 usage.)";

constexpr std::string_view kPath = "/tail";
constexpr seconds kAnswerTimeout{3};
constexpr milliseconds kTryAgain{250};

struct TailOptions {
    ClientFlags where;
    std::string outcomes;
    std::string lane;
    std::string model;
    std::uint64_t count = 0;
    std::string wait = "30s";
    Colour colour = Colour::automatic;
    Output output = Output::text;
};

void add_query(std::string& path, const char* name, std::string_view value) {
    if (value.empty()) return;
    path += fmt::format("{}{}=", path.find('?') == std::string::npos ? '?' : '&', name);
    for (const char c : value) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           (c >= '0' && c <= '9') || c == '-' || c == '_' || c == ',' || c == '.';
        if (plain) {
            path += c;
        } else {
            path += fmt::format("%{:02X}", static_cast<unsigned char>(c));
        }
    }
}

class TailCommand {
public:
    TailCommand(const TailOptions& given, Program& program)
        : given_(given), program_(program), paint_(given.colour, program), path_(kPath) {
        add_query(path_, "outcome", given.outcomes);
        add_query(path_, "lane", given.lane);
        add_query(path_, "model", given.model);
    }

    int run() {
        using std::chrono_literals::operator""h;
        const auto wait = config::duration_field("--wait", given_.wait, {milliseconds{0}, 24h});
        if (!wait) return fail(program_, wait.error());
        auto targets = admin_targets(given_.where, std::nullopt, program_);
        if (!targets) return fail(program_, targets.error());
        targets_ = *std::move(targets);
        auto stream = open();
        while (stream) {
            // From here on nothing passes unseen: who starts what it wants to see waits for this.
            tell("watching events as they pass; Ctrl-C ends it");
            const auto lost = follow(*stream);
            if (!lost) return 0;
            if (std::ferror(program_.out) != 0) return fail(program_, *lost);
            tell(fmt::format("{}; waiting {} for it to return", lost->context, given_.wait));
            stream = come_back(clock_.now() + *wait);
            if (interrupt_.came()) return 0;
        }
        return fail(program_, stream.error());
    }

private:
    void tell(std::string_view what) {
        fmt::print(program_.err, "opsrelay: {}\n", what);
        std::fflush(program_.err);
    }

    Result<TailStream> open() {
        Attempts attempts;
        for (const auto& target : targets_) {
            if (target.socket.empty()) continue;  // the port is for looking at numbers
            auto stream =
                TailStream::open(target.socket, path_, clock_, clock_.now() + kAnswerTimeout);
            if (stream) return stream;
            const bool answered =
                stream.error().code == Errc::refused || stream.error().code == Errc::config_invalid;
            if (answered) return stream.error();
            attempts.add(target, stream.error());
        }
        return attempts.error("start it with `opsrelay run`, or say where it is with --run-dir");
    }

    // What else is on the way out of a daemon that ends is not its return.
    Result<TailStream> come_back(TimePoint due) {
        for (;;) {
            auto stream = open();
            if (stream || clock_.now() >= due) return stream;
            if (interrupt_.wait_until(clock_, std::min(clock_.now() + kTryAgain, due))) {
                return stream;
            }
        }
    }

    // Until it is interrupted or has shown enough: nullopt; else why the stream ended.
    std::optional<Error> follow(TailStream& stream) {
        for (;;) {
            const auto line = stream.next(interrupt_, clock_);
            if (!line) return line.error();
            if (!*line) return std::nullopt;
            const bool last = show(**line);
            if (last || !stream.has_line()) std::fflush(program_.out);
            if (std::ferror(program_.out) != 0) {
                return Error{Errc::io, "standard output takes nothing more: is its disk full?"};
            }
            if (last) return std::nullopt;
        }
    }

    // True: that was the last one.
    bool show(std::string_view line) {
        const auto read = read_tail_line(line, path_ != kPath, paint_);
        if (!read) return false;
        fmt::print(program_.out, "{}\n",
                   given_.output == Output::json ? line : std::string_view(read->text));
        if (read->event) ++shown_;
        return given_.count != 0 && shown_ == given_.count;
    }

    const TailOptions& given_;
    Program& program_;
    const SystemClock clock_;
    const Interrupt interrupt_;
    const Paint paint_;
    std::string path_;
    std::vector<AdminTarget> targets_;
    std::uint64_t shown_ = 0;
};

}  // namespace

void add_tail(Command app, Program& program, Action& action) {
    const auto command = app.add_subcommand("tail", "Show events as they pass");
    const auto given = std::make_shared<TailOptions>();  // lives as long as options refer to it
    add_client_flags(command, given->where);
    command.add_option("--outcome", given->outcomes, "Only these outcomes, by commas")
        .type_name("OUTCOME,...");
    command.add_option("--lane", given->lane, "Only this lane").type_name("NAME");
    command.add_option("--model", given->model, "Only this model").type_name("MODEL");
    command.add_option("-n,--count", given->count, "End after this many; default: never")
        .type_name("N")
        .range(1, 1'000'000'000);
    command
        .add_option("--wait", given->wait,
                    "Wait this long for a daemon that ended to return; default 30s")
        .type_name("DURATION");
    add_colour(command, given->colour);
    add_output(command, given->output);
    command.footer(kFooter);
    command.callback([given, &program, &action] {
        action = [given, &program] { return TailCommand(*given, program).run(); };
    });
}

}  // namespace opsrelay::cli
