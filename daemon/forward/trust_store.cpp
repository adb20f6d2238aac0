#include "forward/trust_store.h"

#include <fmt/format.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>

#include <algorithm>
#include <mutex>
#include <vector>

#include "forward/openssl_error.h"

namespace opsrelay::forward {

namespace {

using Store = std::shared_ptr<X509_STORE>;

struct Known {
    std::string ca_file;
    FileStamp system_stamp;
    FileStamp ca_stamp;
    std::weak_ptr<X509_STORE> store;
};

// Of the process, as lanes do not know of each other. Everything is guarded by the mutex.
struct Shared {
    std::mutex mutex;
    std::vector<Known> known;  // of stores that nobody has any more, until the next look
};

Shared& shared() {
    static Shared only;
    return only;
}

Result<Store> read(const std::string& ca_file) {
    const Store store(X509_STORE_new(), X509_STORE_free);
    ::ERR_clear_error();
    if (!store || X509_STORE_set_default_paths(store.get()) != 1) {
        return Error{Errc::config_invalid,
                     fmt::format("the system's certificate store cannot be used: {}; install "
                                 "ca-certificates or set upstream.ca_file",
                                 take_openssl_error().message())};
    }
    if (!ca_file.empty() && X509_STORE_load_file(store.get(), ca_file.c_str()) != 1) {
        return Error{Errc::config_invalid,
                     fmt::format("upstream.ca_file: \"{}\": {}; it must be a readable file of PEM "
                                 "certificates",
                                 ca_file, take_openssl_error().message())};
    }
    return store;
}

}  // namespace

Result<Store> trust_store(const std::string& ca_file, const FileStamp& system_stamp,
                          const FileStamp& ca_stamp) {
    auto& [mutex, known] = shared();
    const std::lock_guard lock(mutex);
    std::erase_if(known, [](const Known& one) { return one.store.expired(); });
    const auto found = std::find_if(known.begin(), known.end(), [&](const Known& one) {
        return one.ca_file == ca_file && one.system_stamp == system_stamp &&
               one.ca_stamp == ca_stamp;
    });
    if (found != known.end()) {
        if (auto store = found->store.lock()) return store;
    }
    auto made = read(ca_file);
    if (made) known.push_back({ca_file, system_stamp, ca_stamp, *made});
    return made;
}

}  // namespace opsrelay::forward
