// The command line: what it offers, and the Settings it leads to.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "core/error.h"
#include "upstream/settings.h"

namespace opsrelay::upstream {

class CommandLine {
public:
    CommandLine();
    CommandLine(const CommandLine&) = delete;
    CommandLine& operator=(const CommandLine&) = delete;

    /// CLI11 keeps references into this object. Its parse() throws CLI::ParseError.
    [[nodiscard]] CLI::App& app() noexcept { return app_; }
    /// After a parse. Errors: config_invalid and io, naming option and value.
    [[nodiscard]] Result<Settings> settings() const;

private:
    void add_ports();
    void add_service();
    void add_faults();
    void add_tls();

    CLI::App app_{"A local stand-in for the Opsmeter ingest API: in memory, loopback only."};
    Settings given_;
    std::vector<std::string> assignments_;
    std::string script_file_;
    std::string item_script_file_;
    std::vector<std::string> rates_;
    std::vector<std::string> item_rates_;
};

}  // namespace opsrelay::upstream
