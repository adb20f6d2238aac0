// The seam to the upstream. HttpUpstream is the real one, ScriptedUpstream in the tests plays
// faults.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "core/enum_table.h"
#include "core/secret.h"

namespace opsrelay::forward {

/// Where an exchange ended. All but `ok` are label values of `code` in
/// opsrelay_upstream_requests_total; a complete reply has its status there.
enum class Transport : std::uint8_t { ok, timeout, reset, refused, resolve, tls, unanswered };
inline constexpr std::array<EnumName<Transport>, 7> kTransports{{
    {Transport::ok, "ok"},            // a complete reply was read
    {Transport::timeout, "timeout"},  // the deadline passed
    {Transport::reset, "reset"},      // closed or reset before a complete reply, or not HTTP
    {Transport::refused, "refused"},  // no connection
    {Transport::resolve, "resolve"},  // the name has no address
    {Transport::tls, "tls"},          // handshake or certificate
    // Its connection ended because of another request, or was never made: says nothing about this
    // one, which is to be sent again and has not failed. Only of send() and send_batch().
    {Transport::unanswered, "unanswered"},
}};
static_assert(dense(kTransports));
constexpr std::string_view to_string(Transport t) { return kTransports.at(index_of(t)).name; }

/// What came back. Everything but `transport` and `error` counts only when transport is ok.
struct Reply {
    Transport transport = Transport::ok;
    std::string error;  // for the log: what failed, without secrets
    int status = 0;
    std::string
        body;  // the key hidden; at most kReplyBodyMax; longer bodies are cut and `body_cut` set
    bool body_cut = false;
    std::optional<std::string> retry_after;  // header values as sent
    std::optional<std::string> date;         // read only beside Retry-After, or when asked for
};
inline constexpr std::size_t kReplyBodyMax = 64U << 10U;

/// How many requests one connection carries at a time.
struct Pipelining {
    unsigned depth = 1;
    std::string_view cause;                 // why not as many as configured; "": as many
    TimePoint retry_at = TimePoint::max();  // when that is tried again
};

/// One upstream. Thread: forward. Every call ends by its deadline.
class Upstream {
public:
    virtual ~Upstream() = default;
    /// POSTs one event. `body` must live until the call returns. May be repeated with the same
    /// bytes.
    [[nodiscard]] virtual asio::awaitable<Reply> send(std::string_view body,
                                                      TimePoint deadline) = 0;
    /// POSTs several events, as one batch request. They must live until the call returns.
    [[nodiscard]] virtual asio::awaitable<Reply> send_batch(
        std::span<const std::string_view> events, TimePoint deadline) = 0;
    /// GET /v1/diagnostics/workspace-status.
    [[nodiscard]] virtual asio::awaitable<Reply> workspace_status(TimePoint deadline) = 0;
    /// The key for later requests; empty: none.
    virtual void set_api_key(const Secret& key) = 0;
    /// Closes idle connections that are too old, or with `rebuild` all of them; those in use then
    /// end with their request, and the next ones resolve and connect anew. Never waits.
    virtual void tend_connections(bool rebuild) { static_cast<void>(rebuild); }
    /// At present; changes only within the other calls.
    [[nodiscard]] virtual Pipelining pipelining() const { return {}; }
};

}  // namespace opsrelay::forward
