// opsrelay-upstream: command line, start, signals, final statistics.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iterator>

#include "core/clock.h"
#include "core/error.h"
#include "core/log.h"
#include "core/nothrow.h"
#include "core/task_group.h"
#include "upstream/server.h"

namespace {

using namespace opsrelay;
using upstream::Settings;

constexpr std::string_view kFooter =
    "Faults (scripts and rates): ok, any status 300 to 599, 402_plan, 402_budget, 500_html,\n"
    "503_empty, 200_html, 200_text, 200_ok_false, 200_empty, 204, 302, reset_before,\n"
    "reset_after_commit, stall, stall_after_commit, slow_body, truncated_body, close_after,\n"
    "latency.\n"
    "While it runs: GET and POST /control, GET and DELETE /rows, GET /stats on the control port;\n"
    "/rows and /stats on the ingest port too. SIGTERM ends it with a line of statistics.\n";

constexpr std::size_t kScriptBytesMax = 8U << 20U;

struct Arguments {
    std::string plan;
    std::int64_t plan_limit = -1;
    std::string script;
    std::vector<std::string> rates;
    std::int64_t latency_ms = 0;
    bool last_wins = false;
    bool budget_stop = false;
};

void add_api_options(CLI::App& app, Settings& settings, Arguments& given) {
    auto& behaviour = settings.behaviour;
    app.add_option("--api-key", behaviour.api_keys, "A key that is accepted; may be repeated")
        ->take_all();
    app.add_option("--plan", given.plan,
                   "Free, Starter, Pro, Team, Enterprise (no limit; default)");
    app.add_option("--plan-limit", given.plan_limit, "Requests before 402 plan_limit_reached")
        ->check(CLI::Range(std::int64_t{0}, std::int64_t{1'000'000'000'000}));
    app.add_flag("--budget-stop", given.budget_stop, "Answer 402 to everything, as a spent budget");
    app.add_option("--budget-reason", behaviour.budget.reason, "Reason of that 402")
        ->capture_default_str();
    app.add_option("--validation-status", behaviour.validation_status, "400 or 422")
        ->check(CLI::IsMember({400, 422}))
        ->capture_default_str();
    app.add_flag("--lenient", behaviour.lenient, "Require nothing but status");
    app.add_flag("--last-wins", given.last_wins, "A repeated id replaces its row");
    app.add_option("--max-rows", settings.rows_max, "More are answered 503")
        ->check(CLI::Range(std::size_t{1}, std::size_t{2'000'000'000}))
        ->capture_default_str();
    app.add_option("--max-bytes", settings.row_bytes_max.count, "Ids and bodies together")
        ->capture_default_str();
    app.add_flag("--ids-only", settings.ids_only, "Keep ids, forget bodies");
}

void add_options(CLI::App& app, Settings& settings, Arguments& given) {
    app.add_option("--address", settings.address, "A loopback address")->capture_default_str();
    app.add_option("--port", settings.port, "Ingest port; 0: any")->capture_default_str();
    app.add_option("--control-port", settings.control_port, "Control port; 0: any")
        ->capture_default_str();
    app.add_option("--max-connections", settings.connections_max, "Per port")
        ->capture_default_str();
    add_api_options(app, settings, given);
    app.add_option("--script", given.script, "File with a JSON array of faults, one per request")
        ->check(CLI::ExistingFile);
    app.add_option("--rate", given.rates, "FAULT=N: in N of 1000 requests; may be repeated")
        ->take_all();
    app.add_option("--seed", settings.seed, "Of the rates")->capture_default_str();
    app.add_option("--latency-ms", given.latency_ms, "Before every ingest reply")
        ->check(CLI::Range(std::int64_t{0}, std::int64_t{3'600'000}));
    app.add_flag("--down", settings.behaviour.down, "Start with the ingest port closed");
    auto& tls = settings.tls;
    auto* certificate = app.add_option("--tls-cert", tls.cert_file, "PEM chain: speak TLS");
    auto* key = app.add_option("--tls-key", tls.key_file, "PEM key")->needs(certificate);
    certificate->needs(key);
    auto* self_signed = app.add_flag("--tls-self-signed", tls.self_signed, "Make a certificate")
                            ->excludes(certificate);
    app.add_option("--tls-host", tls.host, "Name or address in it")
        ->needs(self_signed)
        ->capture_default_str();
    app.add_flag("--tls-expired", tls.expired, "Valid until yesterday")->needs(self_signed);
    app.add_option("--tls-cert-out", tls.cert_out, "Write it to this file")->needs(self_signed);
    app.footer(std::string(kFooter));
}

Result<std::string> read_script_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string text{std::istreambuf_iterator<char>(file), {}};
    if (!file.bad() && file.is_open() && text.size() <= kScriptBytesMax) return text;
    return Error{Errc::io, fmt::format("--script {}: cannot be read, or is over 8 MiB", path)};
}

Result<void> finish(Settings& settings, const Arguments& given) {
    auto& behaviour = settings.behaviour;
    if (!given.plan.empty()) {
        const auto plan = upstream::find_plan(given.plan);
        if (!plan) return plan.error();
        behaviour.plan.name = plan->name;
        behaviour.plan.limit = plan->limit;
    }
    if (given.plan_limit >= 0) behaviour.plan.limit = given.plan_limit;
    if (given.budget_stop) behaviour.budget.stop = upstream::BudgetStop::always;
    if (given.last_wins) behaviour.conflict = upstream::Conflict::last_wins;
    behaviour.latency = milliseconds{given.latency_ms};
    for (const auto& text : given.rates) {
        auto rate = upstream::parse_rate(text);
        if (!rate) return rate.error();
        settings.rates.push_back(std::move(*rate));
    }
    if (const auto fits = upstream::check_rates(settings.rates); !fits) return fits.error();
    if (given.script.empty()) return {};
    const auto text = read_script_file(given.script);
    if (!text) return text.error();
    auto script = upstream::parse_script(*text);
    if (!script) return script.error();
    settings.script = std::move(*script);
    return {};
}

int fail(const Error& error) {
    fmt::print(stderr, "opsrelay-upstream: {}\n", error.context);
    return exit_code(error.code);
}

asio::awaitable<void> stop_on_signal(asio::signal_set& signals, upstream::Server& server) {
    co_await signals.async_wait(nothrow);
    server.stop();
}

int run(Settings settings) {
    asio::io_context io{1};
    SystemClock clock;
    asio::signal_set signals(io, SIGTERM, SIGINT);
    upstream::Server server(io.get_executor(), clock, std::move(settings));
    const auto started = server.start();
    if (!started) {
        server.stop();
        io.run();
        return fail(started.error());
    }
    TaskGroup tasks(io.get_executor(), clock);
    tasks.spawn("signals", stop_on_signal(signals, server));
    fmt::print("opsrelay-upstream listening on {} control {}\n", server.url(),
               server.control_url());
    std::fflush(stdout);
    io.run();
    fmt::print("{}", server.stats_json());
    std::fflush(stdout);
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"A local stand-in for the Opsmeter ingest API: in memory, loopback only."};
    Settings settings;
    Arguments given;
    add_options(app, settings, given);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;
    }
    if (const auto finished = finish(settings, given); !finished) return fail(finished.error());
    try {
        return run(std::move(settings));
    } catch (const std::exception& error) {
        fmt::print(stderr, "opsrelay-upstream: {}\n", error.what());
        return 1;
    }
}
