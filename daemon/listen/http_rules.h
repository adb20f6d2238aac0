// What the HTTP intake answers: requests that are refused before their body counts, and the reply
// for each end of an event. Pure; carried out by http_session.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/plan_state.h"
#include "listen/inlet.h"

namespace opsrelay::listen {

enum class HttpTarget : std::uint8_t { event, batch, unknown };
/// Any prefix, repeated slashes, a query and a slash at the end do not matter.
[[nodiscard]] HttpTarget target_of(std::string_view target);
/// ASCII letters without their case.
[[nodiscard]] bool same_text(std::string_view a, std::string_view b) noexcept;
/// "gzip" of a batch request, with spaces around it and in any case.
[[nodiscard]] bool is_gzip(std::string_view content_encoding) noexcept;

/// The parts of a request that decide whether its body is taken. The views live as long as it.
struct HttpHead {
    std::string_view method;
    std::string_view target;
    std::optional<std::string_view> host;
    std::optional<std::string_view> origin;
    std::optional<std::string_view> content_type;
    std::optional<std::string_view> content_encoding;
    bool unix_socket = false;  // no browser reaches it: any Host will do
};

/// A reply with a JSON body.
struct HttpReply {
    int status = 200;
    std::string body;
    bool allow_post = false;  // Allow: POST
    bool retry_soon = false;  // Retry-After: 1
};

/// {"ok":false,"reason":...,"errors":[{"field","message"}],"warnings":[]}
[[nodiscard]] HttpReply error_reply(int status, std::string_view reason, std::string_view field,
                                    std::string_view message);

/// The refusal of a request whose head is not acceptable; nullopt: take the body. Checked in this
/// order: Host 400/403, Origin 403, path 404, method 405, Content-Type and Content-Encoding 415.
[[nodiscard]] std::optional<HttpReply> refusal(const HttpHead& head);

/// 413 of an event that is too large, else 400.
[[nodiscard]] int rejection_status(RejectReason reason) noexcept;

/// The reply for one event. `settled` counts for accepted events and duplicates.
[[nodiscard]] HttpReply event_reply(const Offered& offered, Settled settled,
                                    const PlanFields& plan);

/// The reply's bytes. A HEAD request gets the header only.
[[nodiscard]] std::string serialize(const HttpReply& reply, bool keep_alive, bool head_only);

}  // namespace opsrelay::listen
