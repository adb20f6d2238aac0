// Switches and commands: what POST /control takes, and that README.md and --help name all of it.
#include "upstream/control.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "support/temp_dir.h"
#include "upstream/command_line.h"
#include "upstream/service_fixture.h"
#include "upstream/switches.h"

namespace opsrelay::upstream {

namespace {

const WallTime kNow = *parse_utc("2026-04-29T12:00:00Z");

std::string complaint(std::string_view json, const Behaviour& now = {}) {
    const auto change = parse_control(json, now, kNow);
    return change ? "" : change.error().context;
}

std::string shown(std::string_view key, const Behaviour& behaviour) {
    return find_switch(key)->show(behaviour);
}

std::string readme() {
    std::ifstream file(OPSRELAY_SOURCE_DIR "/tests/upstream/README.md");
    return {std::istreambuf_iterator<char>(file), {}};
}

/// The lines of README.md's section with that heading.
std::vector<std::string> section(const std::string& heading) {
    const auto text = readme();
    std::vector<std::string> lines;
    auto at = text.find("\n## " + heading + "\n");
    REQUIRE(at != std::string::npos);
    at = text.find('\n', at + 1) + 1;
    while (at < text.size() && text.compare(at, 3, "## ") != 0) {
        const auto end = text.find('\n', at);
        lines.push_back(text.substr(at, end - at));
        at = end + 1;
    }
    return lines;
}

/// The rows of the section's tables, without heads and rules.
std::set<std::string> table_rows(const std::string& heading) {
    std::set<std::string> rows;
    for (const auto& line : section(heading)) {
        if (line.starts_with("| `")) rows.insert(line);
    }
    return rows;
}

/// Both differences by name, so that a failure says what to write.
void check_same(const std::set<std::string>& written, const std::set<std::string>& real) {
    for (const auto& row : real) {
        CHECK_MESSAGE(written.contains(row), "README.md lacks: ", row);
    }
    for (const auto& row : written) {
        CHECK_MESSAGE(real.contains(row), "README.md has, the program has not: ", row);
    }
}

Result<Settings> parsed(std::vector<std::string> arguments) {
    CommandLine line;
    std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the end
    line.app().parse(arguments);
    return line.settings();
}

}  // namespace

TEST_CASE("upstream/readme: the table of switches is the program's") {
    const Behaviour defaults;
    std::set<std::string> rows;
    for (const auto& one : switches()) {
        rows.insert(fmt::format("| `{}` | {} | `{}` | {} | {} |", one.key, one.allowed(),
                                one.show(defaults), to_string(one.evidence), one.meaning));
    }
    CHECK(rows.size() == switches().size());
    check_same(table_rows("Switches"), rows);
}

TEST_CASE("upstream/readme: the table of commands is the program's") {
    std::set<std::string> rows;
    for (const auto& one : commands()) {
        rows.insert(fmt::format("| `{}` | {} | {} |", one.key, one.allowed, one.meaning));
    }
    check_same(table_rows("Commands"), rows);
}

TEST_CASE("upstream/readme: the options are the program's") {
    CommandLine line;
    std::set<std::string> rows;
    for (const auto* option : line.app().get_options()) {
        if (option->check_lname("help")) continue;
        rows.insert(fmt::format("| `{}` | {} |", option->get_name(), option->get_description()));
    }
    check_same(table_rows("Options"), rows);
}

TEST_CASE("upstream/readme: every fault has its row") {
    std::set<std::string> written;
    for (const auto& row : table_rows("Faults")) {
        // The first column may name several: `a`, `b`.
        const auto cell = row.substr(0, row.find('|', 2));
        for (auto at = cell.find('`'); at != std::string::npos; at = cell.find('`', at + 1)) {
            const auto end = cell.find('`', at + 1);
            written.insert(cell.substr(at + 1, end - at - 1));
            at = end;
        }
    }
    std::set<std::string> real{"300 to 599"};
    for (const auto& row : kFaultKinds) {
        if (row.value != FaultKind::status) real.emplace(row.name);
    }
    check_same(written, real);
}

TEST_CASE("upstream/command_line: --help names every switch, command, fault and evidence") {
    CommandLine line;
    const auto help = line.app().help();
    const Behaviour defaults;
    for (const auto& one : switches()) {
        CAPTURE(one.key);
        CHECK(help.find(fmt::format("  {} = {}\n      {}. Default {} ({}).\n", one.key,
                                    one.allowed(), one.meaning, one.show(defaults),
                                    to_string(one.evidence))) != std::string::npos);
    }
    for (const auto& one : commands()) {
        CAPTURE(one.key);
        CHECK(help.find(fmt::format("  {} = {}\n      {}.\n", one.key, one.allowed, one.meaning)) !=
              std::string::npos);
    }
    for (const auto& row : kFaultKinds) {
        if (row.value == FaultKind::status) continue;
        CAPTURE(row.name);
        CHECK(help.find(std::string(row.name) + ",") != std::string::npos);
    }
}

TEST_CASE("upstream/control: GET shows what a POST may send back") {
    ServiceFixture api(
        R"({"plan":{"name":"A \"B\"","limit":5},"budget":{"daily":{"limit_usd":0.25}},)"
        R"("api_keys":["x","y"],"rates":{"429":{"per_mille":3,"retry_after":"1"}}})");
    rapidjson::Document shown;
    const Request get{"GET", "/control", {}, {}, {}, {}, {}};
    const auto before = api.handle(Port::control, get).body;
    shown.Parse(before.c_str());
    REQUIRE(shown.IsObject());
    CHECK(number_in(before, "budget/daily/limit_usd") == 0.25);
    CHECK(number_in(before, "rates/429/per_mille") == 3);
    // What is left of scripts is told, not set.
    for (const char* left : {"script_left", "item_script_left"}) shown.RemoveMember(left);
    CHECK(api.try_control(before).status == 400);
    std::string again = before;
    for (const char* left : {",\"script_left\":0", ",\"item_script_left\":0"}) {
        again.erase(again.find(left), std::string_view(left).size());
    }
    CHECK(api.try_control(again).body == before);
}

