#include "observe/ledger.h"

#include <fmt/format.h>

#include <numeric>

namespace opsrelay::observe {

namespace {

template <std::size_t N>
std::uint64_t sum(const std::array<std::uint64_t, N>& counts) noexcept {
    return std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
}

std::uint64_t difference(std::uint64_t a, std::uint64_t b) noexcept {
    return a > b ? a - b : b - a;
}

template <typename Enum, std::size_t N>
void append_reasons(std::string& out, std::string_view prefix,
                    const std::array<EnumName<Enum>, N>& names,
                    const std::array<std::uint64_t, N>& counts) {
    for (std::size_t i = 0; i < N; ++i) {
        if (counts[i] == 0) continue;
        out += fmt::format("{}\"{}.{}\":{}", out.back() == '{' ? "" : ",", prefix, names[i].name,
                           counts[i]);
    }
}

template <typename Enum, std::size_t N>
void publish_each(Registry& registry, const Metric& metric,
                  const std::array<EnumName<Enum>, N>& names,
                  const std::array<std::uint64_t, N>& counts) {
    for (std::size_t i = 0; i < N; ++i)
        registry.counter(metric, names[i].name).set_total(counts[i]);
}

}  // namespace

DuplicateCounts Ledger::duplicates_by_kind() const noexcept {
    auto counts = intake.duplicates;
    counts[index_of(DuplicateKind::unknown)] += storage.duplicates;
    return counts;
}

std::uint64_t Ledger::duplicates() const noexcept { return sum(duplicates_by_kind()); }
std::uint64_t Ledger::rejected() const noexcept { return sum(intake.rejected); }
std::uint64_t Ledger::shed() const noexcept { return sum(intake.shed); }
std::uint64_t Ledger::dropped() const noexcept { return sum(storage.dropped); }

std::uint64_t Ledger::imbalance() const noexcept {
    const auto decided = duplicates() + rejected() + shed() + storage.accepted + pending;
    const auto in = storage.recovered + storage.accepted + storage.replayed;
    const auto out = storage.delivered + storage.dead + dropped() + spooled;
    return difference(intake.received, decided) + difference(in, out);
}

std::string Ledger::to_json() const {
    std::string reasons = "{";
    append_reasons(reasons, "duplicates", kDuplicateKinds, duplicates_by_kind());
    append_reasons(reasons, "rejected", kRejectReasons, intake.rejected);
    append_reasons(reasons, "shed", kShedReasons, intake.shed);
    append_reasons(reasons, "dropped", kDropReasons, storage.dropped);
    reasons += '}';
    return fmt::format(
        R"({{"received":{},"duplicates":{},"rejected":{},"shed":{},"accepted":{},"pending":{},)"
        R"("recovered":{},"replayed":{},"delivered":{},"dead":{},"dropped":{},"spooled":{},)"
        R"("imbalance":{},"reasons":{}}})",
        intake.received, duplicates(), rejected(), shed(), storage.accepted, pending,
        storage.recovered, storage.replayed, storage.delivered, storage.dead, dropped(), spooled,
        imbalance(), reasons);
}

void Ledger::publish(Registry& registry) const {
    registry.counter(kEventsReceived).set_total(intake.received);
    registry.counter(kEventsAccepted).set_total(storage.accepted);
    publish_each(registry, kEventsDuplicate, kDuplicateKinds, duplicates_by_kind());
    publish_each(registry, kEventsRejected, kRejectReasons, intake.rejected);
    publish_each(registry, kEventsShed, kShedReasons, intake.shed);
    registry.gauge(kEventsPending).set(static_cast<double>(pending));
    registry.counter(kEventsRecovered).set_total(storage.recovered);
    registry.counter(kEventsReplayed).set_total(storage.replayed);
    registry.counter(kEventsDelivered).set_total(storage.delivered);
    registry.counter(kEventsDead).set_total(storage.dead);
    publish_each(registry, kEventsDropped, kDropReasons, storage.dropped);
    registry.gauge(kSpoolEvents).set(static_cast<double>(spooled));
    registry.gauge(kLedgerImbalance).set(static_cast<double>(imbalance()));
}

}  // namespace opsrelay::observe
