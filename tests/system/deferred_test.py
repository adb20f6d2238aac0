#!/usr/bin/env python3
"""An event that upstream alone fails on, end to end: it leaves the queue, is shown, outlives
kill -9 and a restart, and ends as a delivery or a dead letter. Pages in place of the API's answers.
"""

import json
import re
import subprocess
import unittest

from harness import RELAY, RelayTest, event, wait_for

# The daemon's own waits double up to a minute; upstream's Retry-After is what makes 20 of them short.
POISON = {"text": "poison-1", "status": 500, "retry_after_s": 0.05}
CONFIG = "upstream:\n  timeout: 5s\n"


class DeferredTest(RelayTest):
    def defer(self):
        """A daemon with one deferred event, and its upstream."""
        upstream = self.start_upstream()
        upstream.control(poison=POISON)
        relay = self.start_relay(config=CONFIG)
        self.sent = 0
        self.assertEqual(relay.post(event("poison-1"))[0], 200)

        def deferred():
            self.sent += 1  # others pass
            relay.post(event(f"good-{self.sent}"))
            return relay.lane()["deferred"]["events"] == 1

        wait_for(deferred, "the event is deferred")
        return upstream, relay

    def cli(self, relay, *arguments):
        return subprocess.run([RELAY, *arguments], capture_output=True, text=True, timeout=60,
                              check=False)

    def test_it_is_shown_outlives_kill_and_is_delivered_once(self):
        upstream, relay = self.defer()
        lane = relay.lane()
        self.assertRegex(lane["deferred"]["next"], r"^20\d\d-")
        metrics = relay.admin("/metrics")[1]
        self.assertIn('opsrelay_lane_deferred_events{lane="default"} 1\n', metrics)
        due = re.search(r'opsrelay_lane_deferred_due_seconds\{lane="default"\} (\S+)', metrics)
        self.assertGreater(float(due[1]), 1e9)
        text = self.cli(relay, "status", "--run-dir", relay.run_dir).stdout
        self.assertIn("deferred: 1 of them", text)

        self.wait_ledger(relay, delivered=self.sent, spooled=1, dead=0)
        relay.kill()
        stat = self.cli(relay, "spool", "stat", "--spool-dir", relay.spool_dir, "--output", "json")
        [shown] = [one for one in json.loads(stat.stdout)["lanes"] if one["name"] == "default"]
        self.assertEqual((shown["records"], shown["deferred"]), (1, 1))
        exported = self.cli(relay, "spool", "export", "--spool-dir", relay.spool_dir).stdout
        self.assertIn("poison-1", exported)
        verified = self.cli(relay, "spool", "verify", "--spool-dir", relay.spool_dir)
        self.assertEqual(verified.returncode, 0, verified.stdout)

        relay.start()
        self.assertEqual(relay.ledger()["recovered"], 1)
        self.assertEqual(relay.lane()["deferred"]["events"], 1)
        self.assertNotIn("poison-1", upstream.row_ids())
        # Tried once, and not waited for: the time limit is longer than cli() waits.
        flush = self.cli(relay, "flush", "--run-dir", relay.run_dir, "--timeout", "10m")
        self.assertEqual(flush.returncode, 1)
        self.assertIn("1 events left (1 of them deferred)", flush.stderr)
        upstream.control(poison={"text": ""})
        flush = self.cli(relay, "flush", "--run-dir", relay.run_dir, "--timeout", "30s")
        self.assertEqual(flush.returncode, 0, flush.stderr)
        self.assertEqual(upstream.row_ids().count("poison-1"), 1)
        self.assertEqual(relay.lane()["deferred"], {"events": 0, "next": None})
        self.wait_ledger(relay, delivered=1, spooled=0)
        self.assert_balanced(relay)
        self.assertEqual(relay.end(), 0)
        relay.start()
        self.assertEqual(relay.ledger()["recovered"], 0)

    def test_a_refusal_makes_it_a_dead_letter(self):
        upstream, relay = self.defer()
        upstream.control(poison={"status": 422, "retry_after_s": 0})
        flush = self.cli(relay, "flush", "--run-dir", relay.run_dir, "--timeout", "30s")
        self.assertEqual(flush.returncode, 0, flush.stderr)
        self.wait_ledger(relay, dead=1, delivered=self.sent, spooled=0)
        letters = self.cli(relay, "dead", "list", "--run-dir", relay.run_dir, "--output", "json")
        self.assertIn("poison-1", letters.stdout)
        self.assert_balanced(relay)

    def test_a_page_instead_of_the_api_costs_no_event(self):
        """400 with HTML: not the API's verdict on the event."""
        upstream = self.start_upstream()
        upstream.control(poison={"text": "externalRequestId", "status": 400, "page": True})
        relay = self.start_relay(config=CONFIG)
        for number in range(3):
            self.assertEqual(relay.post(event(f"page-{number}"))[0], 200)
        wait_for(lambda: relay.lane()["state"] == "misconfigured", "lane misconfigured")
        self.assertRegex(relay.lane()["last_error"], "^HTTP 400 .*not the API's JSON")
        self.wait_ledger(relay, accepted=3, spooled=3, dead=0)
        upstream.control(poison={"text": ""})
        flush = self.cli(relay, "flush", "--run-dir", relay.run_dir, "--timeout", "30s")
        self.assertEqual(flush.returncode, 0, flush.stderr)
        self.assertEqual(sorted(upstream.row_ids()), ["page-0", "page-1", "page-2"])
        self.assert_balanced(relay)

    def test_one_event_that_a_filter_answers_with_a_page_holds_nobody_up(self):
        upstream = self.start_upstream()
        upstream.control(poison={"text": "poison-1", "status": 403, "page": True})
        relay = self.start_relay(config=CONFIG)
        relay.post(event("good-0"))
        self.wait_ledger(relay, delivered=1)
        # All wait when it begins: two failures with nothing between them would be the lane's.
        self.assertEqual(self.cli(relay, "pause", "--run-dir", relay.run_dir).returncode, 0)
        relay.post(event("poison-1"))
        for number in range(1, 30):
            relay.post(event(f"good-{number}"))
        self.assertEqual(self.cli(relay, "resume", "--run-dir", relay.run_dir).returncode, 0)
        self.wait_ledger(relay, accepted=31, delivered=30, spooled=1, dead=0)
        self.assertNotIn("poison-1", upstream.row_ids())
        self.assert_balanced(relay)

    def test_plan_and_budget_are_known_after_a_restart(self):
        upstream = self.start_upstream()
        upstream.control(plan={"name": "Pro"}, budget={"stop": "always"})
        relay = self.start_relay(config=CONFIG)
        relay.post(event("one"))
        wait_for(lambda: relay.lane()["state"] == "budget_stopped", "lane budget_stopped")
        upstream.control(down=True)
        wait_for(lambda: relay.post(event("two"))[2]["budgetExceeded"], "clients are told")
        self.assertEqual(relay.end(), 0)
        relay.start()
        reply = relay.post(event("three"))[2]
        self.assertEqual((reply["ok"], reply["budgetExceeded"]), (True, True))


if __name__ == "__main__":
    unittest.main()