TEST_CASE("upstream/control: every switch takes its own value back, from JSON and from --set") {
    const Behaviour defaults;
    for (const auto& one : switches()) {
        CAPTURE(one.key);
        Behaviour behaviour;
        const auto text = one.show(defaults);
        const auto set = set_switch(behaviour, fmt::format("{}={}", one.key, text));
        CHECK(set.has_value());
        CHECK(one.show(behaviour) == text);
        // Nothing takes an object.
        CHECK(set_switch(behaviour, fmt::format("{}={{}}", one.key)).has_error());
    }
}

TEST_CASE("upstream/control: a request changes all or nothing") {
    Behaviour now;
    now.plan.limit = 5;
    const auto change = parse_control(
        R"({"plan":{"used":4},"budget":{"stop":"always","daily":{"limit_usd":1.5}},)"
        R"("rates":{"429":{"per_mille":5,"retry_after":"1"},"204":2},"script":["ok"],"seed":9,)"
        R"("item_script":["ok","503"],"item_rates":{"400":7}})",
        now, kNow);
    REQUIRE(change.has_value());
    CHECK(change->behaviour.plan.limit == 5);
    CHECK(change->behaviour.plan.used == 4);
    CHECK(change->behaviour.budget.stop == BudgetStop::always);
    CHECK(change->behaviour.budget.daily.limit_usd == 1.5);
    CHECK(change->rates->size() == 2);
    CHECK(change->script->size() == 1);
    CHECK(change->item_script->size() == 2);
    CHECK(change->item_rates->size() == 1);
    CHECK(change->seed == std::optional<std::uint64_t>{9});

    ServiceFixture api(R"({"plan":{"limit":5}})");
    CHECK(api.try_control(R"({"plan":{"limit":6},"down":1})").status == 400);
    CHECK(shown("plan.limit", api.service.behaviour()) == "5");
}

