// What the forwarder does with a reply besides receiving it: head and body to a verdict.
#include <benchmark/benchmark.h>

#include <string>

#include "forward/reply_fields.h"
#include "forward/reply_reader.h"
#include "forward/retry.h"

namespace opsrelay::forward {
namespace {

const std::string kBody =
    R"({"ok":true,"planTier":"pro","warnings":[],"reason":null,"telemetryPaused":false,)"
    R"("externalRequestId":"0b9f0d2e-3a64-4f0e-9a61-5a3b7a0d4c11","providerCallsContinue":true,)"
    R"("isPlanLimitReached":false,"budgetWarning":false,"budgetExceeded":false})";
const std::string kReply =
    "HTTP/1.1 200 OK\r\nDate: Sat, 14 Mar 2026 09:26:53 GMT\r\nServer: upstream\r\n"
    "Content-Type: application/json; charset=utf-8\r\nContent-Length: " +
    std::to_string(kBody.size()) + "\r\n\r\n" + kBody;

void read_reply(benchmark::State& state) {
    ReplyReader reader;
    for (auto _ : state) {
        reader.begin();
        benchmark::DoNotOptimize(reader.feed(kReply));
        benchmark::DoNotOptimize(reader.take());
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(read_reply);

void classify_reply(benchmark::State& state) {
    Reply reply;
    reply.status = 200;
    reply.body = kBody;
    for (auto _ : state) benchmark::DoNotOptimize(classify(reply, WallTime{}));
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(classify_reply);

// The way of a body that the scan does not take.
void parse_body(benchmark::State& state) {
    for (auto _ : state) benchmark::DoNotOptimize(parse_fields(kBody));
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(parse_body);

}  // namespace
}  // namespace opsrelay::forward
