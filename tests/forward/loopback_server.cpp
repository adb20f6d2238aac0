#include "forward/loopback_server.h"

#include <fmt/format.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <stdexcept>

#include "core/nothrow.h"

namespace opsrelay::test {

namespace {

using asio::ip::tcp;
namespace ssl = asio::ssl;

std::size_t content_length(const std::string& head) {
    const auto at = head.find("Content-Length: ");
    return at == std::string::npos ? 0 : std::stoul(head.substr(at + 16));
}

template <typename Write>
std::string to_pem(Write write) {
    const std::unique_ptr<BIO, decltype(&BIO_free)> out(BIO_new(BIO_s_mem()), &BIO_free);
    if (write(out.get()) != 1) throw std::runtime_error("PEM");
    char* data = nullptr;
    const auto size = BIO_get_mem_data(out.get(), &data);
    return {data, static_cast<std::size_t>(size)};
}

}  // namespace

Served ok(std::string body) {
    return {fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", body.size(), body)};
}

Certificate make_certificate(const std::string& host, seconds from, seconds to) {
    const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_EC_gen("P-256"),
                                                                  &EVP_PKEY_free);
    const std::unique_ptr<X509, decltype(&X509_free)> cert(X509_new(), &X509_free);
    X509_set_version(cert.get(), 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert.get()), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert.get()), from.count());
    X509_gmtime_adj(X509_getm_notAfter(cert.get()), to.count());
    X509_set_pubkey(cert.get(), key.get());
    auto* name = X509_get_subject_name(cert.get());
    const std::string common = "opsrelay test";
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(common.data()), -1, -1, 0);
    X509_set_issuer_name(cert.get(), name);
    const auto alternative = "DNS:" + host;
    auto* extension =
        X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, alternative.c_str());
    X509_add_ext(cert.get(), extension, -1);
    X509_EXTENSION_free(extension);
    X509_sign(cert.get(), key.get(), EVP_sha256());
    return {to_pem([&](BIO* out) { return PEM_write_bio_X509(out, cert.get()); }),
            to_pem([&](BIO* out) {
                return PEM_write_bio_PrivateKey(out, key.get(), nullptr, nullptr, 0, nullptr,
                                                nullptr);
            })};
}

LoopbackServer::LoopbackServer(asio::io_context& io, Clock& clock, Handler handler)
    : handler_(std::move(handler)),
      acceptor_(io, tcp::endpoint(asio::ip::address_v4::loopback(), 0)),
      accepting_(io.get_executor(), clock),
      serving_(io.get_executor(), clock) {
    accepting_.spawn("accept", accept_loop());
}

LoopbackServer::LoopbackServer(asio::io_context& io, Clock& clock, Handler handler,
                               const Certificate& identity, const std::string& client_pem)
    : LoopbackServer(io, clock, std::move(handler)) {
    tls_ = std::make_unique<ssl::context>(ssl::context::tls_server);
    tls_->use_certificate(asio::buffer(identity.certificate_pem), ssl::context::pem);
    tls_->use_private_key(asio::buffer(identity.key_pem), ssl::context::pem);
    if (client_pem.empty()) return;
    tls_->add_certificate_authority(asio::buffer(client_pem));
    tls_->set_verify_mode(ssl::verify_peer | ssl::verify_fail_if_no_peer_cert);
}

LoopbackServer::~LoopbackServer() = default;

std::uint16_t LoopbackServer::port() const { return acceptor_.local_endpoint().port(); }

void LoopbackServer::close_connections() { serving_.cancel(asio::cancellation_type::terminal); }

asio::awaitable<void> LoopbackServer::stop() {
    accepting_.cancel(asio::cancellation_type::terminal);
    co_await accepting_.join();
    serving_.cancel(asio::cancellation_type::terminal);
    co_await serving_.join();
}

asio::awaitable<void> LoopbackServer::accept_loop() {
    while (true) {
        auto [ec, socket] = co_await acceptor_.async_accept(nothrow);
        if (ec) co_return;
        ++connections_;
        serving_.spawn("serve",
                       tls_ ? serve_tls(std::move(socket)) : serve_plain(std::move(socket)));
    }
}

asio::awaitable<void> LoopbackServer::serve_plain(tcp::socket socket) { co_await serve(socket); }

asio::awaitable<void> LoopbackServer::serve_tls(tcp::socket socket) {
    ssl::stream<tcp::socket> stream(std::move(socket), *tls_);
    const auto [ec] = co_await stream.async_handshake(ssl::stream_base::server, nothrow);
    if (!ec) co_await serve(stream);
}

template <typename Stream>
asio::awaitable<void> LoopbackServer::serve(Stream& stream) {
    std::string buffer;
    while (true) {
        const auto [ec, size] = co_await asio::async_read_until(
            stream, asio::dynamic_buffer(buffer), "\r\n\r\n", nothrow);
        if (ec) co_return;
        const auto whole = size + content_length(buffer.substr(0, size));
        if (buffer.size() < whole) {
            const auto [body_ec, more] =
                co_await asio::async_read(stream, asio::dynamic_buffer(buffer),
                                          asio::transfer_exactly(whole - buffer.size()), nothrow);
            if (body_ec) co_return;
        }
        requests_.push_back(buffer.substr(0, whole));
        buffer.erase(0, whole);
        const auto served = handler_(requests_.size() - 1, requests_.back());
        if (served.hang) continue;
        asio::steady_timer timer(stream.get_executor(), served.pause);
        if (served.pause > milliseconds{0}) co_await timer.async_wait(nothrow);
        const auto piece = served.piece == 0 ? served.bytes.size() : served.piece;
        bool broken = false;
        for (std::size_t at = 0; at < served.bytes.size() && !broken; at += piece) {
            const auto part = std::string_view(served.bytes).substr(at, piece);
            const auto [write_ec, sent] =
                co_await asio::async_write(stream, asio::buffer(part), nothrow);
            broken = write_ec.failed();
            if (served.piece > 0) co_await asio::post(asio::use_awaitable);
        }
        if (served.reset) stream.lowest_layer().set_option(tcp::socket::linger(true, 0));
        if (broken || served.close) co_return;
    }
}

}  // namespace opsrelay::test
