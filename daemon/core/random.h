// Randomness behind a seam: one seed fixes a simulation. Integers only, with our own mapping from
// bits to ranges, because the standard distributions differ between libraries.
#pragma once

#include <cstdint>

#include "core/units.h"

namespace opsrelay {

class Rng {
public:
    virtual ~Rng() = default;

    /// 64 random bits.
    [[nodiscard]] virtual std::uint64_t next() = 0;

    /// Uniform in [low, high]; requires low <= high. The modulo bias (below 2^-32 for ranges under
    /// 2^32) does not matter for jitter.
    [[nodiscard]] std::uint64_t between(std::uint64_t low, std::uint64_t high) {
        const auto span = high - low + 1;
        return span == 0 ? next() : low + next() % span;
    }
    /// True `per_mille` times in a thousand.
    [[nodiscard]] bool chance(std::uint32_t per_mille) { return next() % 1000 < per_mille; }
    /// Uniform duration in [low, high].
    [[nodiscard]] milliseconds between(milliseconds low, milliseconds high) {
        return milliseconds{static_cast<std::int64_t>(between(
            static_cast<std::uint64_t>(low.count()), static_cast<std::uint64_t>(high.count())))};
    }
};

/// xoshiro256** (Blackman and Vigna, 2018). Not for secrets; the install salt and minted ids are
/// seeded from the operating system's generator.
class Xoshiro final : public Rng {
public:
    explicit Xoshiro(std::uint64_t seed) noexcept;
    /// Seeded with getrandom(2).
    [[nodiscard]] static Xoshiro from_system();
    [[nodiscard]] std::uint64_t next() override;

private:
    std::uint64_t state_[4];
};

}  // namespace opsrelay
