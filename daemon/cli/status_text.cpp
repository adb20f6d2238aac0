#include "cli/status_text.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <rapidjson/document.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "cli/json_fields.h"

namespace opsrelay::cli {

namespace {

using Json = rapidjson::Value;

// The two largest units: 3h 12m.
std::string age_text(double age_s) {
    if (!std::isfinite(age_s) || age_s <= 0) return "0s";
    if (age_s < 10) return fmt::format("{:.1f}s", age_s);
    const auto s = static_cast<std::uint64_t>(std::min(age_s, 1e12));
    if (s < 60) return fmt::format("{}s", s);
    if (s < 3600) return fmt::format("{}m {}s", s / 60, s % 60);
    if (s < 86'400) return fmt::format("{}h {}m", s / 3600, s % 3600 / 60);
    return fmt::format("{}d {}h", s / 86'400, s % 86'400 / 3600);
}

void append_ledger(std::string& out, const Json& ledger) {
    constexpr std::array<const char*, 6> kIn{"received", "accepted", "duplicates",
                                             "rejected", "shed",     "pending"};
    constexpr std::array<const char*, 6> kOut{"recovered", "replayed", "delivered",
                                              "dead",      "dropped",  "spooled"};
    out += "\nevents\n";
    for (std::size_t i = 0; i < kIn.size(); ++i) {
        out += fmt::format("  {:<11}{:>14}    {:<11}{:>14}\n", kIn[i], count(ledger, kIn[i]),
                           kOut[i], count(ledger, kOut[i]));
    }
    if (const auto imbalance = count(ledger, "imbalance"); imbalance != 0) {
        out += fmt::format("  imbalance {}: this is a bug, please report it\n", imbalance);
    }
    const auto* const reasons = member(ledger, "reasons");
    if (reasons == nullptr || !reasons->IsObject()) return;
    for (const auto& reason : reasons->GetObject()) {
        const auto name = printable({reason.name.GetString(), reason.name.GetStringLength()});
        const auto n = reason.value.IsUint64() ? reason.value.GetUint64() : 0;
        out += fmt::format("  {:<30}{:>14}\n", name, n);
    }
}

void append_late(std::string& out, const Json& lane) {
    const auto* const late = member(lane, "late");
    if (late == nullptr || !late->IsObject() || count(*late, "day") == 0) return;
    out += fmt::format("    late: {} delivered after their UTC day, {} of them after their month\n",
                       count(*late, "day"), count(*late, "month"));
}

// Their age is not that of the queue.
std::uint64_t deferred_events(const Json& lane) {
    const auto* const deferred = member(lane, "deferred");
    return deferred == nullptr || !deferred->IsObject() ? 0 : count(*deferred, "events");
}

void append_deferred(std::string& out, const Json& lane) {
    const auto events = deferred_events(lane);
    if (events == 0) return;
    out += fmt::format(
        "    deferred: {} of them, which upstream fails on again and again; next "
        "attempt {}\n",
        events, text(*member(lane, "deferred"), "next"));
}

std::string painted_state(const std::string& state, const Paint& paint) {
    if (state == "active") return paint.good(state);
    const bool waits = state == "backing_off" || state == "paused" || state == "not_configured";
    return waits ? paint.odd(state) : paint.bad(state);
}

void append_lanes(std::string& out, const Json& lanes, const Paint& paint) {
    out += "\nlanes\n";
    for (const auto& lane : lanes.GetArray()) {
        out +=
            fmt::format("  {}: {}", text(lane, "name"), painted_state(text(lane, "state"), paint));
        if (const auto since = text(lane, "since"); !since.empty()) {
            out += fmt::format(" since {}", since);
        }
        if (const auto retry = text(lane, "retry_at"); !retry.empty()) {
            out += fmt::format(", next attempt {}", retry);
        }
        out += fmt::format(", {} spooled", count(lane, "spooled"));
        if (count(lane, "spooled") > deferred_events(lane)) {
            out += fmt::format(", oldest {}", age_text(number(lane, "oldest_age_s")));
        }
        if (text(lane, "state") == "active" && count(lane, "concurrency") != 0) {
            out += fmt::format(", up to {} requests at a time", count(lane, "concurrency"));
        }
        out += '\n';
        append_deferred(out, lane);
        append_late(out, lane);
        if (const auto error = text(lane, "last_error"); !error.empty()) {
            out += fmt::format("    last error: {}\n", error);
        }
        if (const auto next = text(lane, "next"); !next.empty()) {
            out += fmt::format("    next: {}\n", next);
        }
    }
}

void append_kept(std::string& out, const Json& spool, const char* key, std::string_view what,
                 std::string_view next) {
    const auto* const paths = member(spool, key);
    if (paths == nullptr || !paths->IsArray()) return;
    for (const auto& path : paths->GetArray()) {
        if (!path.IsString()) continue;
        out += fmt::format("  {}: {}\n    next: {}\n", what,
                           printable({path.GetString(), path.GetStringLength()}), next);
    }
}

void append_spool(std::string& out, const Json& spool, const Json* dedupe) {
    const auto bytes = number(spool, "bytes");
    const auto limit = number(spool, "limit");
    out += fmt::format("\nspool\n  {} of {}", size_text(bytes), size_text(limit));
    if (limit > 0) out += fmt::format(" ({:.0f} %)", 100 * bytes / limit);
    out += fmt::format(", oldest {}, {} dead letters\n", age_text(number(spool, "oldest_age_s")),
                       count(spool, "dead_letters"));
    append_kept(out, spool, "damaged", "damaged, moved aside", "opsrelay spool repair");
    append_kept(out, spool, "repaired", "repaired, kept for what could not be read or had no room",
                "look at it, then delete it; nothing needs it any more");
    if (dedupe == nullptr) return;
    out += fmt::format("  {} of {} ids remembered, back to {} ago\n", count(*dedupe, "ids"),
                       count(*dedupe, "ids_max"), age_text(number(*dedupe, "window_s")));
}

void append_listeners(std::string& out, const Json& listeners) {
    out += "\nlisteners\n";
    for (const auto& listener : listeners.GetArray()) {
        out += fmt::format("  {:<14} {:<40} {:>12} received", text(listener, "type"),
                           text(listener, "address"), count(listener, "received"));
        const auto* const inherited = member(listener, "inherited");
        if (inherited != nullptr && inherited->IsTrue()) out += ", inherited";
        if (const auto drops = count(listener, "kernel_drops"); drops != 0) {
            out += fmt::format(", {} dropped by the kernel", drops);
        }
        out += '\n';
    }
}

}  // namespace

std::string time_text(WallTime time) {
    const auto second = std::chrono::system_clock::to_time_t(time);
    return fmt::format("{:%Y-%m-%dT%H:%M:%S}Z", fmt::gmtime(second));
}

std::string size_text(double bytes) {
    constexpr std::array<const char*, 5> kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
    std::size_t unit = 0;
    while (bytes >= 1024 && unit + 1 < kUnits.size()) {
        bytes /= 1024;
        ++unit;
    }
    return fmt::format("{:.{}f} {}", bytes, unit == 0 ? 0 : 1, kUnits.at(unit));
}

std::string printable(std::string_view text) {
    std::string out(text);
    for (auto& c : out) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x20 || byte == 0x7f) c = ' ';
    }
    while (out.ends_with(' ')) out.pop_back();
    return out;
}

