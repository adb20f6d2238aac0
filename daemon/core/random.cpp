#include "core/random.h"

#include <sys/random.h>

#include <bit>

#include "core/assert.h"

namespace opsrelay {

namespace {

// splitmix64 spreads one seed over the whole state, as the authors of xoshiro advise.
std::uint64_t splitmix(std::uint64_t& state) {
    state += 0x9e3779b97f4a7c15ULL;
    auto z = state;
    z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27U)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31U);
}

}  // namespace

Xoshiro::Xoshiro(std::uint64_t seed) noexcept {
    for (auto& word : state_) word = splitmix(seed);
}

Xoshiro Xoshiro::from_system() {
    std::uint64_t seed = 0;
    // Cannot fail for 8 bytes once the kernel's pool is ready (getrandom(2)).
    const auto got = ::getrandom(&seed, sizeof seed, 0);
    OPSRELAY_ASSERT(got == static_cast<ssize_t>(sizeof seed));
    return Xoshiro{seed};
}

std::uint64_t Xoshiro::next() {
    const auto result = std::rotl(state_[1] * 5, 7) * 9;
    const auto shifted = state_[1] << 17U;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return result;
}

}  // namespace opsrelay
