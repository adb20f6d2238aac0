#!/usr/bin/env python3
"""The HTTP listeners beyond single events: workspace-status, lanes by path, connections that live
long, and many of them over an outage and a kill -9."""

import gzip
import http.client
import json
import os
import signal
import socket
import unittest

from harness import (DEADLINE, INGEST, RelayTest, UnixHttp, Upstream, event, http_json, in_threads,
                     wait_for)

BATCH = "/v1/ingest/batch"
STATUS = "/v1/diagnostics/workspace-status"
FLAGS = ("isPlanLimitReached", "telemetryPaused", "isBudgetWarning", "isBudgetExceeded")


def head_of(method, path, body, **fields):
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json",
             f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class HttpTest(RelayTest):
    def get_status(self, relay, prefix="", timeout=DEADLINE):
        status, _, body = http_json(UnixHttp(relay.path("http.sock"), timeout), "GET",
                                    prefix + STATUS, headers={"X-API-Key": "any"})
        self.assertEqual(status, 200, body)
        return body

    def connect(self, relay):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(DEADLINE)
        client.connect(relay.path("http.sock"))
        self.addCleanup(client.close)
        return client

    def read_reply(self, client):
        reply = http.client.HTTPResponse(client)
        reply.begin()
        return reply.status, json.loads(reply.read())


class WorkspaceStatus(HttpTest):

    def test_upstreams_words_are_passed_on_and_asked_for_once_a_minute(self):
        upstream = self.start_upstream("--set", "plan.name=Free", "--set", "plan.used=9990",
                                       "--set", "budget.daily.limit_usd=1",
                                       "--set", "budget.daily.spend_usd=0.9")
        relay = self.start_relay()
        bodies = []
        in_threads([lambda: bodies.append(self.get_status(relay)) for _ in range(20)])
        bodies.append(self.get_status(relay))
        expected = upstream.workspace_status()
        for body in bodies:
            self.assertEqual(body, expected)
        self.assertTrue(expected["isBudgetWarning"])
        self.assertEqual(upstream.stats()["status_requests"], 1 + 1, "ours, and this test's own")
        # No event is made of it, and the replies to events know what it said.
        self.assertEqual(relay.ledger()["received"], 0)
        self.assertTrue(relay.post(event())[2]["budgetWarning"])

    def test_without_an_answer_it_is_our_own_view(self):
        upstream = self.start_upstream()
        upstream.control(workspace_status="broken")
        relay = self.start_relay()
        body = self.get_status(relay)
        self.assertTrue(body["stale"])
        self.assertEqual([body[name] for name in FLAGS], [False] * 4)
        self.assertEqual(body["severity"], "normal")
        for window in ("daily", "monthly"):
            self.assertIsNone(body["budget"][window]["currentSpendUsd"])
        for _ in range(10):
            self.get_status(relay)
        self.assertEqual(upstream.stats()["status_requests"], 1, "a failure is not asked for again")

    def test_our_own_view_knows_what_replies_to_events_said(self):
        upstream = self.start_upstream("--set", "plan.name=Free", "--set", "plan.used=10000")
        upstream.control(workspace_status="missing")
        relay = self.start_relay()
        relay.post(event())
        wait_for(lambda: relay.lane()["state"] == "plan_limited", "402")
        body = self.get_status(relay)
        self.assertTrue(body["stale"])
        self.assertTrue(body["telemetryPaused"])
        self.assertTrue(body["isPlanLimitReached"])
        self.assertEqual(body["severity"], "critical")
        self.assertEqual(body["plan"]["planTier"].lower(), "free")

    def test_a_slow_or_dead_upstream_delays_nobody(self):
        upstream = self.start_upstream()
        relay = self.start_relay(environment={"OPSRELAY_HTTP__ACK_TIMEOUT": "100ms"})
        upstream.signal(signal.SIGSTOP)  # takes connections, and says nothing
        self.assertTrue(self.get_status(relay, timeout=20)["stale"])
        self.assertTrue(self.get_status(relay, timeout=20)["stale"])
        upstream.kill()
        self.assertTrue(self.get_status(relay, timeout=20)["stale"])
        self.assertEqual(relay.end(), 0)

    def test_a_lane_that_may_not_talk_is_not_asked(self):
        """Without a key, and while the breaker is open, upstream is left alone."""
        upstream = self.start_upstream()
        relay = self.start_relay(key="")
        self.assertTrue(self.get_status(relay)["stale"])
        self.assertEqual(upstream.stats()["status_requests"], 0)

    def test_it_works_from_relay_to_relay(self):
        self.start_upstream("--set", "plan.name=Starter")
        second = self.start_relay(name="second")
        first = self.start_relay(name="first", upstream_url=f"unix:{second.path('http.sock')}",
                                 config="upstream: {kind: batch}\n")
        self.assertEqual(self.get_status(first)["plan"]["planTier"], "starter")


