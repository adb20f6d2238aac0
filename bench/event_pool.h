// The events that the load generator sends: bodies made once, ids written in as they are taken, so
// that a sender costs little beside the receiver it loads.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/assert.h"
#include "core/random.h"
#include "sample_events.h"

namespace opsrelay::bench {

/// The id of event `number` of a run: a version 4 UUID, the same for the same seed.
inline void write_id(std::uint64_t seed, std::uint64_t number, char* at) {
    static constexpr char kHex[] = "0123456789abcdef";
    // splitmix64 (Steele, Lea, Flood, 2014).
    const auto mix = [](std::uint64_t x) {
        x += 0x9e3779b97f4a7c15U;
        x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9U;
        x = (x ^ (x >> 27U)) * 0x94d049bb133111ebU;
        return x ^ (x >> 31U);
    };
    const std::uint64_t words[] = {mix(seed ^ mix(number)), mix(number)};
    std::size_t out = 0;
    for (std::size_t digit = 0; digit < 32; ++digit) {
        if (digit == 8 || digit == 12 || digit == 16 || digit == 20) at[out++] = '-';
        at[out++] = kHex[words[digit / 16] >> (60U - 4 * (digit % 16)) & 15U];
    }
    at[14] = '4';
    at[19] = 'a';
}

inline constexpr std::size_t kIdBytes = 36;

/// Bodies repeat after kBodies events (2.7 MB), far outside what LZ4 looks back over.
class EventPool {
public:
    static constexpr std::size_t kBodies = 8000;

    explicit EventPool(std::uint64_t seed) : seed_(seed) {
        Xoshiro rng{seed};
        offsets_.reserve(kBodies + 1);
        for (std::size_t i = 0; i < kBodies; ++i) {
            offsets_.push_back(text_.size());
            text_ += sample_event(rng);
            text_ += '\n';
        }
        offsets_.push_back(text_.size());
    }

    /// The next `count` events, one line each, in one piece; valid until the pool comes round.
    /// `count` divides kBodies, or is smaller where a run ends.
    [[nodiscard]] std::string_view take(std::size_t count) {
        if (at_ == kBodies) at_ = 0;
        OPSRELAY_ASSERT(count <= kBodies - at_);
        const auto first = at_;
        for (; at_ < first + count; ++at_) {
            write_id(seed_, number_++, text_.data() + offsets_[at_] + kIdAt);
        }
        return std::string_view(text_).substr(offsets_[first], offsets_[at_] - offsets_[first]);
    }

private:
    static constexpr std::size_t kIdAt = std::string_view(R"({"externalRequestId":")").size();

    const std::uint64_t seed_;
    std::string text_;
    std::vector<std::size_t> offsets_;
    std::size_t at_ = 0;
    std::uint64_t number_ = 0;
};

}  // namespace opsrelay::bench
