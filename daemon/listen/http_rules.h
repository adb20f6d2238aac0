// What the HTTP intake answers: requests that are refused before their body counts, and the reply
// for each end of an event. Pure; carried out by http_session.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/event.h"
#include "core/plan_state.h"
#include "listen/inlet.h"

namespace opsrelay::listen {

enum class HttpTarget : std::uint8_t { event, batch, workspace_status, unknown };
/// What a path asks for, and of which lane.
struct HttpRoute {
    HttpTarget target = HttpTarget::unknown;
    std::optional<std::string> lane;  // from "/lanes/NAME"; unset: the listener's
};
/// Any prefix, repeated slashes, a query and a slash at the end do not matter; a prefix that ends
/// in "/lanes/NAME" names the lane.
[[nodiscard]] HttpRoute route_of(std::string_view target);
/// ASCII letters without their case.
[[nodiscard]] bool same_text(std::string_view a, std::string_view b) noexcept;

/// The parts of a request that decide whether its body is taken. The views live as long as it.
struct HttpHead {
    std::string_view method;
    HttpRoute route;
    std::optional<std::string_view> host;
    std::optional<std::string_view> origin;
    std::optional<std::string_view> content_type;
    std::optional<std::string_view> content_encoding;
    bool any_host = false;   // a Unix socket, or a token is asked for: no web page gets here
    bool authorized = true;  // has a token, where one is asked for
    std::span<const std::string> allowed_hosts;  // besides those of this machine
    std::span<const LaneName> lanes;
};

/// A reply with a JSON body.
struct HttpReply {
    int status = 200;
    std::string body;
    std::string_view allow;         // methods, of a 405
    std::uint64_t retry_after = 0;  // seconds; 0: not said
    bool challenge = false;         // WWW-Authenticate: Bearer
};

/// {"ok":false,"reason":...,"errors":[{"field","message"}],"warnings":[]}
[[nodiscard]] HttpReply error_reply(int status, std::string_view reason, std::string_view field,
                                    std::string_view message);

/// The refusal of a request whose head is not acceptable; nullopt: take the body. Checked in this
/// order: Host 400/403, Origin 403, token 401, path and lane 404, method 405, Content-Type and
/// Content-Encoding 415.
[[nodiscard]] std::optional<HttpReply> refusal(const HttpHead& head);

/// 413 of an event that is too large, else 400.
[[nodiscard]] int rejection_status(RejectReason reason) noexcept;

/// The lane that a route names; nullptr: it names none that there is.
[[nodiscard]] const LaneName* lane_of(const HttpRoute& route, std::span<const LaneName> lanes);

/// The reply for one event. `settled` counts for accepted events and duplicates.
[[nodiscard]] HttpReply event_reply(const Offered& offered, Settled settled,
                                    const PlanFields& plan);

/// `reply`, or for an event that was accepted what upstream would answer at present: 402, or 429
/// with the rest of its wait.
[[nodiscard]] HttpReply mirrored(HttpReply reply, const std::string& id, const PlanFields& plan,
                                 const UpstreamRefusal& refusal, TimePoint now);

/// The reply's bytes. A HEAD request gets the header only.
[[nodiscard]] std::string serialize(const HttpReply& reply, bool keep_alive, bool head_only);

}  // namespace opsrelay::listen
