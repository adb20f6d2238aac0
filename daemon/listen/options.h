// What a listener can be told. Defaults are those of the configuration file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/event.h"
#include "core/units.h"

namespace opsrelay::listen {

/// Limits of one event and of the connections; fixed, except where the configuration has a key.
inline constexpr Bytes kEventBytesMax{64U << 10U};
inline constexpr std::size_t kConnectionsMax = 1024;

/// One listener. Unix sockets have a path, UDP and HTTP an address and port; HTTP may have either.
struct ListenerOptions {
    ListenerKind kind = ListenerKind::unix_datagram;
    std::string path;                  // absolute; empty for an IP listener
    std::string address;               // numeric IPv4 or IPv6 address; empty for a Unix listener
    std::uint16_t port = 0;            // 0: any free port, reported once bound
    std::uint32_t mode = 0666;         // Unix sockets: like /dev/log
    std::optional<std::string> group;  // Unix sockets: name or number; unset: as created
    LaneName lane;                     // the number is the spool's; the name is the configuration's
    std::uint8_t defaults = 0;         // Origin::defaults
    bool allow_remote = false;         // UDP and HTTP: an address that is not a loopback one
    std::string token_file;            // HTTP: absolute; empty: no token is asked for
    // Unix sockets: who may send; both empty: everybody who can open the path.
    std::vector<std::uint32_t> allow_uids;
    std::vector<std::uint32_t> allow_gids;
    std::uint32_t rate_limit = 0;  // events of a peer, a second and at once; 0: any number
    bool by_default = false;       // nobody asked for it: off when others are inherited
};

struct Options {
    std::vector<ListenerOptions> listeners;
    /// All lanes there are: an HTTP client may name one in its path.
    std::vector<LaneName> lanes;
    /// SO_RCVBUF asked for datagram sockets; the kernel grants at most rmem_max.
    Bytes receive_buffer{4U << 20U};
    /// Of all listeners together; fewer when the process may not have that many descriptors. Over
    /// it: accepted and closed.
    std::size_t connections_max = kConnectionsMax;
    /// Without progress of the acks for this long a stream connection is closed.
    milliseconds stream_ack_timeout{10'000};
    /// HTTP: 503 when the commit has not returned by then. The official SDKs give up at 600 ms.
    milliseconds http_ack_timeout{400};
    std::vector<std::string> http_allowed_hosts;  // that a Host may name besides this machine's
    bool http_mirror_upstream = false;  // 402 and 429 as upstream would, though the event is kept
    Bytes http_body_max{1U << 20U};     // an event's own limit, kEventBytesMax, comes first
    std::size_t http_header_bytes_max = 8U << 10U;
    milliseconds http_idle_timeout{60'000};  // between two requests of a connection
    milliseconds http_read_timeout{10'000};  // header and body of a request; also a reply's writing
    /// A stream whose large line has no end for this long is closed when others need the memory.
    milliseconds unfinished_patience{10'000};
    /// Acks that no commit caused (rejected lines, known duplicates) are held back at most this
    /// long.
    milliseconds stream_ack_delay{50};
    /// How often Unix paths are looked after and the kernel's drop counters are read.
    milliseconds watch_interval{1'000};
};

}  // namespace opsrelay::listen
