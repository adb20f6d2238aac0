// What trying an upstream showed, for `doctor` to judge. The trying itself is handed in by
// main.cpp: this folder does not link the forwarder.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "config/config.h"
#include "core/units.h"

namespace opsrelay::cli {

/// One attempt, step by step; a step after one that failed has not been tried. No secrets.
struct UpstreamReport {
    std::string unusable;  // the options themselves, a certificate file; "": they can be used

    enum class Key : std::uint8_t { none, unreadable, read };
    Key key = Key::none;
    std::string key_error;  // of an unreadable one: file, cause, next step

    std::string host;  // that was looked up, the proxy's if there is one; "": a Unix socket
    std::vector<std::string> addresses;
    std::string resolve_error;
    milliseconds resolve_time{0};

    std::string address;  // that was connected to
    std::string connect_error;
    bool connected = false;  // TLS included
    milliseconds connect_time{0};
    bool tls = false;
    std::string certificate_issuer;
    std::optional<std::int64_t> certificate_end_unix_ms;

    bool asked = false;     // for the workspace's status; not without a key
    int status = 0;         // of the reply; 0: none came
    std::string ask_error;  // why none came
    std::string verdict;    // what the forwarder would make of this reply (forward/retry.h)
    bool readable = false;  // it is the API's answer
    bool paused = false;    // by the plan
    bool over_budget = false;
    std::optional<std::int64_t> date_unix_ms;  // the reply's Date
    std::int64_t replied_unix_ms = 0;          // when it came, by our clock
    milliseconds reply_time{0};
};

/// Tries an upstream within `timeout`, sending no event. Never fails: the report says it.
using TryUpstream =
    std::function<UpstreamReport(const forward::Options& options, milliseconds timeout)>;

}  // namespace opsrelay::cli
