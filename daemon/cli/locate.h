// Where a client command finds the daemon: what was given, else what the configuration says, else
// the places of a system service.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/admin_client.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "core/error.h"

namespace opsrelay::cli {

/// --config and --run-dir of a client command.
struct ClientFlags {
    std::optional<std::string> file;
    std::optional<std::string> run_dir;
};
void add_client_flags(Command command, ClientFlags& into);

/// Paths of the stream socket to try, best first; never empty. Error: config_invalid.
[[nodiscard]] Result<std::vector<std::string>> stream_sockets(const ClientFlags& flags,
                                                              const Program& program);

/// Admin sockets and ports to try, best first; never empty. With --run-dir and without a port only
/// that directory's socket: the default port may be another daemon's. Error: config_invalid.
[[nodiscard]] Result<std::vector<AdminTarget>> admin_targets(const ClientFlags& flags,
                                                             std::optional<std::uint16_t> port,
                                                             const Program& program);

/// Why no daemon could be asked.
class Attempts {
public:
    /// Asking `target` failed with `error`.
    void add(const AdminTarget& target, const Error& error);
    /// With all that were tried, the code of the last, and `next`; where this user may not ask,
    /// that and whom to run as instead.
    [[nodiscard]] Error error(std::string_view next) const;

private:
    Errc code_ = Errc::io;
    std::string tried_;
    bool denied_ = false;
};

}  // namespace opsrelay::cli
