#!/usr/bin/env python3
"""Plans and budgets that end with their month and day: the real daemon against the local upstream,
whose clock is set shortly before the end of a period.

The daemon pauses for many minutes at a 402, but never past the end of the period that upstream
names. Only that text is given in the daemon's time; upstream rolls over by its own clock.
"""

import datetime
import os
import unittest

from harness import RelayTest, Upstream, event, wait_for

LEFT_S = 6  # of the period, when the clock is set: room to use it up on a busy machine
ENDS = {"month": "2027-01-31T23:59:59Z", "day": "2027-03-14T23:59:59Z"}  # last seconds
EVENT_USD = 742 * 0.15e-6 + 96 * 0.60e-6  # one event of the harness, at the catalog's prices
LIMIT_USD = 4.5 * EVENT_USD  # the fifth is let through, and exceeds it


def utc(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def text_of(when):
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


class PeriodsTest(RelayTest):
    def start_pair(self, name):
        """A daemon and an upstream of its own."""
        directory = os.path.join(self.directory, name)
        os.makedirs(directory)
        upstream = Upstream(directory)
        self.processes.append(upstream)
        return self.start_relay(upstream_url=upstream.url, name=f"{name}-relay"), upstream

    def near_the_end(self, upstream, end, settings):
        """Sets upstream's clock LEFT_S seconds before the end of a period; `settings(text)` are
        further ones, `text` is that end in the daemon's time. Returns it."""
        start = utc(ENDS[end]) - datetime.timedelta(seconds=LEFT_S)
        upstream.control(clock={"set": text_of(start)})
        # Read after the clock was set, and rounded up: the daemon comes when upstream's period is
        # over, not in the second before.
        now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
        soon = now + datetime.timedelta(seconds=LEFT_S + 1)
        upstream.control(**settings(text_of(soon)))
        return soon

    def check_paused(self, relay, upstream, state, end):
        """Five are through, two wait, and not past the end of the period."""
        wait_for(lambda: relay.lane()["state"] == state, f"lane {state}")
        self.wait_ledger(relay, accepted=7, delivered=5, spooled=2)
        self.assertEqual(len(upstream.row_ids()), 5)

        # The end is read from workspace-status after the 402.
        def known():
            due = relay.lane()["retry_at"]
            return due and utc(due) < end + datetime.timedelta(seconds=5) and due

        self.assertGreater(utc(wait_for(known, "the pause ends with the period")), end)

    def check_resumed(self, relay, upstream, ids):
        self.wait_ledger(relay, accepted=len(ids), delivered=len(ids), spooled=0)
        self.assertEqual(sorted(upstream.row_ids()), ids)
        self.assertEqual(upstream.stats()["repeated"], 0)
        self.assertEqual(relay.lane()["state"], "active")

    def test_a_plan_resumes_with_the_month_and_a_budget_with_the_day(self):
        plan, plan_upstream = self.start_pair("plan")
        budget, budget_upstream = self.start_pair("budget")
        ids = [f"period-{number}" for number in range(7)]
        plan_end = self.near_the_end(plan_upstream, "month", lambda end: {
            "plan": {"name": "Free", "used": 9_995, "period_end": end}})
        budget_end = self.near_the_end(budget_upstream, "day", lambda end: {
            "budget": {"stop": "exceeded", "daily": {"limit_usd": LIMIT_USD, "period_end": end}}})
        rows = ((plan, plan_upstream, "plan_limited", plan_end),
                (budget, budget_upstream, "budget_stopped", budget_end))
        for relay, *_ in rows:
            self.assertEqual(relay.send_acked([event(one) for one in ids]), (7, 0))
        for row in rows:
            with self.subTest(state=row[2]):
                self.check_paused(*row)
        self.assertEqual(plan_upstream.stats()["plan_used"], 10_000)
        _, _, told = plan.post(event("period-7"))
        self.assertTrue(told["telemetryPaused"] and told["isPlanLimitReached"], told)
        _, _, told = budget.post(event("period-7"))
        self.assertTrue(told["budgetExceeded"] and not told["telemetryPaused"], told)
        for relay, upstream, state, _ in rows:
            with self.subTest(resumed=state):
                self.check_resumed(relay, upstream, ids + ["period-7"])
                _, _, told = relay.post(event("period-8"))
                self.assertFalse(told["telemetryPaused"] or told["isPlanLimitReached"], told)
                self.assertFalse(told["budgetExceeded"], told)
                self.wait_ledger(relay, delivered=9, spooled=0)
        # Nobody touched the upstreams: their own clocks went into a period that began at zero.
        self.assertEqual(plan_upstream.stats()["plan_used"], 4)
        self.assertGreaterEqual(plan_upstream.stats()["status_requests"], 2)
        self.assertEqual(plan_upstream.stats()["now"][:10], "2027-02-01")
        self.assertEqual(budget_upstream.stats()["now"][:10], "2027-03-15")
        spent = budget_upstream.workspace_status()["budget"]
        self.assertAlmostEqual(spent["daily"]["currentSpendUsd"], 4 * EVENT_USD)
        self.assertAlmostEqual(spent["monthly"]["currentSpendUsd"], 9 * EVENT_USD)

    def test_a_delayed_event_belongs_to_the_day_it_was_received(self):
        """createdAt carries that day, for an upstream that honours it."""
        relay, upstream = self.start_pair("delayed")
        upstream.control(down=True, created_at="honoured")
        relay.send_acked([event(f"delayed-{number}") for number in range(3)])
        day_ms = 86_400_000
        upstream.control(clock={"advance_ms": day_ms})
        upstream.control(down=False)
        self.wait_ledger(relay, accepted=3, delivered=3, spooled=0)

        def spent():
            return upstream.workspace_status()["budget"]["daily"]["currentSpendUsd"]

        self.assertEqual(spent(), 0)
        # A test that runs over midnight finds them on two days.
        total = 0
        for _ in range(2):
            upstream.control(clock={"advance_ms": -day_ms})
            total += spent()
        self.assertAlmostEqual(total, 3 * EVENT_USD)

    def test_upstreams_own_rate_limit_loses_and_repeats_nothing(self):
        relay, upstream = self.start_pair("limited")
        upstream.control(rate_limit={"per_second": 8, "burst": 4})
        ids = sorted(f"limited-{number}" for number in range(9))
        relay.send_acked([event(one) for one in ids])
        self.wait_ledger(relay, accepted=9, delivered=9, spooled=0)
        self.assertEqual(sorted(upstream.row_ids()), ids)
        stats = upstream.stats()
        self.assertGreaterEqual(stats["rate_limited"], 1)
        self.assertEqual(stats["requests"], 9 + stats["rate_limited"])


if __name__ == "__main__":
    unittest.main()
