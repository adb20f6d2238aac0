// Where a command about what is stored sends its requests: to the daemon, else to the spool itself.
#pragma once

#include <rapidjson/fwd.h>

#include <optional>
#include <string>
#include <string_view>

#include "cli/cli.h"
#include "cli/locate.h"
#include "core/error.h"

namespace opsrelay::cli {

struct SpoolFlags {
    ClientFlags where;
    std::optional<std::string> spool_dir;
    std::string timeout = "30s";  // of one request
};
void add_spool_flags(Command command, SpoolFlags& into);

/// With --spool-dir that spool, opened here. Else the daemon, over the admin sockets that
/// admin_targets() names; when none of them answers, the spool of the configuration, but not with
/// --run-dir, which says nothing about where the spool is. Errors: config_invalid, spool_locked (a
/// daemon has it that does not answer), spool_unusable, io.
[[nodiscard]] Result<Ask> open_ask(const SpoolFlags& flags, const Program& program);

/// The socket of a daemon that answers. Errors: config_invalid; io, with all that were tried.
[[nodiscard]] Result<AdminTarget> find_daemon(const ClientFlags& flags, const Program& program);

/// Sends the request and parses the reply, a JSON object with `ok`. Errors: config_invalid for
/// status 400, refused for others (the reply's message), io, timed_out.
[[nodiscard]] Result<void> ask_json(const Ask& ask, std::string_view path, std::string_view body,
                                    rapidjson::Document& reply);

/// Requests that the daemon must answer within `timeout` each.
[[nodiscard]] Ask ask_daemon(AdminTarget target, milliseconds timeout);

}  // namespace opsrelay::cli
