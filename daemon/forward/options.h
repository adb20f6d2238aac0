// Where and how records are sent.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/proxy.h"
#include "core/secret.h"
#include "core/units.h"

namespace opsrelay::forward {

struct Options {
    std::string url = "https://api.opsmeter.io";  // scheme, host and optional port; or unix:/path
    std::string path = "/v1/ingest/llm-request";
    std::string status_path = "/v1/diagnostics/workspace-status";
    std::string api_key_file;      // empty: no file. Watched: a change takes effect within a second
    Secret api_key;                // from OPSRELAY_API_KEY only; empty: none
    std::string ca_file;           // extra trust anchors (PEM); empty: the system's store
    std::string client_cert_file;  // who we are in TLS (PEM, with what is above it); empty: nobody
    std::string client_key_file;   // its private key (PEM, no passphrase); both or none
    std::optional<Proxy> proxy;    // asked for a tunnel to the upstream; not for unix: URLs
    bool proxy_off = false;        // no proxy, whatever the environment names
    bool allow_plaintext = false;  // http:// to a host that is not loopback
    unsigned connections = 8;      // 1..64 keep-alive connections
    milliseconds timeout{10'000};  // one request, from connect to the last byte of the reply
    std::size_t in_flight_max = 4096;  // records read but not settled
    milliseconds max_age{0};           // spool.max_age: older records are given up; 0: never
    milliseconds backoff_base{250};
    milliseconds backoff_max{60'000};
    /// Records waiting, none settled, breaker closed for this long: connections are built anew.
    milliseconds stall_limit{120'000};
};

}  // namespace opsrelay::forward
