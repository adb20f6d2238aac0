// Configuration files: refused with a place and a reason, or valid, and then what is printed is
// read again and gives the same.
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "config/config.h"
#include "core/assert.h"
#include "core/unique_fd.h"
#include "fuzz/fuzz.h"

namespace opsrelay::fuzz {

namespace {

Result<config::Config> load(std::string_view text) {
    const UniqueFd file(::memfd_create("config", MFD_CLOEXEC));
    OPSRELAY_ASSERT(file.get() >= 0);
    while (!text.empty()) {
        const auto written = ::write(file.get(), text.data(), text.size());
        OPSRELAY_ASSERT(written > 0);
        text.remove_prefix(static_cast<std::size_t>(written));
    }
    config::Sources sources;
    sources.default_file.clear();
    sources.environment.root = true;
    sources.file = "/proc/self/fd/" + std::to_string(file.get());
    return config::load_config(sources);
}

}  // namespace

void one_input(std::string_view input) {
    // A key file that an input makes up is none of this machine's.
    if (input.find("hash_key_file") != std::string_view::npos) return;
    const auto config = load(input);
    if (!config) {
        OPSRELAY_ASSERT(config.error().code == Errc::config_invalid);
        OPSRELAY_ASSERT(!config.error().context.empty());
        return;
    }
    const auto printed = to_yaml(*config);
    OPSRELAY_ASSERT(!to_json(*config).empty());
    if (printed.find("***") != std::string::npos) return;  // a secret was left out
    const auto again = load(printed);
    OPSRELAY_ASSERT(again.has_value());
    OPSRELAY_ASSERT(to_yaml(*again) == printed);
}

}  // namespace opsrelay::fuzz
