#!/usr/bin/env python3
"""Every row of the reply table, end to end: the real daemon, the local upstream with a scripted
fault, and then the upstream's rows, the ledger and the lane's state.

The rows of one table run at the same time, each with a daemon and an upstream of its own, so that
they wait for Retry-After and for the next look at the key file together and cannot blur each other.
"""

import datetime
import os
import re
import socket
import struct
import threading
import time
import unittest

from harness import KEY, Relay, RelayTest, Upstream, event, wait_for

ALWAYS = 100_000  # times a scripted fault is repeated: until the test heals the upstream
FAR = "2099-01-01T00:00:00Z"  # a period end that shortens no pause
QUICK = "upstream:\n  timeout: 1s\n"
PATIENT = "upstream:\n  timeout: 10s\n"


def seconds_until(retry_at):
    """Seconds from now to a time in /status."""
    when = datetime.datetime.fromisoformat(retry_at.replace("Z", "+00:00"))
    return when.timestamp() - time.time()


def date_form(form, seconds):
    """A Retry-After that is `seconds` from when it is sent, in one of its forms."""
    return {"form": form, "seconds": seconds}


class Row:
    """One row of a table: the fault, and what it must lead to."""

    def __init__(self, name, fault, state, error, *, repeats=False, config=QUICK, control=None,
                 **extra):
        self.name = name
        self.fault = fault if isinstance(fault, dict) else {"fault": fault, **extra}
        self.state = state  # of the lane while the fault lasts
        self.error = error  # pattern of last_error meanwhile
        self.repeats = repeats  # the reply is lost after the row was stored
        self.config = config
        self.control = control or {}
        self.id = f"row-{name}"

    def script(self):
        return [{"times": ALWAYS, **self.fault}]


class Pair:
    """A daemon and an upstream for one row."""

    def __init__(self, test, row, *, upstream_key=KEY, relay_key=KEY):
        self.row = row
        self.directory = os.path.join(test.directory, re.sub(r"\W+", "-", row.name))
        os.makedirs(self.directory)
        self.upstream = Upstream(self.directory, key=upstream_key)
        test.processes.append(self.upstream)
        self.upstream.control(api_keys=[], **row.control)
        self.relay = Relay(self.directory, self.upstream.url, key=relay_key, config=row.config)
        test.processes.append(self.relay)

    def write_key(self, key):
        """Replaces the key file, as a rotation does: write aside, then rename."""
        aside = self.relay.key_file + ".new"
        with open(aside, "w", encoding="utf-8") as file:
            file.write(key + "\n")
        os.rename(aside, self.relay.key_file)

    def lane_in(self, state):
        """Waits for the lane's state; returns the lane."""
        def look():
            lane = self.relay.lane()
            return lane if lane["state"] == state else None
        try:
            return wait_for(look, f"{self.row.name}: lane {state}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {self.relay.lane()}") from None


