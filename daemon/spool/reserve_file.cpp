#include "spool/reserve_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "core/unique_fd.h"

namespace opsrelay::spool {

namespace {

Error failed(const std::string& path, int error) {
    return errno_error(error == ENOSPC || error == EDQUOT ? Errc::spool_full : Errc::spool_io,
                       "reserve " + path, error, "the spool works without it");
}

}  // namespace

Bytes ReserveFile::held() const noexcept {
    struct stat info {};
    if (::lstat(path_.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return {};
    return {static_cast<std::uint64_t>(info.st_blocks) * 512};  // stat(2)
}

Result<void> ReserveFile::hold(Bytes wanted) const {
    if (::unlink(path_.c_str()) != 0 && errno != ENOENT) return failed(path_, errno);
    if (wanted.count == 0) return {};
    constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
    const UniqueFd fd(::open(path_.c_str(), kFlags, 0600));
    if (fd.get() < 0) return failed(path_, errno);
    // Not posix_fallocate(): where blocks cannot be set aside it would write them all.
    if (::fallocate(fd.get(), 0, 0, static_cast<off_t>(wanted.count)) == 0) return {};
    const int error = errno;
    (void)::unlink(path_.c_str());
    return failed(path_, error);
}

}  // namespace opsrelay::spool
