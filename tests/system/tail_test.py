#!/usr/bin/env python3
"""`opsrelay tail` against a running daemon: what it shows and hides, its filters, a reader that does
not read, a thousand events a second, a restart."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
import unittest

from harness import DEADLINE, RELAY, RelayTest, UnixHttp, event, http_json, wait_for


class TailTest(RelayTest):
    def setUp(self):
        super().setUp()
        self.start_upstream()
        self.relay = self.start_relay()
        self.tails = []
        with open(os.path.join(self.directory, "tail.err"), "wb"):
            pass

    def tearDown(self):
        for child in self.tails:
            if child.poll() is None:
                child.kill()
            child.wait()
            if child.stdout:
                child.stdout.close()
        super().tearDown()

    def tail(self, *arguments, output="json", stdout=None):
        """A tail that watches by the time this returns; `stdout`: a file instead of a pipe."""
        before = self.greetings()
        with contextlib.ExitStack() as files:
            errors = files.enter_context(open(os.path.join(self.directory, "tail.err"), "ab"))
            into = files.enter_context(open(stdout, "wb")) if stdout else subprocess.PIPE
            child = subprocess.Popen(
                [RELAY, "tail", "--run-dir", self.relay.run_dir, "--output", output, *arguments],
                stdout=into, stderr=errors, text=True,
                env={name: value for name, value in os.environ.items()
                     if not name.startswith("OPSRELAY_")})
        self.tails.append(child)
        wait_for(lambda: self.greetings() > before, "the tail watches")
        return child

    def greetings(self):
        return self.errors().count("opsrelay: watching events as they pass; Ctrl-C ends it\n")

    def lines(self, child, count):
        """So many lines, decoded."""
        return [json.loads(child.stdout.readline()) for _ in range(count)]

    def errors(self):
        """Of all tails."""
        with open(os.path.join(self.directory, "tail.err"), encoding="utf-8") as file:
            return file.read()

    def settle(self, **terms):
        return self.wait_ledger(self.relay, pending=0, spooled=0, **terms)

    def test_every_outcome_is_shown_and_nothing_that_is_private(self):
        child = self.tail()
        planted = {"userId": "planted-user", "tenantId": "planted-tenant",
                   "metadata": {"note": "planted-note"}, "endpointTag": "planted-tag"}
        self.relay.send_acked([event("one", **planted), event("one", **planted), b"planted-broken",
                               event("two", model=..., **planted)])
        self.settle(delivered=1)
        seen = self.lines(child, 5)
        told = json.dumps(seen)
        self.assertNotIn("planted", told)
        self.assertCountEqual(
            [(one["outcome"], one.get("id"), one.get("reason")) for one in seen],
            [("accepted", "one", None), ("delivered", "one", None), ("duplicate", "one", "same"),
             ("rejected", None, "not_json"), ("rejected", "two", "missing_model")])
        delivered = next(one for one in seen if one["outcome"] == "delivered")
        self.assertEqual({key: delivered[key] for key in
                          ("lane", "provider", "model", "input_tokens", "output_tokens",
                           "total_tokens", "status")},
                         {"lane": "default", "provider": "openai", "model": "gpt-4o-mini",
                          "input_tokens": 742, "output_tokens": 96, "total_tokens": 838,
                          "status": "success"})
        self.assertRegex(delivered["at"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")

    def test_failures_have_their_reason(self):
        child = self.tail("--outcome", "retried,dead,delivered")
        self.upstream.control(script=["503_empty", "400"])
        self.relay.send_acked([event("again")])
        seen = self.lines(child, 1)
        self.assertEqual((seen[0]["outcome"], seen[0]["reason"]), ("retried", "503"))
        seen = self.lines(child, 1)
        self.assertEqual((seen[0]["outcome"], seen[0]["reason"], seen[0]["id"]),
                         ("dead", "400", "again"))

    def test_what_is_given_up_is_shown_with_its_lane(self):
        self.upstream.control(rates={"503_empty": 1000})
        self.relay = self.start_relay(name="aged", config="spool:\n  max_age: 1s\n")
        child = self.tail("--outcome", "dropped")
        self.relay.send_acked([event(f"old-{number}") for number in range(3)])
        gone = 0
        while gone < 3:
            seen = self.lines(child, 1)[0]
            gone += seen.get("events", 1)
            self.assertEqual((seen["outcome"], seen["lane"], seen["reason"]),
                             ("dropped", "default", "expired"))
            self.assertNotIn("id", seen)
        self.settle(dropped=3)

    def test_filters_and_a_count(self):
        child = self.tail("--model", "other", "--outcome", "delivered", "-n", "2")
        self.relay.send_acked([event(f"e-{number}", model="other" if number % 2 else "gpt")
                               for number in range(10)])
        output, _ = child.communicate(timeout=DEADLINE)
        seen = [json.loads(one) for one in output.splitlines()]
        self.assertEqual(child.returncode, 0)
        self.assertEqual([one["model"] for one in seen], ["other", "other"])

    def test_a_lane_that_does_not_exist_is_refused_with_those_that_do(self):
        done = subprocess.run([RELAY, "tail", "--run-dir", self.relay.run_dir, "--lane", "typo"],
                              text=True, capture_output=True, check=False, timeout=DEADLINE)
        self.assertEqual(done.returncode, 2)
        self.assertIn('lane: there is no "typo"; there are default', done.stderr)
        child = self.tail("--lane", "default", "-n", "1")
        self.relay.send_acked([event("one")])
        self.assertEqual(self.lines(child, 1)[0]["lane"], "default")

    def test_interrupt_ends_it_with_0(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            child = self.tail(output="text")
            child.send_signal(number)
            self.assertEqual(child.wait(DEADLINE), 0)
        self.assertEqual(len(self.errors().splitlines()), self.greetings())

    def test_a_thousand_events_a_second(self):
        child = self.tail("--outcome", "accepted")
        total, each = 3000, 50
        begin = time.monotonic()
        for first in range(0, total, each):
            time.sleep(max(0.0, begin + first / 1000 - time.monotonic()))
            self.relay.send_acked([event(f"t-{number}") for number in range(first, first + each)])
        shown, hidden = set(), 0
        while len(shown) + hidden < total:
            line = self.lines(child, 1)[0]
            if "not_shown" in line:
                hidden += line["not_shown"]
            else:
                shown.add(line["id"])
        self.assertEqual(len(shown) + hidden, total)
        self.assertGreater(len(shown), total // 2)
        self.settle(accepted=total, delivered=total)

    def test_a_reader_that_does_not_read_holds_nothing_up(self):
        total = 20_000
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
            silent.settimeout(DEADLINE)
            silent.connect(self.relay.path("admin.sock"))
            silent.sendall(b"GET /tail HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = b""
            while b"\r\n\r\n" not in head:
                head += silent.recv(1)
            for first in range(0, total, 1000):
                self.relay.send_acked([event(f"s-{number}", provider="p" * 200)
                                       for number in range(first, first + 1000)])
            self.settle(accepted=total, delivered=total)
            # What it was spared is told once it reads.
            seen, hidden, data = 0, 0, b""
            while seen + hidden < 2 * total:
                data += silent.recv(1 << 20)
                *lines, data = data.split(b"\n")
                for line in filter(None, lines):
                    decoded = json.loads(line)
                    hidden += decoded.get("not_shown", 0)
                    seen += "outcome" in decoded
            self.assertEqual(seen + hidden, 2 * total)
            self.assertGreater(hidden, 0)
            self.assertLess(seen, total)
        self.assertEqual(len(self.upstream.row_ids()), total)

    def test_a_restart_is_survived_and_told(self):
        child = self.tail("--outcome", "delivered")
        self.relay.send_acked([event("before")])
        self.assertEqual(self.lines(child, 1)[0]["id"], "before")
        self.assertEqual(self.relay.end(), 0)
        wait_for(lambda: "the daemon ended the connection; waiting 30s" in self.errors(), "told")
        self.relay.start()
        wait_for(lambda: self.greetings() == 2, "it watches again")
        self.relay.send_acked([event("after")])
        self.assertEqual(self.lines(child, 1)[0]["id"], "after")

    def test_a_full_disk_behind_it_ends_it(self):
        child = self.tail(output="text", stdout="/dev/full")
        self.relay.send_acked([event()])
        self.assertEqual(child.wait(DEADLINE), 1)
        self.assertEqual(len(self.errors().splitlines()), 2)

    def test_a_daemon_that_stays_away_is_an_error(self):
        child = self.tail("--wait", "100ms")
        self.relay.kill()
        self.assertEqual(child.wait(DEADLINE), 1)
        self.assertIn("the daemon does not answer", self.errors())

    def test_too_many_and_those_without_the_right(self):
        for _ in range(4):
            self.tail()
        done = subprocess.run([RELAY, "tail", "--run-dir", self.relay.run_dir], text=True,
                              capture_output=True, check=False, timeout=DEADLINE)
        self.assertEqual(done.returncode, 1)
        self.assertIn("4 watch already", done.stderr)
        self.assertEqual(self.relay.admin("/livez")[0], 200, "probes have room beside them")
        with contextlib.closing(UnixHttp(self.relay.path("admin.sock"), DEADLINE)) as connection:
            self.assertEqual(http_json(connection, "GET", "/tail?outcome=x")[0], 400)
        # Whoever reaches the port may see numbers, not events.
        log = self.relay.log()
        port = int(log.split("type=admin address=127.0.0.1:")[1].split()[0])
        status, _, body = http_json(
            http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE), "GET", "/tail")
        self.assertEqual((status, body["reason"]), (403, "only_over_admin_socket"))


if __name__ == "__main__":
    unittest.main(verbosity=1)
