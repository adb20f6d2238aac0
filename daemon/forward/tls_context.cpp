#include "forward/tls_context.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <utility>

#include "forward/openssl_error.h"
#include "forward/trust_store.h"

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

}  // namespace

TlsContext::TlsContext(Clock& clock, const Options& options)
    : system_file_(options.system_ca_file.empty() ? X509_get_default_cert_file()
                                                  : options.system_ca_file),
      ca_file_(options.ca_file),
      certificate_file_(options.client_cert_file),
      key_file_(options.client_key_file),
      throttle_(clock, kLogInterval),
      stamps_(look()) {}

Result<std::unique_ptr<TlsContext>> TlsContext::make(Clock& clock, const Options& options) {
    std::unique_ptr<TlsContext> made(new TlsContext(clock, options));
    auto loaded = made->load(made->stamps_);
    if (!loaded) return loaded.error();
    made->current_ = std::move(*loaded);
    return made;
}

TlsContext::Stamps TlsContext::look() const {
    const auto stamp = [](const std::string& path) {
        return path.empty() ? FileStamp{} : stamp_of(path);
    };
    return {stamp(system_file_), stamp(ca_file_), stamp(certificate_file_), stamp(key_file_)};
}

bool TlsContext::refresh() {
    const auto now = look();  // before reading: a change in between is seen next time
    if (now == stamps_) return false;
    auto loaded = load(now);
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

Result<TlsContext::Loaded> TlsContext::load(const Stamps& stamps) const {
    auto context = std::make_shared<ssl::context>(ssl::context::tls_client);
    error_code ec;
    context->set_options(ssl::context::default_workarounds, ec);
    if (SSL_CTX_set_min_proto_version(context->native_handle(), TLS1_2_VERSION) != 1) {
        return Error{Errc::config_invalid, "upstream.url: OpenSSL here cannot do TLS 1.2"};
    }
    // Idle connections give their record buffers back.
    SSL_CTX_set_mode(context->native_handle(), SSL_MODE_RELEASE_BUFFERS);
    context->set_verify_mode(ssl::verify_peer, ec);
    auto trusted = trust_store(ca_file_, stamps[kSystem], stamps[kCa]);
    if (!trusted) return trusted.error();
    SSL_CTX_set1_cert_store(context->native_handle(), trusted->get());
    if (auto done = load_client_certificate(*context); !done) return done.error();
    return Loaded{std::move(context), *std::move(trusted)};
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
        return invalid("upstream.client_cert_file", certificate_file_,
                       take_openssl_error().message(),
                       "it must be a readable file with the certificate, then those above it, PEM");
    }
    SSL_CTX_set_default_passwd_cb(native, no_password);
    if (SSL_CTX_use_PrivateKey_file(native, key_file_.c_str(), SSL_FILETYPE_PEM) != 1) {
        return invalid("upstream.client_key_file", key_file_, take_openssl_error().message(),
                       "it must be a readable file with the private key of "
                       "upstream.client_cert_file, PEM and without a passphrase");
    }
    return {};
}

}  // namespace opsrelay::forward
