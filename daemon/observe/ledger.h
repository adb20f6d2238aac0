// The ledger: every event ends in exactly one counted outcome, and the sums prove it.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "core/outcome.h"
#include "observe/metrics.h"

namespace opsrelay::observe {

using DuplicateCounts = std::array<std::uint64_t, kDuplicateKinds.size()>;

/// What the ingest thread decided; published to storage with each burst, so that a snapshot never
/// sees half a burst.
struct IntakeTotals {
    std::uint64_t received = 0;  // non-empty lines, array items and single bodies
    DuplicateCounts duplicates{};
    std::array<std::uint64_t, kRejectReasons.size()> rejected{};
    std::array<std::uint64_t, kShedReasons.size()> shed{};
};

/// What the storage thread decided.
struct StorageTotals {
    std::uint64_t duplicates = 0;  // of kind unknown: found on disk, after ingest was not sure
    std::uint64_t accepted = 0;
    std::uint64_t recovered = 0;
    std::uint64_t replayed = 0;
    std::uint64_t delivered = 0;
    std::uint64_t dead = 0;
    std::array<std::uint64_t, kDropReasons.size()> dropped{};
};

/// One moment of the whole process. Two identities hold:
///   received = duplicates + rejected + shed + accepted + pending
///   recovered + accepted + replayed = delivered + dead + dropped + spooled
/// Counters are per process: a delivery whose ack was lost in a crash is counted again by the next
/// process, whose `recovered` includes it.
struct Ledger {
    IntakeTotals intake;
    StorageTotals storage;
    std::uint64_t pending = 0;  // in memory, undecided
    std::uint64_t spooled = 0;  // durable without an outcome, in flight included

    [[nodiscard]] std::uint64_t duplicates() const noexcept;
    [[nodiscard]] DuplicateCounts duplicates_by_kind() const noexcept;
    [[nodiscard]] std::uint64_t rejected() const noexcept;
    [[nodiscard]] std::uint64_t shed() const noexcept;
    [[nodiscard]] std::uint64_t dropped() const noexcept;
    /// Sum of the absolute differences of both identities; 0 unless there is a bug.
    [[nodiscard]] std::uint64_t imbalance() const noexcept;
    /// A JSON object: every term, with `duplicates`, `rejected`, `shed` and `dropped` as totals and
    /// their non-zero reasons in `reasons`.
    [[nodiscard]] std::string to_json() const;
    /// Copies every term into the registry.
    void publish(Registry& registry) const;
};

}  // namespace opsrelay::observe
