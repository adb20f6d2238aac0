#!/usr/bin/env python3
"""Who may send, and how much: tokens, users and groups, rates; and who may operate the daemon."""

import http.client
import json
import os
import pwd
import signal
import subprocess
import unittest

from harness import DEADLINE, INGEST, RelayTest, Upstream, event, http_json, line, wait_for

PYTHON = "/usr/bin/python3"  # one that other users may run
BATCH = "/v1/ingest/batch"
FIRST = "first-token-of-the-test"
SECOND = "second-token-of-the-test"

# Run by another user: sends its second argument to the socket of the first, prints what comes back.
SENDER = r"""
import socket, sys
kind, path, data = sys.argv[1], sys.argv[2], sys.argv[3].encode()
with socket.socket(socket.AF_UNIX, getattr(socket, kind)) as client:
    client.settimeout(30)
    client.connect(path)
    try:
        client.sendall(data)
        if kind == "SOCK_STREAM":
            client.shutdown(socket.SHUT_WR)
            while got := client.recv(65536):
                sys.stdout.write(got.decode())
    except ConnectionError as error:
        print(type(error).__name__)
"""


def need_root(test):
    return unittest.skipIf(os.geteuid() != 0, "only root can become another user")(test)


def metric(relay, name):
    """Sum of a counter's series."""
    total = 0
    for row in relay.admin("/metrics")[1].splitlines():
        if row.startswith(name + "{") or row.startswith(name + " "):
            total += float(row.rsplit(" ", 1)[1])
    return total


