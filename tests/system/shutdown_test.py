#!/usr/bin/env python3
"""How the daemon ends: SIGTERM, SIGINT and a second signal, with a spool that outlives the process
and with one that does not. Nothing acknowledged is lost, and nothing holds the exit."""

import contextlib
import datetime
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import unittest

from harness import DEADLINE, RelayTest, StreamClient, UnixHttp, event, in_threads, line, \
    wait_for

EPHEMERAL = "spool:\n  ephemeral: true\n"
# Longer than any wait of these tests: whoever waits for it fails them.
NEVER = "shutdown:\n  deadline: 600s\n"
TERMS = ("received", "duplicates", "rejected", "shed", "accepted", "pending", "recovered",
         "replayed", "delivered", "dead", "dropped", "spooled", "imbalance")

# A name server that never answers, for the process it is preloaded into.
HUNG_RESOLVER = """
#include <netdb.h>
#include <unistd.h>
int getaddrinfo(const char* name, const char* service, const struct addrinfo* hints,
                struct addrinfo** found) {
    (void)name; (void)service; (void)hints; (void)found;
    for (;;) pause();
}
"""


def seconds_until(retry_at):
    """Seconds from now to a time in /status."""
    when = datetime.datetime.fromisoformat(retry_at.replace("Z", "+00:00"))
    return when.timestamp() - time.time()


