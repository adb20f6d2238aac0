#include "forward/tls_context.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <boost/asio/ssl/error.hpp>
#include <utility>

namespace opsrelay::forward {

namespace {

namespace ssl = asio::ssl;
using boost::system::error_code;

constexpr minutes kLogInterval{15};

Error invalid(std::string_view key, std::string_view path, std::string_view complaint,
              std::string_view next) {
    return {Errc::config_invalid, fmt::format("{}: \"{}\": {}; {}", key, path, complaint, next)};
}

// Instead of a question on the terminal.
int no_password(char*, int, int, void*) { return 0; }

// Made anew each time: the errors of an earlier one must not be taken for its own.
error_code last_error() {
    const auto code = ::ERR_get_error();
    ::ERR_clear_error();
    return {static_cast<int>(code), asio::error::get_ssl_category()};
}

}  // namespace

TlsContext::TlsContext(Clock& clock, const Options& options)
    : ca_file_(options.ca_file),
      certificate_file_(options.client_cert_file),
      key_file_(options.client_key_file),
      throttle_(clock, kLogInterval),
      stamps_(look()) {}

Result<std::unique_ptr<TlsContext>> TlsContext::make(Clock& clock, const Options& options) {
    std::unique_ptr<TlsContext> made(new TlsContext(clock, options));
    auto loaded = made->load();
    if (!loaded) return loaded.error();
    made->current_ = std::move(*loaded);
    return made;
}

TlsContext::Stamps TlsContext::look() const {
    const auto stamp = [](const std::string& path) {
        return path.empty() ? FileStamp{} : stamp_of(path);
    };
    return {stamp(ca_file_), stamp(certificate_file_), stamp(key_file_)};
}

bool TlsContext::refresh() {
    const auto now = look();  // before reading: a change in between is seen next time
    if (now == stamps_) return false;
    auto loaded = load();
    if (loaded) {
        stamps_ = now;
        current_ = std::move(*loaded);
        log::info("forward", "certificates read again",
                  {{"ca_file", ca_file_}, {"client_cert_file", certificate_file_}});
        return true;
    }
    if (const auto hidden = throttle_.allow("certificates")) {
        log::warn("forward", "certificates cannot be used; those last read stay in use",
                  {{"error", loaded.error().context}, {"suppressed", *hidden}});
    }
    return false;
}

Result<std::shared_ptr<ssl::context>> TlsContext::load() const {
    auto context = std::make_shared<ssl::context>(ssl::context::tls_client);
    error_code ec;
    context->set_options(ssl::context::default_workarounds, ec);
    if (SSL_CTX_set_min_proto_version(context->native_handle(), TLS1_2_VERSION) != 1) {
        return Error{Errc::config_invalid, "upstream.url: OpenSSL here cannot do TLS 1.2"};
    }
    // Idle connections give their record buffers back.
    SSL_CTX_set_mode(context->native_handle(), SSL_MODE_RELEASE_BUFFERS);
    context->set_verify_mode(ssl::verify_peer, ec);
    context->set_default_verify_paths(ec);
    if (ec) {
        return Error{Errc::config_invalid,
                     fmt::format("the system's certificate store cannot be used: {}; install "
                                 "ca-certificates or set upstream.ca_file",
                                 ec.message())};
    }
    if (!ca_file_.empty()) {
        context->load_verify_file(ca_file_, ec);
        if (ec) {
            return invalid("upstream.ca_file", ca_file_, ec.message(),
                           "it must be a readable file of PEM certificates");
        }
    }
    if (auto done = load_client_certificate(*context); !done) return done.error();
    return context;
}

Result<void> TlsContext::load_client_certificate(ssl::context& context) const {
    if (certificate_file_.empty() && key_file_.empty()) return {};
    if (certificate_file_.empty() || key_file_.empty()) {
        return Error{Errc::config_invalid,
                     "upstream.client_cert_file and upstream.client_key_file belong together; set "
                     "both or none"};
    }
    ::ERR_clear_error();
    auto* const native = context.native_handle();
    if (SSL_CTX_use_certificate_chain_file(native, certificate_file_.c_str()) != 1) {
        return invalid("upstream.client_cert_file", certificate_file_, last_error().message(),
                       "it must be a readable file with the certificate, then those above it, PEM");
    }
    SSL_CTX_set_default_passwd_cb(native, no_password);
    if (SSL_CTX_use_PrivateKey_file(native, key_file_.c_str(), SSL_FILETYPE_PEM) != 1) {
        return invalid("upstream.client_key_file", key_file_, last_error().message(),
                       "it must be a readable file with the private key of "
                       "upstream.client_cert_file, PEM and without a passphrase");
    }
    return {};
}

}  // namespace opsrelay::forward
