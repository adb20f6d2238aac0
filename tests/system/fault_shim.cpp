// Preloaded into the daemon: lets its calls to the file system fail, stop or do half of what they
// should, on command. FAULT_SHIM names a file that faults.py makes and this maps, so that faults
// begin and end while the daemon runs. Without one, every call passes.
#include <dlfcn.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace {

// --- What faults.py writes: a header and rules of 128 bytes each ---

/// Bits of Rule::calls. In the order of faults.CALLS.
enum Call : std::uint32_t {
    kWrite = 1U << 0U,  // write, pwrite
    kFsync = 1U << 1U,
    kFdatasync = 1U << 2U,
    kOpen = 1U << 3U,
    kRename = 1U << 4U,
    kFtruncate = 1U << 5U,
    kFallocate = 1U << 6U,
    kUnlink = 1U << 7U,
    kLink = 1U << 8U,
    kMkdir = 1U << 9U,
};

/// In the order of faults.MODES.
enum class Mode : std::uint32_t {
    fail,  // with Rule::error
    half,  // a write does half of it, and says so
    stall  // the call waits until other rules are set, then goes on
};

struct Rule {
    std::uint32_t calls;
    Mode mode;
    std::int32_t error;
    std::uint32_t skip;   // matching calls that pass before the first is hit
    std::uint32_t times;  // calls that are hit; 0: all
    std::atomic<std::uint32_t> seen;
    std::atomic<std::uint32_t> hits;
    std::array<char, 100> path;  // a pattern of glob(7) in which * matches slashes too
};
static_assert(sizeof(Rule) == 128);

struct Control {
    std::atomic<std::uint32_t> active;      // rules in use, the first ones
    std::atomic<std::uint32_t> generation;  // changes with the rules
    std::array<char, 120> unused;
    std::array<Rule, 8> rules;
};

constexpr useconds_t kLookEvery = 1000;  // us

template <typename Function>
Function* next(const char* name) {
    return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

Control* map_control() {
    const char* const path = std::getenv("FAULT_SHIM");
    if (path == nullptr) return nullptr;
    const int fd = next<int(const char*, int, ...)>("open")(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        std::perror("fault_shim: FAULT_SHIM");
        std::abort();
    }
    void* const mapped =
        ::mmap(nullptr, sizeof(Control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)::close(fd);
    if (mapped == MAP_FAILED) std::abort();
    return static_cast<Control*>(mapped);
}

Control* control() {
    static Control* const mapped = map_control();
    return mapped;
}

bool hit(Rule& rule, Call call, const char* path) {
    if ((rule.calls & call) == 0) return false;
    if (::fnmatch(rule.path.data(), path, 0) != 0) return false;
    const auto n = rule.seen.fetch_add(1);
    if (n < rule.skip) return false;
    if (rule.times != 0 && n - rule.skip >= rule.times) return false;
    rule.hits.fetch_add(1);
    return true;
}

/// What to do instead of the call.
struct Verdict {
    int error = 0;
    bool half = false;
};

Verdict judge(Call call, const char* path) {
    auto& all = *control();
    const auto generation = all.generation.load();
    const auto active = all.active.load();
    for (std::uint32_t i = 0; i < active && i < all.rules.size(); ++i) {
        auto& rule = all.rules.at(i);
        if (!hit(rule, call, path)) continue;
        switch (rule.mode) {
            case Mode::fail: return {.error = rule.error};
            case Mode::half: return {.half = true};
            case Mode::stall:
                while (all.generation.load() == generation) (void)::usleep(kLookEvery);
                return {};
        }
    }
    return {};
}

bool idle() {
    const auto* const all = control();
    return all == nullptr || all->active.load(std::memory_order_relaxed) == 0;
}

Verdict judge_path(Call call, const char* path) {
    if (idle()) return {};
    const int before = errno;
    const auto verdict = judge(call, path);
    errno = verdict.error != 0 ? verdict.error : before;
    return verdict;
}

Verdict judge_fd(Call call, int fd) {
    if (idle()) return {};
    const int before = errno;
    std::array<char, 32> link{};
    std::array<char, PATH_MAX> path{};
    (void)std::snprintf(link.data(), link.size(), "/proc/self/fd/%d", fd);
    const auto length = ::readlink(link.data(), path.data(), path.size() - 1);
    errno = before;
    return length > 0 ? judge_path(call, path.data()) : Verdict{};
}

template <typename... Arguments>
int on_fd(Call call, const char* name, int fd, Arguments... arguments) {
    if (judge_fd(call, fd).error != 0) return -1;
    return next<int(int, Arguments...)>(name)(fd, arguments...);
}

int on_open(const char* name, const char* path, int flags, mode_t mode) {
    if (judge_path(kOpen, path).error != 0) return -1;
    return next<int(const char*, int, ...)>(name)(path, flags, mode);
}

std::size_t allowed(Verdict verdict, std::size_t size) {
    return verdict.half && size > 1 ? size / 2 : size;
}

ssize_t on_pwrite(const char* name, int fd, const void* data, std::size_t size, off_t offset) {
    const auto verdict = judge_fd(kWrite, fd);
    if (verdict.error != 0) return -1;
    return next<ssize_t(int, const void*, std::size_t, off_t)>(name)(
        fd, data, allowed(verdict, size), offset);
}

}  // namespace

extern "C" {

ssize_t write(int fd, const void* data, std::size_t size) {
    const auto verdict = judge_fd(kWrite, fd);
    if (verdict.error != 0) return -1;
    return next<ssize_t(int, const void*, std::size_t)>("write")(fd, data, allowed(verdict, size));
}
ssize_t pwrite(int fd, const void* data, std::size_t size, off_t offset) {
    return on_pwrite("pwrite", fd, data, size, offset);
}
ssize_t pwrite64(int fd, const void* data, std::size_t size, off_t offset) {
    return on_pwrite("pwrite64", fd, data, size, offset);
}
int fsync(int fd) { return on_fd(kFsync, "fsync", fd); }
int fdatasync(int fd) { return on_fd(kFdatasync, "fdatasync", fd); }
int ftruncate(int fd, off_t size) noexcept { return on_fd(kFtruncate, "ftruncate", fd, size); }
int ftruncate64(int fd, off_t size) noexcept { return on_fd(kFtruncate, "ftruncate64", fd, size); }
int fallocate(int fd, int mode, off_t from, off_t size) {
    return on_fd(kFallocate, "fallocate", fd, mode, from, size);
}
int fallocate64(int fd, int mode, off_t from, off_t size) {
    return on_fd(kFallocate, "fallocate64", fd, mode, from, size);
}
int open(const char* path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    const auto mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : mode_t{0};
    va_end(rest);
    return on_open("open", path, flags, mode);
}
int open64(const char* path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    const auto mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : mode_t{0};
    va_end(rest);
    return on_open("open64", path, flags, mode);
}
int rename(const char* from, const char* to) noexcept {
    if (judge_path(kRename, to).error != 0) return -1;
    return next<int(const char*, const char*)>("rename")(from, to);
}
int unlink(const char* path) noexcept {
    if (judge_path(kUnlink, path).error != 0) return -1;
    return next<int(const char*)>("unlink")(path);
}
int link(const char* from, const char* to) noexcept {
    if (judge_path(kLink, to).error != 0) return -1;
    return next<int(const char*, const char*)>("link")(from, to);
}
int mkdir(const char* path, mode_t mode) noexcept {
    if (judge_path(kMkdir, path).error != 0) return -1;
    return next<int(const char*, mode_t)>("mkdir")(path, mode);
}

}  // extern "C"
