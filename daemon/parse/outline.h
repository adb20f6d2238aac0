// Where the parts of an event stand that the contract has a rule for. A reader tells it the tokens
// of the text in order; it does not look at the text itself.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "parse/find_field.h"
#include "parse/key_set.h"
#include "parse/rules.h"

namespace opsrelay::parse {

enum class ValueKind : std::uint8_t { absent, null, boolean, number, string, object, array };

/// The value of a member. Offsets are into the text that was read.
struct Value {
    ValueKind kind = ValueKind::absent;
    bool repeated = false;        // the key stands more than once: this is the first
    std::uint32_t key_begin = 0;  // the key's opening quote
    std::uint32_t begin = 0;      // first byte of the value; of a string, its opening quote
    std::uint32_t end = 0;        // one past the value; 0: ask end_of()
    std::string_view text;        // string: unescaped; number: as spelled

    /// null counts as absent.
    [[nodiscard]] bool missing() const noexcept {
        return kind == ValueKind::absent || kind == ValueKind::null;
    }
};

/// One past the last byte of a value of `text`; not for an object or array in another one.
[[nodiscard]] std::size_t end_of(std::string_view text, const Value& value) noexcept;

/// Whom a value names.
enum class Who : std::uint8_t { user, tenant };

/// A userId or tenantId of the event or its metadata, every occurrence, no null.
struct Identity {
    Who who = Who::user;
    Value value;
};

/// What the privacy rules need to know while reading.
struct Guard {
    KeySet denied;
    // An identity that is no scalar cannot be hashed; where it must not pass it is denied.
    bool user = false;
    bool tenant = false;
};

/// Keeps its memory, which the length of the longest text bounds. Its views live as long as the
/// text that was told.
class Outline {
public:
    Outline(Guard guard, unsigned depth_max) : guard_(std::move(guard)), depth_max_(depth_max) {}

    // --- For the reader, in the order of the text ---
    void reset() noexcept;
    /// `name` is unescaped; `begin` is the key's opening quote.
    void key(std::string_view name, std::uint32_t begin);
    void scalar(ValueKind kind, std::uint32_t begin, std::uint32_t end, std::string_view text) {
        if (pending_ == 0) return;
        if (pending_ == kStore) {  // almost always
            *target_ = {kind, false, key_begin_, begin, end, text};
            pending_ = 0;
            return;
        }
        note({kind, false, key_begin_, begin, end, text});
    }
    /// False, and nothing is noted: nested too deep.
    [[nodiscard]] bool open(ValueKind kind, std::uint32_t begin);
    /// `end`: one past the closing bracket.
    void close(std::uint32_t end);
    void finish();

    // --- For the rules, after finish() ---
    [[nodiscard]] const Value& operator[](Field field) const noexcept {
        return fields_[index_of(field)];
    }
    [[nodiscard]] const Value& operator[](InnerField field) const noexcept {
        return inner_[index_of(field)];
    }
    /// Members whose value must not be kept. None lies within another.
    [[nodiscard]] const std::vector<Value>& denied() const noexcept { return denied_; }
    [[nodiscard]] const std::vector<Identity>& identities() const noexcept { return identities_; }
    /// Offset of the event's closing brace.
    [[nodiscard]] std::size_t closing_brace() const noexcept { return closing_brace_; }
    /// True when a top-level key stands twice, compared after unescaping.
    [[nodiscard]] bool repeated_key() const noexcept { return repeated_key_; }
    /// True when `metadata` is an object that contains an object or array which is not denied.
    [[nodiscard]] bool metadata_nested() const noexcept { return metadata_nested_; }
    [[nodiscard]] bool root_is_object() const noexcept { return root_is_object_; }

private:
    // What the value that comes next is needed for.
    static constexpr unsigned kStore = 1;
    static constexpr unsigned kIdentity = 2;
    static constexpr unsigned kDenied = 4;

    void top_key(std::string_view name);
    void inner_key(std::string_view name);
    void expect(Value& target) noexcept;
    void expect_identity(Who who) noexcept;
    void note(const Value& value);
    [[nodiscard]] bool covered() const noexcept { return denied_depth_ != 0; }

    // Constant after construction.
    const Guard guard_;
    const unsigned depth_max_;

    // While reading.
    unsigned depth_ = 0;
    unsigned pending_ = 0;
    std::uint32_t key_begin_ = 0;
    Value* target_ = nullptr;  // kStore: where to
    Who who_ = Who::user;      // kIdentity: whose
    Field section_{};          // at depth 2: the field we are in, when in_section_
    bool in_section_ = false;
    Value* open_ = nullptr;      // the field whose object or array is open
    unsigned denied_depth_ = 0;  // not 0: within a denied value, which ends when depth is this

    std::array<Value, kFieldCount> fields_;
    std::array<Value, kInnerFieldCount> inner_;
    bool inner_used_ = false;
    std::vector<Value> denied_;
    std::vector<Identity> identities_;
    std::vector<std::string_view> other_keys_;  // without a rule, to find repetitions
    std::size_t closing_brace_ = 0;
    bool repeated_key_ = false;
    bool metadata_nested_ = false;
    bool root_is_object_ = false;
};

// Here and inline, because they are most of what a reader's loop does.

[[gnu::always_inline]] inline void Outline::key(std::string_view name, std::uint32_t begin) {
    key_begin_ = begin;
    pending_ = 0;
    if (depth_ == 1) {
        top_key(name);
    } else if (depth_ == 2 && in_section_) {
        inner_key(name);
    }
    if (guard_.denied.contains(name) && !covered()) pending_ |= kDenied;
}

[[gnu::always_inline]] inline void Outline::top_key(std::string_view name) {
    const auto field = find_field(name);
    in_section_ = field.has_value();
    if (!field) {
        other_keys_.push_back(name);
        return;
    }
    section_ = *field;
    if (section_ == Field::user_id) expect_identity(Who::user);
    if (section_ == Field::tenant_id) expect_identity(Who::tenant);
    auto& value = fields_[index_of(section_)];
    expect(value);
    if (value.repeated) repeated_key_ = true;
}

// Of a key that stands twice the first value is kept: it only serves to say what was rejected.
inline void Outline::expect(Value& target) noexcept {
    if (target.kind != ValueKind::absent) {
        target.repeated = true;
        return;
    }
    target_ = &target;
    pending_ |= kStore;
}

inline void Outline::expect_identity(Who who) noexcept {
    who_ = who;
    pending_ |= kIdentity;
}

}  // namespace opsrelay::parse
