#include "spool/dead_repair.h"

#include <xxhash.h>

#include <optional>
#include <utility>

#include "spool/dead_letter.h"

namespace opsrelay::spool {
namespace {

constexpr Bytes kBatchBytes{1U << 20U};

std::uint64_t hash_of(const DeadLetter& letter) {
    const auto value = encode_dead_letter(letter);
    return XXH3_64bits(value.data(), value.size());
}

/// The same for copies with numbers of other stores.
std::uint64_t content_of(DeadLetter letter) {
    letter.seq = 0;
    return hash_of(letter);
}

}  // namespace

Result<void> DeadRepair::begin() {
    room_.set(store_.dead_usage());
    std::optional<DeadKey> from = DeadKey{};
    while (from) {
        const auto page =
            store_.read_dead({.from = *from, .filter = {.kind = DeadKind::admission}});
        if (!page) return page.error();
        for (const auto& letter : page->letters) {
            known_.insert(content_of(letter));
            admission_bytes_ += stored_bytes(letter);
        }
        from = page->next;
        if (from && from->kind != DeadKind::admission) break;
    }
    return {};
}

Result<void> DeadRepair::take(LaneId lane, DeadLetter letter, RepairSource& report) {
    ++report.dead;
    // Before it gets its new lane: else two letters might get the same number.
    const auto number = letter.seq >= kForeignDead ? letter.seq : kForeignDead | hash_of(letter);
    letter.lane = lane;
    if (letter.kind == DeadKind::admission) return take_admission(std::move(letter), report);
    letter.seq = number;
    return take_upstream(std::move(letter), report);
}

Result<void> DeadRepair::take_admission(DeadLetter letter, RepairSource& report) {
    const auto bytes = stored_bytes(letter);
    const auto content = content_of(letter);
    if (known_.contains(content)) {
        ++report.dead_known;
        return {};
    }
    // What is in the store is newer.
    const bool fits = known_.size() < limits_.admission_letters &&
                      admission_bytes_ + bytes <= limits_.admission_bytes;
    if (!fits) {
        ++report.dead_over;
        return {};
    }
    ++report.dead_admitted;
    known_.insert(content);
    admission_bytes_ += bytes;
    waiting_ += bytes;
    admission_.push_back(std::move(letter));
    return write_if_full();
}

Result<void> DeadRepair::take_upstream(DeadLetter letter, RepairSource& report) {
    const auto key = key_of(letter);
    const auto there = store_.read_dead({.from = key, .letters_max = 1, .looked_at_max = 1});
    if (!there) return there.error();
    if (!there->letters.empty() && key_of(there->letters[0]) == key) {
        ++report.dead_known;
        return {};
    }
    const auto bytes = stored_bytes(letter);
    if (!room_.take(bytes)) {
        ++report.dead_left;
        return {};
    }
    ++report.dead_admitted;
    waiting_ += bytes;
    upstream_[letter.lane].push_back(std::move(letter));
    return write_if_full();
}

Result<void> DeadRepair::write_if_full() {
    return waiting_ < kBatchBytes ? Result<void>{} : finish();
}

Result<void> DeadRepair::finish() {
    if (!admission_.empty()) {
        if (auto done = store_.commit({}, admission_); !done) return done;
    }
    for (const auto& state : store_.lanes()) {
        const auto letters = upstream_.find(state.lane);
        if (letters == upstream_.end()) continue;
        const Ack ack{state.lane, state.next_settle, letters->second,
                      state.ahead};  // moves nothing
        if (auto done = store_.ack(ack); !done) return done;
    }
    if (waiting_.count > 0) {
        if (auto done = store_.sync(); !done) return done;
    }
    room_.set(store_.dead_usage());
    for (const auto& [lane, letters] : upstream_) {
        for (const auto& letter : letters) room_.give_back(stored_bytes(letter));
    }
    admission_.clear();
    upstream_.clear();
    waiting_ = {};
    return {};
}

}  // namespace opsrelay::spool
