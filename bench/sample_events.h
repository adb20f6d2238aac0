// Events of the usual size for the benchmarks: distinct, the same in every run.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <string>

#include "core/random.h"

namespace opsrelay::bench {

/// A version 4 UUID, as the official SDKs make their ids.
inline std::string sample_id(Rng& rng) {
    const auto high = rng.next();
    const auto low = rng.next();
    std::array<char, 37> text{};
    (void)std::snprintf(text.data(), text.size(), "%08x-%04x-4%03x-%04x-%012llx",
                        static_cast<unsigned>(high >> 32U),
                        static_cast<unsigned>(high >> 16U & 0xffffU),
                        static_cast<unsigned>(high & 0xfffU),
                        static_cast<unsigned>((low >> 48U & 0x3fffU) | 0x8000U),
                        static_cast<unsigned long long>(low & 0xffffffffffffU));
    return text.data();
}

/// An event of about 330 bytes without a newline. Ids, users, counts and times differ; names and
/// keys repeat, as they do in what one app sends.
inline std::string sample_event(Rng& rng) {
    const auto input = rng.between(std::uint64_t{20}, 4000);
    const auto output = rng.between(std::uint64_t{5}, 900);
    return R"({"externalRequestId":")" + sample_id(rng) +
           R"(","provider":"openai","model":"gpt-4o-mini","promptVersion":"ticket_triage_v7",)"
           R"("userId":"us_)" +
           std::to_string(rng.between(std::uint64_t{100'000'000}, 999'999'999)) +
           R"(","inputTokens":)" + std::to_string(input) + R"(,"outputTokens":)" +
           std::to_string(output) + R"(,"totalTokens":)" + std::to_string(input + output) +
           R"(,"latencyMs":)" + std::to_string(rng.between(std::uint64_t{80}, 9000)) +
           R"(,"status":"success","dataMode":"real","environment":"prod",)"
           R"("createdAt":"2026-03-14T09:26:)" +
           std::to_string(rng.between(std::uint64_t{10}, 59)) + "." +
           std::to_string(rng.between(std::uint64_t{100}, 999)) + R"(Z"})";
}

}  // namespace opsrelay::bench
