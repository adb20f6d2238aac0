// The API without sockets: one request in, one reply and how it is delivered out. Authorization,
// routing, faults and counting live here; the server only carries out what a Reply says.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "upstream/calendar.h"
#include "upstream/rate_limit.h"
#include "upstream/replies.h"
#include "upstream/settings.h"
#include "upstream/workspace.h"

namespace opsrelay::upstream {

/// Which port a request came in on.
enum class Port : std::uint8_t { ingest, control };

struct Request {
    std::string_view method;
    std::string_view target;   // path and query
    std::string_view api_key;  // X-API-Key; empty: absent, as the other headers
    std::string_view body;
    std::string_view content_type;
    std::string_view content_encoding;
    std::string_view authorization;
};

/// How a reply is put on the wire.
enum class Delivery : std::uint8_t {
    whole,
    rows,       // GET /rows: streamed from the table, `rows` says which
    pieces,     // the body in pieces, `pause` between them
    truncated,  // half of the promised body, then an orderly close
    reset,      // RST, nothing sent
    silence,    // nothing is sent until the client goes or `pause` passed, then closed
};

/// GET /rows?ids=1&offset=N&limit=N
struct RowsQuery {
    bool ids = false;
    std::size_t offset = 0;
    std::size_t limit = SIZE_MAX;
};

struct Reply {
    int status = 200;
    std::string_view content_type = "application/json";  // empty: no such header
    std::string body;
    std::string extra_headers;  // complete lines
    Delivery delivery = Delivery::whole;
    bool close = false;
    milliseconds delay{0};  // before anything is sent
    milliseconds pause{0};
    RowsQuery rows;
};

/// Kept by the server, shown in /stats.
struct ConnectionCounts {
    std::uint64_t open = 0;  // of the ingest port, as the others
    std::uint64_t peak = 0;
    std::uint64_t total = 0;
    std::uint64_t refused = 0;       // over connections_max
    std::uint64_t tls_failures = 0;  // handshakes that failed
    std::uint64_t bad_requests = 0;  // not HTTP, or over the body limit
};

/// Thread: one.
class Service {
public:
    Service(const Settings& settings, const Clock& clock);
    Service(const Service&) = delete;
    Service& operator=(const Service&) = delete;

    [[nodiscard]] Reply handle(Port port, const Request& request);
    /// For requests that could not be read: counted like any reply.
    [[nodiscard]] Reply refuse(int status, std::string_view reason);

    [[nodiscard]] std::string stats_json() const;
    [[nodiscard]] const Behaviour& behaviour() const noexcept { return behaviour_; }
    [[nodiscard]] const RowTable& rows() const noexcept { return workspace_.rows(); }
    /// The time this server believes it is (clock.offset_ms).
    [[nodiscard]] WallTime now() const noexcept {
        return clock_.wall_now() + milliseconds{behaviour_.clock_offset_ms};
    }

    ConnectionCounts connections;

private:
    using Handler = Reply (Service::*)(const Request&);
    struct Route {
        std::string_view path;  // the end of it: any prefix will do
        std::string_view method;
        Handler handler;
    };
    static const std::array<Route, 8> kRoutes;

    [[nodiscard]] Reply route(Port port, const Request& request, std::string_view path);
    [[nodiscard]] Reply inspect(Port port, const Request& request, std::string_view path);

    [[nodiscard]] Reply ingest_single(const Request& request);
    [[nodiscard]] Reply ingest_batch(const Request& request);
    [[nodiscard]] Reply make_demo_rows(const Request& request);
    [[nodiscard]] Reply delete_demo_rows(const Request& request);
    [[nodiscard]] Reply delete_test_rows(const Request& request);
    [[nodiscard]] Reply workspace_status(const Request& request);
    [[nodiscard]] Reply settings_status(const Request& request);
    [[nodiscard]] Reply pricing_models(const Request& request);

    /// One ingest request with its fault; `process` is what happens without one.
    using Process = Reply (Service::*)(const Request&, const Fault&);
    [[nodiscard]] Reply ingest(const Request& request, Process process);
    [[nodiscard]] Reply process_single(const Request& request, const Fault& fault);
    [[nodiscard]] Reply process_batch(const Request& request, const Fault& fault);
    [[nodiscard]] ItemResult process_item(std::string_view item);
    /// The refusal that comes before a request is looked at: rate limit, then key.
    [[nodiscard]] std::optional<Reply> refuse_early(const Request& request);
    [[nodiscard]] Reply throttled();
    [[nodiscard]] Reply poisoned() const;

    [[nodiscard]] Reply delete_rows(const Request& request, DataMode mode);
    [[nodiscard]] Reply control(const Request& request);
    [[nodiscard]] Reply rows_reply(const Request& request);
    [[nodiscard]] bool authorized(const Request& request) const noexcept;
    [[nodiscard]] bool dashboard_authorized(const Request& request) const noexcept;
    /// What was given for the day and the month before the start ends with them.
    void roll_over();
    void reset();

    const Clock& clock_;
    Behaviour behaviour_;
    FaultPlan faults_;
    FaultPlan item_faults_;
    Workspace workspace_;
    TokenBucket bucket_;
    Day today_;
    std::uint64_t requests_ = 0;  // to ingest
    std::uint64_t batch_requests_ = 0;
    std::uint64_t batch_items_ = 0;
    std::uint64_t rate_limited_ = 0;
    std::uint64_t status_requests_ = 0;
    std::map<int, std::uint64_t> by_status_;  // of ingest replies that were sent
    std::map<int, std::uint64_t> by_item_status_;
    std::map<std::string, std::uint64_t> by_fault_;
};

/// An HTML page with that title, as proxies and error handlers send it.
[[nodiscard]] std::string html_page(std::string_view title);

}  // namespace opsrelay::upstream
