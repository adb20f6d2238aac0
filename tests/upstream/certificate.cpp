#include "upstream/certificate.h"

#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <array>
#include <boost/asio/ip/address.hpp>
#include <memory>
#include <string_view>

namespace opsrelay::upstream {

namespace {

template <auto Free>
struct Deleter {
    template <typename T>
    void operator()(T* object) const noexcept {
        Free(object);
    }
};
using KeyPtr = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>>;
using X509Ptr = std::unique_ptr<X509, Deleter<X509_free>>;
using BioPtr = std::unique_ptr<BIO, Deleter<BIO_free_all>>;
using ExtensionPtr = std::unique_ptr<X509_EXTENSION, Deleter<X509_EXTENSION_free>>;

constexpr long kDaySeconds = 24L * 60 * 60;

Error openssl_error(std::string_view what) {
    std::array<char, 256> text{};
    ERR_error_string_n(ERR_get_error(), text.data(), text.size());
    return Error{Errc::io, fmt::format("{}: {}", what, text.data())};
}

bool add_extension(X509* certificate, int nid, const std::string& value) {
    X509V3_CTX context{};
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
    const ExtensionPtr extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
    return extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1;
}

bool fill(X509* certificate, EVP_PKEY* key, const std::string& host, bool expired) {
    if (X509_set_version(certificate, 2) != 1) return false;
    if (ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) != 1) return false;
    X509_gmtime_adj(X509_getm_notBefore(certificate), -2 * kDaySeconds);
    X509_gmtime_adj(X509_getm_notAfter(certificate), (expired ? -1 : 365) * kDaySeconds);
    if (X509_set_pubkey(certificate, key) != 1) return false;
    auto* name = X509_get_subject_name(certificate);
    const auto* text = reinterpret_cast<const unsigned char*>(host.data());
    if (X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, text, static_cast<int>(host.size()),
                                   -1, 0) != 1 ||
        X509_set_issuer_name(certificate, name) != 1) {
        return false;
    }
    boost::system::error_code not_numeric;
    boost::asio::ip::make_address(host, not_numeric);
    return add_extension(certificate, NID_subject_alt_name,
                         (not_numeric ? "DNS:" : "IP:") + host) &&
           add_extension(certificate, NID_basic_constraints, "critical,CA:TRUE") &&
           add_extension(certificate, NID_key_usage, "critical,digitalSignature,keyCertSign") &&
           add_extension(certificate, NID_ext_key_usage, "serverAuth") &&
           X509_sign(certificate, key, EVP_sha256()) > 0;
}

std::string contents(BIO* bio) {
    char* data = nullptr;
    const auto size = BIO_get_mem_data(bio, &data);
    return {data, static_cast<std::size_t>(size)};
}

}  // namespace

Result<Certificate> make_certificate(const std::string& host, bool expired) {
    const KeyPtr key(EVP_EC_gen("P-256"));
    const X509Ptr certificate(X509_new());
    if (!key || !certificate || !fill(certificate.get(), key.get(), host, expired)) {
        return openssl_error(fmt::format("make a certificate for \"{}\"", host));
    }
    const BioPtr certificate_out(BIO_new(BIO_s_mem()));
    const BioPtr key_out(BIO_new(BIO_s_mem()));
    if (!certificate_out || !key_out ||
        PEM_write_bio_X509(certificate_out.get(), certificate.get()) != 1 ||
        PEM_write_bio_PrivateKey(key_out.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) !=
            1) {
        return openssl_error("write the certificate");
    }
    return Certificate{contents(certificate_out.get()), contents(key_out.get())};
}

}  // namespace opsrelay::upstream
