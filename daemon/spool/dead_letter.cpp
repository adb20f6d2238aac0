#include "spool/dead_letter.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "core/assert.h"
#include "spool/byte_order.h"
#include "spool/keys.h"

namespace opsrelay::spool {
namespace {

constexpr std::size_t kFixedBytes = 36;  // everything before the texts

void append_text(std::string& out, std::string_view text) {
    std::array<char, 4> length{};
    store_le(length.data(), static_cast<std::uint32_t>(text.size()));
    out.append(length.data(), length.size());
    out.append(text);
}

std::optional<std::string_view> take_text(std::string_view& rest) noexcept {
    if (rest.size() < 4) return std::nullopt;
    const auto length = load_le<std::uint32_t>(rest.data());
    rest.remove_prefix(4);
    if (length > rest.size()) return std::nullopt;
    const auto text = rest.substr(0, length);
    rest.remove_prefix(length);
    return text;
}

Error damaged(std::string_view what) {
    return {Errc::spool_corrupt, fmt::format("dead letter: {}", what)};
}

std::array<std::string DeadLetter::*, 6> texts() noexcept {
    return {&DeadLetter::reason, &DeadLetter::detail,   &DeadLetter::source,
            &DeadLetter::id,     &DeadLetter::provider, &DeadLetter::model};
}

}  // namespace

std::string encode_dead_letter(const DeadLetter& letter) {
    std::string value(kFixedBytes, '\0');
    char* const at = value.data();
    store_le(at, kDeadLetterVersion);
    store_le(at + 1, static_cast<std::uint8_t>(letter.kind));
    store_le(at + 2, static_cast<std::uint16_t>(letter.lane));
    store_le(at + 4, letter.seq);
    store_le(at + 12, static_cast<std::uint64_t>(letter.unix_ms));
    store_le(at + 20, letter.bytes);
    store_le(at + 28, letter.hash);
    for (const auto text : texts()) {
        append_text(value, std::string_view(letter.*text).substr(0, kDeadTextBytesMax));
    }
    append_text(value, letter.payload);
    return value;
}

Bytes stored_bytes(const DeadLetter& letter) noexcept {
    constexpr std::size_t kLengthBytes = 4;  // of each text and of the event
    Bytes size{sizeof(DeadKeyBytes) + kFixedBytes + kLengthBytes + letter.payload.size()};
    for (const auto text : texts()) {
        size += Bytes{kLengthBytes + std::min((letter.*text).size(), kDeadTextBytesMax)};
    }
    return size;
}

Result<DeadLetter> decode_dead_letter(std::string_view value) {
    if (value.size() < kFixedBytes) return damaged("shorter than its header");
    const char* const at = value.data();
    const auto version = load_le<std::uint8_t>(at);
    if (version != kDeadLetterVersion) return damaged(fmt::format("version {}", version));
    const auto kind = load_le<std::uint8_t>(at + 1);
    if (kind > static_cast<std::uint8_t>(DeadKind::upstream)) {
        return damaged(fmt::format("kind {}", kind));
    }
    DeadLetter letter;
    letter.kind = static_cast<DeadKind>(kind);
    letter.lane = LaneId{load_le<std::uint16_t>(at + 2)};
    letter.seq = load_le<std::uint64_t>(at + 4);
    letter.unix_ms = static_cast<std::int64_t>(load_le<std::uint64_t>(at + 12));
    letter.bytes = load_le<std::uint64_t>(at + 20);
    letter.hash = load_le<std::uint64_t>(at + 28);
    auto rest = value.substr(kFixedBytes);
    for (const auto text : texts()) {
        const auto taken = take_text(rest);
        if (!taken) return damaged("a text is longer than the value");
        letter.*text = *taken;
    }
    const auto payload = take_text(rest);
    if (!payload) return damaged("the event is longer than the value");
    if (!rest.empty()) return damaged("bytes after the event");
    letter.payload = *payload;
    return letter;
}

DeadLimits within(DeadLimits limits, const DiskPlan& plan) noexcept {
    limits.admission_bytes = std::min(limits.admission_bytes, plan.dead_admission);
    limits.upstream_bytes = std::min(limits.upstream_bytes, plan.dead);
    return limits;
}

void AdmissionLetters::adopt(std::vector<Entry> stored, std::uint64_t next) {
    std::sort(stored.begin(), stored.end(),
              [](const Entry& a, const Entry& b) { return a.number < b.number; });
    kept_.assign(stored.begin(), stored.end());
    bytes_ = {};
    for (const auto& entry : kept_) bytes_ += Bytes{entry.bytes};
    next_number_ = kept_.empty() ? next : std::max(next, kept_.back().number + 1);
}

std::size_t AdmissionLetters::evictions(std::span<const Entry> fresh) const noexcept {
    auto letters = kept_.size() + fresh.size();
    auto bytes = bytes_;
    for (const auto& entry : fresh) bytes += Bytes{entry.bytes};
    std::size_t gone = 0;
    while (letters > limits_.admission_letters || bytes > limits_.admission_bytes) {
        const auto& entry = gone < kept_.size() ? kept_[gone] : fresh[gone - kept_.size()];
        bytes = bytes - Bytes{entry.bytes};
        --letters;
        ++gone;
    }
    return gone;
}

void AdmissionLetters::replace(std::span<const Entry> fresh, std::size_t evicted) {
    OPSRELAY_ASSERT(evicted <= kept_.size() + fresh.size());
    for (const auto& entry : fresh) {
        kept_.push_back(entry);
        bytes_ += Bytes{entry.bytes};
        next_number_ = std::max(next_number_, entry.number + 1);
    }
    for (; evicted > 0; --evicted) {
        bytes_ = bytes_ - Bytes{kept_.front().bytes};
        kept_.pop_front();
    }
}

void AdmissionLetters::forget(const std::set<std::uint64_t>& numbers) {
    if (numbers.empty()) return;
    std::erase_if(kept_, [&](const Entry& entry) {
        if (!numbers.contains(entry.number)) return false;
        bytes_ = bytes_ - Bytes{entry.bytes};
        return true;
    });
}

}  // namespace opsrelay::spool
