#include "observe/ledger.h"

#include <doctest/doctest.h>

namespace opsrelay::observe {

namespace {

Ledger balanced() {
    Ledger ledger;
    ledger.intake.received = 24;
    ledger.intake.duplicates[index_of(DuplicateKind::same)] = 2;
    ledger.intake.duplicates[index_of(DuplicateKind::unknown)] = 1;
    ledger.storage.duplicates = 4;
    ledger.intake.rejected[index_of(RejectReason::bad_tokens)] = 3;
    ledger.intake.shed[index_of(ShedReason::spool_full)] = 1;
    ledger.pending = 3;
    ledger.storage.accepted = 10;
    ledger.storage.recovered = 5;
    ledger.storage.replayed = 1;
    ledger.storage.delivered = 9;
    ledger.storage.dead = 2;
    ledger.storage.dropped[index_of(DropReason::corrupt)] = 1;
    ledger.spooled = 4;
    return ledger;
}

}  // namespace

TEST_CASE("observe/ledger: both identities hold or the difference is shown") {
    auto ledger = balanced();
    CHECK(ledger.imbalance() == 0);
    ++ledger.intake.received;
    CHECK(ledger.imbalance() == 1);
    ledger.spooled += 2;
    CHECK(ledger.imbalance() == 3);
}

TEST_CASE("observe/ledger: JSON shows every term and the reasons that occurred") {
    CHECK(balanced().to_json() ==
          R"({"received":24,"duplicates":7,"rejected":3,"shed":1,"accepted":10,"pending":3,)"
          R"("recovered":5,"replayed":1,"delivered":9,"dead":2,"dropped":1,"spooled":4,)"
          R"("imbalance":0,"reasons":{"duplicates.same":2,"duplicates.unknown":5,)"
          R"("rejected.bad_tokens":3,"shed.spool_full":1,"dropped.corrupt":1}})");
}

TEST_CASE("observe/ledger: published terms show in the exposition") {
    Registry registry;
    balanced().publish(registry);
    const auto text = registry.exposition();
    const char* const lines[] = {
        "\nopsrelay_events_received_total 24\n",
        "\nopsrelay_events_duplicate_total{kind=\"same\"} 2\n",
        "\nopsrelay_events_duplicate_total{kind=\"unknown\"} 5\n",
        "\nopsrelay_events_rejected_total{reason=\"bad_tokens\"} 3\n",
        "\nopsrelay_events_shed_total{reason=\"spool_full\"} 1\n",
        "\nopsrelay_events_pending 3\n",
        "\nopsrelay_events_accepted_total 10\n",
        "\nopsrelay_events_recovered_total 5\n",
        "\nopsrelay_events_replayed_total 1\n",
        "\nopsrelay_events_delivered_total 9\n",
        "\nopsrelay_events_dead_total 2\n",
        "\nopsrelay_events_dropped_total{reason=\"corrupt\"} 1\n",
        "\nopsrelay_spool_events 4\n",
        "\nopsrelay_ledger_imbalance 0\n",
    };
    for (const auto* line : lines) {
        CAPTURE(line);
        CHECK(text.find(line) != std::string::npos);
    }
}

}  // namespace opsrelay::observe
