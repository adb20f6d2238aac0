#include "upstream/faults.h"

#include <fmt/format.h>

#include <charconv>
#include <ctime>

#include "core/assert.h"
#include "core/json_text.h"
#include "upstream/faults_json.h"
#include "upstream/json.h"

namespace opsrelay::upstream {

namespace {

constexpr std::int64_t kMsMax = 3'600'000;

template <typename Int>
std::optional<Int> to_integer(std::string_view text) {
    Int value{};
    const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (ec != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

bool fits(FaultKind kind, Scope scope) {
    return scope == Scope::request || kind == FaultKind::ok || kind == FaultKind::plan_402 ||
           kind == FaultKind::budget_402;
}

void read_retry_after(ObjectReader& reader, Fault& fault) {
    const auto* value = reader.take("retry_after");
    if (value == nullptr) return;
    if (value->IsString()) {
        if (text_of(*value).find_first_of("\r\n") != std::string_view::npos) {
            return reader.refuse("retry_after", *value, "one line");
        }
        fault.retry_after = RetryAfter{RetryForm::verbatim, std::string(text_of(*value)), 0};
        return;
    }
    ObjectReader inner(*value, reader.path_of("retry_after"));
    RetryAfter retry;
    retry.form = RetryForm::seconds;
    inner.choice("form", kRetryForms, retry.form);
    inner.text("text", retry.text);
    inner.integer("seconds", -31'536'000, 31'536'000, retry.seconds);
    const auto done = inner.finish();
    if (!done) return reader.fail(done.error());
    fault.retry_after = std::move(retry);
}

void read_details(ObjectReader& reader, Fault& fault) {
    std::int64_t ms = 0;
    reader.integer("ms", 0, kMsMax, ms);
    fault.ms = milliseconds{ms};
    reader.text("reason", fault.reason);
    read_retry_after(reader, fault);
}

Result<Fault> read_fault(const rapidjson::Value& value, const std::string& path, Scope scope) {
    if (value.IsString()) {
        auto fault = parse_fault_name(text_of(value), scope);
        if (!fault) return with_prefix(fault.error(), path);
        return fault;
    }
    ObjectReader reader(value, path);
    std::string name;
    reader.text("fault", name);
    Fault fault;
    if (auto parsed = parse_fault_name(name, scope)) {
        fault = std::move(*parsed);
    } else {
        reader.fail(with_prefix(parsed.error(), path + ".fault"));
    }
    std::int64_t times = 1;
    reader.integer("times", 1, 1'000'000'000, times);
    fault.times = static_cast<std::uint32_t>(times);
    read_details(reader, fault);
    const auto done = reader.finish();
    if (!done) return done.error();
    return fault;
}

void append_details(std::string& out, const Fault& fault) {
    if (fault.ms.count() != 0) out += fmt::format(",\"ms\":{}", fault.ms.count());
    if (!fault.reason.empty()) {
        out += ",\"reason\":" + json_string(fault.reason);
    }
    if (!fault.retry_after) return;
    out += ",\"retry_after\":";
    if (fault.retry_after->form == RetryForm::verbatim) {
        out += json_string(fault.retry_after->text);
    } else {
        out += fmt::format(R"({{"form":"{}","seconds":{}}})", to_string(fault.retry_after->form),
                           fault.retry_after->seconds);
    }
}

}  // namespace

std::string http_date(RetryForm form, WallTime time) {
    const char* pattern = "%a, %d %b %Y %H:%M:%S GMT";
    if (form == RetryForm::rfc850) pattern = "%A, %d-%b-%y %H:%M:%S GMT";
    if (form == RetryForm::asctime) pattern = "%a %b %e %H:%M:%S %Y";
    const auto seconds_since = std::chrono::system_clock::to_time_t(time);
    std::tm parts{};
    ::gmtime_r(&seconds_since, &parts);
    std::array<char, 64> text{};  // the process stays in the C locale: English names
    const auto size = std::strftime(text.data(), text.size(), pattern, &parts);
    return {text.data(), size};
}

std::string header_value(const RetryAfter& retry, WallTime now) {
    switch (retry.form) {
        case RetryForm::verbatim: return retry.text;
        case RetryForm::seconds: return std::to_string(retry.seconds);
        case RetryForm::imf_fixdate:
        case RetryForm::rfc850:
        case RetryForm::asctime: break;
    }
    return http_date(retry.form, now + seconds{retry.seconds});
}

std::string Fault::name() const {
    return kind == FaultKind::status ? std::to_string(status) : std::string(to_string(kind));
}

Result<Fault> parse_fault_name(std::string_view name, Scope scope) {
    Fault fault;
    const auto kind = parse_enum(kFaultKinds, name);
    if (kind && *kind != FaultKind::status && fits(*kind, scope)) {
        fault.kind = *kind;
        return fault;
    }
    const auto code = to_integer<int>(name);
    if (code && name.size() == 3 && *code >= 300 && *code <= 599) {
        fault.kind = FaultKind::status;
        fault.status = *code;
        return fault;
    }
    std::string names;
    for (const auto& row : kFaultKinds) {
        if (row.value != FaultKind::status && fits(row.value, scope)) {
            names.append(row.name).append(", ");
        }
    }
    return Error{Errc::config_invalid,
                 fmt::format("\"{}\" is not a fault{}; allowed are {}or a status code 300 to 599",
                             name, scope == Scope::item ? " of an item" : "", names)};
}

Result<std::vector<Fault>> read_script(const rapidjson::Value& value, const std::string& path,
                                       Scope scope) {
    if (!value.IsArray() || value.Size() > kScriptEntriesMax) {
        return Error{Errc::config_invalid, fmt::format("{}: must be an array of at most {} faults",
                                                       path, kScriptEntriesMax)};
    }
    std::vector<Fault> script;
    script.reserve(value.Size());
    for (rapidjson::SizeType i = 0; i < value.Size(); ++i) {
        auto fault = read_fault(value[i], fmt::format("{}[{}]", path, i), scope);
        if (!fault) return fault.error();
        script.push_back(std::move(*fault));
    }
    return script;
}

Result<std::vector<Fault>> parse_script(std::string_view json, Scope scope) {
    rapidjson::Document document;
    document.Parse<rapidjson::kParseIterativeFlag>(json.data(), json.size());
    if (document.HasParseError()) {
        return Error{Errc::config_invalid,
                     fmt::format("script: not JSON at byte {}; write an array such as "
                                 "[\"ok\",{{\"fault\":\"429\",\"retry_after\":\"3\"}}]",
                                 document.GetErrorOffset())};
    }
    return read_script(document, "script", scope);
}

Result<Rate> parse_rate(std::string_view text, Scope scope) {
    const auto equals = text.find('=');
    const auto share = equals == std::string_view::npos
                           ? std::nullopt
                           : to_integer<std::uint32_t>(text.substr(equals + 1));
    if (!share || *share > 1000) {
        return Error{Errc::config_invalid,
                     fmt::format("rate: \"{}\" is not FAULT=N with N from 0 to 1000, as in "
                                 "500_html=20 (2 % of the requests)",
                                 text)};
    }
    auto fault = parse_fault_name(text.substr(0, equals), scope);
    if (!fault) return with_prefix(fault.error(), "rate");
    return Rate{std::move(*fault), *share};
}

Result<void> check_rates(const std::vector<Rate>& rates) {
    std::uint64_t sum = 0;
    for (const auto& rate : rates) sum += rate.per_mille;
    if (rates.size() <= kRatesMax && sum <= 1000) return {};
    return Error{Errc::config_invalid,
                 fmt::format("rates: {} faults with {} per mille together; allowed are {} and 1000",
                             rates.size(), sum, kRatesMax)};
}

Result<std::vector<Rate>> read_rates(const rapidjson::Value& value, const std::string& path,
                                     Scope scope) {
    if (!value.IsObject()) return Error{Errc::config_invalid, path + ": must be an object"};
    std::vector<Rate> rates;
    for (const auto& member : value.GetObject()) {
        const auto at = fmt::format("{}.{}", path, text_of(member.name));
        auto fault = parse_fault_name(text_of(member.name), scope);
        if (!fault) return with_prefix(fault.error(), path);
        std::int64_t share = -1;
        if (member.value.IsObject()) {
            ObjectReader reader(member.value, at);
            reader.integer("per_mille", 0, 1000, share);
            read_details(reader, *fault);
            const auto done = reader.finish();
            if (!done) return done.error();
        } else if (member.value.IsInt()) {
            share = member.value.GetInt();
        }
        if (share < 0 || share > 1000) {
            return Error{Errc::config_invalid, at + ": must be per mille, an integer 0 to 1000"};
        }
        rates.push_back({std::move(*fault), static_cast<std::uint32_t>(share)});
    }
    const auto fits = check_rates(rates);
    if (!fits) return fits.error();
    return rates;
}

void append_fault(std::string& out, const Fault& fault) {
    out += fmt::format(R"({{"fault":"{}","times":{})", fault.name(), fault.times);
    append_details(out, fault);
    out += '}';
}

void append_rates(std::string& out, const std::vector<Rate>& rates) {
    out += '{';
    for (const auto& rate : rates) {
        if (out.back() != '{') out += ',';
        out += fmt::format(R"("{}":{{"per_mille":{})", rate.fault.name(), rate.per_mille);
        append_details(out, rate.fault);
        out += '}';
    }
    out += '}';
}

Fault FaultPlan::next() {
    if (!script_.empty()) {
        auto& front = script_.front();
        OPSRELAY_ASSERT(front.times > 0);
        if (--front.times > 0) return front;
        auto fault = std::move(front);
        script_.pop_front();
        return fault;
    }
    if (rates_.empty()) return {};
    auto draw = static_cast<std::uint32_t>(rng_.between(std::uint64_t{0}, std::uint64_t{999}));
    for (const auto& rate : rates_) {
        if (draw < rate.per_mille) return rate.fault;
        draw -= rate.per_mille;
    }
    return {};
}

}  // namespace opsrelay::upstream
