#!/usr/bin/env python3
"""What the official SDKs and templates need of a local endpoint, point by point, with the requests that they
were seen to make."""

import contextlib
import http.client
import json
import os
import re
import socket
import unittest

from harness import DEADLINE, INGEST, RelayTest, UnixHttp, Upstream, event, http_json, wait_for

STATUS = "/v1/diagnostics/workspace-status"
SDK_TIMEOUT = 0.6
REPLY_FIELDS = {
    "ok": bool, "externalRequestId": str, "reason": (str, type(None)), "telemetryPaused": bool,
    "providerCallsContinue": bool, "isPlanLimitReached": bool, "budgetWarning": bool,
    "budgetExceeded": bool, "planTier": (str, type(None)), "warnings": list,
}


def sdk_event(event_id):
    """The shape that both SDKs send."""
    return {
        "externalRequestId": event_id, "provider": "openai", "model": "gpt-4o-mini-2024-07-18",
        "promptVersion": "unknown", "endpointTag": "sdk.unknown", "inputTokens": 12,
        "outputTokens": 3, "totalTokens": 15, "latencyMs": 200, "status": "success",
        "errorCode": None, "userId": None, "dataMode": "real", "environment": "prod",
        "metadata": {"operation": "chat.completions.create", "tenantId": None, "endpoint": None,
                     "feature": None, "providerRequestId": "chatcmpl-1", "sdkLanguage": "node"},
    }


def node_head(port, path, length):
    """As fetch() of Node 20 writes it."""
    return (f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: keep-alive\r\n"
            "Content-Type: application/json\r\nX-API-Key: any-key\r\naccept: */*\r\n"
            "accept-language: *\r\nsec-fetch-mode: cors\r\nuser-agent: node\r\n"
            f"accept-encoding: gzip, deflate\r\ncontent-length: {length}\r\n\r\n").encode()


def python_head(port, path, length):
    """As urllib.request writes it."""
    return (f"POST {path} HTTP/1.1\r\nAccept-Encoding: identity\r\nContent-Length: {length}\r\n"
            f"Host: 127.0.0.1:{port}\r\nUser-Agent: Python-urllib/3.11\r\n"
            "Content-Type: application/json\r\nX-Api-Key: any-key\r\nConnection: close\r\n\r\n"
            ).encode()


