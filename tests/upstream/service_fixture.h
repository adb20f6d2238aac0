// The service under test: virtual time, one line per request.
#pragma once

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <rapidjson/document.h>
#include <rapidjson/pointer.h>

#include <string>
#include <string_view>

#include "support/sim_clock.h"
#include "upstream/calendar.h"
#include "upstream/service.h"
#include "upstream/test_server.h"

namespace opsrelay::upstream {

/// The number at a JSON pointer without its first slash: "budget/daily/currentSpendUsd".
[[nodiscard]] inline double number_in(std::string_view json, std::string_view path) {
    rapidjson::Document document;
    document.Parse(json.data(), json.size());
    const auto pointer = fmt::format("/{}", path);
    const auto* value = rapidjson::Pointer(pointer.c_str()).Get(document);
    return value == nullptr || !value->IsNumber() ? -1 : value->GetDouble();
}

/// A service at noon of 2026-04-29, UTC.
struct ServiceFixture {
    explicit ServiceFixture(Settings settings = {}) : service(settings, clock) {}
    /// With switches as POST /control takes them.
    explicit ServiceFixture(std::string_view json) : ServiceFixture() { control(json); }

    Reply handle(Port port, const Request& request) { return service.handle(port, request); }
    Reply post(std::string_view body, std::string_view key = "k") {
        return handle(Port::ingest, {"POST", "/v1/ingest/llm-request", key, body, {}, {}, {}});
    }
    Reply post_batch(std::string_view body, std::string_view type = "application/json",
                     std::string_view coding = {}) {
        return handle(Port::ingest, {"POST", "/v1/ingest/batch", "k", body, type, coding, {}});
    }
    Reply get(std::string_view target) {
        return handle(Port::ingest, {"GET", target, "k", {}, {}, {}, {}});
    }
    /// GET workspace-status.
    std::string status() { return get("/v1/diagnostics/workspace-status").body; }
    Reply try_control(std::string_view json) {
        return handle(Port::control, {"POST", "/control", {}, json, {}, {}, {}});
    }
    void control(std::string_view json) {
        const auto reply = try_control(json);
        CAPTURE(reply.body);
        REQUIRE(reply.status == 200);
    }
    [[nodiscard]] std::int64_t stat(std::string_view name) const {
        const auto value = number_in(service.stats_json(), name);
        return value < 0 ? 0 : static_cast<std::int64_t>(value);
    }

    test::SimClock clock{*parse_utc("2026-04-29T12:00:00Z")};
    Service service;
};

}  // namespace opsrelay::upstream
