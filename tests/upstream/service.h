// The API without sockets: one request in, one reply and how it is delivered out. Authorization,
// routing, faults and counting live here; the server only carries out what a Reply says.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "upstream/model.h"
#include "upstream/settings.h"

namespace opsrelay::upstream {

/// Which port a request came in on.
enum class Port : std::uint8_t { ingest, control };

struct Request {
    std::string_view method;
    std::string_view target;   // path and query
    std::string_view api_key;  // X-API-Key; empty: absent
    std::string_view body;
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
    /// The time this server believes it is (date_skew).
    [[nodiscard]] WallTime now() const noexcept { return clock_.wall_now() + behaviour_.date_skew; }

    ConnectionCounts connections;

private:
    [[nodiscard]] Reply route(Port port, const Request& request, std::string_view path);
    [[nodiscard]] Reply inspect(Port port, const Request& request, std::string_view path);
    [[nodiscard]] Reply ingest(const Request& request);
    [[nodiscard]] Reply process(const Request& request);
    void apply(const Fault& fault, const Request& request, Reply& reply);
    void answer_fixed(const Fault& fault, Reply& reply);
    [[nodiscard]] Reply workspace_status(const Request& request);
    [[nodiscard]] Reply control(const Request& request);
    [[nodiscard]] Reply rows_reply(const Request& request);
    [[nodiscard]] bool authorized(const Request& request) const noexcept;
    void reset();

    const Clock& clock_;
    Behaviour behaviour_;
    FaultPlan faults_;
    Workspace workspace_;
    std::uint64_t requests_ = 0;  // to ingest
    std::uint64_t status_requests_ = 0;
    std::map<int, std::uint64_t> by_status_;  // of ingest replies that were sent
    std::map<std::string, std::uint64_t> by_fault_;
};

}  // namespace opsrelay::upstream
