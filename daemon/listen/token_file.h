// The tokens that an HTTP listener asks for: one a line of a file, read again when it changes.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/error.h"
#include "core/file_stamp.h"
#include "core/log.h"

namespace opsrelay::listen {

/// Holds digests only, so that comparing takes as long whatever was sent, and no token is in
/// memory.
class TokenSet {
public:
    static constexpr std::size_t kTokensMax = 64;  // of which some are on their way out
    static constexpr std::size_t kTokenBytesMin = 16;
    static constexpr std::size_t kTokenBytesMax = 1024;

    /// One token a line; empty lines and white space around a token do not count. Error:
    /// config_invalid, naming `source` and the line, never a token.
    [[nodiscard]] static Result<TokenSet> parse(std::string_view text, std::string_view source);

    /// Whether it is one of them.
    [[nodiscard]] bool admits(std::string_view token) const noexcept;
    /// By Authorization: Bearer, or X-API-Key, which is all that the SDKs can send.
    [[nodiscard]] bool admits(std::optional<std::string_view> authorization,
                              std::optional<std::string_view> api_key) const noexcept;
    [[nodiscard]] std::size_t size() const noexcept { return digests_.size(); }

private:
    using Digest = std::array<unsigned char, 32>;  // SHA-256
    [[nodiscard]] static Digest digest_of(std::string_view token) noexcept;

    std::vector<Digest> digests_;
};

/// One file. Thread: one.
class TokenFile {
public:
    TokenFile(std::string path, Clock& clock);

    /// Errors: io, config_invalid; they name the file and the next step, never its content.
    [[nodiscard]] Result<TokenSet> load();
    /// The tokens, if the file is another one than before. One that cannot be used is logged once a
    /// minute, and the tokens read last stay in use.
    [[nodiscard]] std::optional<TokenSet> poll();

private:
    std::string path_;
    log::Throttle throttle_;
    FileStamp stamp_;
};

}  // namespace opsrelay::listen
