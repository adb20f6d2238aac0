#!/usr/bin/env python3
"""Chaos: the real daemon and an upstream in seeded faults, both killed and started again under
clients of every kind. In the end every acknowledged event is one row, or a dead letter that a
refusal explains. And an outage of everything: the requests that reach the upstream stay within what
the breakers allow.

RELAYTEST_CHAOS_SEED repeats the draws of a run (not its timing), RELAYTEST_CHAOS_SECONDS says how
long the chaos lasts."""

import json
import os
import random
import signal
import subprocess
import threading
import time
import unittest

from acked_sender import AckedSender
from chaos import (EPISODES, LOST_REPLIES, REFUSALS, DatagramSender, HttpSender, Service,
                   probes_max, sleep_until, storm)
from harness import DEADLINE, KEY, RELAY, RelayTest, StreamClient, event, line, wait_for

SECONDS = float(os.environ.get("RELAYTEST_CHAOS_SECONDS", "30"))
SEED = int(os.environ.get("RELAYTEST_CHAOS_SEED") or random.SystemRandom().randrange(1 << 31))
OUTAGE_SECONDS = 6.0
IN_FLIGHT_MAX = 4096  # records read and not settled: the bound on repeats of one crash
BATCH_MAX = 50
CONNECTIONS = 8
LANES_MAX = 16


def config(kind, more=""):
    batch = f"  kind: batch\n  batch_linger: 50ms\n  batch_max_events: {BATCH_MAX}\n" if kind == "batch" else ""
    return f"upstream:\n{batch}  timeout: 2s\n{more}"


class ChaosTest(RelayTest):
    def run_chaos(self, kind):
        self.kind = kind
        self.rng = random.Random(f"{SEED} {kind}")
        self.depth = self.rng.choice((1, 8))
        print(f"RELAYTEST_CHAOS_SEED={SEED} kind={kind} pipeline={self.depth} "
              f"seconds={SECONDS:.0f}", flush=True)
        self.service = Service(self.directory, KEY)
        self.processes.append(self.service.now)
        self.relay = self.start_relay(upstream_url=self.service.now.url,
                                      config=config(kind, f"  pipeline: {self.depth}\n"))
        self.ends = 0      # of the relay
        self.restarts = 0  # of the upstream
        stream = AckedSender(self.relay.path("telemetry.stream.sock"), self.rng.random(), pause=0.4)
        senders = [stream, HttpSender(self.relay, self.rng.random()),
                   DatagramSender(self.relay, self.rng.random())]
        self.under_load(senders)
        self.settle()
        self.check(senders)

    def under_load(self, senders):
        errors = []

        def guarded(sender):
            try:
                sender.run()
            except BaseException as error:  # raised again below
                errors.append(error)

        threads = [threading.Thread(target=guarded, args=(sender,)) for sender in senders]
        for thread in threads:
            thread.start()
        try:
            end = time.monotonic() + SECONDS
            turn = 0
            while time.monotonic() < end and not errors:
                self.one_turn(turn)
                turn += 1
        finally:
            for sender in senders:
                sender.stop.set()
            for thread in threads:
                thread.join(3 * DEADLINE)
        self.assertFalse(any(thread.is_alive() for thread in threads))
        if errors:
            raise errors[0]

    def one_turn(self, turn):
        """Some seconds of faults, then one thing that happens to one of the two."""
        self.service.now.control(**storm(self.rng, self.kind))
        time.sleep(self.rng.uniform(0.2, 2.0))
        # Each of them comes early, then in any order.
        steps = (self.kill_relay, self.restart_upstream, self.episode, self.rotate_key,
                 self.end_relay, self.kill_both)
        (steps[turn] if turn < len(steps) else self.rng.choice(steps))()

    def kill_relay(self):
        self.ends += 1
        self.relay.kill()
        self.relay.start()
        self.assert_balanced(self.relay)

    def end_relay(self):
        self.ends += 1
        self.assertEqual(self.relay.end(), 0)
        self.relay.start()
        self.assert_balanced(self.relay)

    def restart_upstream(self, between=lambda: None):
        self.restarts += 1

        def while_down():
            between()
            time.sleep(self.rng.uniform(0, 0.5))

        self.service.kill_and_start(while_down)
        self.processes.append(self.service.now)

    def kill_both(self):
        self.restart_upstream(between=self.kill_relay)

    def episode(self):
        """One reply to everything; then an operator who says that it is over."""
        fault = self.rng.choice(EPISODES)
        self.service.now.control(rates={fault: 1000}, item_rates={})
        time.sleep(self.rng.uniform(0.2, 2.0))
        if self.rng.random() < 0.3:
            self.kill_relay()
        self.service.now.control(rates={})
        self.flush()

    def rotate_key(self):
        """The service takes another key, of which the relay hears some time later."""
        key = f"key-{self.rng.getrandbits(31)}"
        self.service.change_key(key)
        time.sleep(self.rng.uniform(0.1, 1.0))
        with open(self.relay.key_file + ".new", "w", encoding="utf-8") as file:
            file.write(key)
        os.replace(self.relay.key_file + ".new", self.relay.key_file)
        wait_for(lambda: self.relay.lane()["state"] != "unauthorized", "the new key is tried")

    def flush(self):
        """Every lane tries now, whatever it waits for."""
        subprocess.run([RELAY, "flush", "--timeout", "100ms", "--run-dir", self.relay.run_dir],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=DEADLINE,
                       check=False)

    def settle(self):
        self.service.heal()

        def settled():
            ledger = self.relay.ledger()
            if ledger["spooled"] == 0 and ledger["pending"] == 0:
                return True
            self.flush()
            return False

        wait_for(settled, "everything has its outcome after the upstream healed", 3 * DEADLINE)
        self.service.add_up()

    def dead_letters(self):
        done = subprocess.run(
            [RELAY, "dead", "list", "--output", "json", "--limit", "1000000", "--run-dir",
             self.relay.run_dir], capture_output=True, text=True, timeout=DEADLINE, check=True)
        return json.loads(done.stdout)["letters"]

    def check(self, senders):
        ledger = self.assert_balanced(self.relay)
        rows = self.service.now.row_ids()
        letters = self.dead_letters()
        dead = {letter["id"] for letter in letters}
        acknowledged = set().union(*(sender.acknowledged for sender in senders))
        sent = set().union(*(sender.sent for sender in senders))
        faults = self.service.faults
        print(f"acknowledged={len(acknowledged)} rows={len(rows)} dead={len(dead)} "
              f"repeated={self.service.repeated} relay_ends={self.ends} "
              f"upstream_restarts={self.restarts} faults={dict(sorted(faults.items()))}")
        self.assertEqual(acknowledged - set(rows) - dead, set(), "acknowledged and missing")
        self.assertEqual(len(rows), len(set(rows)), "two rows for one id")
        self.assertEqual((set(rows) | dead) - sent, set(), "nobody sent these")
        self.assertEqual(len(letters), len(dead), "two dead letters for one id")
        self.assertLessEqual({letter["reason"] for letter in letters},
                             {f"upstream_{status}" for status in REFUSALS})
        self.assertLessEqual(len(letters), self.service.refused)
        self.assertEqual((ledger["shed"], ledger["dropped"], ledger["rejected"]), (0, 0, 0))
        # A request is repeated only when its reply was lost, or its ack.
        together = self.depth * (BATCH_MAX if self.kind == "batch" else 1)
        lost = together * sum(faults[fault] for fault in LOST_REPLIES)
        interrupted = together * (self.restarts + self.ends) * CONNECTIONS
        self.assertLessEqual(len(dead & set(rows)), lost + interrupted)
        self.assertLessEqual(self.service.repeated,
                             lost + interrupted + self.ends * IN_FLIGHT_MAX)
        # And all of that took place.
        for sender in senders:
            self.assertGreater(len(sender.acknowledged), 10, type(sender).__name__)
        self.assertGreater(self.ends, 0)
        self.assertGreater(self.restarts, 0)
        self.assertGreater(sum(faults.values()), 0)

    def test_what_was_acknowledged_is_a_row_or_a_dead_letter(self):
        self.run_chaos("opsmeter")

    def test_what_was_acknowledged_is_an_item_of_a_batch_or_a_dead_letter(self):
        self.run_chaos("batch")


