// Stable names in place of identities. The only includer of OpenSSL in this folder is its .cpp.
#pragma once

#include <array>
#include <memory>
#include <string_view>

struct evp_mac_ctx_st;

namespace opsrelay::parse {

/// "h_" and 32 lower-case hex digits: the first 16 of the 32 bytes of HMAC-SHA-256 (RFC 2104) of
/// the identity's UTF-8 bytes. 128 bits are ample against collisions and keep the field short.
class Pseudonym {
public:
    static constexpr std::size_t kLength = 34;
    [[nodiscard]] std::string_view text() const noexcept { return {text_.data(), text_.size()}; }

private:
    friend class Pseudonymizer;
    std::array<char, kLength> text_{};
};

/// True for a text of Pseudonym's form: it needs no other name, so a second pass changes nothing.
[[nodiscard]] bool is_pseudonym(std::string_view text) noexcept;

/// One key's names. Not thread-safe.
class Pseudonymizer {
public:
    /// `key` is not empty. Throws std::runtime_error when OpenSSL has no HMAC-SHA-256.
    explicit Pseudonymizer(std::string_view key);

    [[nodiscard]] Pseudonym name(std::string_view identity);

private:
    struct Free {
        void operator()(evp_mac_ctx_st* context) const noexcept;
    };
    std::unique_ptr<evp_mac_ctx_st, Free> context_;
};

}  // namespace opsrelay::parse
