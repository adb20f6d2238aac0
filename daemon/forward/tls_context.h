// Whom we trust and who we are in TLS: the system's certificates, upstream.ca_file, and the client
// certificate, read again when their files change.
#pragma once

#include <array>
#include <boost/asio/ssl/context.hpp>
#include <cstdint>
#include <memory>
#include <string>

#include "core/clock.h"
#include "core/error.h"
#include "core/file_stamp.h"
#include "core/log.h"
#include "forward/options.h"

namespace opsrelay::forward {

/// TLS 1.2 or later, peers verified. Thread: forward.
class TlsContext {
public:
    /// Reads every file. Errors: config_invalid, naming key, file and next step.
    [[nodiscard]] static Result<std::unique_ptr<TlsContext>> make(Clock& clock,
                                                                  const Options& options);

    /// Shared: a handshake under way keeps the one it began with.
    [[nodiscard]] std::shared_ptr<asio::ssl::context> current() const noexcept {
        return current_.context;
    }
    /// True when a file changed and the new ones are in use: connections made before are outdated.
    /// Files that cannot be used (a certificate without its new key yet) are logged, once in 15
    /// minutes, and tried again each time; what was read last stays in use.
    [[nodiscard]] bool refresh();

private:
    TlsContext(Clock& clock, const Options& options);
    enum File : std::uint8_t { kSystem, kCa, kCertificate, kKey };
    using Stamps = std::array<FileStamp, 4>;
    [[nodiscard]] Stamps look() const;
    struct Loaded {
        std::shared_ptr<asio::ssl::context> context;
        std::shared_ptr<X509_STORE> trusted;  // kept so that others can share it
    };
    [[nodiscard]] Result<Loaded> load(const Stamps& stamps) const;
    [[nodiscard]] Result<void> load_client_certificate(asio::ssl::context& context) const;

    const std::string system_file_;  // of the certificates that the system trusts
    const std::string ca_file_;
    const std::string certificate_file_;
    const std::string key_file_;
    log::Throttle throttle_;
    Stamps stamps_;  // of the files that current_ was made of
    Loaded current_;
};

}  // namespace opsrelay::forward
