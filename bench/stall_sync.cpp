// Preloaded into the daemon to stall its disk: while the file that STALL_SYNC_FILE names exists,
// every fdatasync and fsync waits. Shows what a sender feels then.
#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>

namespace {

constexpr useconds_t kLookEvery = 2000;  // us

int after_stall(const char* name, int fd) {
    static const char* const file = std::getenv("STALL_SYNC_FILE");
    while (file != nullptr && ::access(file, F_OK) == 0) (void)::usleep(kLookEvery);
    return reinterpret_cast<int (*)(int)>(::dlsym(RTLD_NEXT, name))(fd);
}

}  // namespace

extern "C" int fdatasync(int fd) { return after_stall("fdatasync", fd); }
extern "C" int fsync(int fd) { return after_stall("fsync", fd); }
