#include "control/status.h"

#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include "core/time_stamp.h"

namespace opsrelay::control {

namespace {

using Writer = rapidjson::Writer<rapidjson::StringBuffer>;

void string(Writer& out, std::string_view text) {
    out.String(text.data(), static_cast<rapidjson::SizeType>(text.size()));
}

void field(Writer& out, const char* key, std::string_view value) {
    out.Key(key);
    string(out, value);
}

void field(Writer& out, const char* key, std::uint64_t value) {
    out.Key(key);
    out.Uint64(value);
}

void seconds_field(Writer& out, const char* key, double value) {
    out.Key(key);
    out.Double(static_cast<double>(static_cast<std::int64_t>(value * 10)) / 10);
}

void time_field(Writer& out, const char* key, std::optional<std::int64_t> at_ms) {
    out.Key(key);
    if (!at_ms) {
        out.Null();
        return;
    }
    string(out, TimeStamp(*at_ms).text());
}

void strings_field(Writer& out, const char* key, const std::vector<std::string>& texts) {
    out.Key(key);
    out.StartArray();
    for (const auto& text : texts) string(out, text);
    out.EndArray();
}

void text_or_null(Writer& out, const char* key, std::string_view text) {
    out.Key(key);
    if (text.empty()) {
        out.Null();
    } else {
        string(out, text);
    }
}

void write_lane(Writer& out, const LaneView& lane) {
    out.StartObject();
    field(out, "name", lane.name);
    field(out, "state", lane.state);
    time_field(out, "since",
               lane.since_unix_ms == 0 ? std::nullopt : std::optional(lane.since_unix_ms));
    time_field(out, "retry_at", lane.retry_at_unix_ms);
    field(out, "spooled", lane.spooled);
    out.Key("deferred");
    out.StartObject();
    field(out, "events", lane.deferred);
    time_field(out, "next", lane.deferred_due_unix_ms);
    out.EndObject();
    field(out, "concurrency", lane.concurrency);
    seconds_field(out, "oldest_age_s", lane.oldest_age_s);
    out.Key("late");
    out.StartObject();
    field(out, "day", lane.late_day);
    field(out, "month", lane.late_month);
    out.EndObject();
    text_or_null(out, "last_error", lane.last_error);
    text_or_null(out, "next", lane.next);
    out.EndObject();
}

void write_listener(Writer& out, const ListenerView& listener) {
    out.StartObject();
    field(out, "type", listener.type);
    field(out, "address", listener.address);
    field(out, "received", listener.received);
    field(out, "kernel_drops", listener.kernel_drops);
    out.Key("inherited");
    out.Bool(listener.inherited);
    out.EndObject();
}

void write_readiness(Writer& out, const StatusView& status) {
    out.Key("ready");
    out.Bool(status.ready);
    strings_field(out, "reasons", status.reasons);
}

}  // namespace

std::string readiness_json(const StatusView& status) {
    rapidjson::StringBuffer buffer;
    Writer out(buffer);
    out.StartObject();
    write_readiness(out, status);
    out.EndObject();
    return {buffer.GetString(), buffer.GetSize()};
}

std::string to_json(const StatusView& status) {
    rapidjson::StringBuffer buffer;
    Writer out(buffer);
    out.StartObject();
    field(out, "version", status.version);
    write_readiness(out, status);
    out.Key("ledger");
    const auto ledger = status.ledger.to_json();
    out.RawValue(ledger.data(), ledger.size(), rapidjson::kObjectType);
    out.Key("lanes");
    out.StartArray();
    for (const auto& lane : status.lanes) write_lane(out, lane);
    out.EndArray();
    out.Key("spool");
    out.StartObject();
    field(out, "bytes", status.spool_bytes);
    field(out, "limit", status.spool_limit);
    field(out, "reserve", status.spool_reserve);
    seconds_field(out, "oldest_age_s", status.spool_oldest_age_s);
    field(out, "dead_letters", status.dead_letters);
    field(out, "dead_bytes", status.dead_bytes);
    field(out, "dead_limit", status.dead_bytes_limit);
    strings_field(out, "damaged", status.damaged);
    strings_field(out, "repaired", status.repaired);
    out.EndObject();
    out.Key("dedupe");
    out.StartObject();
    field(out, "ids", status.dedupe_ids);
    field(out, "ids_max", status.dedupe_ids_max);
    seconds_field(out, "window_s", status.dedupe_window_s);
    out.EndObject();
    out.Key("listeners");
    out.StartArray();
    for (const auto& listener : status.listeners) write_listener(out, listener);
    out.EndArray();
    out.EndObject();
    return {buffer.GetString(), buffer.GetSize()};
}

}  // namespace opsrelay::control