class LanesByPath(HttpTest):
    def start_two(self):
        self.start_upstream()
        directory = os.path.join(self.directory, "other")
        os.makedirs(directory)
        self.other = Upstream(directory, key="other-key")
        self.processes.append(self.other)
        key_file = os.path.join(directory, "key")
        with open(key_file, "w", encoding="utf-8") as file:
            file.write("other-key")
        self.lanes = f'lanes:\n  europe: {{url: "{self.other.url}", api_key_file: "{key_file}"}}\n'
        return self.start_relay(config=self.lanes)

    def test_the_path_says_which_lane(self):
        relay = self.start_two()
        for number in range(5):
            path = f"/lanes/europe{INGEST}" if number % 2 == 0 else f"/lanes/default{INGEST}"
            self.assertEqual(relay.post(event(f"one-{number}"), path=path)[0], 200)
        batch = [event(f"batch-{number}") for number in range(10)]
        status, _, body = relay.post(batch, path=f"//relay/lanes/europe/{BATCH}")
        self.assertEqual((status, len(body["results"])), (200, 10))
        self.wait_ledger(relay, delivered=15, spooled=0)
        self.assertEqual(sorted(self.other.row_ids()),
                         sorted([f"one-{n}" for n in (0, 2, 4)] + [f"batch-{n}" for n in range(10)]))
        self.assertEqual(sorted(self.upstream.row_ids()), ["one-1", "one-3"])
        self.assertIn("budget", self.get_status(relay, "/lanes/europe"))
        self.assertEqual(self.other.stats()["status_requests"], 1)
        self.assertEqual(self.upstream.stats()["status_requests"], 0)

    def test_an_unknown_lane_is_told_which_there_are(self):
        relay = self.start_two()
        for method, path in (("POST", INGEST), ("POST", BATCH), ("GET", STATUS)):
            connection = UnixHttp(relay.path("http.sock"), DEADLINE)
            status, _, body = http_json(connection, method, f"/lanes/asia{path}",
                                        None if method == "GET" else event())
            self.assertEqual((status, body["reason"]), (404, "unknown_lane"), body)
            self.assertIn("default, europe", body["errors"][0]["message"])
        self.assertEqual(relay.ledger()["received"], 0)

    def test_a_reload_brings_and_takes_lanes(self):
        relay = self.start_two()
        path = f"/lanes/more{INGEST}"
        self.assertEqual(relay.post(event(), path=path)[0], 404)
        with open(relay.config_file, "w", encoding="utf-8") as file:
            file.write(self.lanes.replace("europe", "more"))
        relay.signal(signal.SIGHUP)
        wait_for(lambda: relay.post(event(), path=path)[0] == 200, "the new lane")
        self.assertEqual(relay.post(event(), path=f"/lanes/europe{INGEST}")[0], 404)


class Connections(HttpTest):
    def test_a_connection_is_kept_alive_until_it_is_asked_to_close(self):
        self.start_upstream()
        relay = self.start_relay()
        client = self.connect(relay)
        for number in range(300):
            body = json.dumps(event(f"kept-{number}")).encode()
            client.sendall(head_of("POST", INGEST, body) + body)
            self.assertEqual(self.read_reply(client)[0], 200)
        body = json.dumps(event("last")).encode()
        client.sendall(head_of("POST", INGEST, body, Connection="close") + body)
        self.assertEqual(self.read_reply(client)[0], 200)
        self.assertEqual(client.recv(1), b"")
        self.wait_ledger(relay, accepted=301)

    def test_a_client_may_ask_before_it_sends_the_body(self):
        self.start_upstream()
        relay = self.start_relay()
        client = self.connect(relay)
        body = json.dumps([event("asked")]).encode()
        client.sendall(head_of("POST", BATCH, body, Expect="100-continue"))
        self.assertEqual(client.recv(4096), b"HTTP/1.1 100 Continue\r\n\r\n")
        client.sendall(body)
        self.assertEqual(self.read_reply(client), (200, {"results": [
            {"index": 0, "status": 200, "reason": None}]}))
        # What would be refused is refused before the body is asked for.
        other = self.connect(relay)
        other.sendall(head_of("POST", INGEST, b"x" * (1 << 20), Expect="100-continue"))
        self.assertEqual(self.read_reply(other)[0], 413)

    def test_decompression_bombs_are_refused_without_being_unpacked(self):
        self.start_upstream()
        relay = self.start_relay()
        bombs = {
            "a gibibyte of zeros": gzip.compress(bytes(256 << 20), 9),
            "spaces": gzip.compress(b" " * (64 << 20), 9),
            "ten thousand members": gzip.compress(b"{}\n" * 200) * 10_000,
        }
        for name, bomb in bombs.items():
            headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
            status, _, body = relay.post(bomb[:1 << 20], headers, BATCH)
            self.assertEqual((status, body["reason"]), (413, "too_large"), name)
        with open(f"/proc/{relay.pid}/status", encoding="ascii") as file:
            peak = next(int(row.split()[1]) for row in file if row.startswith("VmHWM"))
        self.assertLess(peak, 512 << 10, "KiB")
        self.assertEqual(relay.post(event("after"))[0], 200)
        self.wait_ledger(relay, rejected=3, accepted=1)

    def test_10_000_events_over_128_connections_survive_a_dead_upstream_and_kill_9(self):
        upstream = self.start_upstream()
        port = upstream.port
        upstream.kill()
        relay = self.start_relay()
        ids = [[f"c{one}-{number}" for number in range(79)] for one in range(128)]
        replies = []

        def post_all(mine):
            connection = UnixHttp(relay.path("http.sock"), DEADLINE)
            try:
                for one in mine:
                    connection.request("POST", INGEST, json.dumps(event(one)),
                                       {"Content-Type": "application/json", "X-API-Key": "any"})
                    reply = connection.getresponse()
                    body = json.loads(reply.read())
                    replies.append((reply.status, body.get("ok"), one))
            finally:
                connection.close()

        in_threads([lambda mine=mine: post_all(mine) for mine in ids])
        relay.kill()
        sent = sorted(one for mine in ids for one in mine)
        self.assertGreaterEqual(len(sent), 10_000)
        self.assertEqual(sorted(one for status, ok, one in replies if (status, ok) == (200, True)),
                         sent)
        directory = os.path.join(self.directory, "again")
        os.makedirs(directory)
        upstream = Upstream(directory, port=port)
        self.processes.append(upstream)
        relay.start()
        self.wait_ledger(relay, spooled=0, recovered=len(sent))
        self.assertEqual(sorted(upstream.row_ids()), sent)


if __name__ == "__main__":
    unittest.main(verbosity=1)
