#include <cstdio>
#include <exception>

#include "cli/cli.h"
#include "core/log.h"
#include "file_probe.h"
#include "offline.h"
#include "relay.h"
#include "upstream_probe.h"

int main(int argc, char** argv) {
    try {
        // For commands that open the spool; `run` sets its own.
        opsrelay::log::configure(opsrelay::log::Format::automatic, opsrelay::log::Level::warn);
        return opsrelay::cli::dispatch(argc, argv, opsrelay::run_relay,
                                       opsrelay::open_spool_offline, opsrelay::try_upstream,
                                       opsrelay::try_files);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "opsrelay: %s\n", e.what());
        return 1;
    }
}
