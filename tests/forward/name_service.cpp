#include "forward/name_service.h"

#include <dlfcn.h>
#include <netdb.h>

#include <condition_variable>
#include <mutex>
#include <string_view>
#include <utility>

namespace {

// Constant-initialised: getaddrinfo may be called before main.
std::mutex name_mutex;
std::condition_variable silence_changed;
bool silent = false;
std::size_t silent_waits = 0;
std::vector<std::string>* many = nullptr;

using Function = int (*)(const char*, const char*, const addrinfo*, addrinfo**);

// glibc frees every entry of a chain by itself, so chains may be joined.
int chain(Function real, const std::vector<std::string>& addresses, const char* service,
          const addrinfo* hints, addrinfo** results) {
    *results = nullptr;
    auto** end = results;
    for (const auto& address : addresses) {
        if (const int code = real(address.c_str(), service, hints, end); code != 0) return code;
        while (*end != nullptr) end = &(*end)->ai_next;
    }
    return 0;
}

}  // namespace

// Takes the place of libc's for this executable and the libraries it loads.
extern "C" int getaddrinfo(const char* node, const char* service, const addrinfo* hints,
                           addrinfo** results) {
    static const auto real = reinterpret_cast<Function>(::dlsym(RTLD_NEXT, "getaddrinfo"));
    const std::string_view name = node == nullptr ? "" : node;
    if (name.ends_with(".silent")) {
        std::unique_lock lock(name_mutex);
        ++silent_waits;
        silence_changed.notify_all();
        silence_changed.wait(lock, [] { return !silent; });
        --silent_waits;
        silence_changed.notify_all();
        return EAI_NONAME;
    }
    if (name == "many.test") {
        const std::lock_guard lock(name_mutex);
        if (many != nullptr) return chain(real, *many, service, hints, results);
    }
    return real(node, service, hints, results);
}

namespace opsrelay::test {

SilentResolver::SilentResolver() {
    const std::lock_guard lock(name_mutex);
    silent = true;
}

SilentResolver::~SilentResolver() { release(); }

void SilentResolver::release() {
    std::unique_lock lock(name_mutex);
    silent = false;
    silence_changed.notify_all();
    silence_changed.wait(lock, [] { return silent_waits == 0; });
}

std::size_t SilentResolver::waiting() {
    const std::lock_guard lock(name_mutex);
    return silent_waits;
}

ManyAddresses::ManyAddresses(std::vector<std::string> addresses) {
    const std::lock_guard lock(name_mutex);
    many = new std::vector<std::string>(std::move(addresses));
}

ManyAddresses::~ManyAddresses() {
    const std::lock_guard lock(name_mutex);
    delete std::exchange(many, nullptr);
}

}  // namespace opsrelay::test
