// Takes dead letters of another database into an open store. Used by repair().
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "core/error.h"
#include "core/event.h"
#include "core/units.h"
#include "spool/dead_letter.h"
#include "spool/dead_room.h"
#include "spool/offline.h"
#include "spool/store.h"

namespace opsrelay::spool {

/// Keeps to the bounds of the store: letters of accepted records wait where they are when there is
/// no room, those of others go, as the oldest do. May be done again after a crash: a letter of an
/// accepted record gets the same number (from kForeignDead on, since the record's own belongs to
/// another record now), and one of another is known by its content.
class DeadRepair {
public:
    /// limits: those of the store.
    DeadRepair(Store& store, DeadLimits limits) : store_(store), limits_(limits) {}

    /// Reads the letters of events that were never accepted: bounded. Errors: as
    /// Store::read_dead().
    [[nodiscard]] Result<void> begin();
    /// `letter` belongs to `lane` of the store. Errors: as Store::commit().
    [[nodiscard]] Result<void> take(LaneId lane, DeadLetter letter, RepairSource& report);
    /// Makes what was taken durable. Errors: as Store::commit().
    [[nodiscard]] Result<void> finish();

private:
    [[nodiscard]] Result<void> take_admission(DeadLetter letter, RepairSource& report);
    [[nodiscard]] Result<void> take_upstream(DeadLetter letter, RepairSource& report);
    [[nodiscard]] Result<void> write_if_full();

    Store& store_;
    const DeadLimits limits_;
    DeadRoom room_;
    std::set<std::uint64_t> known_;  // content of the letters of events that were never accepted
    Bytes admission_bytes_;          // of them
    std::vector<DeadLetter> admission_;  // not written yet
    std::map<LaneId, std::vector<DeadLetter>> upstream_;
    Bytes waiting_;  // of both
};

}  // namespace opsrelay::spool