class OutageTest(RelayTest):
    def run_outage(self, kind, lanes):
        names = [f"lane{number}" for number in range(lanes - 1)]  # beside `default`
        upstream = self.start_upstream()
        key_file = os.path.join(self.directory, "lane-key")
        with open(key_file, "w", encoding="utf-8") as file:
            file.write(KEY)
        kind_of_lane = ", kind: batch, batch_linger: 50ms" if kind == "batch" else ""
        more = "".join(
            f'  {name}: {{url: "{upstream.url}", api_key_file: "{key_file}"{kind_of_lane}}}\n'
            for name in names)
        listeners = "listeners:\n  - {type: unix_stream, path: default.sock}\n" + "".join(
            f"  - {{type: unix_stream, path: {name}.sock, lane: {name}}}\n" for name in names)
        relay = self.start_relay(
            config=config(kind, ("lanes:\n" + more if more else "") + listeners))
        names.append("default")
        self.send(relay, names, "before")
        self.wait_ledger(relay, spooled=0, delivered=lanes * 50)
        upstream.control(rates={"503_empty": 1000})
        began = time.monotonic()
        self.send(relay, names, "during")

        def all_back_off():
            return all(lane["state"] == "backing_off" for lane in relay.status()["lanes"])

        wait_for(all_back_off, "every breaker opens")
        sleep_until(began + OUTAGE_SECONDS)
        asked = upstream.stats()["by_fault"].get("503_empty", 0)
        allowed = lanes * (CONNECTIONS + probes_max(time.monotonic() - began))
        print(f"kind={kind} lanes={lanes} requests={asked} allowed={allowed}")
        self.assertLessEqual(asked, allowed)
        self.assertGreaterEqual(asked, 2 * lanes)  # a breaker opens at the second failure
        upstream.control(rates={})
        subprocess.run([RELAY, "flush", "--timeout", "55s", "--run-dir", relay.run_dir],
                       timeout=2 * DEADLINE, check=True, stdout=subprocess.DEVNULL)
        self.wait_ledger(relay, spooled=0, delivered=lanes * 100)
        self.assertEqual(len(upstream.row_ids()), lanes * 100)
        self.assertEqual(upstream.stats()["repeated"], 0)

    def send(self, relay, lanes, prefix):
        """50 events to each lane."""
        for name in lanes:
            with StreamClient(relay.path(f"{name}.sock")) as client:
                client.send(b"".join(line(event(f"{prefix}-{name}-{number}"))
                                     for number in range(50)))
                self.assertEqual(client.finish(), (50, 0))

    def test_one_lane_asks_no_more_than_its_breaker_allows(self):
        self.run_outage("opsmeter", 1)

    def test_sixteen_lanes_ask_no_more_than_their_breakers_allow(self):
        self.run_outage("opsmeter", LANES_MAX)

    def test_one_lane_of_batches_asks_no_more_than_its_breaker_allows(self):
        self.run_outage("batch", 1)

    def test_sixteen_lanes_of_batches_ask_no_more_than_their_breakers_allow(self):
        self.run_outage("batch", LANES_MAX)


if __name__ == "__main__":
    unittest.main(verbosity=1)
