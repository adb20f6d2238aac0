// What OpenSSL says went wrong.
#pragma once

#include <openssl/err.h>

#include <boost/asio/ssl/error.hpp>
#include <boost/system/error_code.hpp>

namespace opsrelay::forward {

/// Of this thread's calls since the errors were last cleared, which this does too: those of an
/// earlier call must not be taken for one's own.
[[nodiscard]] inline boost::system::error_code take_openssl_error() {
    const auto code = ::ERR_get_error();
    ::ERR_clear_error();
    if (ERR_SYSTEM_ERROR(code)) {  // of which OpenSSL's category has no words
        return {static_cast<int>(ERR_GET_REASON(code)), boost::system::system_category()};
    }
    return {static_cast<int>(code), boost::asio::error::get_ssl_category()};
}

}  // namespace opsrelay::forward
