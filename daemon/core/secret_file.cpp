#include "core/secret_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/unique_fd.h"

namespace opsrelay {

Result<Secret> read_secret_file(const std::string& path, std::string_view what,
                                std::size_t bytes_max, std::string_view next) {
    // O_NONBLOCK: opening a FIFO must not wait for a writer.
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!file) return errno_error(Errc::io, std::string(what), errno, next);
    struct stat info {};
    if (::fstat(file.get(), &info) != 0) {
        return errno_error(Errc::io, std::string(what), errno, next);
    }
    if (!S_ISREG(info.st_mode)) {
        return Error{Errc::config_invalid, fmt::format("{}: not a regular file; {}", what, next)};
    }
    std::string bytes(bytes_max + 1, '\0');
    std::size_t length = 0;
    int error_number = 0;
    while (length < bytes.size()) {
        const auto got = ::read(file.get(), bytes.data() + length, bytes.size() - length);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) error_number = errno;
        if (got <= 0) break;
        length += static_cast<std::size_t>(got);
    }
    Secret secret(std::string_view(bytes.data(), length));
    ::explicit_bzero(bytes.data(), bytes.size());
    if (error_number != 0) return errno_error(Errc::io, std::string(what), error_number, next);
    if (length > bytes_max) {
        return Error{Errc::config_invalid,
                     fmt::format("{}: longer than {} bytes; {}", what, bytes_max, next)};
    }
    return secret;
}

}  // namespace opsrelay