Result<std::string> status_text(std::string_view json, const Paint& paint) {
    rapidjson::Document status;
    status.Parse(json.data(), json.size());
    if (status.HasParseError() || !status.IsObject()) {
        return Error{Errc::refused,
                     "/status: the answer is not a JSON object; is the other side an "
                     "opsrelay of this version?"};
    }
    const auto* const ready = member(status, "ready");
    const bool is_ready = ready != nullptr && ready->IsTrue();
    std::string out = fmt::format("opsrelay {}: {}\n", text(status, "version"),
                                  is_ready ? paint.good("ready") : paint.bad("not ready"));
    const auto* const reasons = member(status, "reasons");
    if (reasons != nullptr && reasons->IsArray()) {
        for (const auto& reason : reasons->GetArray()) {
            if (!reason.IsString()) continue;
            out += fmt::format("  {}\n", printable({reason.GetString(), reason.GetStringLength()}));
        }
    }
    if (const auto* ledger = member(status, "ledger")) append_ledger(out, *ledger);
    const auto* const lanes = member(status, "lanes");
    if (lanes != nullptr && lanes->IsArray()) append_lanes(out, *lanes, paint);
    if (const auto* spool = member(status, "spool")) {
        append_spool(out, *spool, member(status, "dedupe"));
    }
    const auto* const listeners = member(status, "listeners");
    if (listeners != nullptr && listeners->IsArray()) append_listeners(out, *listeners);
    return out;
}

}  // namespace opsrelay::cli
