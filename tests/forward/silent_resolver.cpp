#include "forward/silent_resolver.h"

#include <dlfcn.h>
#include <netdb.h>

#include <condition_variable>
#include <mutex>
#include <string_view>

namespace {

// Constant-initialised: getaddrinfo may be called before main.
std::mutex silent_mutex;
std::condition_variable silent_ended;
bool silent = false;

}  // namespace

// Takes the place of libc's for this executable and the libraries it loads.
extern "C" int getaddrinfo(const char* node, const char* service, const addrinfo* hints,
                           addrinfo** results) {
    if (node != nullptr && std::string_view(node).ends_with(".silent")) {
        std::unique_lock lock(silent_mutex);
        silent_ended.wait(lock, [] { return !silent; });
        return EAI_NONAME;
    }
    using Function = int (*)(const char*, const char*, const addrinfo*, addrinfo**);
    static const auto real = reinterpret_cast<Function>(::dlsym(RTLD_NEXT, "getaddrinfo"));
    return real(node, service, hints, results);
}

namespace opsrelay::test {

SilentResolver::SilentResolver() {
    const std::lock_guard lock(silent_mutex);
    silent = true;
}

void SilentResolver::release() {
    const std::lock_guard lock(silent_mutex);
    silent = false;
    silent_ended.notify_all();
}

}  // namespace opsrelay::test
