// Pure: what is left of the room for dead letters of accepted records when those that are decided,
// but not in the spool yet, are taken off. One for all lanes. Used by Settler. Thread: forward.
#pragma once

#include <cstdint>

#include "core/assert.h"
#include "core/units.h"
#include "spool/store.h"

namespace opsrelay::spool {

class DeadRoom {
public:
    /// Takes room for one letter of this size; false: there is none.
    [[nodiscard]] bool take(Bytes letter) noexcept {
        auto all = usage_;
        all.letters += taken_letters_;
        all.bytes += taken_bytes_;
        if (!all.has_room(letter)) return false;
        ++taken_letters_;
        taken_bytes_ += letter;
        return true;
    }
    /// The letter is in the usage that set() told of, or is not made.
    void give_back(Bytes letter) noexcept {
        OPSRELAY_ASSERT(taken_letters_ > 0);
        OPSRELAY_ASSERT(taken_bytes_ >= letter);
        --taken_letters_;
        taken_bytes_ = taken_bytes_ - letter;
    }
    /// What the spool holds, and the limits.
    void set(const DeadUsage& usage) noexcept { usage_ = usage; }

private:
    DeadUsage usage_;
    std::uint64_t taken_letters_ = 0;
    Bytes taken_bytes_;
};

}  // namespace opsrelay::spool