TEST_CASE("upstream/control: refusals name the key, the value and what is allowed") {
    struct Case {
        const char* name;
        const char* json;
        const char* complaint;
    };
    const Case cases[] = {
        {"not JSON", "down", "body: not JSON at byte 0"},
        {"not an object", "[]", "body: must be an object, not an array"},
        {"unknown", R"({"dwon":true})", "dwon: unknown key; did you mean down? (value true)"},
        {"unknown inside", R"({"plan":{"limt":1}})",
         "plan.limt: unknown key; did you mean plan.limit? (value 1)"},
        {"like a command", R"({"clock":{"advance":1}})",
         "clock.advance: unknown key; did you mean clock.advance_ms? (value 1)"},
        {"unknown and large", R"({"dwon":[[[[1]]]]})",
         "dwon: unknown key; did you mean down? (value an array)"},
        {"a group that is none", R"({"plan":3})", "plan: must be an object, not 3"},
        {"type", R"({"down":1})", "down: 1 is not allowed; allowed: true, false"},
        {"range", R"({"latency_ms":-1})", "latency_ms: -1 is not allowed; allowed: 0 to 3600000"},
        {"fraction", R"({"latency_ms":1.5})",
         "latency_ms: 1.5 is not allowed; allowed: 0 to 3600000"},
        {"status", R"({"validation_status":401})",
         "validation_status: 401 is not allowed; allowed: 400, 422"},
        {"choice", R"({"conflict":"newest"})",
         "conflict: \"newest\" is not allowed; allowed: first_wins, last_wins"},
        {"keys", R"({"api_keys":[""]})",
         "api_keys: an array is not allowed; allowed: array of at most 64 non-empty strings"},
        {"negative money", R"({"budget":{"monthly":{"limit_usd":-1}}})",
         "budget.monthly.limit_usd: -1 is not allowed; allowed: number, 0 to 1000000000000"},
        {"not a time", R"({"clock":{"set":"today"}})",
         "clock.set: \"today\" is not allowed; allowed: text such as 2026-04-30T23:59:58Z"},
        {"too far", R"({"clock":{"advance_ms":315360000001}})",
         "clock.offset_ms: 315360000001 is not allowed; allowed: -315360000000 to 315360000000"},
        {"script", R"({"script":["x"]})",
         "script[0]: \"x\" is not a fault; allowed are ok, 402_plan"},
        {"item", R"({"item_script":["stall"]})",
         "item_script[0]: \"stall\" is not a fault of an item"},
        {"rates", R"({"rates":{"429":600,"204":600}})", "rates: 2 faults with 1200 per mille"},
        {"seed", R"({"seed":-1})", "seed: -1 is not allowed; allowed: 0 to 9223372036854775807"},
    };
    for (const auto& test : cases) {
        CAPTURE(std::string(test.name));
        const auto said = complaint(test.json);
        CHECK(said.substr(0, std::string_view(test.complaint).size()) == test.complaint);
    }
    const auto much =
        fmt::format(R"({{"down":"{}","{}":1}})", std::string(1000, 'v'), std::string(1000, 'k'));
    CHECK(complaint(much).size() < 200);
    CHECK(complaint(fmt::format(R"({{"{}":1}})", std::string(1000, 'k'))).starts_with("kkk"));
}

TEST_CASE("upstream/control: the clock is set, moved and shown, and goes on") {
    ServiceFixture api(R"({"clock":{"set":"2027-02-28T23:59:59.500Z"}})");
    CHECK(utc_text(api.service.now()) == "2027-02-28T23:59:59Z");
    api.clock.advance(milliseconds{500});
    CHECK(utc_text(api.service.now()) == "2027-03-01T00:00:00Z");
    CHECK(api.service.stats_json().starts_with(R"({"now":"2027-03-01T00:00:00Z",)"));
    api.control(R"({"clock":{"advance_ms":-1000}})");
    CHECK(utc_text(api.service.now()) == "2027-02-28T23:59:59Z");
    api.control(R"({"clock":{"offset_ms":3600000}})");
    CHECK(utc_text(api.service.now()) == "2026-04-29T13:00:00Z");
    api.control(R"({"clock":{"set":"2026-05-01T00:00:00Z","advance_ms":1000}})");
    CHECK(utc_text(api.service.now()) == "2026-05-01T00:00:01Z");
}

