// Somebody who watches the events that pass, for tests of what is shown of them.
#pragma once

#include <boost/asio/io_context.hpp>
#include <string>
#include <utility>

#include "observe/tap.h"

namespace opsrelay::test {

/// Wants every sight, and has credit for 1,000 of them.
struct Watcher {
    Watcher() {
        tap.set_sink([this](const observe::Sighting& seen) {
            lines += (lines.empty() ? "" : "; ") + line(seen);
        });
        tap.want(observe::kAllSights);
        tap.grant(1000, 1000);
    }
    Watcher(const Watcher&) = delete;
    Watcher& operator=(const Watcher&) = delete;

    /// What was seen since the last call: "accepted id; dead id: 400; dropped x7: oldest".
    [[nodiscard]] std::string take() {
        io.restart();
        io.run();
        return std::exchange(lines, {});
    }
    static std::string line(const observe::Sighting& seen) {
        std::string text(to_string(seen.sight));
        if (seen.events != 1) text += " x" + std::to_string(seen.events);
        if (!seen.fields.id.empty()) text += " " + seen.fields.id;
        if (!seen.reason.empty()) text += ": " + seen.reason;
        return text;
    }

    boost::asio::io_context io;
    std::string lines;
    observe::Tap tap{io.get_executor()};
};

}  // namespace opsrelay::test
