#include "listen/token_file.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <utility>

#include "core/secret_file.h"
#include "listen/http_rules.h"

namespace opsrelay::listen {

namespace {

constexpr minutes kLogInterval{1};
constexpr std::size_t kFileBytesMax = 64U << 10U;
constexpr std::string_view kNext =
    "put one token a line into it, of 16 to 1024 printable characters";

std::string_view trimmed(std::string_view text) noexcept {
    constexpr std::string_view kSpace = " \t\r";
    const auto first = text.find_first_not_of(kSpace);
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

bool is_token(std::string_view text) noexcept {
    return text.size() >= TokenSet::kTokenBytesMin && text.size() <= TokenSet::kTokenBytesMax &&
           std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < '\x7f'; });
}

}  // namespace

TokenSet::Digest TokenSet::digest_of(std::string_view token) noexcept {
    Digest digest{};
    ::SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(), digest.data());
    return digest;
}

Result<TokenSet> TokenSet::parse(std::string_view text, std::string_view source) {
    TokenSet tokens;
    for (std::size_t number = 1; !text.empty(); ++number) {
        const auto end = text.find('\n');
        const auto line = trimmed(text.substr(0, end));
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
        if (line.empty()) continue;
        if (!is_token(line)) {
            return Error{Errc::config_invalid,
                         fmt::format("{}: line {} is no token; {}", source, number, kNext)};
        }
        if (tokens.digests_.size() == kTokensMax) {
            return Error{
                Errc::config_invalid,
                fmt::format("{}: more than {} tokens; remove old ones", source, kTokensMax)};
        }
        tokens.digests_.push_back(digest_of(line));
    }
    if (tokens.digests_.empty()) {
        return Error{Errc::config_invalid, fmt::format("{}: has no token; {}", source, kNext)};
    }
    return tokens;
}

// Every digest is compared, in the same time each.
bool TokenSet::admits(std::string_view token) const noexcept {
    const auto digest = digest_of(token);
    unsigned found = 0;
    for (const auto& one : digests_) {
        found |= static_cast<unsigned>(::CRYPTO_memcmp(one.data(), digest.data(), one.size()) == 0);
    }
    return found != 0;
}

bool TokenSet::admits(std::optional<std::string_view> authorization,
                      std::optional<std::string_view> api_key) const noexcept {
    constexpr std::string_view kBearer = "Bearer ";
    if (authorization && same_text(authorization->substr(0, kBearer.size()), kBearer) &&
        admits(trimmed(authorization->substr(kBearer.size())))) {
        return true;
    }
    return api_key && admits(trimmed(*api_key));
}

TokenFile::TokenFile(std::string path, Clock& clock)
    : path_(std::move(path)), throttle_(clock, kLogInterval) {}

Result<TokenSet> TokenFile::load() {
    stamp_ = stamp_of(path_);  // before reading: a change in between is seen by the next poll
    const auto what = fmt::format("token file {}", path_);
    const auto text = read_secret_file(path_, what, kFileBytesMax, kNext);
    if (!text) {
        stamp_ = {};  // read again by the next poll, changed or not
        return text.error();
    }
    return TokenSet::parse(text->view(), what);
}

std::optional<TokenSet> TokenFile::poll() {
    if (stamp_of(path_) == stamp_) return std::nullopt;
    auto tokens = load();
    if (tokens) {
        log::info("listen", "tokens read from file", {{"file", path_}, {"tokens", tokens->size()}});
        return std::move(*tokens);
    }
    if (const auto hidden = throttle_.allow(to_string(tokens.error().code))) {
        log::warn("listen", "token file cannot be used; the tokens read last stay in use",
                  {{"error", tokens.error().context}, {"suppressed", *hidden}});
    }
    return std::nullopt;
}

}  // namespace opsrelay::listen
