#!/usr/bin/env python3
"""kill -9 at random moments while several senders use the acked stream: nothing acknowledged may be
missing upstream, nothing may have two rows, and a request is repeated only when its reply or its ack
was lost."""

import os
import random
import threading
import time
import unittest

from acked_sender import AckedSender
from harness import RelayTest, event

CYCLES = int(os.environ.get("RELAYTEST_KILLS", "30"))
SENDERS = 3
IN_FLIGHT_MAX = 4096  # records read and not settled: the bound on repeats of one crash


class KillTest(RelayTest):
    def test_kill_9_at_random_moments_loses_nothing_that_was_acknowledged(self):
        upstream = self.start_upstream()
        relay = self.start_relay()
        rng = random.Random(7)
        senders = [AckedSender(relay.path("telemetry.stream.sock"), seed) for seed in range(SENDERS)]
        threads = [threading.Thread(target=sender.run) for sender in senders]
        for thread in threads:
            thread.start()
        try:
            for _ in range(CYCLES):
                time.sleep(rng.uniform(0.02, 0.4))
                relay.kill()
                relay.start()
                self.assert_balanced(relay)
        finally:
            for sender in senders:
                sender.stop.set()
            for thread in threads:
                thread.join(60)
        self.assertFalse(any(thread.is_alive() for thread in threads))
        ledger = self.wait_ledger(relay, spooled=0, pending=0)
        self.assertEqual(ledger["dropped"], 0)

        rows = upstream.row_ids()
        acknowledged = set().union(*(sender.acknowledged for sender in senders))
        sent = set().union(*(sender.sent for sender in senders))
        self.assertGreater(len(acknowledged), CYCLES)
        self.assertEqual(acknowledged - set(rows), set(), "acknowledged and missing")
        self.assertEqual(len(rows), len(set(rows)), "two rows for one id")
        self.assertEqual(set(rows) - sent, set(), "rows nobody sent")
        stats = upstream.stats()
        self.assertEqual(stats["requests"], len(rows) + stats["repeated"])
        self.assertLessEqual(stats["repeated"], CYCLES * IN_FLIGHT_MAX)
        print(f"kills={CYCLES} acknowledged={len(acknowledged)} rows={len(rows)} "
              f"repeated={stats['repeated']}")

    def test_an_id_acknowledged_before_the_kill_is_a_duplicate_after_it(self):
        upstream = self.start_upstream()
        upstream.control(down=True)
        relay = self.start_relay()
        events = [event() for _ in range(100)]
        self.assertEqual(relay.send_acked(events), (100, 0))
        relay.kill()
        relay.start()
        self.assertEqual(relay.ledger()["recovered"], 100)
        self.assertEqual(relay.send_acked(events), (100, 0))
        ledger = self.assert_balanced(relay)
        self.assertEqual(ledger["duplicates"], 100)
        self.assertEqual(ledger["reasons"], {"duplicates.unknown": 100})
        upstream.control(down=False)
        self.wait_ledger(relay, spooled=0, delivered=100)
        self.assertEqual(len(upstream.row_ids()), 100)
        self.assertEqual(upstream.stats()["repeated"], 0)


if __name__ == "__main__":
    unittest.main(verbosity=1)
