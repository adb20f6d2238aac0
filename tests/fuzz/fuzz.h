// What a fuzz target is: one function that takes any bytes and asserts what must hold for all of
// them. libfuzzer.cpp gives it the inputs that libFuzzer makes up (./dev fuzz); corpus_main.cpp
// those of a directory, with any compiler, which is what ./dev test runs.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>

namespace opsrelay::fuzz {

/// Defined by each target. `input` is a copy of exactly its size, so that a read beyond it is seen.
void one_input(std::string_view input);

/// The first byte, as a choice among `count`, and what is behind it. An empty input chooses 0.
inline std::pair<unsigned, std::string_view> choose(std::string_view input, unsigned count) {
    if (input.empty()) return {0, input};
    return {static_cast<unsigned char>(input.front()) % count, input.substr(1)};
}

}  // namespace opsrelay::fuzz
