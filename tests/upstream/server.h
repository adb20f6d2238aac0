// The sockets of the emulator: an ingest port, plain or TLS, that can be taken down and up again,
// and a control port that stays. One thread.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <cstdint>
#include <memory>
#include <string>

#include "core/clock.h"
#include "core/error.h"
#include "upstream/settings.h"

namespace opsrelay::upstream {

/// Usage: start(), run the executor's context, stop() on its thread, run the context until it is
/// out of work, destroy. Thread: the executor's, except where noted.
class Server {
public:
    Server(asio::any_io_executor executor, Clock& clock, Settings settings);
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;
    ~Server();

    /// Binds both ports and prepares TLS. Errors: config_invalid (address not loopback,
    /// certificate), address_in_use, listener_failed, io (certificate files).
    [[nodiscard]] Result<void> start();
    /// Closes every socket; connections end with the next run of the context.
    void stop();

    /// Valid once start() has succeeded; may be read from any thread after that.
    [[nodiscard]] std::uint16_t port() const noexcept;
    [[nodiscard]] std::uint16_t control_port() const noexcept;
    [[nodiscard]] std::string url() const;
    [[nodiscard]] std::string control_url() const;
    [[nodiscard]] std::string stats_json() const;

private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace opsrelay::upstream
