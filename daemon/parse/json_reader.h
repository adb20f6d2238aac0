// Checks that the text of an event is one JSON object within the limits, and tells the outline
// where what stands: by the scanner, or by RapidJSON where that one passes. The only includer of
// RapidJSON on the data path.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "core/outcome.h"
#include "parse/outline.h"

namespace opsrelay::parse {

/// Why a text could not be read.
struct ReadFailure {
    RejectReason reason = RejectReason::not_json;
    const char* what = "";   // a fixed sentence, never text of the event
    std::size_t offset = 0;  // where reading stopped
};

/// Reads one text at a time; keeps its memory, which is bounded by the longest text read: nothing
/// is allocated in the long run. What it returns is valid until the next read() and while `text`
/// lives.
class JsonReader {
public:
    JsonReader(Guard guard, unsigned depth_max) : outline_(std::move(guard), depth_max) {}

    /// `text` is shorter than 2^31 bytes. nullopt: it is a JSON object within the limits, and
    /// outline() is of it.
    [[nodiscard]] std::optional<ReadFailure> read(std::string_view text);
    /// The same without the scanner: RapidJSON decides about everything. The scanner is held to it.
    [[nodiscard]] std::optional<ReadFailure> read_reference(std::string_view text);

    [[nodiscard]] const Outline& outline() const noexcept { return outline_; }
    /// True when there are newlines or carriage returns, which can only be between tokens.
    [[nodiscard]] bool newlines() const noexcept { return newlines_; }

private:
    class Handler;

    std::optional<ReadFailure> run(std::string_view text);
    void mask_huge_numbers(std::string_view text);

    std::string scratch_;  // the text again: RapidJSON unescapes strings where they stand
    Outline outline_;
    bool newlines_ = false;
};

}  // namespace opsrelay::parse
