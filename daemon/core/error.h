// Errors that a caller can react to: a stable code plus context for a human. Foreign errors (errno,
// RocksDB, RapidJSON, YAML) are mapped to these in one function per library.
#pragma once

#include <array>
#include <boost/system/result.hpp>
#include <cstdint>
#include <iosfwd>
#include <stdexcept>
#include <string>
#include <string_view>

#include "core/enum_table.h"

namespace opsrelay {

/// A code exists only where a caller behaves differently because of it.
enum class Errc : std::uint8_t {
    config_invalid,   // exit 2: the configuration or the command line
    address_in_use,   // exit 5: a socket, port or path is taken by a living process
    listener_failed,  // exit 1: a listener could not be made for another reason
    spool_locked,     // exit 3: another process has the spool open
    spool_unusable,   // exit 4: the directory cannot be used or has a newer format
    spool_full,       // keep the batch, free space, try again
    spool_busy,       // try the same batch again
    spool_io,         // the operation failed; the handle still works
    spool_reopen,     // the handle is read-only for good: reopen
    spool_corrupt,    // stored bytes are damaged
    io,               // a file or socket could not be read or written
    timed_out,        // the peer did not answer in time
    refused,          // the peer answered that it will not
};
inline constexpr std::array<EnumName<Errc>, 13> kErrcs{{
    {Errc::config_invalid, "config_invalid"},
    {Errc::address_in_use, "address_in_use"},
    {Errc::listener_failed, "listener_failed"},
    {Errc::spool_locked, "spool_locked"},
    {Errc::spool_unusable, "spool_unusable"},
    {Errc::spool_full, "spool_full"},
    {Errc::spool_busy, "spool_busy"},
    {Errc::spool_io, "spool_io"},
    {Errc::spool_reopen, "spool_reopen"},
    {Errc::spool_corrupt, "spool_corrupt"},
    {Errc::io, "io"},
    {Errc::timed_out, "timed_out"},
    {Errc::refused, "refused"},
}};
static_assert(dense(kErrcs));
constexpr std::string_view to_string(Errc code) { return kErrcs.at(index_of(code)).name; }

/// What went wrong: `context` names the thing, the value and, where there is one, the next step.
struct Error {
    Errc code;
    std::string context;
};

/// "code: context", for test output.
std::ostream& operator<<(std::ostream& out, const Error& error);

/// boost::system::result::value() needs to know how an Error is thrown. Only start-up code calls
/// it.
[[noreturn]] inline void throw_exception_from_error(const Error& error,
                                                    const boost::source_location&) {
    throw std::runtime_error(error.context);
}

template <typename T>
using Result = boost::system::result<T, Error>;

/// "`prefix`: context". One prefix per layer.
[[nodiscard]] Error with_prefix(Error error, std::string_view prefix);

/// Maps errno to the text of strerror: "open /x: Permission denied". `next` says what to do, if
/// any.
[[nodiscard]] Error errno_error(Errc code, std::string_view what, int error_number,
                                std::string_view next = {});

/// Exit code of the process for a start-up error.
[[nodiscard]] int exit_code(Errc code) noexcept;

}  // namespace opsrelay
