// Sends events to one of the daemon's sockets and says how that went, as one line of JSON. It is
// not part of what is measured: ids are written into ready-made events, everything else is a system
// call.
//
//   load stream|lines|datagram|udp|http PLACE [OPTIONS]      PLACE: a path with a slash, or a port
//   load sink [--port N]          takes lines over TCP and counts them, until SIGTERM
//   load ids --events N           the ids that N events of this seed have, one per line
//
//   stream    lines, with acks; ends when the last event is settled
//   lines     lines without acks; ends when the last write was taken
//   datagram  one event each, as fast as they are taken; --nonblocking as an app sends: a full
//             queue loses the event, which is counted, and each call's time is kept
//   http      one POST an event, --connections at a time, each waits for its reply
//
//   --events N      how many (100000)      --per-write N  events in one write or datagram (1)
//   --rate N        per second, evenly; 0: as fast as possible (0)
//   --seed N        of ids and contents (1)
#include "load.h"

#include <sys/prctl.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string_view>

#include "event_pool.h"

namespace opsrelay::bench {
namespace {

void run_ids(const Options& options) {
    char id[kIdBytes + 1] = {};
    for (std::uint64_t i = 0; i < options.events; ++i) {
        write_id(options.seed, i, id);
        std::puts(id);
    }
}

constexpr const char* kUsage =
    "usage: load stream|lines|datagram|udp|http PLACE | sink | ids\n"
    "            [--events N] [--per-write N] [--rate N] [--seed N] [--connections N] [--port N]\n"
    "            [--nonblocking]\n";

// False: not understood.
bool parse(int argc, char** argv, Options& options) {
    if (argc < 2) return false;
    options.mode = argv[1];
    int at = 2;
    if (options.mode != "sink" && options.mode != "ids") {
        if (argc < 3) return false;
        options.place = argv[at++];
    }
    const struct {
        const char* name;
        std::uint64_t& value;
    } numbers[] = {{"--events", options.events},
                   {"--per-write", options.per_write},
                   {"--rate", options.rate},
                   {"--seed", options.seed},
                   {"--connections", options.connections},
                   {"--port", options.port}};
    while (at < argc) {
        const std::string_view name(argv[at++]);
        if (name == "--nonblocking") {
            options.nonblocking = true;
            continue;
        }
        bool known = false;
        for (const auto& number : numbers) {
            if (name != number.name || at == argc) continue;
            number.value = std::strtoull(argv[at++], nullptr, 10);
            known = true;
        }
        if (!known) return false;
    }
    return options.events > 0 && options.per_write > 0 && options.connections > 0 &&
           EventPool::kBodies % options.per_write == 0;
}

int run(int argc, char** argv) {
    Options options;
    if (!parse(argc, argv, options)) {
        std::fputs(kUsage, stderr);
        return 2;
    }
    // Sleeps of a paced run end within microseconds, not within the usual 50.
    (void)::prctl(PR_SET_TIMERSLACK, 1000);
    if (options.mode == "stream" || options.mode == "lines") {
        run_stream(options, options.mode == "stream");
    } else if (options.mode == "datagram" || options.mode == "udp") {
        run_datagram(options);
    } else if (options.mode == "http") {
        run_http(options);
    } else if (options.mode == "sink") {
        run_sink(options);
    } else if (options.mode == "ids") {
        run_ids(options);
    } else {
        std::fputs(kUsage, stderr);
        return 2;
    }
    return 0;
}

}  // namespace
}  // namespace opsrelay::bench

int main(int argc, char** argv) {
    try {
        return opsrelay::bench::run(argc, argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "load: %s\n", error.what());
        return 1;
    }
}
