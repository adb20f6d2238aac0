// The TLS side of the ingest port.
#pragma once

#include <boost/asio/ssl/context.hpp>

#include "core/error.h"
#include "upstream/settings.h"

namespace opsrelay::upstream {

/// A server context, TLS 1.2 and later, with the given or a generated certificate; writes cert_out.
/// Errors: io, naming the option and the file.
[[nodiscard]] Result<boost::asio::ssl::context> make_tls_context(const TlsSettings& tls);

}  // namespace opsrelay::upstream
