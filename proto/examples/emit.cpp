// Sends every line of standard input as an event, and prints what became of them.
//
//   c++ -std=c++17 -pthread emit.cpp -o emit
//   ./emit SOCKET [SECONDS] < events.ndjson
//
// SECONDS (5): how long to wait for the rest at the end. Exit status 0 when nothing was dropped.
#include <cstdlib>
#include <iostream>
#include <string>

#include "opsrelay_emitter.h"

int main(int argc, char** argv) {
    if (argc < 2) {
        std::cerr << "usage: emit SOCKET [SECONDS] < events.ndjson\n";
        return 2;
    }
    const auto patience = std::chrono::milliseconds{
        static_cast<long>(1000 * (argc > 2 ? std::strtod(argv[2], nullptr) : 5.0))};
    opsrelay::EmitterOptions options;
    options.close = std::chrono::milliseconds{0};  // flush() below waits
    opsrelay::Emitter relay(argv[1], options);
    for (std::string line; std::getline(std::cin, line);) relay.emit(line);
    relay.flush(patience);
    const auto counts = relay.counts();
    std::cout << "durable=" << counts.durable << " rejected=" << counts.rejected
              << " dropped=" << counts.dropped + counts.pending << '\n';
    return counts.dropped + counts.pending == 0 ? 0 : 1;
}
