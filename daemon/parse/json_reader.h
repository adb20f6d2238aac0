// One pass over the text of an event: checks that it is one JSON object within the limits, and
// notes where the fields of the field table stand. The only includer of RapidJSON on the data path.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/outcome.h"
#include "parse/rules.h"

namespace opsrelay::parse {

enum class ValueKind : std::uint8_t { absent, null, boolean, number, string, object, array };

/// A top-level field. Offsets are into the text that was read.
struct Value {
    ValueKind kind = ValueKind::absent;
    bool repeated = false;        // the key stands more than once: this is the first
    std::uint32_t key_begin = 0;  // the key's opening quote
    std::uint32_t begin = 0;      // first byte of the value; of a string, its opening quote
    std::uint32_t end = 0;        // one past the value; of a string: ask JsonReader::end_of()
    std::string_view text;        // string: unescaped; number: as spelled

    /// null counts as absent.
    [[nodiscard]] bool missing() const noexcept {
        return kind == ValueKind::absent || kind == ValueKind::null;
    }
};

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
    explicit JsonReader(unsigned depth_max) : depth_max_(depth_max) {}

    /// `text` is shorter than 2^31 bytes. nullopt: it is a JSON object within the limits, and the
    /// other methods may be called.
    [[nodiscard]] std::optional<ReadFailure> read(std::string_view text);

    [[nodiscard]] const Value& operator[](Field field) const noexcept {
        return fields_[index_of(field)];
    }
    /// One past the last byte of a value that is there.
    [[nodiscard]] std::size_t end_of(const Value& value) const noexcept;
    /// Offset of the object's closing brace.
    [[nodiscard]] std::size_t closing_brace() const noexcept { return closing_brace_; }
    /// True when a top-level key stands twice, compared after unescaping.
    [[nodiscard]] bool repeated_key() const noexcept { return repeated_key_; }
    /// True when `metadata` is an object that contains an object or array.
    [[nodiscard]] bool metadata_nested() const noexcept { return metadata_nested_; }

private:
    class Handler;
    // A key without a rule, kept to find repetitions.
    struct OtherKey {
        std::uint64_t hash;
        std::string_view text;
    };

    void reset(std::string_view text);
    std::optional<ReadFailure> run(std::string_view text);
    void mask_huge_numbers();
    void find_repeated_keys();

    unsigned depth_max_;
    std::string_view text_;
    std::string scratch_;  // the text again: RapidJSON unescapes strings where they stand
    std::array<Value, kFieldCount> fields_;
    std::vector<OtherKey> other_keys_;
    std::size_t closing_brace_ = 0;
    bool repeated_key_ = false;
    bool metadata_nested_ = false;
};

}  // namespace opsrelay::parse
