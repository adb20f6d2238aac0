// Configuration sources for tests: a file with the given text, and never this machine's
// environment.
#pragma once

#include <fstream>
#include <string>

#include "config/config.h"
#include "support/temp_dir.h"

namespace opsrelay::config {

/// Root's defaults and no file.
inline Sources bare_sources() {
    Sources sources;
    sources.default_file.clear();
    sources.environment.root = true;
    return sources;
}

/// Writes `text` into the directory and returns the path.
inline std::string write_file(const test::TempDir& dir, const std::string& text) {
    auto path = dir / "opsrelay.yaml";
    std::ofstream(path, std::ios::binary) << text;
    return path;
}

/// What load_config says of a file with this text, with the file's path cut off; empty: nothing.
inline std::string complaint(const std::string& text) {
    const test::TempDir dir;
    auto sources = bare_sources();
    sources.file = write_file(dir, text);
    const auto config = load_config(sources);
    if (config) return {};
    const auto& context = config.error().context;
    const auto at = context.find("opsrelay.yaml");
    return at == std::string::npos ? context : context.substr(at + 13);
}

}  // namespace opsrelay::config
