// A certificate made at start, for tests of what a client does with a bad or an unknown one.
#pragma once

#include <string>

#include "core/error.h"

namespace opsrelay::upstream {

struct Certificate {
    std::string certificate_pem;
    std::string key_pem;
};

/// Self-signed P-256 for `host` (a name or a numeric address, as subjectAltName), valid from two
/// days ago for a year, or until yesterday when `expired`. It may serve as its own trust anchor.
[[nodiscard]] Result<Certificate> make_certificate(const std::string& host, bool expired);

}  // namespace opsrelay::upstream
