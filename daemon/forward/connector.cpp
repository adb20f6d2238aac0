#include "forward/connector.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/this_coro.hpp>
#include <string>
#include <utility>

namespace opsrelay::forward {

namespace {

Reply failure(Transport transport, std::string error) {
    Reply reply;
    reply.transport = transport;
    reply.error = std::move(error);
    return reply;
}

// RFC 7617.
Secret basic_credentials(const Proxy& proxy) {
    const Secret pair{proxy.user.view(), ":", proxy.password.view()};
    std::string encoded((pair.size() + 2) / 3 * 4 + 1, '\0');  // and OpenSSL's terminator
    const auto* const bytes = reinterpret_cast<const unsigned char*>(pair.view().data());
    const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(encoded.data()), bytes,
                                       static_cast<int>(pair.size()));
    Secret out(std::string_view(encoded.data(), static_cast<std::size_t>(length)));
    ::explicit_bzero(encoded.data(), encoded.size());
    return out;
}

Secret connect_request(const Endpoint& endpoint, const Proxy& proxy) {
    const bool v6 = endpoint.host.find(':') != std::string::npos;
    const auto target =
        fmt::format("{}{}{}:{}", v6 ? "[" : "", endpoint.host, v6 ? "]" : "", endpoint.port);
    const auto head =
        fmt::format("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\nUser-Agent: opsrelay/{1}\r\n", target,
                    OPSRELAY_VERSION);
    if (proxy.user.empty()) return Secret{head, "\r\n"};
    return Secret{head, "Proxy-Authorization: Basic ", basic_credentials(proxy).view(), "\r\n\r\n"};
}

}  // namespace

Connector::Connector(asio::any_io_executor forward, Clock& clock, Resolver& resolver,
                     const Options& options, Endpoint endpoint)
    : executor_(std::move(forward)),
      clock_(clock),
      resolver_(resolver),
      endpoint_(std::move(endpoint)),
      proxy_(endpoint_.unix_path.empty() ? options.proxy : std::nullopt),
      silence_max_(options.timeout) {
    if (proxy_) tunnel_ = connect_request(endpoint_, *proxy_);
}

Result<std::unique_ptr<Connector>> Connector::make(asio::any_io_executor forward, Clock& clock,
                                                   Resolver& resolver, const Options& options) {
    auto endpoint = parse_endpoint(options);
    if (!endpoint) return endpoint.error();
    std::unique_ptr<Connector> made(
        new Connector(std::move(forward), clock, resolver, options, std::move(*endpoint)));
    if (!made->endpoint_.tls) return made;
    auto tls = TlsContext::make(clock, options);
    if (!tls) return tls.error();
    made->tls_ = std::move(*tls);
    return made;
}

asio::awaitable<Result<std::vector<Connector::Way>>> Connector::ways(TimePoint deadline) {
    std::vector<Way> all;
    if (!endpoint_.unix_path.empty()) {
        all.push_back({asio::local::stream_protocol::endpoint(endpoint_.unix_path),
                       "unix:" + endpoint_.unix_path, std::nullopt});
        co_return all;
    }
    const auto& host = proxy_ ? proxy_->host : endpoint_.host;
    const auto port = proxy_ ? proxy_->port : endpoint_.port;
    const auto addresses = co_await resolver_.resolve(host, deadline);
    if (!addresses) co_return addresses.error();
    for (const auto& address : order_.order(*addresses, clock_.now())) {
        all.push_back({asio::ip::tcp::endpoint(address, port),
                       fmt::format("{}{}{}:{}", address.is_v6() ? "[" : "", address.to_string(),
                                   address.is_v6() ? "]" : "", port),
                       address});
    }
    co_return all;
}

asio::awaitable<Connector::Opened> Connector::open(TimePoint deadline) {
    Opened opened;
    const auto all = co_await ways(deadline);
    if (!all) {
        opened.failure = failure(Transport::resolve, all.error().context);
        co_return opened;
    }
    opened.failure = failure(Transport::timeout, "connect: no time left");
    const auto stop = co_await asio::this_coro::cancellation_state;
    for (std::size_t i = 0; i < all->size(); ++i) {
        if (stop.cancelled() != asio::cancellation_type::none) break;
        const auto now = clock_.now();
        if (now >= deadline) break;
        const auto& way = (*all)[i];
        // A silent address must not use up the time of those after it.
        const auto share = (deadline - now) / static_cast<std::int64_t>(all->size() - i);
        Route route{way.endpoint, way.name, tunnel_, tls_ ? tls_->current() : nullptr,
                    silence_max_};
        auto connection = std::make_unique<Connection>(executor_, endpoint_, std::move(route));
        opened.failure = co_await connection->open(now + share, deadline);
        if (opened.failure.transport == Transport::ok) {
            if (way.address) order_.note_good(*way.address);
            connection->address = way.address;
            connection->opened_at = clock_.now();
            opened.connection = std::move(connection);
            break;
        }
        if (way.address) order_.note_failed(*way.address, clock_.now());
    }
    co_return opened;
}

void Connector::note_silent(const Connection& connection) {
    if (connection.address) order_.note_failed(*connection.address, clock_.now());
}

}  // namespace opsrelay::forward
