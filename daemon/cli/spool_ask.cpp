#include "cli/spool_ask.h"

#include <fmt/format.h>
#include <rapidjson/document.h>

#include <filesystem>

#include "cli/admin_client.h"
#include "cli/connect.h"
#include "config/fields.h"
#include "core/clock.h"
#include "core/json_document.h"

namespace opsrelay::cli {

namespace {

constexpr seconds kConnectTimeout{3};

Result<config::Config> load(const SpoolFlags& flags, const Program& program) {
    config::Sources sources;
    sources.file = flags.where.file;
    sources.default_file = program.default_file;
    sources.environment = program.environment;
    if (flags.spool_dir) {
        sources.flags.spool_dir =
            std::filesystem::absolute(*flags.spool_dir).lexically_normal().string();
    }
    return config::load_config(sources);
}

Result<Ask> open_offline(const SpoolFlags& flags, const Program& program) {
    const auto config = load(flags, program);
    if (!config) return config.error();
    return program.open_spool(*config);
}

// The first socket that can be connected to; nullopt: none, and `attempts` says why.
Result<std::optional<AdminTarget>> reach(const ClientFlags& flags, const Program& program,
                                         Attempts& attempts) {
    const auto targets = admin_targets(flags, std::nullopt, program);
    if (!targets) return targets.error();
    const SystemClock clock;
    for (const auto& target : *targets) {
        if (target.socket.empty()) continue;  // the port is read-only
        const auto reached = connect_unix(target.socket, clock, clock.now() + kConnectTimeout);
        if (reached) return std::optional(target);
        attempts.add(target, reached.error());
    }
    return std::optional<AdminTarget>{};
}

}  // namespace

void add_spool_flags(Command command, SpoolFlags& into) {
    add_client_flags(command, into.where);
    command
        .add_option("--spool-dir", into.spool_dir,
                    "Work on this spool, which no daemon may have open")
        .type_name("DIR")
        .excludes("--run-dir");
    command.add_option("--timeout", into.timeout, "Wait this long for an answer; default 30s")
        .type_name("DURATION");
}

Ask ask_daemon(AdminTarget target, milliseconds timeout) {
    return [target = std::move(target), timeout](std::string_view path, std::string_view body) {
        const SystemClock clock;
        return http_post(target, path, body, clock, clock.now() + timeout);
    };
}

Result<AdminTarget> find_daemon(const ClientFlags& flags, const Program& program) {
    Attempts attempts;
    auto target = reach(flags, program, attempts);
    if (!target) return target.error();
    if (*target) return **std::move(target);
    return attempts.error("start it with `opsrelay run`, or say where it is with --run-dir");
}

Result<Ask> open_ask(const SpoolFlags& flags, const Program& program) {
    using std::chrono_literals::operator""ms;
    using std::chrono_literals::operator""h;
    const auto timeout = config::duration_field("--timeout", flags.timeout, {1ms, 1h});
    if (!timeout) return timeout.error();
    if (flags.spool_dir) return open_offline(flags, program);
    Attempts attempts;
    auto target = reach(flags.where, program, attempts);
    if (!target) return target.error();
    if (*target) return ask_daemon(**std::move(target), *timeout);
    if (flags.where.run_dir) {
        return attempts.error("start it, or name a spool that no daemon has open with --spool-dir");
    }
    auto opened = open_offline(flags, program);
    if (opened) return opened;
    return Error{opened.error().code, attempts.error(opened.error().context).context};
}

Result<void> ask_json(const Ask& ask, std::string_view path, std::string_view body,
                      rapidjson::Document& reply) {
    const auto answer = ask(path, body);
    if (!answer) return answer.error();
    if (!read_json_document(answer->body, reply) || !reply.IsObject()) {
        return Error{Errc::refused,
                     fmt::format("{}: HTTP {} without a JSON object; is the other side an opsrelay "
                                 "of this version?",
                                 path, answer->status)};
    }
    if (answer->status == 200) return {};
    const rapidjson::Value& object = reply;
    const auto message = object.FindMember("message");
    const auto code = answer->status == 400 ? Errc::config_invalid : Errc::refused;
    if (message != object.MemberEnd() && message->value.IsString()) {
        return Error{code, message->value.GetString()};
    }
    return Error{code, fmt::format("{}: the daemon answered HTTP {}", path, answer->status)};
}

}  // namespace opsrelay::cli
