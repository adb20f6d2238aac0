#include "upstream/tls.h"

#include <fmt/format.h>

#include <boost/asio/buffer.hpp>
#include <fstream>
#include <utility>

#include "upstream/certificate.h"

namespace opsrelay::upstream {

namespace {

namespace ssl = boost::asio::ssl;
using boost::system::error_code;

Result<void> use_generated(ssl::context& context, const TlsSettings& tls) {
    const auto made = make_certificate(tls.host, tls.expired);
    if (!made) return made.error();
    error_code ec;
    context.use_certificate_chain(boost::asio::buffer(made->certificate_pem), ec);
    if (!ec) context.use_private_key(boost::asio::buffer(made->key_pem), ssl::context::pem, ec);
    if (ec) return Error{Errc::io, "--tls-self-signed: " + ec.message()};
    if (tls.cert_out.empty()) return {};
    std::ofstream file(tls.cert_out, std::ios::binary | std::ios::trunc);
    file << made->certificate_pem;
    file.close();
    if (file) return {};
    return Error{Errc::io, fmt::format("--tls-cert-out {}: cannot be written", tls.cert_out)};
}

Result<void> use_files(ssl::context& context, const TlsSettings& tls) {
    error_code ec;
    context.use_certificate_chain_file(tls.cert_file, ec);
    if (ec) return Error{Errc::io, fmt::format("--tls-cert {}: {}", tls.cert_file, ec.message())};
    context.use_private_key_file(tls.key_file, ssl::context::pem, ec);
    if (ec) return Error{Errc::io, fmt::format("--tls-key {}: {}", tls.key_file, ec.message())};
    return {};
}

}  // namespace

Result<ssl::context> make_tls_context(const TlsSettings& tls) {
    ssl::context context(ssl::context::tls_server);
    context.set_options(ssl::context::no_tlsv1 | ssl::context::no_tlsv1_1);
    const auto used = tls.self_signed ? use_generated(context, tls) : use_files(context, tls);
    if (!used) return used.error();
    return Result<ssl::context>(std::move(context));
}

}  // namespace opsrelay::upstream
