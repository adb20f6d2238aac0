#include "upstream/control.h"

#include <fmt/format.h>
#include <rapidjson/document.h>

#include <algorithm>
#include <array>

#include "core/json_text.h"
#include "upstream/calendar.h"
#include "upstream/faults_json.h"
#include "upstream/json.h"
#include "upstream/switches.h"

namespace opsrelay::upstream {

namespace {

using rapidjson::Value;

constexpr std::size_t kScriptShownMax = 100;

constexpr std::array<Command, 7> kCommands{{
    {"clock.set", "text such as 2026-04-30T23:59:58Z", "Sets the server's clock; it goes on"},
    {"clock.advance_ms", "-315360000000 to 315360000000", "Moves it from where it is"},
    {"script", "array of faults", "One per ingest request, before any rate; replaces the old one"},
    {"rates", "object of faults", "Per mille of the ingest requests"},
    {"item_script", "array of faults", "One per item of a batch request; replaces the old one"},
    {"item_rates", "object of faults", "Per mille of those items"},
    {"seed", "0 to 9223372036854775807", "Starts the sequence of the rates again"},
}};

/// Reads one request, the clock first.
class Reader {
public:
    Reader(const Behaviour& current, WallTime real_now) : real_now_(real_now) {
        change_.behaviour = current;
    }

    /// The whole request.
    Result<void> read(const Value& document) {
        if (const auto clock = document.FindMember(kClock); clock != document.MemberEnd()) {
            if (const auto done = read_clock(clock->value); !done) return done;
        }
        return read_object(document, "");
    }
    ControlChange finish() { return std::move(change_); }

private:
    static constexpr const char* kClock = "clock";

    Result<void> read_object(const Value& object, const std::string& path) {
        for (const auto& member : object.GetObject()) {
            if (path.empty() && text_of(member.name) == kClock) continue;  // read already
            const auto key = path.empty() ? std::string(text_of(member.name))
                                          : fmt::format("{}.{}", path, text_of(member.name));
            if (const auto done = read_member(key, member.value); !done) return done;
        }
        return {};
    }
    Result<void> read_clock(const Value& value) {
        auto& behaviour = change_.behaviour;
        const auto before = day_now();
        if (const auto done = read_member(kClock, value); !done) return done;
        auto offset = behaviour.clock_offset_ms;
        if (clock_) offset = unix_ms(*clock_) - unix_ms(real_now_);
        // The switch's own range holds for what the commands lead to.
        const auto set =
            set_switch(behaviour, *find_switch("clock.offset_ms"), Value(offset + advance_ms_));
        if (!set) return set;
        roll_over(behaviour, before, day_now());
        return {};
    }
    [[nodiscard]] Day day_now() const {
        return day_of(real_now_ + milliseconds{change_.behaviour.clock_offset_ms});
    }

    Result<void> read_member(const std::string& key, const Value& value) {
        if (const auto* which = find_switch(key)) {
            return set_switch(change_.behaviour, *which, value);
        }
        if (const auto* command = find_command(key)) return run(*command, value);
        const auto prefix = key + '.';
        const auto inside = [&](std::string_view name) { return name.starts_with(prefix); };
        auto names = switch_keys();
        for (const auto& command : kCommands) names.push_back(command.key);
        if (!std::any_of(names.begin(), names.end(), inside)) {
            return unknown_key_error(key, value, names);
        }
        if (value.IsObject()) return read_object(value, key);
        return Error{Errc::config_invalid,
                     fmt::format("{}: must be an object, not {}", key, short_json(value))};
    }

    static const Command* find_command(std::string_view key) {
        const auto found = std::find_if(kCommands.begin(), kCommands.end(),
                                        [&](const Command& one) { return one.key == key; });
        return found == kCommands.end() ? nullptr : &*found;
    }

    Result<void> run(const Command& command, const Value& value) {
        const auto key = command.key;
        if (key == "script") {
            return take(read_script(value, "script", Scope::request), change_.script);
        }
        if (key == "rates") return take(read_rates(value, "rates", Scope::request), change_.rates);
        if (key == "item_script") {
            return take(read_script(value, "item_script", Scope::item), change_.item_script);
        }
        if (key == "item_rates") {
            return take(read_rates(value, "item_rates", Scope::item), change_.item_rates);
        }
        if (key == "seed" && value.IsInt64() && value.GetInt64() >= 0) {
            change_.seed = value.GetUint64();
            return {};
        }
        if (key == "clock.advance_ms" && value.IsInt64()) {
            constexpr std::int64_t kMost = 315'360'000'000;
            advance_ms_ = std::clamp<std::int64_t>(value.GetInt64(), -2 * kMost, 2 * kMost);
            return {};
        }
        if (key == "clock.set" && value.IsString()) {
            clock_ = parse_utc(text_of(value));
            if (clock_) return {};
        }
        return Error{Errc::config_invalid, fmt::format("{}: {} is not allowed; allowed: {}", key,
                                                       short_json(value), command.allowed)};
    }

