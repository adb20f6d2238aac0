// Where and how records are sent.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/api_path.h"
#include "core/enum_table.h"
#include "core/proxy.h"
#include "core/secret.h"
#include "core/units.h"

namespace opsrelay::forward {

/// What the upstream takes in one request.
enum class UpstreamKind : std::uint8_t {
    opsmeter,  // one event
    batch      // several: another opsrelay, or whatever speaks its batch contract
};
inline constexpr std::array<EnumName<UpstreamKind>, 2> kUpstreamKinds{{
    {UpstreamKind::opsmeter, "opsmeter"},
    {UpstreamKind::batch, "batch"},
}};
static_assert(dense(kUpstreamKinds));

enum class BatchFormat : std::uint8_t { ndjson, array };
inline constexpr std::array<EnumName<BatchFormat>, 2> kBatchFormats{{
    {BatchFormat::ndjson, "ndjson"},
    {BatchFormat::array, "array"},
}};
static_assert(dense(kBatchFormats));
constexpr std::string_view to_string(BatchFormat f) { return kBatchFormats.at(index_of(f)).name; }

enum class BatchCoding : std::uint8_t { gzip, zstd, none };
inline constexpr std::array<EnumName<BatchCoding>, 3> kBatchCodings{{
    {BatchCoding::gzip, "gzip"},
    {BatchCoding::zstd, "zstd"},
    {BatchCoding::none, "none"},
}};
static_assert(dense(kBatchCodings));
constexpr std::string_view to_string(BatchCoding c) { return kBatchCodings.at(index_of(c)).name; }

/// How many requests a lane has in flight.
enum class ConcurrencyMode : std::uint8_t {
    adaptive,  // up to `connections` times `pipeline`, fewer while upstream bears fewer
    fixed      // always as many
};
inline constexpr std::array<EnumName<ConcurrencyMode>, 2> kConcurrencyModes{{
    {ConcurrencyMode::adaptive, "adaptive"},
    {ConcurrencyMode::fixed, "fixed"},
}};
static_assert(dense(kConcurrencyModes));

/// Of kind batch. A request goes when it has one of these, or its first event has waited for
/// `linger`.
struct BatchOptions {
    unsigned events_max = 500;   // 1..1000
    Bytes bytes_max{1U << 20U};  // the body before compression
    milliseconds linger{1000};
    BatchFormat format = BatchFormat::ndjson;
    BatchCoding coding = BatchCoding::gzip;
};

struct Options {
    UpstreamKind kind = UpstreamKind::opsmeter;
    BatchOptions batch;
    std::string url = "https://api.opsmeter.io";  // scheme, host and optional port; or unix:/path
    std::string path;                             // empty: what its kind has, see target_path()
    std::string status_path = std::string(kStatusPath);
    std::string api_key_file;      // empty: no file. Watched: a change takes effect within a second
    Secret api_key;                // from OPSRELAY_API_KEY only; empty: none
    std::string ca_file;           // extra trust anchors (PEM); empty: the system's store
    std::string system_ca_file;    // of the system's store: SSL_CERT_FILE; empty: OpenSSL's own
    std::string client_cert_file;  // who we are in TLS (PEM, with what is above it); empty: nobody
    std::string client_key_file;   // its private key (PEM, no passphrase); both or none
    std::optional<Proxy> proxy;    // asked for a tunnel to the upstream; not for unix: URLs
    bool proxy_off = false;        // no proxy, whatever the environment names
    bool allow_plaintext = false;  // http:// to a host that is not loopback
    unsigned connections = 8;      // 1..64 keep-alive connections
    unsigned pipeline = 1;         // 1..16 requests that one of them carries; 1: one after another
    ConcurrencyMode concurrency = ConcurrencyMode::adaptive;
    milliseconds timeout{10'000};      // one request, from connect to the last byte of the reply
    std::size_t in_flight_max = 4096;  // records read but not settled
    milliseconds max_age{0};           // spool.max_age: older records are given up; 0: never
    milliseconds backoff_base{250};
    milliseconds backoff_max{60'000};
    /// Records waiting, none settled, breaker closed for this long: connections are built anew.
    milliseconds stall_limit{120'000};

    [[nodiscard]] std::string_view target_path() const noexcept {
        if (!path.empty()) return path;
        return kind == UpstreamKind::batch ? kBatchPath : kEventPath;
    }
};

}  // namespace opsrelay::forward