TEST_CASE("upstream/control: what is given together with a clock holds at that time") {
    ServiceFixture api(R"({"plan":{"limit":9,"used":8},"budget":{"daily":{"spend_usd":3}}})");
    api.control(R"({"plan":{"used":5},"clock":{"set":"2026-06-01T00:00:00Z"}})");
    CHECK(api.stat("plan_used") == 5);
    CHECK(shown("budget.daily.spend_usd", api.service.behaviour()) == "0");
    api.control(R"({"clock":{"advance_ms":86400000}})");
    CHECK(api.stat("plan_used") == 5);
}

TEST_CASE("upstream/command_line: options become settings") {
    const test::TempDir directory;
    const auto script = directory / "script.json";
    std::ofstream(script) << R"(["ok","503"])";
    const auto settings = parsed(
        {"--port",    "8700",        "--api-key",      "a",      "--api-key",
         "b",         "--set",       "plan.name=Free", "--set",  "budget.daily.limit_usd=2.5",
         "--set",     "down=true",   "--script",       script,   "--rate",
         "429=5",     "--item-rate", "400=7",          "--seed", "3",
         "--ids-only"});
    REQUIRE(settings.has_value());
    CHECK(settings->port == 8700);
    CHECK(settings->behaviour.api_keys == std::vector<std::string>{"a", "b"});
    CHECK(settings->behaviour.plan.name == "Free");
    CHECK(settings->behaviour.budget.daily.limit_usd == 2.5);
    CHECK(settings->behaviour.down);
    CHECK(settings->faults.script.size() == 2);
    CHECK(settings->faults.rates.size() == 1);
    CHECK(settings->item_faults.rates.size() == 1);
    CHECK(settings->seed == 3);
    CHECK(settings->ids_only);
}

TEST_CASE("upstream/command_line: bad values are refused by name") {
    const test::TempDir directory;
    const auto script = directory / "script.json";
    std::ofstream(script) << R"(["boom"])";
    struct Case {
        std::vector<std::string> arguments;
        std::string complaint;
    };
    const Case cases[] = {
        {{"--set", "down"}, "--set down: write KEY=VALUE, as in plan.limit=3"},
        {{"--set", "plan.limt=3"},
         "--set: plan.limt: unknown key; did you mean plan.limit? (value 3)"},
        {{"--set", "conflict=newest"},
         "--set: conflict: \"newest\" is not allowed; allowed: first_wins, last_wins"},
        {{"--rate", "429"}, "--rate: rate: \"429\" is not FAULT=N"},
        {{"--rate", "429=600", "--rate", "503=600"}, "--rate: rates: 2 faults with 1200 per mille"},
        {{"--item-rate", "stall=1"}, "--item-rate: rate: \"stall\" is not a fault of an item"},
        {{"--script", script}, fmt::format("--script {}: script[0]: \"boom\" is not", script)},
    };
    for (const auto& test : cases) {
        CAPTURE(test.complaint);
        const auto settings = parsed(test.arguments);
        REQUIRE(settings.has_error());
        CAPTURE(settings.error().context);
        CHECK(settings.error().context.starts_with(test.complaint));
    }
    for (const auto& arguments : {std::vector<std::string>{"--plan", "Free"},
                                  {"--script", directory / "missing"},
                                  {"--tls-key", script},
                                  {"--max-connections", "0"}}) {
        CAPTURE(arguments.front());
        CHECK_THROWS_AS((void)parsed(arguments), CLI::ParseError);
    }
}

}  // namespace opsrelay::upstream
