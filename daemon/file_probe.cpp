#include "file_probe.h"

#include <fmt/format.h>

#include <boost/asio/io_context.hpp>

#include "config/lanes.h"
#include "core/plan_state.h"
#include "forward/key_file.h"
#include "lanes.h"
#include "listen/listeners.h"

namespace opsrelay {

namespace {

// In the order of a start, which tells the first trouble too.
Result<void> open_all(const config::Config& config) {
    asio::io_context io;
    SystemClock clock;
    PlanStates plans;
    Lanes lanes(io.get_executor(), clock, plans);
    if (auto opened = lanes.open(config.lanes, config.spool.max_age); !opened) return opened;
    for (const auto& listener : config.listen.listeners) {
        if (auto read = listen::check_files(listener, clock); !read) return read;
    }
    return {};
}

}  // namespace

cli::FilesReport try_files(const config::Config& config) {
    cli::FilesReport report;
    if (const auto opened = open_all(config); !opened) report.unusable = opened.error();
    for (const auto& [lane, upstream] : config.lanes) {
        if (upstream.api_key_file.empty()) continue;
        const auto key = forward::read_api_key(upstream.api_key_file);
        if (key) continue;
        report.warnings.push_back(fmt::format("{}: {}; events are spooled until it can be read",
                                              config::lane_key(lane, "api_key_file"),
                                              key.error().context));
    }
    return report;
}

}  // namespace opsrelay