class RepliesTest(RelayTest):
    def each(self, pairs, check):
        """`check(pair)` as a sub-test for every pair."""
        for pair in pairs:
            with self.subTest(row=pair.row.name):
                check(pair)

    def send_into_fault(self, pair):
        """Scripts the row's fault and sends one event into it."""
        pair.upstream.control(script=pair.row.script())
        status, _, reply = pair.relay.post(event(pair.row.id))
        self.assertEqual((status, reply["ok"]), (200, True), pair.row.name)

    def start_rows(self, rows):
        """Starts a pair for each row, and sends an event into each fault."""
        pairs = [Pair(self, row) for row in rows]
        for pair in pairs:
            self.send_into_fault(pair)
        return pairs

    def check_waiting(self, pair):
        """The fault lasts: the record is kept, the lane says why and when it tries again."""
        lane = pair.lane_in(pair.row.state)
        self.assertRegex(lane["last_error"], pair.row.error)
        ledger = self.assert_balanced(pair.relay)
        self.assertEqual((ledger["accepted"], ledger["spooled"]), (1, 1))
        self.assertEqual((ledger["delivered"], ledger["dead"], ledger["dropped"]), (0, 0, 0))
        self.assertEqual(pair.upstream.row_ids(), [pair.row.id] if pair.row.repeats else [])
        return lane

    def check_delivered(self, pair):
        """The fault is over: exactly one row; a request was repeated only if a reply was lost."""
        self.wait_ledger(pair.relay, accepted=1, delivered=1, spooled=0, dead=0, dropped=0)
        pair.lane_in("active")
        self.assertEqual(pair.upstream.row_ids(), [pair.row.id])
        stats = pair.upstream.stats()
        self.assertEqual(stats["repeated_different"], 0)
        if pair.row.repeats:
            self.assertGreaterEqual(stats["repeated"], 1)
        else:
            self.assertEqual(stats["repeated"], 0)

    def wait_dead_letters(self, relay, count):
        """The spool's figures are taken anew every second."""
        wait_for(lambda: relay.status()["spool"]["dead_letters"] == count, f"{count} dead letters")

    # --- Delivered, or given up, at once ---

    def test_a_reply_that_settles_the_event_at_once(self):
        """2xx JSON, 2xx empty and 409 deliver; 400, 413 and 422 make a dead letter."""
        upstream = self.start_upstream()
        relay = self.start_relay(config=PATIENT)
        rows = [
            ("2xx JSON", "ok", True),
            ("200 without a body", "200_empty", True),
            ("204", "204", True),
            ("409: already there", "409", True),
            ("a slow reply", {"fault": "slow_body", "ms": 20}, True),
            ("a late reply", {"fault": "latency", "ms": 100}, True),
            ("Connection: close", "close_after", True),
            ("400", "400", False),
            ("413 for a single event", "413", False),
            ("422", "422", False),
            ("200 ok:false validation_failed",
             {"fault": "200_ok_false", "reason": "validation_failed"}, False),
            ("2xx JSON after those", "ok", True),
        ]
        delivered, dead = [], 0
        for number, (name, fault, stored) in enumerate(rows):
            with self.subTest(row=name):
                upstream.control(script=[fault])
                status, _, _ = relay.post(event(f"at-once-{number}"))
                self.assertEqual(status, 200)
                if stored:
                    delivered.append(f"at-once-{number}")
                else:
                    dead += 1
                self.wait_ledger(relay, accepted=number + 1, delivered=len(delivered), dead=dead,
                                 spooled=0, dropped=0, replayed=0)
                self.assertEqual(relay.lane()["state"], "active")
                self.assertEqual(upstream.row_ids(), delivered)
        self.wait_dead_letters(relay, dead)
        stats = upstream.stats()
        self.assertEqual((stats["requests"], stats["repeated"]), (len(rows), 0))

    def test_a_dead_letter_does_not_come_back_after_a_restart(self):
        upstream = self.start_upstream()
        relay = self.start_relay()
        upstream.control(script=["422"])
        relay.post(event("refused"))
        self.wait_ledger(relay, dead=1, spooled=0)
        self.assertEqual(relay.end(), 0)
        relay.start()
        relay.post(event("fine"))
        self.wait_ledger(relay, recovered=0, accepted=1, delivered=1, dead=0)
        self.assertEqual(relay.status()["spool"]["dead_letters"], 1)
        _, _, reply = relay.post(event("refused"))
        self.assertTrue(reply["duplicate"], "its id was accepted once")
        self.wait_ledger(relay, duplicates=1, delivered=1, spooled=0)
        self.assertEqual(upstream.row_ids(), ["fine"])

    # --- Parked lanes ---

    def test_a_reply_that_parks_the_lane_keeps_the_record_and_a_new_key_wakes_it(self):
        minute = 60
        periods = {"plan": {"period_end": FAR},
                   "budget": {"daily": {"period_end": FAR}, "monthly": {"period_end": FAR}}}
        waits = {"misconfigured": (1 * minute, 2 * minute),
                 "unauthorized": (1 * minute, 2 * minute),
                 "plan_limited": (10 * minute, 15 * minute),
                 "budget_stopped": (10 * minute, 15 * minute)}
        pairs = self.start_rows([
            Row("200 HTML", "200_html", "misconfigured", "not the API's JSON"),
            Row("200 text", "200_text", "misconfigured", "not the API's JSON"),
            Row("302", "302", "misconfigured", "^HTTP 302$"),
            Row("307", "307", "misconfigured", "^HTTP 307$"),
            Row("404", "404", "misconfigured", "^HTTP 404$"),
            Row("405", "405", "misconfigured", "^HTTP 405$"),
            Row("410", "410", "misconfigured", "^HTTP 410$"),
            Row("415", "415", "misconfigured", "^HTTP 415$"),
            Row("another 4xx", "451", "misconfigured", "^HTTP 451$"),
            Row("401", "401", "unauthorized", "^HTTP 401$"),
            Row("403", "403", "unauthorized", "^HTTP 403$"),
            Row("200 ok:false invalid_api_key", "200_ok_false", "unauthorized", "^HTTP 200$",
                reason="invalid_api_key"),
            Row("402 of the plan", "402_plan", "plan_limited", "^HTTP 402$", control=periods),
            Row("200 ok:false plan_limit_reached", "200_ok_false", "plan_limited", "^HTTP 200$",
                reason="plan_limit_reached", control=periods),
            Row("402 of a budget", "402_budget", "budget_stopped", "^HTTP 402$", control=periods),
        ])

        def parked(pair):
            self.check_waiting(pair)
            if pair.row.control:  # it asks once when the period ends
                wait_for(lambda: pair.upstream.stats()["status_requests"] == 1, "workspace-status")
            lane = wait_for(lambda: pair.relay.lane()["retry_at"] and pair.relay.lane(), "retry_at")
            low, high = waits[pair.row.state]
            left = seconds_until(lane["retry_at"])
            self.assertLessEqual(left, high)
            self.assertGreater(left, low / 2)  # the half: this machine may be slow
            self.assertEqual(pair.upstream.stats()["requests"], 1)

        def woken(pair):
            self.check_delivered(pair)
            self.assertEqual(pair.upstream.stats()["requests"], 2)

        self.each(pairs, parked)
        for pair in pairs:
            pair.upstream.control(script=[])
            pair.write_key("another-key")
        self.each(pairs, woken)

    def test_a_wrong_key_is_told_by_upstream_and_a_rotated_one_delivers(self):
        pair = Pair(self, Row("rotation", "ok", "unauthorized", "^HTTP 401$"),
                    upstream_key="the-right-key", relay_key="a-wrong-key")
        pair.upstream.control(api_keys=["the-right-key"])
        pair.relay.post(event(pair.row.id))
        self.check_waiting(pair)
        pair.write_key("wrong-again")
        wait_for(lambda: pair.upstream.stats()["requests"] == 2, "the new key is tried at once")
        self.check_waiting(pair)
        pair.write_key("the-right-key")
        self.check_delivered(pair)
        self.assertEqual(pair.upstream.stats()["by_status"], {"200": 1, "401": 2})

    def test_without_a_key_events_are_spooled_until_there_is_one(self):
        pair = Pair(self, Row("no key", "ok", "no_key", ""), relay_key=None)
        relay, upstream = pair.relay, pair.upstream
        ids = [f"keyless-{number}" for number in range(20)]
        self.assertEqual(relay.send_acked([event(one) for one in ids]), (20, 0))
        self.assertEqual(relay.admin("/readyz")[0], 200)
        lane = pair.lane_in("no_key")
        self.assertIsNone(lane["retry_at"])
        self.wait_ledger(relay, accepted=20, spooled=20, delivered=0)
        self.assertEqual(upstream.stats()["connections"]["total"], 0)
        pair.write_key("the-first-key")
        self.wait_ledger(relay, accepted=20, spooled=0, delivered=20)
        pair.lane_in("active")
        self.assertEqual(sorted(upstream.row_ids()), sorted(ids))
        self.assertEqual(upstream.stats()["requests"], 20)

    # --- Everything is refused ---

    def test_ten_refusals_in_a_row_go_back_to_the_spool(self):
        """That is the upstream's fault, not the events': nothing is lost."""
        pair = Pair(self, Row("ten 400", "400", "misconfigured", "^HTTP 400"))
        relay, upstream = pair.relay, pair.upstream
        upstream.control(script=pair.row.script())
        ids = [f"refused-{number}" for number in range(12)]
        self.assertEqual(relay.send_acked([event(one) for one in ids]), (12, 0))
        pair.lane_in("misconfigured")
        self.wait_ledger(relay, accepted=12, dead=10, replayed=10, spooled=12, delivered=0)
        self.assertEqual(upstream.stats()["requests"], 10)
        upstream.control(script=[])
        pair.write_key("another-key")
        self.wait_ledger(relay, accepted=12, dead=10, replayed=10, spooled=0, delivered=12,
                         dropped=0)
        pair.lane_in("active")
        self.assertEqual(sorted(upstream.row_ids()), sorted(ids))
        self.assertEqual(upstream.stats()["repeated"], 0)
        self.assertEqual(relay.end(), 0)
        relay.start()  # it counts what is on disk
        self.assertEqual(relay.status()["spool"]["dead_letters"], 0)
        self.wait_ledger(relay, recovered=0, spooled=0)

    def test_a_lane_in_full_swing_stops_with_the_requests_that_were_in_flight(self):
        """However much waits: eight connections, so at most eight requests meet the fault."""
        pairs = [Pair(self, Row(*row)) for row in (
            ("401 in full swing", "401", "unauthorized", "^HTTP 401$"),
            ("404 in full swing", "404", "misconfigured", "^HTTP 404$"),
            ("402 in full swing", "402_plan", "plan_limited", "^HTTP 402$"),
            ("429 in full swing", {"fault": "429", "retry_after": "3600"}, "throttled",
             "^HTTP 429$"),
            ("400 in full swing", "400", "misconfigured", "^HTTP 400"))]

        def stops(pair):
            relay, upstream = pair.relay, pair.upstream
            relay.send_acked([event(f"warm-{number}") for number in range(100)])
            self.wait_ledger(relay, delivered=100)
            upstream.control(script=pair.row.script())
            relay.send_acked([event(f"cold-{number}") for number in range(200)])
            self.assertRegex(pair.lane_in(pair.row.state)["last_error"], pair.row.error)
            refused = 10 if pair.row.fault["fault"] == "400" else 0
            self.wait_ledger(relay, accepted=300, delivered=100, spooled=200, dead=refused,
                             replayed=refused)
            self.assertLessEqual(upstream.stats()["requests"], 100 + refused + 8)

        def ends(pair):
            self.wait_ledger(pair.relay, accepted=300, delivered=300, spooled=0, dropped=0)
            self.assertEqual(len(pair.upstream.row_ids()), 300)
            self.assertEqual(pair.upstream.stats()["repeated"], 0)

        self.each(pairs, stops)
        healed = [pair for pair in pairs if pair.row.state != "throttled"]
        for pair in healed:
            pair.upstream.control(script=[])
            pair.write_key("another-key")
        self.each(healed, ends)

    def test_refusals_with_a_delivery_between_stay_dead_letters(self):
        upstream = self.start_upstream()
        relay = self.start_relay()
        upstream.control(script=[{"fault": "400", "times": 9}, "ok", {"fault": "422", "times": 9}])
        events = [event(f"some-{number}") for number in range(20)]
        for one in events:  # one at a time: the script is in their order
            relay.post(one)
            total = int(one["externalRequestId"].split("-")[1]) + 1
            wait_for(lambda: relay.ledger()["delivered"] + relay.ledger()["dead"] == total, "end")
        self.wait_ledger(relay, accepted=20, delivered=2, dead=18, replayed=0, spooled=0)
        self.assertEqual(relay.lane()["state"], "active")
        self.wait_dead_letters(relay, 18)
        self.assertEqual(upstream.row_ids(), ["some-9", "some-19"])

    # --- Failures ---

    def test_a_failure_is_retried_until_the_upstream_has_healed(self):
        lost = {"repeats": True}
        pairs = self.start_rows([
            Row("408", "408", "backing_off", "^HTTP 408$"),
            Row("425", "425", "backing_off", "^HTTP 425$"),
            Row("500", "500", "backing_off", "^HTTP 500$"),
            Row("500 HTML", "500_html", "backing_off", "^HTTP 500$"),
            Row("503", "503", "backing_off", "^HTTP 503$"),
            Row("503 without a body", "503_empty", "backing_off", "^HTTP 503$"),
            Row("599", "599", "backing_off", "^HTTP 599$"),
            Row("200 ok:false for an unknown reason", "200_ok_false", "backing_off", "^HTTP 200$",
                reason="the_moon_is_full"),
            Row("429 without Retry-After", "429", "throttled", "^HTTP 429$"),
            Row("429 with a Retry-After nobody can read", "429", "throttled", "^HTTP 429$",
                retry_after="soon"),
            Row("200 ok:false rate_limited", "200_ok_false", "throttled", "^HTTP 200$",
                reason="rate_limited"),
            Row("reset before", "reset_before", "backing_off", "^reset: "),
            Row("reset after commit", "reset_after_commit", "backing_off", "^reset: ", **lost),
            Row("stall", "stall", "backing_off", "^timeout: "),
            Row("stall after commit", "stall_after_commit", "backing_off", "^timeout: ", **lost),
            Row("truncated body", "truncated_body", "backing_off", "^reset: ", **lost),
            Row("body too slow", "slow_body", "backing_off", "^timeout: ", ms=500, **lost),
            Row("connection refused", "ok", "backing_off", "^refused: ", control={"down": True}),
        ])
        self.each(pairs, self.check_waiting)
        for pair in pairs:
            pair.upstream.control(script=[], down=False)
        self.each(pairs, self.check_delivered)

    def test_a_name_that_has_no_address_is_a_failure_of_the_lane(self):
        upstream = self.start_upstream()
        config = QUICK + "  allow_plaintext: true\n"
        nowhere = f"http://opsrelay-test.invalid:{upstream.port}"
        relay = self.start_relay(upstream_url=nowhere, config=config)
        relay.post(event("nowhere"))
        wait_for(lambda: relay.lane()["state"] == "backing_off", "backing_off")
        self.assertRegex(relay.lane()["last_error"], "^resolve: ")
        self.assertEqual(self.assert_balanced(relay)["spooled"], 1)
        self.assertEqual(relay.end(), 0)
        relay.arguments[relay.arguments.index(nowhere)] = upstream.url
        relay.start()
        self.wait_ledger(relay, recovered=1, accepted=0, delivered=1, spooled=0)
        self.assertEqual(upstream.row_ids(), ["nowhere"])

    def test_a_single_failure_among_deliveries_does_not_stop_the_lane(self):
        upstream = self.start_upstream()
        relay = self.start_relay()
        relay.post(event("first"))
        self.wait_ledger(relay, delivered=1)
        since = relay.lane()["since"]
        upstream.control(script=["500"])
        relay.post(event("second"))
        self.wait_ledger(relay, accepted=2, delivered=2, spooled=0)
        self.assertEqual((relay.lane()["state"], relay.lane()["since"]), ("active", since))
        self.assertEqual(upstream.row_ids(), ["first", "second"])
        self.assertEqual((upstream.stats()["requests"], upstream.stats()["repeated"]), (3, 0))

    # --- Retry-After ---

    def test_retry_after_is_obeyed_in_every_form(self):
        """One request, then none before the time is over, then one more. Dates count from the
        reply's own Date, whatever the clocks say."""
        hour_ms = 3_600_000
        pairs = [Pair(self, row) for row in (
            Row("429 in seconds", "429", "throttled", "^HTTP 429$", times=1, retry_after="4"),
            Row("429 IMF-fixdate", "429", "throttled", "^HTTP 429$", times=1,
                retry_after=date_form("imf_fixdate", 5)),
            Row("429 RFC 850", "429", "throttled", "^HTTP 429$", times=1,
                retry_after=date_form("rfc850", 5)),
            Row("429 asctime", "429", "throttled", "^HTTP 429$", times=1,
                retry_after=date_form("asctime", 5)),
            Row("429, upstream's clock an hour ahead", "429", "throttled", "^HTTP 429$", times=1,
                retry_after=date_form("imf_fixdate", 5), control={"clock": {"offset_ms": hour_ms}}),
            Row("429, upstream's clock an hour behind", "429", "throttled", "^HTTP 429$", times=1,
                retry_after=date_form("imf_fixdate", 5), control={"clock": {"offset_ms": -hour_ms}}),
            Row("503 in seconds", "503", "backing_off", "^HTTP 503$", times=1, retry_after="4"),
            Row("503 date", "503", "backing_off", "^HTTP 503$", times=1,
                retry_after=date_form("imf_fixdate", 5)))]
        due = {}

        def waits(pair):
            # Not all rows first: looking at eight of them may take longer than the first one waits.
            self.send_into_fault(pair)
            lane = self.check_waiting(pair)
            due[pair.row.name] = lane["retry_at"]
            self.assertLessEqual(seconds_until(lane["retry_at"]), 5)
            self.assertEqual(pair.upstream.stats()["requests"], 1)

        def obeyed(pair):
            self.check_delivered(pair)
            self.assertLessEqual(seconds_until(due[pair.row.name]), 0, "before it was asked to")
            self.assertEqual(pair.upstream.stats()["requests"], 2)

        self.each(pairs, waits)
        self.each(pairs, obeyed)

    def test_retry_after_beyond_our_own_cap_is_obeyed(self):
        pairs = self.start_rows([
            Row("429 for an hour", "429", "throttled", "^HTTP 429$", retry_after="3600"),
            Row("503 for an hour", "503", "backing_off", "^HTTP 503$",
                retry_after=date_form("rfc850", 3600)),
        ])

        def waits(pair):
            lane = self.check_waiting(pair)
            left = seconds_until(lane["retry_at"])
            self.assertGreater(left, 3000)
            self.assertLessEqual(left, 3601)
            self.assertEqual(pair.upstream.stats()["requests"], 1)

        self.each(pairs, waits)

    def test_429_pauses_the_lane_not_one_event(self):
        pair = Pair(self, Row("429 among many", "429", "throttled", "^HTTP 429$"))
        pair.upstream.control(script=[{"fault": "429", "retry_after": "3"}])
        ids = [f"many-{number}" for number in range(50)]
        self.assertEqual(pair.relay.send_acked([event(one) for one in ids]), (50, 0))
        lane = pair.lane_in("throttled")
        self.assertEqual(pair.upstream.stats()["requests"], 1)
        self.wait_ledger(pair.relay, accepted=50, delivered=50, spooled=0)
        self.assertLessEqual(seconds_until(lane["retry_at"]), 0)
        self.assertEqual(sorted(pair.upstream.row_ids()), sorted(ids))
        self.assertEqual(pair.upstream.stats()["requests"], 51)

    # --- The breaker ---

    def test_a_429_means_fewer_requests_at_a_time_until_deliveries_raise_it_again(self):
        upstream = self.start_upstream()
        upstream.control(latency_ms=5)
        for mode in ("adaptive", "fixed"):
            with self.subTest(mode=mode):
                relay = self.start_relay(name=mode, config=f"upstream: {{concurrency: {mode}}}\n")
                self.assertEqual(relay.send_acked([event() for _ in range(100)]), (100, 0))
                self.wait_ledger(relay, spooled=0, delivered=100)
                self.assertEqual(relay.lane()["concurrency"], 8)
                upstream.control(script=[{"fault": "429", "times": 8}])
                self.assertEqual(relay.send_acked([event() for _ in range(500)]), (500, 0))
                self.wait_ledger(relay, spooled=0, delivered=600, dead=0)
                lane = relay.lane()
                self.assertEqual((lane["state"], lane["concurrency"]), ("active", 8))
                metrics = relay.admin("/metrics")[1]
                self.assertIn('\nopsrelay_lane_concurrency{lane="default"} 8\n', metrics)
                self.assertRegex(
                    metrics, r'\nopsrelay_upstream_requests_total{lane="default",code="429"} [1-8]\n')
                lowered = "fewer requests at a time" in relay.log()
                self.assertEqual(lowered, mode == "adaptive")
                self.assertEqual(relay.end(), 0)
        rows = upstream.row_ids()
        self.assertEqual((len(rows), len(set(rows))), (1200, 1200))

    def test_a_dead_upstream_is_tried_seldom_however_much_waits(self):
        """Three seconds, 500 events, a peer that resets whoever connects: some ten attempts."""
        with ResettingServer() as dead:
            relay = self.start_relay(upstream_url=dead.url, config=QUICK)
            began = time.monotonic()
            self.assertEqual(relay.send_acked([event() for _ in range(500)]), (500, 0))
            wait_for(lambda: dead.connections >= 3, "some attempts")
            wait_for(lambda: time.monotonic() - began > 3, "three seconds", 10)
            # Full jitter from 250 ms on: seven on average, and forty once in a million years.
            self.assertLess(dead.connections, 40)
            self.assertEqual(relay.lane()["state"], "backing_off")
            self.wait_ledger(relay, accepted=500, delivered=0, spooled=500)

    def test_rows_are_exact_when_faults_of_every_kind_are_mixed(self):
        """Random failures: one row each, and no request repeated but those whose reply was lost."""
        upstream = self.start_upstream()
        upstream.control(seed=11, rates={
            "500_html": 20, "503_empty": 20, "408": 10, "reset_before": 20,
            "reset_after_commit": 20, "truncated_body": 10, "204": 50, "close_after": 20})
        relay = self.start_relay(config=PATIENT)
        ids = [f"mixed-{number}" for number in range(400)]
        self.assertEqual(relay.send_acked([event(one) for one in ids]), (400, 0))
        self.wait_ledger(relay, accepted=400, delivered=400, spooled=0, dead=0, dropped=0)
        self.assertEqual(sorted(upstream.row_ids()), sorted(ids))
        stats = upstream.stats()
        faults = stats["by_fault"]
        lost = sum(faults.get(name, 0) for name in ("reset_after_commit", "truncated_body"))
        self.assertGreater(lost, 0)
        self.assertLessEqual(stats["repeated"], lost)
        self.assertEqual(stats["repeated_different"], 0)


class ResettingServer:
    """Counts connections and resets each."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.connections = 0
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.socket.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self.thread.join()
        self.socket.close()

    def run(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            with client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


if __name__ == "__main__":
    unittest.main(verbosity=1)
