// One event through the parser: the golden samples, each on one line, as a stream delivers them.
#include <benchmark/benchmark.h>

#include <chrono>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/random.h"
#include "parse/event_parser.h"
#include "sample_events.h"

namespace opsrelay::parse {
namespace {

constexpr WallTime kReceived{milliseconds{1'777'863'721'007}};

// A golden sample without the newlines and the indentation between its members.
std::string golden_line(const std::string& name) {
    const auto path = std::string(OPSRELAY_SOURCE_DIR) + "/proto/golden/" + name + ".json";
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot read " + path);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    std::string line;
    bool indentation = false;
    for (const char c : text) {
        indentation = c == '\n' || (indentation && c == ' ');
        if (!indentation) line.push_back(c);
    }
    return line;
}

void parse_golden(benchmark::State& state, const std::string& name, bool admissible) {
    const auto line = golden_line(name);
    Xoshiro rng{7};
    EventParser parser({}, rng);
    if (parser.parse(line, kReceived) != admissible) {
        state.SkipWithError("the sample does not end as expected");
        return;
    }
    for (auto _ : state) benchmark::DoNotOptimize(parser.parse(line, kReceived));
    state.SetItemsProcessed(state.iterations());
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(line.size()));
}
BENCHMARK_CAPTURE(parse_golden, full, "01-full", true);
BENCHMARK_CAPTURE(parse_golden, minimal, "02-minimal", true);
BENCHMARK_CAPTURE(parse_golden, sdk_shape, "03-sdk-shape", true);
BENCHMARK_CAPTURE(parse_golden, failed_call, "04-failed-call", true);
BENCHMARK_CAPTURE(parse_golden, minted_id, "10-minted-id", true);
BENCHMARK_CAPTURE(parse_golden, spelled, "18-enums-spelled", true);
BENCHMARK_CAPTURE(parse_golden, rejected, "38-tokens-as-text", false);

// Distinct events, more than fit the second-level cache.
void parse_distinct(benchmark::State& state) {
    Xoshiro rng{7};
    std::vector<std::string> lines(16'384);
    for (auto& line : lines) line = bench::sample_event(rng);
    EventParser parser({}, rng);
    std::size_t next = 0;
    std::int64_t bytes = 0;
    for (auto _ : state) {
        const auto& line = lines[next];
        next = (next + 1) % lines.size();
        bytes += static_cast<std::int64_t>(line.size());
        if (!parser.parse(line, kReceived)) state.SkipWithError("a sample was rejected");
    }
    state.SetItemsProcessed(state.iterations());
    state.SetBytesProcessed(bytes);
}
BENCHMARK(parse_distinct);

}  // namespace
}  // namespace opsrelay::parse
