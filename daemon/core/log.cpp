#include "core/log.h"

#include <fmt/format.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <initializer_list>
#include <mutex>

#include "core/json_text.h"
#include "core/log_level.h"

namespace opsrelay::log {

namespace {

Format& format() {
    static Format chosen = Format::logfmt;
    return chosen;
}

struct Redirect {
    Sink sink = nullptr;
    void* context = nullptr;
};
Redirect& redirection() {
    static Redirect state;
    return state;
}

spdlog::level::level_enum to_spdlog(Level level) {
    switch (level) {
        case Level::debug: return spdlog::level::debug;
        case Level::info: return spdlog::level::info;
        case Level::warn: return spdlog::level::warn;
        case Level::error: return spdlog::level::err;
    }
    return spdlog::level::info;
}

std::string_view level_name(Level level) {
    switch (level) {
        case Level::debug: return "debug";
        case Level::info: return "info";
        case Level::warn: return "warn";
        case Level::error: return "error";
    }
    return "info";
}

bool is_bare(std::string_view text) {
    if (text.empty()) return false;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte <= 0x20 || byte >= 0x7f || c == '"' || c == '=' || c == '\\') return false;
    }
    return true;
}

void append(fmt::memory_buffer& out, std::initializer_list<std::string_view> pieces) {
    for (const auto piece : pieces) out.append(piece);
}

void append_value(fmt::memory_buffer& out, const Field& field, bool json) {
    if (field.is_text && (json || !is_bare(field.value))) {
        out.append(json_string(field.value));
    } else {
        out.append(field.value);
    }
}

void render(fmt::memory_buffer& out, Level level, std::string_view stage, std::string_view fact,
            Fields fields) {
    const bool json = format() == Format::json;
    if (json) {
        append(out, {R"("level":")", level_name(level), R"(","stage":")", stage, R"(","msg":)",
                     json_string(fact)});
        for (const auto& field : fields) {
            append(out, {",\"", field.key, "\":"});
            append_value(out, field, true);
        }
        return;
    }
    append(out, {"level=", level_name(level), " stage=", stage, " msg=", json_string(fact)});
    for (const auto& field : fields) {
        append(out, {" ", field.key, "="});
        append_value(out, field, false);
    }
}

std::shared_ptr<spdlog::logger> logger(std::string_view stage) {
    const std::string name(stage);
    if (auto known = spdlog::get(name)) return known;
    static std::mutex making;
    const std::lock_guard lock(making);
    if (auto known = spdlog::get(name)) return known;
    auto made = spdlog::default_logger()->clone(name);
    spdlog::register_logger(made);
    return made;
}

bool stderr_is_journal() {
    return std::getenv("JOURNAL_STREAM") != nullptr;  // set by systemd for the service's own stderr
}

// journald takes the priority from a <N> prefix (sd-daemon(3)).
class PriorityFlag final : public spdlog::custom_flag_formatter {
public:
    void format(const spdlog::details::log_msg& msg, const std::tm&,
                spdlog::memory_buf_t& out) override {
        const char digit = msg.level >= spdlog::level::err    ? '3'
                           : msg.level == spdlog::level::warn ? '4'
                           : msg.level == spdlog::level::info ? '6'
                                                              : '7';
        out.push_back('<');
        out.push_back(digit);
        out.push_back('>');
    }
    [[nodiscard]] std::unique_ptr<custom_flag_formatter> clone() const override {
        return spdlog::details::make_unique<PriorityFlag>();
    }
};

}  // namespace

Field::Field(std::string_view k, double v)
    : key(k), value(fmt::format("{:.6g}", std::isfinite(v) ? v : 0.0)), is_text(false) {}

void configure(Format wanted, Level level) {
    format() = wanted == Format::json ? Format::json : Format::logfmt;
    auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
    formatter->add_flag<PriorityFlag>('*');
    if (format() == Format::json) {
        formatter->set_pattern(R"({"ts":"%Y-%m-%dT%H:%M:%S.%eZ",%v})");
    } else if (stderr_is_journal()) {
        formatter->set_pattern("%*%v");
    } else {
        formatter->set_pattern("ts=%Y-%m-%dT%H:%M:%S.%eZ %v");
    }
    sink->set_formatter(std::move(formatter));
    spdlog::drop_all();
    auto root = std::make_shared<spdlog::logger>("", std::move(sink));
    root->set_level(to_spdlog(level));
    root->flush_on(spdlog::level::debug);
    spdlog::set_default_logger(std::move(root));
}

void set_level(Level level) {
    spdlog::apply_all([level](const std::shared_ptr<spdlog::logger>& each) {
        each->set_level(to_spdlog(level));
    });
}

void write(Level level, std::string_view stage, std::string_view fact, Fields fields) {
    if (const auto& to = redirection(); to.sink != nullptr) {
        fmt::memory_buffer line;
        render(line, level, stage, fact, fields);
        to.sink(to.context, level, {line.data(), line.size()});
        return;
    }
    const auto stage_logger = logger(stage);
    if (!stage_logger->should_log(to_spdlog(level))) return;
    fmt::memory_buffer line;
    render(line, level, stage, fact, fields);
    stage_logger->log(to_spdlog(level), spdlog::string_view_t(line.data(), line.size()));
}

std::optional<std::uint64_t> Throttle::allow(std::string_view cause) {
    auto& state = causes_[std::string(cause)];
    const auto now = clock_.now();
    if (now < state.next) {
        ++state.suppressed;
        return std::nullopt;
    }
    const bool goes_on = state.interval.count() > 0 && now - state.next < state.interval;
    state.interval =
        goes_on ? std::max(std::min(state.interval * 2, kThrottleMax), interval_) : interval_;
    state.next = now + state.interval;
    return std::exchange(state.suppressed, 0);
}

void redirect(Sink sink, void* context) { redirection() = {sink, context}; }

}  // namespace opsrelay::log
