#include "upstream/command_line.h"

#include <fmt/format.h>

#include <fstream>
#include <iterator>

#include "upstream/control.h"
#include "upstream/switches.h"

namespace opsrelay::upstream {

namespace {

constexpr std::size_t kScriptBytesMax = 8U << 20U;

std::string fault_names(Scope scope) {
    // The parser knows which names there are; its complaint lists them.
    std::string names;
    for (const auto& row : kFaultKinds) {
        if (!parse_fault_name(row.name, scope)) continue;
        names.append(names.empty() ? "" : ", ").append(row.name);
    }
    return names + ", any status 300 to 599";
}

/// Every switch, as it is set here and in POST /control.
std::string footer() {
    std::string text =
        "Switches: --set KEY=VALUE, or {\"key\": value} in POST /control, dots as objects.\n";
    const Behaviour defaults;
    for (const auto& one : switches()) {
        text += fmt::format("  {} = {}\n      {}. Default {} ({}).\n", one.key, one.allowed(),
                            one.meaning, one.show(defaults), to_string(one.evidence));
    }
    text += "Only in POST /control:\n";
    for (const auto& one : commands()) {
        text += fmt::format("  {} = {}\n      {}.\n", one.key, one.allowed, one.meaning);
    }
    text += fmt::format("Faults of requests: {}.\nFaults of items: {}.\n",
                        fault_names(Scope::request), fault_names(Scope::item));
    return text +
           "While it runs: GET and POST /control, GET and DELETE /rows, GET /stats on the control\n"
           "port; /rows and /stats on the ingest port too. SIGTERM ends it with a line of\n"
           "statistics. Exit codes: 0 ended by a signal, 2 bad option, 5 port in use, 1 other.\n";
}

Result<std::vector<Fault>> read_script_file(std::string_view option, const std::string& path,
                                            Scope scope) {
    if (path.empty()) return std::vector<Fault>{};
    std::ifstream file(path, std::ios::binary);
    std::string text;
    if (file.is_open()) text.assign(std::istreambuf_iterator<char>(file), {});
    if (!file.is_open() || file.bad() || text.size() > kScriptBytesMax) {
        return Error{Errc::io,
                     fmt::format("{} {}: cannot be read, or is over 8 MiB", option, path)};
    }
    auto script = parse_script(text, scope);
    if (!script) return with_prefix(script.error(), fmt::format("{} {}", option, path));
    return script;
}

Result<std::vector<Rate>> read_rates(std::string_view option, const std::vector<std::string>& texts,
                                     Scope scope) {
    std::vector<Rate> rates;
    for (const auto& text : texts) {
        auto rate = parse_rate(text, scope);
        if (!rate) return with_prefix(rate.error(), option);
        rates.push_back(std::move(*rate));
    }
    if (const auto fits = check_rates(rates); !fits) return with_prefix(fits.error(), option);
    return rates;
}

}  // namespace

CommandLine::CommandLine() {
    add_ports();
    add_service();
    add_faults();
    add_tls();
    app_.footer(footer());
}

void CommandLine::add_ports() {
    app_.add_option("--address", given_.address, "A loopback address")->capture_default_str();
    app_.add_option("--port", given_.port, "Ingest port; 0: any")->capture_default_str();
    app_.add_option("--control-port", given_.control_port, "Control port; 0: any")
        ->capture_default_str();
    app_.add_option("--max-connections", given_.connections_max, "Per port")
        ->check(CLI::Range(std::size_t{1}, std::size_t{65536}))
        ->capture_default_str();
}

void CommandLine::add_service() {
    app_.add_option("--set", assignments_, "KEY=VALUE of a switch (below); may be repeated")
        ->take_all();
    app_.add_option("--api-key", given_.behaviour.api_keys,
                    "A key that is accepted, as in the switch api_keys; may be repeated")
        ->take_all();
    app_.add_option("--max-rows", given_.rows_max, "More are answered 503")
        ->check(CLI::Range(std::size_t{1}, std::size_t{2'000'000'000}))
        ->capture_default_str();
    app_.add_option("--max-bytes", given_.row_bytes_max.count, "Ids and bodies together")
        ->capture_default_str();
    app_.add_flag("--ids-only", given_.ids_only, "Keep ids, forget bodies");
}

void CommandLine::add_faults() {
    app_.add_option("--script", script_file_, "File with a JSON array of faults, one per request")
        ->check(CLI::ExistingFile);
    app_.add_option("--rate", rates_, "FAULT=N: in N of 1000 requests; may be repeated")
        ->take_all();
    app_.add_option("--item-script", item_script_file_, "The same for items of batch requests")
        ->check(CLI::ExistingFile);
    app_.add_option("--item-rate", item_rates_, "FAULT=N: N of 1000 items; may be repeated")
        ->take_all();
    app_.add_option("--seed", given_.seed, "Of the rates")->capture_default_str();
}

void CommandLine::add_tls() {
    auto& tls = given_.tls;
    auto* certificate = app_.add_option("--tls-cert", tls.cert_file, "PEM chain: speak TLS");
    auto* key = app_.add_option("--tls-key", tls.key_file, "PEM key")->needs(certificate);
    certificate->needs(key);
    auto* self_signed = app_.add_flag("--tls-self-signed", tls.self_signed, "Make a certificate")
                            ->excludes(certificate);
    app_.add_option("--tls-host", tls.host, "Name or address in it")
        ->needs(self_signed)
        ->capture_default_str();
    app_.add_flag("--tls-expired", tls.expired, "Valid until yesterday")->needs(self_signed);
    app_.add_option("--tls-cert-out", tls.cert_out, "Write it to this file")->needs(self_signed);
}

Result<Settings> CommandLine::settings() const {
    Settings settings = given_;
    for (const auto& assignment : assignments_) {
        const auto set = set_switch(settings.behaviour, assignment);
        if (!set) return set.error();
    }
    auto script = read_script_file("--script", script_file_, Scope::request);
    if (!script) return script.error();
    auto rates = read_rates("--rate", rates_, Scope::request);
    if (!rates) return rates.error();
    auto item_script = read_script_file("--item-script", item_script_file_, Scope::item);
    if (!item_script) return item_script.error();
    auto item_rates = read_rates("--item-rate", item_rates_, Scope::item);
    if (!item_rates) return item_rates.error();
    settings.faults = {std::move(*script), std::move(*rates)};
    settings.item_faults = {std::move(*item_script), std::move(*item_rates)};
    return settings;
}

}  // namespace opsrelay::upstream
