#include "parse/pseudonym.h"

#include <openssl/evp.h>
#include <openssl/params.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "core/assert.h"

namespace opsrelay::parse {

namespace {

constexpr std::string_view kPrefix = "h_";
constexpr std::string_view kHex = "0123456789abcdef";

const unsigned char* bytes_of(std::string_view text) noexcept {
    return reinterpret_cast<const unsigned char*>(text.data());
}

}  // namespace

bool is_pseudonym(std::string_view text) noexcept {
    return text.size() == Pseudonym::kLength && text.starts_with(kPrefix) &&
           text.find_first_not_of(kHex, kPrefix.size()) == std::string_view::npos;
}

void Pseudonymizer::Free::operator()(evp_mac_ctx_st* context) const noexcept {
    EVP_MAC_CTX_free(context);
}

Pseudonymizer::Pseudonymizer(std::string_view key) {
    OPSRELAY_ASSERT(!key.empty());
    EVP_MAC* const mac = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
    context_.reset(EVP_MAC_CTX_new(mac));
    EVP_MAC_free(mac);  // the context holds its own reference
    std::string digest = "SHA256";
    const std::array<OSSL_PARAM, 2> params{
        OSSL_PARAM_construct_utf8_string("digest", digest.data(), 0), OSSL_PARAM_construct_end()};
    if (context_ == nullptr ||
        EVP_MAC_init(context_.get(), bytes_of(key), key.size(), params.data()) != 1) {
        throw std::runtime_error("OpenSSL offers no HMAC-SHA-256; use privacy rules without hash");
    }
}

Pseudonym Pseudonymizer::name(std::string_view identity) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    std::size_t length = 0;
    auto* const context = context_.get();
    // Without a key: begins again with the one it has.
    const auto done = EVP_MAC_init(context, nullptr, 0, nullptr) == 1 &&
                      EVP_MAC_update(context, bytes_of(identity), identity.size()) == 1 &&
                      EVP_MAC_final(context, digest.data(), &length, digest.size()) == 1;
    OPSRELAY_ASSERT(done);  // cannot fail with a context that was set up
    Pseudonym pseudonym;
    auto* to = std::copy(kPrefix.begin(), kPrefix.end(), pseudonym.text_.data());
    for (std::size_t i = 0; i < (Pseudonym::kLength - kPrefix.size()) / 2; ++i) {
        *to++ = kHex[digest.at(i) >> 4U];
        *to++ = kHex[digest.at(i) & 0x0FU];
    }
    return pseudonym;
}

}  // namespace opsrelay::parse
