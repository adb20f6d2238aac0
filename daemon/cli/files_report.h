// What reading the files showed that the configuration names, for `check` and `doctor`. The reading
// itself is handed in by main.cpp: this folder links neither the forwarder nor the listeners.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "config/config.h"

namespace opsrelay::cli {

/// No secrets.
struct FilesReport {
    /// Why `run` would refuse to start, in its words: a certificate, a token file, a group.
    std::optional<Error> unusable;
    /// API keys that cannot be read: a start does not need them.
    std::vector<std::string> warnings;
};

/// Reads every file as a start does, and changes nothing. Never fails: the report says it.
using TryFiles = std::function<FilesReport(const config::Config& config)>;

}  // namespace opsrelay::cli
