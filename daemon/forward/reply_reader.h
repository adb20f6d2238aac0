// Makes a Reply from the bytes of an HTTP/1.1 response. No I/O: Connection feeds it.
#pragma once

#include <boost/system/error_code.hpp>
#include <cstddef>
#include <memory>
#include <string_view>

#include "forward/upstream.h"

namespace opsrelay::forward {

/// One response at a time: begin(), then feed() until it does not ask for more. 1xx replies are
/// skipped; of a body over kReplyBodyMax the beginning is kept. Thread: one.
class ReplyReader {
public:
    enum class State : std::uint8_t {
        more,   // feed what comes next, behind what was not used
        done,   // take() has the reply
        failed  // error() says why; nothing else is of use
    };
    struct Progress {
        State state = State::more;
        std::size_t used = 0;  // bytes that need not be fed again
    };

    ReplyReader();
    ReplyReader(const ReplyReader&) = delete;
    ReplyReader& operator=(const ReplyReader&) = delete;
    ~ReplyReader();

    void begin();
    /// Reads the Date of every reply, not only beside Retry-After.
    void keep_date() noexcept;
    [[nodiscard]] Progress feed(std::string_view bytes);
    /// Nothing more will come. `clean`: the peer said so; else the connection broke, which still
    /// ends a body without a length.
    [[nodiscard]] State end(bool clean);

    [[nodiscard]] const boost::system::error_code& error() const noexcept { return error_; }
    /// The head has been read: what fails now fails in the body.
    [[nodiscard]] bool in_body() const noexcept;
    /// The response is complete and the peer keeps the connection.
    [[nodiscard]] bool reusable() const;
    [[nodiscard]] Reply take();

private:
    struct Impl;  // Beast stays out of headers
    [[nodiscard]] State fail(const boost::system::error_code& ec);

    std::unique_ptr<Impl> impl_;
    boost::system::error_code error_;
};

}  // namespace opsrelay::forward
