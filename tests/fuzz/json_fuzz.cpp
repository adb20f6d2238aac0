// The two ways to read JSON: what the scanner takes, RapidJSON takes too and says the same about.
#include "core/assert.h"
#include "fuzz/fuzz.h"
#include "parse/json_reader.h"
#include "parse/options.h"
#include "parse/outlines.h"
#include "parse/scanner.h"

namespace opsrelay::fuzz {

namespace {

parse::Guard guard() { return {parse::KeySet(parse::Privacy{}.deny_fields), true, true}; }

}  // namespace

void one_input(std::string_view input) {
    constexpr unsigned kDepth = 16;
    parse::Outline fast(guard(), kDepth);
    parse::Outline portable(guard(), kDepth);
    fast.reset();
    portable.reset();
    const auto scanned = scan(input, fast);
    const auto portably = scan_portably(input, portable);
    OPSRELAY_ASSERT(scanned.taken == portably.taken);

    parse::JsonReader reader(guard(), kDepth);
    parse::JsonReader reference(guard(), kDepth);
    const auto failure = reader.read(input);
    const auto expected = reference.read_reference(input);
    OPSRELAY_ASSERT(failure.has_value() == expected.has_value());
    if (failure) {
        OPSRELAY_ASSERT(!scanned.taken);
        OPSRELAY_ASSERT(failure->reason == expected->reason);
        OPSRELAY_ASSERT(failure->offset <= input.size());
        return;
    }
    OPSRELAY_ASSERT(reader.newlines() == reference.newlines());
    OPSRELAY_ASSERT(difference(input, reader.outline(), reference.outline()).empty());
    if (!scanned.taken) return;
    OPSRELAY_ASSERT(scanned.newlines == portably.newlines);
    fast.finish();
    portable.finish();
    OPSRELAY_ASSERT(difference(input, fast, reference.outline()).empty());
    OPSRELAY_ASSERT(difference(input, portable, reference.outline()).empty());
}

}  // namespace opsrelay::fuzz
