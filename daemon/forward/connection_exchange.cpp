// The requests of a connection: one write for those that leave together, one call that reads for
// all, replies in the order of the requests.
#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/error.hpp>
#include <cstring>
#include <utility>

#include "core/assert.h"
#include "core/nothrow.h"
#include "forward/connection_impl.h"

namespace opsrelay::forward {

namespace {

using boost::system::error_code;

// Longer requests gain nothing from company, and are not copied for it.
constexpr std::size_t kTogetherMax = 16U << 10U;

// What the kernel takes at once, which is nearly always everything.
std::size_t send_now(Socket& socket, std::string_view bytes) {
    error_code ignored;  // comes again where the rest is sent
    return socket.write_some(asio::buffer(bytes.data(), bytes.size()), ignored);
}
std::size_t send_now(Tls&, std::string_view) { return 0; }

}  // namespace

asio::awaitable<Exchange> Connection::exchange(std::string_view request, TimePoint deadline,
                                               Sending sending) {
    OPSRELAY_ASSERT(!impl_->ended);
    auto& impl = *impl_;
    if (impl.secure) return impl.exchange_over(*impl.secure, request, deadline, sending);
    return impl.exchange_over(*impl.plain, request, deadline, sending);
}

std::size_t Connection::under_way() const noexcept { return impl_->queue.size(); }

std::size_t Connection::answered() const noexcept { return impl_->answered; }

const std::optional<ConnectionEnd>& Connection::ended() const noexcept { return impl_->ended; }

template <typename Stream>
asio::awaitable<Exchange> Connection::Impl::exchange_over(Stream& stream, std::string_view request,
                                                          TimePoint deadline, Sending sending) {
    const auto stop = co_await asio::this_coro::cancellation_state;
    Waiting self;
    self.piped = !queue.empty();
    queue.push_back(&self);
    send(stream, request, sending);
    while (!self.done) {
        if (reader() == &self) {
            watch->set(lowest(), deadline);
            std::memmove(buffer.data(), buffer.data() + used, buffered - used);
            buffered -= std::exchange(used, 0);
            // Beast refuses a header long before it fills the buffer.
            const auto room = asio::buffer(buffer.data() + buffered, buffer.size() - buffered);
            reading = true;
            const auto [read_ec, read] = co_await stream.async_read_some(room, nothrow);
            reading = false;
            take(read_ec, read);
            continue;
        }
        self.wake.emplace(executor, deadline);
        const auto [ec] = co_await self.wake->async_wait(nothrow);
        const bool cancelled = stop.cancelled() != asio::cancellation_type::none;
        const bool woken = ec && !cancelled;
        if (self.done || woken) continue;
        leave(self);
        self.out.reply = cancelled ? failure(Transport::reset, "read reply: cancelled")
                                   : failure(Transport::timeout, "read reply: no answer in time");
        self.done = true;
    }
    if (!reading) pass_on();
    co_return std::move(self.out);
}

template <typename Stream>
void Connection::Impl::send(Stream& stream, std::string_view request, Sending sending) {
    const bool together = sending == Sending::together && request.size() < kTogetherMax;
    if (!together && !flushing) request.remove_prefix(send_now(stream, request));
    if (request.empty()) return;
    outgoing.append(request);
    if (std::exchange(flushing, true)) return;
    if (!together) return flush(stream);
    asio::post(executor, [self = shared_from_this(), &stream] { self->flush(stream); });
}

template <typename Stream>
void Connection::Impl::flush(Stream& stream) {
    std::swap(outgoing, writing);
    auto rest = writing.view();
    if (!ended) rest.remove_prefix(send_now(stream, rest));
    if (rest.empty() || ended) {
        writing.wipe();
        flushing = false;
        return;
    }
    auto on_written = [self = shared_from_this(), &stream](const error_code& ec, std::size_t) {
        self->writing.wipe();
        self->flushing = false;
        self->write_failed = self->write_failed || ec;
        if (self->outgoing.empty()) return;
        if (self->write_failed) return self->outgoing.wipe();
        self->flushing = true;
        self->flush(stream);
    };
    asio::async_write(stream, asio::buffer(rest.data(), rest.size()), std::move(on_written));
}

Connection::Impl::Waiting* Connection::Impl::reader() const noexcept {
    const auto found =
        std::find_if(queue.begin(), queue.end(), [](const auto* call) { return call != nullptr; });
    return found == queue.end() ? nullptr : *found;
}

void Connection::Impl::pass_on() {
    // An idle connection must not run into the deadline of the request it served.
    watch->clear();
    if (auto* const next = reader()) {
        wake(*next);
    } else if (!queue.empty()) {
        end_closed(ConnectionEnd::How::by_us, "nobody waits for the replies");
    }
}

void Connection::Impl::wake(Waiting& call) {
    if (call.wake) call.wake->cancel();
}

void Connection::Impl::leave(const Waiting& call) {
    const auto place = std::find(queue.begin(), queue.end(), &call);
    OPSRELAY_ASSERT(place != queue.end());
    *place = nullptr;
}

void Connection::Impl::take(const error_code& ec, std::size_t read) {
    begin_reply();
    if (ec) return take_end(ec);
    buffered += read;
    hand_out();
}

void Connection::Impl::begin_reply() {
    if (std::exchange(reply_begun, true)) return;
    reply.begin();
    any_reply = false;
}

void Connection::Impl::hand_out() {
    while (!ended && used < buffered) {
        if (queue.empty()) return end_closed(ConnectionEnd::How::by_us, "bytes nobody asked for");
        begin_reply();
        any_reply = true;
        const auto progress = reply.feed({buffer.data() + used, buffered - used});
        used += progress.used;
        switch (progress.state) {
            case ReplyReader::State::more: return;
            case ReplyReader::State::done: finish_reply(); break;
            case ReplyReader::State::failed:
                end_broken(ConnectionEnd::How::not_http,
                           failed(reply.in_body() ? "read reply body" : "read reply", reply.error(),
                                  Transport::reset));
                break;
        }
    }
}

void Connection::Impl::finish_reply() {
    auto* const call = queue.front();
    queue.pop_front();
    ++answered;
    if (!queue.empty()) ++answered_before;
    const bool reusable = reply.reusable();
    auto taken = reply.take();
    reply_begun = false;
    const bool cut = taken.body_cut;
    if (call != nullptr) {
        call->out.reply = std::move(taken);
        call->out.any_reply = true;
        call->done = true;
        wake(*call);
    }
    using How = ConnectionEnd::How;
    if (reusable && !write_failed) return;
    auto how = reusable ? How::closed : How::said_so;
    if (cut) how = How::by_us;
    end_closed(how, "the reply before ended the connection");
}

void Connection::Impl::take_end(const error_code& ec) {
    const bool closed = ec == asio::error::eof;
    const bool at_end = closed || ec == asio::ssl::error::stream_truncated;
    if (at_end && reply.end(closed) == ReplyReader::State::done) return finish_reply();
    const auto& cause = at_end ? reply.error() : ec;
    const auto doing = reply.in_body() ? "read reply body" : "read reply";
    auto told = failed(doing, cause, Transport::reset);
    if (watch->expired()) return end_broken(ConnectionEnd::How::silent, std::move(told));
    if (ec == asio::error::operation_aborted) {
        return end_broken(ConnectionEnd::How::by_us, std::move(told));
    }
    if (any_reply || answered == 0) {
        return end_broken(ConnectionEnd::How::broken, std::move(told));
    }
    end_closed(ConnectionEnd::How::closed, told.error);
}

void Connection::Impl::end_closed(ConnectionEnd::How how, std::string_view why) {
    ended = ConnectionEnd{.how = how, .answered = answered, .answered_before = answered_before};
    give_up(Lost::next, why);
}

void Connection::Impl::end_broken(ConnectionEnd::How how, Reply told) {
    ended = ConnectionEnd{.how = how, .answered = answered, .answered_before = answered_before};
    auto* const call = reader();
    OPSRELAY_ASSERT(call != nullptr);
    call->out.reply = std::move(told);
    call->out.any_reply = any_reply;
    call->done = true;
    if (call->piped) ++ended->piped;
    leave(*call);
    give_up(Lost::behind, "a reply before did not come");
}

void Connection::Impl::give_up(Lost first, std::string_view why) {
    for (auto* const call : std::exchange(queue, {})) {
        if (call == nullptr) continue;
        if (call->piped) ++ended->piped;
        call->out.lost = std::exchange(first, Lost::behind);
        call->out.reply = failure(Transport::reset, std::string(why));
        call->done = true;
        wake(*call);
    }
    close();
}

}  // namespace opsrelay::forward
