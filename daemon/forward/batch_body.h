// The body of one batch request, the contract of POST /v1/ingest/batch (proto/README.md).
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "forward/options.h"

namespace opsrelay::forward {

/// `events` are JSON objects without line breaks. As NDJSON, one a line, or as a JSON array; as
/// `coding` says that is compressed (RFC 1952, RFC 8878).
[[nodiscard]] std::string encode_batch(std::span<const std::string_view> events, BatchFormat format,
                                       BatchCoding coding);

/// Of the request: Content-Type, and Content-Encoding where there is one, each with its line end.
[[nodiscard]] std::string batch_headers(BatchFormat format, BatchCoding coding);

}  // namespace opsrelay::forward
