// Pure: the deferred records of one lane as the settler knows them, which is newer than what the
// store has, and what the store has to be told of them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "core/event.h"
#include "core/units.h"
#include "spool/store.h"

namespace opsrelay::spool {

/// What others are shown of them.
struct DeferredView {
    std::uint64_t records = 0;
    std::optional<std::int64_t> next_due_unix_ms{};  // of the first; nullopt: there are none
};

/// Bounded by Store::deferred_limits(), which its owner heeds. Thread: its owner's.
class DeferredBook {
public:
    void adopt(const std::vector<DeferredEntry>& stored);

    [[nodiscard]] bool contains(Seq seq) const { return entries_.contains(seq); }
    [[nodiscard]] std::uint64_t size() const noexcept { return entries_.size(); }
    [[nodiscard]] Bytes bytes() const noexcept { return bytes_; }
    [[nodiscard]] DeferredView view() const;
    /// The one that has been due longest; nullopt: none is.
    [[nodiscard]] std::optional<Seq> due(std::int64_t now_unix_ms) const;

    /// One more, or one that was there in its new state.
    void put(DeferredRecord record);
    /// It has its outcome. False: it is not there.
    bool end(Seq seq);
    /// It is being sent: end_if() leaves it alone until it is put again, ended or released.
    void begin_try(Seq seq) { trying_ = seq; }
    void release() noexcept { trying_.reset(); }
    [[nodiscard]] std::optional<Seq> trying() const noexcept { return trying_; }
    /// Ends those that `gone` says; returns how many.
    std::uint64_t end_if(const std::function<bool(const DeferredEntry&)>& gone);
    /// All are due now. Not stored: it is what happens next that is.
    void hasten(std::int64_t now_unix_ms);
    /// How many have lower numbers than `end`, and how many of these rest: hasten() did not mean
    /// them, or they were tried since.
    struct Below {
        std::uint64_t records = 0;
        std::uint64_t resting = 0;
    };
    [[nodiscard]] Below below(Seq end) const;

    // --- What the store does not have ---
    [[nodiscard]] bool changed() const noexcept { return !changes_.empty(); }
    [[nodiscard]] std::vector<DeferredRecord> puts() const;
    [[nodiscard]] std::vector<Seq> ends() const;
    /// nullptr: the store has it.
    [[nodiscard]] const DeferredRecord* unwritten(Seq seq) const;
    void note_written();
    void note_synced() { unsynced_.clear(); }
    /// What was not synced may be lost: it is to be written again.
    void note_reopened();

private:
    void erase(std::map<Seq, DeferredEntry>::iterator at);

    std::map<Seq, DeferredEntry> entries_;
    std::set<std::pair<std::int64_t, Seq>> due_;  // of entries_
    std::set<Seq> hastened_;                      // of entries_, not tried since
    Bytes bytes_;
    std::optional<Seq> trying_;
    /// nullopt: it ended.
    using Changes = std::map<Seq, std::optional<DeferredRecord>>;
    Changes changes_;
    Changes unsynced_;  // written, but a reopen may lose them
};

}  // namespace opsrelay::spool
