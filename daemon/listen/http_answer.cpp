#include "listen/http_answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <vector>

#include "core/nothrow.h"
#include "listen/content_coding.h"
#include "listen/http_status.h"
#include "listen/ready_fd.h"

namespace opsrelay::listen {

// Not as one expression: g++ 12 destroys the reply twice.
asio::awaitable<HttpReply> HttpAnswer::take(const HttpRequest& request) {
    switch (request.target) {
        case HttpTarget::batch: co_return co_await take_batch(request);
        case HttpTarget::workspace_status: co_return co_await tell_workspace(request);
        case HttpTarget::event:
        case HttpTarget::unknown: break;  // refused by its head
    }
    co_return co_await take_event(request);
}

bool HttpAnswer::hold(Bytes bytes) noexcept {
    state_.batch_bytes = state_.batch_bytes - held_ + bytes;
    held_ = bytes;
    return state_.batch_bytes.count <= kBatchBodiesMax * state_.options.http_body_max.count;
}

asio::awaitable<HttpReply> HttpAnswer::take_event(const HttpRequest& request) {
    Burst burst(state_, request.origin);
    burst.add({.bytes = request.body, .over_rate = over_rate()});
    const Offered offered = burst.offer().front();
    auto settled = Settled::durable;
    const bool waits =
        offered.admission == Admission::accepted || offered.admission == Admission::duplicate;
    if (waits && offered.position != 0) settled = co_await settle(offered.position);
    const auto& plan = state_.plans.of(request.origin.lane);
    auto reply = event_reply(offered, settled, plan.get());
    if (!state_.options.http_mirror_upstream) co_return reply;
    co_return mirrored(std::move(reply), offered.id, plan.get(), plan.refusal(),
                       state_.clock.now());
}

asio::awaitable<HttpReply> HttpAnswer::tell_workspace(const HttpRequest& request) {
    const auto lane = request.origin.lane;
    if (state_.refresh_workspace) {
        const auto due = state_.clock.now() + state_.options.http_ack_timeout;
        co_await state_.refresh_workspace(lane, due);
    }
    const auto& plan = state_.plans.of(lane);
    co_return workspace_reply(plan.get(), plan.workspace(), state_.clock.now());
}

std::string HttpAnswer::too_many_bytes() const {
    return fmt::format("a batch has at most {} bytes, unpacked (http.max_body); send several",
                       state_.options.http_body_max.count);
}

bool HttpAnswer::over_rate() {
    return !state_.limiter.off() && !state_.limiter.take(peer_, state_.clock.now());
}

HttpReply HttpAnswer::refuse_too_large(const HttpRequest& request) {
    if (request.target == HttpTarget::workspace_status) {  // no event
        return error_reply(413, to_string(RejectReason::too_large), "", "send no body");
    }
    const bool batch = request.target == HttpTarget::batch;
    return refuse_body(request, true, batch ? too_many_bytes() : "an event has at most 64 KiB");
}

// Counted like any event that cannot be read.
HttpReply HttpAnswer::refuse_body(const HttpRequest& request, bool too_large,
                                  std::string_view message) {
    Burst burst(state_, request.origin);
    burst.add({.bytes = request.body.substr(0, kEventBytesMax.count),
               .oversize = too_large,
               .length = request.length,
               .limit = too_large ? message : std::string_view{}});
    (void)burst.offer();
    const auto reason = too_large ? RejectReason::too_large : RejectReason::not_json;
    return error_reply(rejection_status(reason), to_string(reason), "", message);
}

asio::awaitable<HttpReply> HttpAnswer::take_batch(const HttpRequest& request) {
    const auto form = batch_form(request.content_type.value_or("application/json"));
    auto body = request.body;
    Unpacked unpacked;
    // refusal() has seen that it is one that we know.
    const auto coding = content_coding(request.content_encoding.value_or("identity"))
                            .value_or(ContentCoding::identity);
    if (coding != ContentCoding::identity) {
        unpacked = unpack(coding, body, state_.options.http_body_max);
        if (unpacked.state == Unpacked::State::too_large) {
            co_return refuse_body(request, true, too_many_bytes());
        }
        if (unpacked.state == Unpacked::State::damaged) {
            co_return refuse_body(
                request, false,
                fmt::format("Content-Encoding is {}, and the body cannot be unpacked",
                            to_string(coding)));
        }
        body = unpacked.bytes;
        (void)hold({request.body.size() + body.size()});
    }
    const auto items = split_batch(form.value_or(BatchForm::array), body);
    if (!items) {
        const auto complaint = complaint_about_array(body);
        co_return refuse_body(request, false, complaint);
    }
    if (items->size() > kBatchEventsMax) {
        co_return refuse_body(
            request, true,
            fmt::format("a batch has at most {} events; send them in several", kBatchEventsMax));
    }
    co_return co_await take_items(*items, request.origin);
}

asio::awaitable<HttpReply> HttpAnswer::take_items(std::span<const std::string_view> items,
                                                  const Origin& origin) {
    std::vector<BatchResult> results;
    results.reserve(items.size());
    Position last = 0;
    Burst burst(state_, origin);
    for (std::size_t i = 0; i < items.size(); ++i) {
        burst.add({.bytes = items[i].substr(0, kEventBytesMax.count),
                   .oversize = items[i].size() > kEventBytesMax.count,
                   .over_rate = over_rate(),
                   .length = items[i].size()});
        const bool end = i + 1 == items.size();
        if (!burst.full() && !end) continue;
        for (const auto& offered : burst.offer()) {
            results.push_back(result_of(offered));
            if (results.back().status == 200) last = std::max(last, offered.position);
        }
        if (!end) co_await asio::post(ingest_, nothrow);
    }
    auto settled = Settled::durable;
    if (last != 0) settled = co_await settle(last);
    co_return batch_reply(results, settled);
}

// A graceful stop ends a wait early, but this request is still answered truthfully.
asio::awaitable<Settled> HttpAnswer::settle(Position position) {
    const auto stop = co_await asio::this_coro::cancellation_state;
    const auto due = state_.clock.now() + state_.options.http_ack_timeout;
    auto settled = co_await state_.inlet.settled(position, due);
    while (settled == Settled::timed_out && state_.clock.now() < due && !is_terminal(stop)) {
        settled = co_await state_.inlet.settled(position, due);
    }
    co_return settled;
}

}  // namespace opsrelay::listen