class AccessTest(RelayTest):
    def setUp(self):
        super().setUp()
        self.start_upstream()
        os.chmod(self.directory, 0o755)

    def write(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(path + ".new", path)
        return path

    def send_as_nobody(self, kind, path, data):
        """What came back to another user."""
        nobody = pwd.getpwnam("nobody")
        done = subprocess.run([PYTHON, "-c", SENDER, kind, path, data], check=False,
                              capture_output=True, text=True, timeout=DEADLINE,
                              user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[])
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout


class Tokens(AccessTest):
    def start_guarded(self, address="127.0.0.1:0", **more):
        self.tokens = self.write("tokens", FIRST + "\n")
        fields = f'type: http, address: "{address}", token_file: "{self.tokens}"'
        fields += "".join(f", {name}: {value}" for name, value in more.items())
        return self.start_relay(config=f"listeners:\n  - {{{fields}}}\n")

    def post(self, relay, headers, path=INGEST, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", relay.port("http"), timeout=DEADLINE)
        return http_json(connection, "POST", path, body or event(),
                         {"Content-Type": "application/json", **headers})

    def test_only_a_token_lets_in_whatever_the_path(self):
        relay = self.start_guarded()
        for headers in ({}, {"X-API-Key": "any"}, {"Authorization": "Bearer " + SECOND},
                        {"Authorization": FIRST}, {"X-API-Key": FIRST[:-1]}):
            for path in (INGEST, BATCH, "/nothing"):
                status, reply, body = self.post(relay, headers, path)
                self.assertEqual((status, body["reason"]), (401, "invalid_token"), headers)
                self.assertEqual(reply["WWW-Authenticate"], "Bearer")
        for headers in ({"X-API-Key": FIRST}, {"Authorization": "Bearer " + FIRST},
                        {"x-api-key": FIRST, "Host": "relay.example:8710"}):
            self.assertEqual(self.post(relay, headers)[0], 200, headers)
        self.wait_ledger(relay, received=3, delivered=3)
        # A page in a browser is kept out all the same.
        self.assertEqual(self.post(relay, {"X-API-Key": FIRST, "Origin": "http://evil.example"})[0],
                         403)

    def test_tokens_are_rotated_without_a_restart(self):
        relay = self.start_guarded()
        self.assertEqual(self.post(relay, {"X-API-Key": SECOND})[0], 401)
        self.write("tokens", f"{FIRST}\n{SECOND}\n")
        wait_for(lambda: self.post(relay, {"X-API-Key": SECOND})[0] == 200, "the new token")
        self.assertEqual(self.post(relay, {"X-API-Key": FIRST})[0], 200)
        self.write("tokens", SECOND)
        wait_for(lambda: self.post(relay, {"X-API-Key": FIRST})[0] == 401, "the old one's end")
        self.write("tokens", "too short\n")
        wait_for(lambda: "token file cannot be used" in relay.log(), "a warning")
        self.assertEqual(self.post(relay, {"X-API-Key": SECOND})[0], 200)
        self.assertNotIn(SECOND, relay.log())

    def test_another_address_than_loopback_is_asked_for_and_needs_a_token(self):
        relay = self.start_guarded("0.0.0.0:0", allow_remote="true")
        self.assertEqual(self.post(relay, {"X-API-Key": FIRST})[0], 200)
        self.assertEqual(self.post(relay, {})[0], 401)

    def test_a_bad_token_file_is_told_at_the_start(self):
        path = self.write("bad", "short\n")
        config = f'listeners:\n  - {{type: http, path: http.sock, token_file: "{path}"}}\n'
        with self.assertRaisesRegex(AssertionError, "line 1 is no token"):
            self.start_relay(config=config)


class Users(AccessTest):
    @need_root
    def test_listed_users_and_groups_may_send_and_others_are_counted(self):
        nobody = pwd.getpwnam("nobody")
        for name, allow, allowed in (("root only", "allow_uids: [0]", False),
                                     ("nobody too", f"allow_uids: [0, {nobody.pw_uid}]", True),
                                     ("by group", f"allow_gids: [{nobody.pw_gid}]", True)):
            with self.subTest(name):
                relay = self.start_relay(name="relay-" + name.replace(" ", "-"), config=f"""
listeners:
  - {{type: unix_datagram, path: telemetry.sock, {allow}}}
  - {{type: unix_stream, path: telemetry.stream.sock, {allow}}}
  - {{type: http, path: http.sock, {allow}}}
""")
                one = json.dumps(event("datagram"))
                self.send_as_nobody("SOCK_DGRAM", relay.path("telemetry.sock"), one)
                reply = self.send_as_nobody(
                    "SOCK_STREAM", relay.path("telemetry.stream.sock"),
                    '{"opsrelay":{"acks":true}}\n' + json.dumps(event("stream")))
                self.assertEqual('"durable":1' in reply, allowed, reply)
                body = json.dumps(event("http"))
                reply = self.send_as_nobody(
                    "SOCK_STREAM", relay.path("http.sock"),
                    f"POST {INGEST} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
                    + body)
                if allowed:
                    self.assertIn("HTTP/1.1 200 ", reply)
                    self.wait_ledger(relay, received=3, accepted=3)
                else:
                    self.assertIn("peer_not_allowed", reply)
                    self.wait_metric(relay, "opsrelay_peers_refused_total", 3)
                    self.assertEqual(relay.ledger()["received"], 0)
                    relay.datagram(line(event("mine")))
                    self.assertEqual(relay.post(event("mine too"))[0], 200)
                    self.wait_ledger(relay, received=2)
                self.assertEqual(relay.end(), 0)

    def wait_metric(self, relay, name, value):
        wait_for(lambda: metric(relay, name) == value, f"{name} {value}")

    @need_root
    def test_the_admin_socket_refuses_another_user_even_when_its_mode_does_not(self):
        relay = self.start_relay()
        path = relay.path("admin.sock")
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        request = "{} {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" \
                  "Content-Length: 2\r\n\r\n{{}}"
        os.chmod(path, 0o666)
        for method, target in (("GET", "/status"), ("POST", "/lanes/pause"), ("POST", "/reload")):
            reply = self.send_as_nobody("SOCK_STREAM", path, request.format(method, target))
            self.assertNotIn(" 200 ", reply)
            self.assertNotIn("ledger", reply)
        self.assertEqual(relay.admin("/status")[0], 200)
        self.assertNotEqual(relay.lane()["state"], "paused")


class Rates(AccessTest):
    CONFIG = """
listeners:
  - {type: unix_datagram, path: telemetry.sock, rate_limit: 5}
  - {type: unix_stream, path: telemetry.stream.sock, rate_limit: 200}
  - {type: http, path: http.sock, rate_limit: 5}
"""

    def test_more_than_a_peer_may_is_told_counted_and_may_be_sent_again(self):
        relay = self.start_relay(config=self.CONFIG)
        status, _, body = relay.post([event(f"batch-{number}") for number in range(50)], path=BATCH)
        statuses = [one["status"] for one in body["results"]]
        self.assertEqual((status, set(statuses)), (200, {200, 429}))
        self.assertEqual({one["reason"] for one in body["results"] if one["status"] == 429},
                         {"rate_limited"})
        refused = None
        for number in range(100):
            status, headers, body = relay.post(event(f"one-{number}"))
            if status == 429:
                refused = (body["reason"], headers["Retry-After"], f"one-{number}")
                break
        self.assertEqual(refused[:2], ("rate_limited", "1"))
        relay.datagram(b"".join(line(event()) for _ in range(60)))
        # Streams are left unread for a while instead.
        self.assertEqual(relay.send_acked([event() for _ in range(400)]), (400, 0))
        wait_for(lambda: relay.post(event(refused[2]))[0] == 200, "room for the refused one")
        ledger = self.wait_ledger(relay, spooled=0)
        self.assertGreater(ledger["reasons"]["shed.rate_limited"], 50)
        self.assertEqual(ledger["shed"], ledger["reasons"]["shed.rate_limited"])
        self.assertEqual(ledger["accepted"], ledger["delivered"])


class Mirror(AccessTest):
    """http.mirror_upstream: the status is upstream's, and the event is kept all the same."""

    CONFIG = "http: {mirror_upstream: true}\n"

    def start_mirror(self, name, *options, script=()):
        directory = os.path.join(self.directory, name)
        os.makedirs(directory)
        upstream = Upstream(directory, *options)
        self.processes.append(upstream)
        if script:
            upstream.control(script=list(script))
        relay = self.start_relay(name="relay-" + name, upstream_url=upstream.url,
                                 config=self.CONFIG)
        # Its answer is mirrored when upstream's comes before the commit is told.
        self.assertIn(relay.post(event("first"))[0], (200, 402))
        wait_for(lambda: relay.lane()["state"] not in ("active", "no_key"), name)
        return upstream, relay

    def test_402_of_the_plan_and_of_a_budget_and_429(self):
        for name, options, script, status, reason in (
                ("plan", ("--set", "plan.name=Free", "--set", "plan.used=10000"), (), 402,
                 "plan_limit_reached"),
                ("budget", ("--set", "budget.daily.limit_usd=1", "--set", "budget.stop=exceeded",
                            "--set", "budget.daily.spend_usd=2"), (), 402, "budget_exceeded"),
                ("throttled", ("--set", "rate_limit.per_second=0.001", "--set",
                               "rate_limit.burst=1"), (), 429, "rate_limited")):
            with self.subTest(name):
                _, relay = self.start_mirror(name, *options, script=script) \
                    if name != "throttled" else self.start_throttled(name, *options)
                for again in (False, True):
                    code, headers, body = relay.post(event("second"))
                    self.assertEqual((code, body["ok"], body["reason"]), (status, False, reason))
                    self.assertEqual(body["externalRequestId"], "second")
                    self.assertEqual(body.get("duplicate", False), again)
                    self.assertEqual("Retry-After" in headers, status == 429)
                # Kept: the ledger has both, and a crash does not lose the second.
                self.wait_ledger(relay, spooled=2)
                relay.kill()
                relay.start()
                self.assertEqual(relay.ledger()["recovered"], 2)
                # What is wrong with the event itself is told as ever, and batches say what was kept.
                self.assertEqual(relay.post({"model": "m"})[0], 400)
                _, _, body = relay.post([event("third")], path=BATCH)
                self.assertEqual(body["results"][0]["status"], 200)

    def start_throttled(self, name, *options):
        directory = os.path.join(self.directory, name)
        os.makedirs(directory)
        upstream = Upstream(directory, *options)
        self.processes.append(upstream)
        relay = self.start_relay(name="relay-" + name, upstream_url=upstream.url,
                                 config=self.CONFIG)
        self.assertEqual(relay.post(event("taken"))[0], 200)
        self.wait_ledger(relay, delivered=1)
        self.assertIn(relay.post(event("first"))[0], (200, 429))
        wait_for(lambda: relay.lane()["state"] == "throttled", "429")
        return upstream, relay

    def test_it_is_off_by_default_and_taken_over_by_a_reload(self):
        upstream, relay = self.start_mirror("plan", "--set", "plan.name=Free", "--set",
                                            "plan.used=10000")
        self.assertEqual(relay.post(event())[0], 402)
        with open(relay.config_file, "w", encoding="utf-8") as file:
            file.write("")
        relay.signal(signal.SIGHUP)
        wait_for(lambda: relay.post(event())[0] == 200, "the default")
        self.assertEqual(upstream.row_ids(), [])


if __name__ == "__main__":
    unittest.main(verbosity=1)