    template <typename T>
    static Result<void> take(Result<T> read, std::optional<T>& out) {
        if (!read) return read.error();
        out = std::move(*read);
        return {};
    }

    ControlChange change_;
    WallTime real_now_;
    std::optional<WallTime> clock_;
    std::int64_t advance_ms_ = 0;
};

/// Dotted keys as nested objects; keys of one object are neighbours.
class NestedWriter {
public:
    void add(std::string_view key, std::string_view value) {
        auto parts = split(key);
        const auto name = parts.back();
        parts.pop_back();
        std::size_t same = 0;
        while (same < open_.size() && same < parts.size() && open_[same] == parts[same]) ++same;
        while (open_.size() > same) close();
        while (open_.size() < parts.size()) {
            separate();
            text_ += json_string(parts[open_.size()]) + ":{";
            open_.push_back(parts[open_.size()]);
        }
        separate();
        text_ += json_string(name) + ':';
        text_ += value;
    }
    std::string finish() {
        while (!open_.empty()) close();
        return text_ + '}';
    }

private:
    static std::vector<std::string_view> split(std::string_view key) {
        std::vector<std::string_view> parts;
        while (true) {
            const auto dot = key.find('.');
            parts.push_back(key.substr(0, dot));
            if (dot == std::string_view::npos) return parts;
            key.remove_prefix(dot + 1);
        }
    }
    void separate() {
        if (text_.back() != '{') text_ += ',';
    }
    void close() {
        text_ += '}';
        open_.pop_back();
    }

    std::string text_ = "{";
    std::vector<std::string_view> open_;
};

std::string rates_text(const FaultPlan& faults) {
    std::string out;
    append_rates(out, faults.rates());
    return out;
}

std::string script_text(const FaultPlan& faults) {
    std::string out = "[";
    const auto shown = std::min(faults.script().size(), kScriptShownMax);
    for (std::size_t i = 0; i < shown; ++i) {
        if (i > 0) out += ',';
        append_fault(out, faults.script()[i]);
    }
    return out + ']';
}

std::string script_left(const FaultPlan& faults) {
    std::uint64_t left = 0;
    for (const auto& fault : faults.script()) left += fault.times;
    return std::to_string(left);
}

}  // namespace

std::span<const Command> commands() { return kCommands; }

Result<ControlChange> parse_control(std::string_view json, const Behaviour& current,
                                    WallTime real_now) {
    rapidjson::Document document;
    document.Parse<rapidjson::kParseIterativeFlag>(json.data(), json.size());
    if (document.HasParseError()) {
        return Error{Errc::config_invalid,
                     fmt::format("body: not JSON at byte {}", document.GetErrorOffset())};
    }
    if (!document.IsObject()) {
        return Error{Errc::config_invalid,
                     fmt::format("body: must be an object, not {}", short_json(document))};
    }
    Reader reader(current, real_now);
    if (const auto done = reader.read(document); !done) return done.error();
    return reader.finish();
}

void roll_over(Behaviour& behaviour, Day from, Day to) {
    if (from == to) return;
    const auto forget = [](BudgetWindow& window) {
        window.spend_usd = 0;
        window.period_start.clear();
        window.period_end.clear();
    };
    forget(behaviour.budget.daily);
    if (month_of(from) == month_of(to)) return;
    forget(behaviour.budget.monthly);
    behaviour.plan.used = 0;
    behaviour.plan.period_start.clear();
    behaviour.plan.period_end.clear();
}

std::string control_json(const Behaviour& behaviour, const FaultPlan& faults,
                         const FaultPlan& item_faults) {
    NestedWriter out;
    for (const auto& one : switches()) out.add(one.key, one.show(behaviour));
    out.add("seed", std::to_string(faults.seed()));
    out.add("rates", rates_text(faults));
    out.add("script_left", script_left(faults));
    out.add("script", script_text(faults));
    out.add("item_rates", rates_text(item_faults));
    out.add("item_script_left", script_left(item_faults));
    out.add("item_script", script_text(item_faults));
    return out.finish() + '\n';
}

}  // namespace opsrelay::upstream