class ShutdownTest(RelayTest):
    def last_words(self, relay):
        """The ledger in the last line of the log; balanced."""
        ledger = self.final_ledger(relay)
        self.assert_ledger(ledger)
        return {term: ledger[term] for term in TERMS}

    def wait_stopping(self, relay):
        """The signal has arrived, and the daemon is still there."""
        def stopping():
            status, body = relay.admin("/readyz")
            return status == 503 and "stopping" in body["reasons"]
        wait_for(stopping, "not ready: stopping")

    def ids(self, prefix, count):
        return [f"{prefix}-{number}" for number in range(count)]

    # --- A spool that outlives the process ---

    def test_a_signal_ends_it_cleanly_and_the_next_start_delivers(self):
        upstream = self.start_upstream()
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(signal=number.name):
                upstream.control(down=True)
                relay = self.start_relay(name=number.name)
                ids = self.ids(number.name, 200)
                self.assertEqual(relay.send_acked([event(one) for one in ids]), (200, 0))
                relay.send_acked([event(ids[0]), {"not": "an event"}])
                known = self.wait_ledger(relay, received=202, accepted=200, duplicates=1,
                                         rejected=1, spooled=200)
                relay.signal(number)
                self.assertEqual(relay.wait(), 0)
                self.assertEqual(self.last_words(relay), {term: known[term] for term in TERMS})
                left = [name for name in os.listdir(relay.run_dir) if name.endswith(".sock")]
                self.assertEqual(left, [], "sockets left behind")
                upstream.control(down=False)
                relay.start()
                self.wait_ledger(relay, recovered=200, accepted=0, delivered=200, spooled=0)
                self.assertEqual(relay.end(), 0)
                self.assertEqual(self.last_words(relay)["spooled"], 0)
                rows = [row for row in upstream.row_ids() if row.startswith(number.name)]
                self.assertEqual(sorted(rows), sorted(ids))
        self.assertEqual(upstream.stats()["repeated"], 0)

    def test_a_request_in_flight_is_finished(self):
        # The daemon waits two seconds for it: most of them are left for a busy machine.
        upstream = self.start_upstream("--set", "latency_ms=500")
        relay = self.start_relay()
        relay.post(event("slow"))
        wait_for(lambda: upstream.stats()["requests"] == 1, "the request is under way")
        self.assertEqual(relay.end(), 0)
        ledger = self.last_words(relay)
        self.assertEqual((ledger["delivered"], ledger["spooled"]), (1, 0))
        self.assertEqual(upstream.row_ids(), ["slow"])
        relay.start()
        self.assertEqual(self.assert_balanced(relay)["recovered"], 0)
        self.assertEqual(upstream.stats()["requests"], 1)

    def test_a_request_that_hangs_is_given_up_and_repeated_by_the_next_start(self):
        """Exactly one row, although upstream had stored it before it fell silent."""
        upstream = self.start_upstream()
        upstream.control(script=["stall_after_commit"])
        relay = self.start_relay(config="upstream:\n  timeout: 60s\n")
        relay.post(event("hangs"))
        wait_for(lambda: upstream.stats()["rows"] == 1, "stored, not answered")
        self.assertEqual(relay.end(DEADLINE / 2), 0)
        ledger = self.last_words(relay)
        self.assertEqual((ledger["delivered"], ledger["spooled"]), (0, 1))
        relay.start()
        self.wait_ledger(relay, recovered=1, delivered=1, spooled=0)
        self.assertEqual(upstream.row_ids(), ["hangs"])
        stats = upstream.stats()
        self.assertEqual((stats["repeated"], stats["repeated_different"]), (1, 0))

    def test_what_the_sockets_held_is_taken_in(self):
        """Datagrams and stream lines that were sent before the signal, and the acks for them."""
        upstream = self.start_upstream("--set", "down=true")
        relay = self.start_relay()
        with StreamClient(relay.path("telemetry.stream.sock")) as acked, \
                StreamClient(relay.path("telemetry.stream.sock"), acks=False) as plain:
            acked.send(b"".join(line(event(one)) for one in self.ids("acked", 300)))
            plain.send(b"".join(line(event(one)) for one in self.ids("plain", 300)))
            for one in self.ids("datagram", 20):
                relay.datagram(line(event(one)))
            relay.signal(signal.SIGTERM)
            while acked.read_ack():
                pass
            self.assertEqual((acked.durable, acked.rejected), (300, 0))
        self.assertEqual(relay.wait(), 0)
        ledger = self.last_words(relay)
        self.assertEqual((ledger["accepted"], ledger["spooled"]), (620, 620))
        upstream.control(down=False)
        relay.start()
        self.wait_ledger(relay, recovered=620, delivered=620, spooled=0)
        self.assertEqual(len(upstream.row_ids()), 620)

    def test_stream_clients_that_do_not_stop_are_never_told_more_than_is_kept(self):
        upstream = self.start_upstream("--set", "down=true")
        relay = self.start_relay()
        acknowledged = []

        def talk(name):
            """Sends until the daemon closes; then the first lines are settled, by its own count."""
            with StreamClient(relay.path("telemetry.stream.sock")) as client:
                def send_on():
                    sent = 0
                    try:
                        while True:
                            part = range(sent, sent + 50)
                            client.send(b"".join(line(event(f"{name}-{n}")) for n in part))
                            sent += 50
                    except OSError:
                        return
                sender = threading.Thread(target=send_on)
                sender.start()
                try:
                    while client.read_ack():
                        pass
                except ConnectionResetError:
                    pass  # it had not read everything when it closed
                finally:
                    sender.join()
                self.assertEqual(client.rejected, 0)
                acknowledged.extend(f"{name}-{number}" for number in range(client.durable))

        def stop():
            wait_for(lambda: relay.ledger()["accepted"] > 500, "some events")
            self.assertEqual(relay.end(), 0)

        in_threads([stop] + [lambda name=name: talk(name) for name in ("one", "two", "three")])
        ledger = self.last_words(relay)
        self.assertLessEqual(len(acknowledged), ledger["accepted"])
        self.assertGreater(len(acknowledged), 0)
        upstream.control(down=False)
        relay.start()
        self.wait_ledger(relay, recovered=ledger["spooled"], spooled=0)
        rows = upstream.row_ids()
        self.assertEqual(set(acknowledged) - set(rows), set(), "acknowledged and missing")
        self.assertEqual(len(rows), len(set(rows)))

    def test_an_http_request_in_flight_gets_its_answer(self):
        """One that waits for its commit, and one of which half has arrived."""
        self.start_upstream("--set", "down=true")
        relay = self.start_relay(config="spool:\n  commit_gap: 500ms\n")
        half = UnixHttp(relay.path("http.sock"), DEADLINE)
        half.request("POST", "/v1/ingest/llm-request", json.dumps(event("before")),
                     {"Content-Type": "application/json"})
        first = half.getresponse()
        first.read()
        self.assertEqual(first.status, 200)  # the connection is the daemon's by now
        body = json.dumps(event("half")).encode()
        half.putrequest("POST", "/v1/ingest/llm-request")
        half.putheader("Content-Type", "application/json")
        half.putheader("Content-Length", str(len(body)))
        half.endheaders()
        half.send(body[:20])
        replies = []

        def wait_for_commit():
            replies.append(relay.post(event("waits")))

        def stop():
            wait_for(lambda: relay.ledger()["received"] == 2, "the second event")
            relay.signal(signal.SIGTERM)
            half.send(body[20:])
            reply = half.getresponse()
            replies.append((reply.status, reply.headers, json.loads(reply.read())))

        in_threads([wait_for_commit, stop])
        half.close()
        self.assertEqual(relay.wait(), 0)
        self.assertEqual([reply[0] for reply in replies], [200, 200], replies)
        ledger = self.last_words(relay)
        self.assertEqual((ledger["accepted"], ledger["spooled"]), (3, 3))

    def test_a_half_sent_request_does_not_hold_the_exit(self):
        self.start_upstream()
        relay = self.start_relay()
        with StreamClient(relay.path("telemetry.stream.sock")) as stream:
            half = UnixHttp(relay.path("http.sock"), DEADLINE)
            half.connect()
            half.sock.sendall(b"POST /v1/ingest/llm-request HTTP/1.1\r\nContent-Length: 900\r\n")
            stream.send(line(event("whole")) + b'{"externalRequestId":"ha')
            stream.wait_settled(1)
            self.assertEqual(relay.end(DEADLINE / 2), 0)
            half.close()
        ledger = self.last_words(relay)
        self.assertEqual(ledger["accepted"], 1)
        self.assertEqual(ledger["delivered"] + ledger["spooled"], 1)

    def test_a_hung_name_server_does_not_hold_the_exit(self):
        """While a name is being resolved, and when that was given up before the signal."""
        compiler = shutil.which("cc")
        if compiler is None:
            self.skipTest("no compiler for the library that stands in for a hung name server")
        source = os.path.join(self.directory, "resolver.c")
        library = os.path.join(self.directory, "resolver.so")
        with open(source, "w", encoding="utf-8") as file:
            file.write(HUNG_RESOLVER)
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
        sanitizers = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
        for timeout, given_up in (("60s", False), ("1s", True)):
            with self.subTest(timeout=timeout):
                relay = self.start_relay(
                    name="hung-" + timeout, upstream_url="http://opsrelay-test.invalid:1",
                    config=f"upstream:\n  timeout: {timeout}\n  allow_plaintext: true\n",
                    environment={"LD_PRELOAD": library, "ASAN_OPTIONS": sanitizers})
                relay.post(event("nowhere"))
                if given_up:
                    wait_for(lambda: relay.lane()["state"] == "backing_off", "backing_off")
                    self.assertRegex(relay.lane()["last_error"], "^resolve: ")
                self.assertEqual(relay.end(DEADLINE / 4), 0)
                ledger = self.last_words(relay)
                self.assertEqual((ledger["accepted"], ledger["spooled"]), (1, 1))

    # --- A spool that dies with the pod ---

    @staticmethod
    def send_without_acks(relay):
        """One event each as a datagram, over UDP and as a plain line; their ids."""
        relay.datagram(line(event("datagram")))
        relay.udp(line(event("udp")))
        with StreamClient(relay.path("telemetry.stream.sock"), acks=False) as client:
            client.send(line(event("plain")))
        return ["datagram", "udp", "plain"]

    def test_an_ephemeral_spool_is_delivered_before_the_exit(self):
        """It keeps accepting meanwhile, and says on /readyz that it is about to go."""
        upstream = self.start_upstream("--set", "down=true")
        relay = self.start_relay(config=EPHEMERAL + NEVER)
        ids = self.ids("before", 300)
        self.assertEqual(relay.send_acked([event(one) for one in ids]), (300, 0))
        ids += self.send_without_acks(relay)
        self.wait_ledger(relay, accepted=303)
        relay.signal(signal.SIGTERM)
        self.wait_stopping(relay)
        late = self.ids("late", 20)
        self.assertEqual(relay.send_acked([event(one) for one in late]), (20, 0))
        self.assertEqual(relay.post(event("last"))[0], 200)
        upstream.control(down=False)
        self.assertEqual(relay.wait(), 0)
        ledger = self.last_words(relay)
        self.assertEqual((ledger["delivered"], ledger["spooled"]), (324, 0))
        self.assertEqual(sorted(upstream.row_ids()), sorted(ids + late + ["last"]))
        self.assertEqual(upstream.stats()["repeated"], 0)

    def test_an_ephemeral_spool_with_a_dead_upstream_ends_by_the_deadline(self):
        self.start_upstream("--set", "down=true")
        relay = self.start_relay(config=EPHEMERAL + "shutdown:\n  deadline: 2s\n")
        self.assertEqual(relay.send_acked([event() for _ in range(50)]), (50, 0))
        self.send_without_acks(relay)
        self.wait_ledger(relay, accepted=53)
        self.assertEqual(relay.end(DEADLINE / 2), 0)
        ledger = self.last_words(relay)
        self.assertEqual((ledger["delivered"], ledger["spooled"]), (0, 53))
        self.assertRegex(relay.log(), "level=error .*not everything could be delivered")

    def test_an_ephemeral_spool_is_tried_until_the_deadline_not_once(self):
        """A lane that backs off is not parked: an upstream that returns in time gets everything,
        although its next attempt was due after the deadline."""
        upstream = self.start_upstream("--set", "down=true")
        relay = self.start_relay(config=EPHEMERAL + "shutdown:\n  deadline: 3s\n")
        ids = self.ids("patient", 20)
        relay.send_acked([event(one) for one in ids])

        def attempts():
            found = re.search(r'requests_total{lane="default",code="refused"} (\d+)',
                              relay.admin("/metrics")[1])
            return int(found[1]) if found else 0

        def far():
            retry_at = relay.lane()["retry_at"]
            return retry_at and seconds_until(retry_at) > 3.5

        wait_for(far, "an attempt that is due after the deadline")
        before = attempts()
        relay.signal(signal.SIGTERM)
        with contextlib.suppress(OSError, http.client.HTTPException):  # it may have gone
            wait_for(lambda: attempts() > before, "another attempt")
        upstream.control(down=False)
        self.assertEqual(relay.wait(), 0)
        ledger = self.last_words(relay)
        self.assertEqual((ledger["delivered"], ledger["spooled"]), (20, 0))
        self.assertEqual(sorted(upstream.row_ids()), sorted(ids))

    def test_an_ephemeral_spool_does_not_wait_for_a_parked_lane(self):
        upstream = self.start_upstream()
        for fault, state in (("401", "unauthorized"), ("404", "misconfigured"),
                             ("402_plan", "plan_limited"), ("402_budget", "budget_stopped")):
            with self.subTest(state=state):
                upstream.control(script=[{"fault": fault, "times": 1000}])
                before = upstream.stats()["requests"]
                relay = self.start_relay(name=state, config=EPHEMERAL + NEVER)
                relay.send_acked([event() for _ in range(5)])
                wait_for(lambda: relay.lane()["state"] == state, state)
                self.assertEqual(relay.end(), 0)
                ledger = self.last_words(relay)
                self.assertEqual((ledger["delivered"], ledger["spooled"]), (0, 5))
                # One that parked the lane, and one last try.
                self.assertEqual(upstream.stats()["requests"], before + 2)
        self.assertEqual(upstream.row_ids(), [])
        with self.subTest(state="no_key"):
            relay = self.start_relay(name="no_key", config=EPHEMERAL + NEVER, key=None)
            relay.send_acked([event() for _ in range(5)])
            self.assertEqual(relay.end(), 0)
            self.assertEqual(self.last_words(relay)["spooled"], 5)

    def test_the_last_try_of_a_parked_lane_may_deliver_everything(self):
        upstream = self.start_upstream()
        upstream.control(script=["401"])
        relay = self.start_relay(config=EPHEMERAL + NEVER)
        ids = self.ids("parked", 30)
        relay.send_acked([event(one) for one in ids])
        wait_for(lambda: relay.lane()["state"] == "unauthorized", "unauthorized")
        self.assertEqual(relay.end(), 0)
        self.assertEqual(self.last_words(relay)["delivered"], 30)
        self.assertEqual(sorted(upstream.row_ids()), sorted(ids))

    def test_an_empty_ephemeral_spool_ends_at_once(self):
        self.start_upstream("--set", "down=true")
        relay = self.start_relay(config=EPHEMERAL + NEVER)
        self.assertEqual(relay.end(), 0)
        self.assertEqual(self.last_words(relay)["received"], 0)

    # --- The second signal ---

    def test_a_second_signal_ends_it_at_once(self):
        """Exit code 1; what was acknowledged is durable all the same."""
        upstream = self.start_upstream()
        for second in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(second=second.name):
                upstream.control(down=True)
                relay = self.start_relay(name=second.name, config=EPHEMERAL + NEVER)
                ids = self.ids(second.name, 40)
                self.assertEqual(relay.send_acked([event(one) for one in ids]), (40, 0))
                relay.signal(signal.SIGTERM)
                self.wait_stopping(relay)
                self.assertTrue(relay.running())
                relay.signal(second)
                self.assertEqual(relay.wait(), 1)
                upstream.control(down=False)
                relay.start()
                self.wait_ledger(relay, recovered=40, delivered=40, spooled=0)
                rows = [row for row in upstream.row_ids() if row.startswith(second.name)]
                self.assertEqual(sorted(rows), sorted(ids))


if __name__ == "__main__":
    unittest.main(verbosity=1)
