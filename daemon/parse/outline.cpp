#include "parse/outline.h"

#include <algorithm>
#include <utility>

namespace opsrelay::parse {

namespace {

constexpr bool removable(ValueKind kind) noexcept {
    return kind == ValueKind::string || kind == ValueKind::object || kind == ValueKind::array;
}

constexpr bool container(ValueKind kind) noexcept {
    return kind == ValueKind::object || kind == ValueKind::array;
}

}  // namespace

std::size_t end_of(std::string_view text, const Value& value) noexcept {
    if (value.end != 0) return value.end;
    auto i = static_cast<std::size_t>(value.begin) + 1;
    while (text[i] != '"') i += text[i] == '\\' ? 2 : 1;
    return i + 1;
}

void Outline::reset() noexcept {
    depth_ = 0;
    pending_ = 0;
    in_section_ = false;
    open_ = nullptr;
    denied_depth_ = 0;
    // Of an absent value nothing else is looked at.
    const auto forget = [](Value& value) {
        value.kind = ValueKind::absent;
        value.repeated = false;
    };
    std::for_each(fields_.begin(), fields_.end(), forget);
    if (inner_used_) std::for_each(inner_.begin(), inner_.end(), forget);
    inner_used_ = false;
    denied_.clear();
    identities_.clear();
    other_keys_.clear();
    closing_brace_ = 0;
    repeated_key_ = false;
    metadata_nested_ = false;
    root_is_object_ = false;
}

void Outline::inner_key(std::string_view name) {
    if (section_ == Field::metadata && name == to_string(Field::user_id)) {
        expect_identity(Who::user);
    }
    const auto field = find_inner_field(section_, name);
    if (!field) return;
    if (*field == InnerField::metadata_tenant_id) expect_identity(Who::tenant);
    inner_used_ = true;
    expect(inner_[index_of(*field)]);
}

void Outline::note(const Value& value) {
    const auto pending = std::exchange(pending_, 0U);
    if ((pending & kStore) != 0) *target_ = value;
    auto denied = (pending & kDenied) != 0 && removable(value.kind);
    if ((pending & kIdentity) != 0 && !value.missing()) {
        const auto guarded = who_ == Who::user ? guard_.user : guard_.tenant;
        if (!container(value.kind)) identities_.push_back({who_, value});
        if (container(value.kind) && guarded && !covered()) denied = true;
    }
    if (!denied) return;
    denied_.push_back(value);
    if (container(value.kind)) denied_depth_ = depth_;
}

bool Outline::open(ValueKind kind, std::uint32_t begin) {
    if (depth_ == depth_max_) return false;
    if (depth_ == 0) root_is_object_ = kind == ValueKind::object;
    const auto inside = covered();
    const auto stored = (pending_ & kStore) != 0 ? target_ : nullptr;
    if (pending_ != 0) note({kind, false, key_begin_, begin, 0, {}});
    if (depth_ == 1) open_ = stored;
    if (depth_ >= 2 && !inside && !covered() && open_ == &fields_[index_of(Field::metadata)]) {
        metadata_nested_ = true;
    }
    ++depth_;
    return true;
}

void Outline::close(std::uint32_t end) {
    --depth_;
    if (depth_ == denied_depth_ && covered()) {
        denied_.back().end = end;
        denied_depth_ = 0;
    }
    if (depth_ == 1 && open_ != nullptr) {
        open_->end = end;
        open_ = nullptr;
    }
    if (depth_ == 0) closing_brace_ = end - 1;
}

void Outline::finish() {
    constexpr std::size_t kFew = 16;
    auto& keys = other_keys_;
    if (keys.size() <= kFew) {
        for (auto key = keys.begin(); key != keys.end(); ++key) {
            if (std::find(keys.begin(), key, *key) != key) repeated_key_ = true;
        }
        return;
    }
    std::sort(keys.begin(), keys.end());
    if (std::adjacent_find(keys.begin(), keys.end()) != keys.end()) repeated_key_ = true;
}

}  // namespace opsrelay::parse
