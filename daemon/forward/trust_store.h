// The certificates that the system and a file trust, as OpenSSL holds them.
#pragma once

#include <openssl/types.h>

#include <memory>
#include <string>

#include "core/error.h"
#include "core/file_stamp.h"

namespace opsrelay::forward {

/// Reads the system's certificates and those of `ca_file`, unless that is empty. Debian's 144 take
/// 0.8 MiB, so whoever asks for the same gets the same, for as long as somebody has it; a file with
/// another stamp is not the same. Errors: config_invalid, naming key, file and next step. Thread:
/// any.
[[nodiscard]] Result<std::shared_ptr<X509_STORE>> trust_store(const std::string& ca_file,
                                                              const FileStamp& system_stamp,
                                                              const FileStamp& ca_stamp);

}  // namespace opsrelay::forward