class ChecklistTest(RelayTest):
    def setUp(self):
        super().setUp()
        self.start_upstream()

    def start(self, **settings):
        relay = self.start_relay(**settings)
        self.port = relay.port("http")
        return relay

    def exchange(self, request):
        """(status, headers, body) of one raw request."""
        with socket.create_connection(("127.0.0.1", self.port), DEADLINE) as client:
            client.sendall(request)
            reply = http.client.HTTPResponse(client)
            reply.begin()
            return reply.status, reply.headers, reply.read()

    def assert_reply(self, body):
        for name, kind in REPLY_FIELDS.items():
            self.assertIn(name, body)
            self.assertIsInstance(body[name], kind, name)
        self.assertTrue(all(isinstance(one, str) for one in body["warnings"]), body)

    def test_1_plain_http_with_any_prefix_and_any_spelling_of_headers(self):
        relay = self.start()
        paths = [INGEST, "//v1/ingest/llm-request", "/some/prefix" + INGEST, INGEST + "/",
                 "/a//b" + INGEST + "?source=test"]
        for number, path in enumerate(paths):
            body = json.dumps(sdk_event(f"path-{number}")).encode()
            for head in (node_head, python_head):
                self.assertEqual(self.exchange(head(self.port, path, len(body)) + body)[0], 200)
        body = json.dumps(sdk_event("bare")).encode()
        bare = (f"POST {INGEST} HTTP/1.1\r\nHOST: localhost\r\n"
                f"content-LENGTH: {len(body)}\r\n").encode()
        for more in (b"", b"Content-Type: application/json; charset=utf-8\r\n",
                     b"CONTENT-TYPE: Application/JSON;charset=UTF-8\r\nx-api-KEY: k\r\n"):
            self.assertEqual(self.exchange(bare + more + b"\r\n" + body)[0], 200, more)
        self.wait_ledger(relay, accepted=len(paths) + 1, duplicates=len(paths) + 2)

    def test_2_the_reply_does_not_wait_for_upstream_and_a_resend_is_a_duplicate(self):
        self.upstream.control(latency_ms=3_600_000)
        relay = self.start()
        body = json.dumps(sdk_event("again")).encode()
        for number in range(3):
            status, _, reply = self.exchange(node_head(self.port, INGEST, len(body)) + body)
            self.assertEqual(status, 200)
            self.assertEqual(json.loads(reply).get("duplicate", False), number > 0)
        self.wait_ledger(relay, accepted=1, duplicates=2, delivered=0)
        # The default answers, or says 503, well before an SDK gives up.
        relay.end()
        relay.environment.pop("OPSRELAY_HTTP__ACK_TIMEOUT")
        with open(os.path.join(os.path.dirname(__file__), "..", "..", "README.md"),
                  encoding="utf-8") as file:
            default = re.search(r"`http.ack_timeout` \| (\d+)ms", file.read())
        self.assertLess(int(default[1]) / 1000, SDK_TIMEOUT)

    def test_3_every_durable_event_is_200_with_the_services_object(self):
        relay = self.start()
        for head in (node_head, python_head):
            body = json.dumps(sdk_event(head.__name__)).encode()
            status, headers, reply = self.exchange(head(self.port, INGEST, len(body)) + body)
            self.assertEqual((status, headers["Content-Type"]), (200, "application/json"))
            self.assertEqual(int(headers["Content-Length"]), len(reply), "never chunked")
            self.assert_reply(json.loads(reply))
            self.assertTrue(json.loads(reply)["ok"])
        self.wait_ledger(relay, delivered=2)

    def test_4_every_body_is_json_with_the_fields_that_clients_deserialise(self):
        self.start()
        body = json.dumps(sdk_event("x")).encode()
        good = node_head(self.port, INGEST, len(body)) + body
        requests = [
            node_head(self.port, INGEST, 5) + b"{bad}",
            node_head(self.port, INGEST, 2) + b"{}",
            node_head(self.port, INGEST, 1 << 20),
            node_head(self.port, "/nothing", len(body)) + body,
            good.replace(b"POST", b"PUT", 1),
            good.replace(b"application/json", b"text/plain", 1),
            good.replace(b"127.0.0.1", b"evil.example", 1),
            b"nonsense\r\n\r\n",
            good.replace(b"user-agent: node", b"x: " + b"y" * 9000, 1),
        ]
        for request in requests:
            status, headers, reply = self.exchange(request)
            self.assertGreaterEqual(status, 400, request[:200])
            self.assertEqual(headers["Content-Type"], "application/json")
            reply = json.loads(reply)
            self.assertIs(reply["ok"], False)
            self.assertIsInstance(reply.get("planTier"), (str, type(None)))
            self.assertIsInstance(reply["warnings"], list)
            self.assertIsInstance(reply["reason"], str)

    def states_of_upstream(self, config=""):
        """(name, relay) for every state in which upstream refuses."""
        for name, options, script in (
                ("plan", ("--set", "plan.name=Free", "--set", "plan.used=10000"), []),
                ("budget", ("--set", "budget.daily.limit_usd=1", "--set", "budget.stop=exceeded",
                            "--set", "budget.daily.spend_usd=2"), []),
                ("throttled", (), [{"fault": "429", "times": 1000}]),
                ("broken", (), [{"fault": "500_html", "times": 1000}]),
                ("elsewhere", (), [{"fault": "404", "times": 1000}])):
            directory = os.path.join(self.directory, name)
            os.makedirs(directory)
            upstream = Upstream(directory, *options)
            self.processes.append(upstream)
            if script:
                upstream.control(script=script)
            relay = self.start(name="relay-" + name, upstream_url=upstream.url, config=config)
            relay.post(sdk_event("first"))
            wait_for(lambda r=relay: r.lane()["state"] not in ("active", "no_key"), name)
            yield name, relay
            self.wait_ledger(relay, accepted=2, spooled=2)
            relay.end()
            upstream.kill()

    def test_5_states_of_upstream_show_in_a_200_and_never_as_its_status(self):
        expected = {"plan": {"telemetryPaused": True, "isPlanLimitReached": True},
                    "budget": {"budgetExceeded": True}}
        for name, relay in self.states_of_upstream():
            with self.subTest(state=name):
                status, _, body = relay.post(sdk_event("second"))
                self.assertEqual((status, body["ok"], body["providerCallsContinue"]),
                                 (200, True, True))
                for field, value in expected.get(name, {}).items():
                    self.assertEqual(body[field], value, field)

    def test_5_the_strict_mode_shows_what_templates_branch_on_and_keeps_the_event(self):
        expected = {"plan": (402, "plan_limit_reached"), "budget": (402, "budget_exceeded"),
                    "throttled": (429, "rate_limited"), "broken": (200, None),
                    "elsewhere": (200, None)}
        for name, _ in self.states_of_upstream("http: {mirror_upstream: true}\n"):
            # The second is a duplicate, and answered the same.
            for head in (node_head, python_head):
                with self.subTest(state=name, client=head.__name__):
                    body = json.dumps(sdk_event("second")).encode()
                    request = head(self.port, INGEST, len(body)) + body
                    status, headers, reply = self.exchange(request)
                    self.assertEqual(headers["Content-Type"], "application/json")
                    reply = json.loads(reply)
                    self.assert_reply(reply)
                    self.assertEqual((status, reply["reason"]), expected[name])
                    self.assertEqual(reply["ok"], status == 200)
                    self.assertTrue(reply["providerCallsContinue"])
                    self.assertEqual(headers["Retry-After"] is not None, status == 429)

    def test_6_128_connections_of_one_client_at_a_time_kept_alive_and_closed(self):
        relay = self.start()
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(
                socket.create_connection(("127.0.0.1", self.port), DEADLINE)) for _ in range(128)]
            for turn in range(2):
                for number, client in enumerate(clients):
                    body = json.dumps(sdk_event(f"{turn}-{number}")).encode()
                    client.sendall(node_head(self.port, INGEST, len(body)) + body)
                for client in clients:
                    reply = http.client.HTTPResponse(client)
                    reply.begin()
                    self.assertEqual(reply.status, 200)
                    self.assertIsNone(reply.getheader("Content-Encoding"))
                    self.assertEqual(reply.getheader("Connection"), "keep-alive")
                    reply.read()
            body = json.dumps(sdk_event("closing")).encode()
            clients[0].sendall(python_head(self.port, INGEST, len(body)) + body)
            received = b""
            while data := clients[0].recv(4096):
                received += data
            self.assertIn(b"Connection: close\r\n", received)
        self.wait_ledger(relay, accepted=257)

    def test_7_any_key_is_accepted_and_upstream_gets_the_relays_own(self):
        relay = self.start()
        for key in ("x", "another key", "k" * 2000):
            status, _, _ = relay.post(sdk_event(key[:20]), {"Content-Type": "application/json",
                                                            "X-API-Key": key})
            self.assertEqual(status, 200)
        self.wait_ledger(relay, delivered=3, spooled=0)
        self.assertEqual(self.upstream.stats()["by_status"], {"200": 3})

    def test_8_workspace_status_has_what_templates_read(self):
        relay = self.start()
        for upstream_answers in (True, False):
            status, _, body = http_json(UnixHttp(relay.path("http.sock"), DEADLINE), "GET", STATUS,
                                        headers={"X-API-Key": "any"})
            self.assertEqual(status, 200)
            for name in ("isPlanLimitReached", "telemetryPaused", "isBudgetWarning",
                         "isBudgetExceeded"):
                self.assertIsInstance(body[name], bool)
            self.assertIn(body["severity"], ("normal", "warning", "critical"))
            for window in ("daily", "monthly"):
                self.assertIn("currentSpendUsd", body["budget"][window])
            self.assertEqual("stale" in body, not upstream_answers)
            if upstream_answers:
                relay.end()
                self.upstream.kill()
                relay.start()

    def test_9_lenient_where_the_service_is(self):
        relay = self.start()
        cases = {
            "unknown fields": event("unknown", vendor={"a": [1, {"b": None}]}, region="eu"),
            "null optionals": event("nulls", errorCode=None, userId=None, dataMode=None,
                                    environment=None, latencyMs=None, metadata=None),
            "integer errorCode": event("code", status="error", errorCode=429),
            "zero tokens": event("zero", inputTokens=0, outputTokens=0, totalTokens=0),
            "n8n's short integer id": event(4711),
        }
        for why, one in cases.items():
            status, _, body = relay.post(one)
            self.assertEqual((status, body["ok"]), (200, True), why)
        minted = event()
        del minted["externalRequestId"]
        _, _, first = relay.post(minted)
        _, _, second = relay.post(minted)
        self.assertRegex(first["externalRequestId"], r"^[0-9a-f-]{36}$")
        self.assertNotEqual(first["externalRequestId"], second["externalRequestId"])
        self.wait_ledger(relay, delivered=len(cases) + 2, spooled=0)
        self.assertIn("4711", self.upstream.row_ids())
        metrics = relay.admin("/metrics")[1]
        self.assertIn('opsrelay_events_repaired_total{kind="minted_id"} 2', metrics)


if __name__ == "__main__":
    unittest.main(verbosity=1)
