// What a Connection is made of; only its own files include this. connection.cpp opens it,
// connection_exchange.cpp has the requests.
#pragma once

#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "forward/connection.h"
#include "forward/reply_reader.h"
#include "forward/watch.h"

namespace opsrelay::forward {

using Tls = asio::ssl::stream<Socket>;

// One read buffer per connection: replies that came together, the rest of a header line, a piece of
// body.
inline constexpr std::size_t kReadBufferMax = 16U << 10U;

[[nodiscard]] Reply failure(Transport transport, std::string error);

struct Connection::Impl : std::enable_shared_from_this<Connection::Impl> {
    /// A request whose reply is still to come. Lives in the frame of its call.
    struct Waiting {
        Exchange out;
        bool done = false;
        bool piped = false;                      // sent behind another one
        std::optional<asio::steady_timer> wake;  // of a call that does not read
    };

    Impl(asio::any_io_executor e, const Endpoint& where, Route way)
        : executor(std::move(e)),
          endpoint(where),
          route(std::move(way)),
          watch(std::make_shared<Watch>(executor)) {}

    [[nodiscard]] Socket& lowest() { return secure ? secure->next_layer() : *plain; }
    void close();

    // Opening.
    asio::awaitable<Reply> ask_for_tunnel();
    asio::awaitable<Reply> shake_hands();
    /// The one place where errors of Asio, Beast and OpenSSL become ours.
    [[nodiscard]] Reply failed(std::string_view doing, const boost::system::error_code& ec,
                               Transport otherwise);

    // Requests.
    template <typename Stream>
    asio::awaitable<Exchange> exchange_over(Stream& stream, std::string_view request,
                                            TimePoint deadline, Sending sending);
    /// Writes what it can at once, and leaves the rest to a write in the background. Its failure
    /// ends the connection by way of the reading, which may find a reply that says why.
    template <typename Stream>
    void send(Stream& stream, std::string_view request, Sending sending);
    template <typename Stream>
    void flush(Stream& stream);
    /// The call that reads; null: none waits any more.
    [[nodiscard]] Waiting* reader() const noexcept;
    /// Nobody reads at present: the next call is to.
    void pass_on();
    static void wake(Waiting& call);
    /// Its call ends before the reply, which will be nobody's.
    void leave(const Waiting& call);
    /// What a read brought.
    void take(const boost::system::error_code& ec, std::size_t read);
    void begin_reply();
    void hand_out();
    void finish_reply();
    /// Nothing more will come: the error's cause, or the reply that ends with it.
    void take_end(const boost::system::error_code& ec);
    /// The peer closed between two replies.
    void end_closed(ConnectionEnd::How how, std::string_view why);
    void end_broken(ConnectionEnd::How how, Reply reply);
    /// Nobody has its reply any more; the first one in the queue is `first`.
    void give_up(Lost first, std::string_view why);

    asio::any_io_executor executor;
    const Endpoint& endpoint;
    Route route;
    std::optional<Socket> plain;  // one of the two
    std::optional<Tls> secure;
    std::shared_ptr<Watch> watch;  // shared with its timer's handler

    bool reading = false;        // the reader's read is under way
    std::deque<Waiting*> queue;  // in the order of the requests; null: its call has left
    Secret outgoing;             // requests that wait to be written, at most those of the queue
    Secret writing;              // those that are being written
    bool flushing = false;       // flush() will be called, or its write is under way
    bool write_failed = false;

    ReplyReader reply;
    bool reply_begun = false;
    bool any_reply = false;  // a byte of it came
    std::vector<char> buffer = std::vector<char>(kReadBufferMax);
    std::size_t used = 0;      // the reader has these
    std::size_t buffered = 0;  // and these end what was read
    std::size_t answered = 0;
    std::size_t answered_before = 0;  // while another request waited behind
    std::optional<ConnectionEnd> ended;
};

}  // namespace opsrelay::forward
