#!/usr/bin/env python3
"""Bad input of every kind, on every listener: each has its one counted reason, and the valid events
around it all become rows."""

import contextlib
import http.client
import json
import os
import re
import resource
import select
import socket
import unittest

from harness import (DEADLINE, INGEST, RelayTest, StreamClient, UnixHttp, event, http_json, in_threads,
                     line, wait_for)

EVENT_BYTES_MAX = 64 << 10
CONNECTIONS_MAX = 1024


def text(**fields):
    """An event as JSON bytes; `...` as a value leaves the field out."""
    return json.dumps(event(**fields), separators=(",", ":")).encode()


def sized(event_id, size):
    """A valid event of exactly so many bytes."""
    room = size - len(text(event_id=event_id, pad=""))
    assert room >= 0, size
    return text(event_id=event_id, pad="x" * room)


def nested(depth):
    """An event nested this deep, itself included."""
    return text(deep="@").replace(b'"@"', b"[" * (depth - 1) + b"]" * (depth - 1))


# (why, bytes, reason): none contains a newline, so that each fits every listener.
BAD = [
    ("half an event", b'{"externalRequestId":"half","provider":"openai"', "not_json"),
    ("no JSON at all", b"GET / HTTP/1.1", "not_json"),
    ("an open brace", b"{", "not_json"),
    ("trailing comma", b'{"provider":"a","model":"b",}', "not_json"),
    ("single quotes", b"{'provider':'a','model':'b'}", "not_json"),
    ("a comment", b'{"provider":"a",/* x */"model":"b"}', "not_json"),
    ("not a number", b'{"provider":"a","model":"b","inputTokens":NaN}', "not_json"),
    ("a leading zero", b'{"provider":"a","model":"b","inputTokens":007}', "not_json"),
    ("two events", b'{"provider":"a","model":"b"}{"provider":"a","model":"b"}', "not_json"),
    ("a byte order mark", b"\xef\xbb\xbf" + text(), "not_json"),
    ("NUL bytes", b"\0\0\0\0", "not_json"),
    ("a NUL byte inside", text().replace(b"openai", b"open\0ai"), "not_json"),
    ("a NUL byte behind", text() + b"\0", "not_json"),
    ("a control character in a string", text().replace(b"openai", b"open\x01ai"), "not_json"),
    ("an array", b"[]", "not_an_object"),
    ("an array of an event", b"[" + text() + b"]", "not_an_object"),
    ("a string", b'"event"', "not_an_object"),
    ("a number", b"42", "not_an_object"),
    ("null", b"null", "not_an_object"),
    ("true", b"true", "not_an_object"),
    ("nested 17 deep", nested(17), "too_deep"),
    ("nested 60,000 deep", b'{"x":' + b"[" * 60_000, "too_deep"),
    ("objects 60,000 bytes deep", b'{"a":' * 12_000, "too_deep"),
    ("a key twice", b'{"provider":"a","model":"b","model":"c"}', "duplicate_key"),
    ("an escaped key twice", b'{"provider":"a","model":"b","\\u006dodel":"c"}', "duplicate_key"),
    ("an unknown key twice", text(x=1).replace(b'"x":1', b'"x":1,"x":1'), "duplicate_key"),
    ("invalid UTF-8", text().replace(b"openai", b"open\xffai"), "bad_utf8"),
    ("invalid UTF-8 in a key", text(key=1).replace(b'"key"', b'"k\xc3y"'), "bad_utf8"),
    ("an overlong form", text().replace(b"openai", b"open\xc0\xafai"), "bad_utf8"),
    ("a surrogate", text().replace(b"openai", b"open\xed\xa0\x80ai"), "bad_utf8"),
    ("half a surrogate pair", text().replace(b"openai", b"open\\ud83dai"), "bad_utf8"),
    ("nothing but 0xff", b"\xff" * 100, "bad_utf8"),
    ("provider absent", text(provider=...), "missing_provider"),
    ("provider null", text(provider=None), "missing_provider"),
    ("provider empty", text(provider=""), "missing_provider"),
    ("provider blank", text(provider=" \t"), "missing_provider"),
    ("model absent", text(model=...), "missing_model"),
    ("model null", text(model=None), "missing_model"),
    ("model blank", text(model="  "), "missing_model"),
    ("nothing in it", b"{}", "missing_provider"),
    ("provider a number", text(provider=5), "bad_type"),
    ("model a list", text(model=["gpt-4o"]), "bad_type"),
    ("id a fraction", text(externalRequestId=1.5), "bad_id"),
    ("id a boolean", text(externalRequestId=True), "bad_id"),
    ("id an object", text(externalRequestId={}), "bad_id"),
    ("id empty", text(externalRequestId=""), "bad_id"),
    ("id blank", text(externalRequestId="   "), "bad_id"),
    ("id of 257 bytes", text(externalRequestId="i" * 257), "bad_id"),
    ("a control character in the id", text(externalRequestId="a\nb"), "bad_id"),
    ("a NUL in the id", text(externalRequestId="a\0b"), "bad_id"),
    ("tokens as text", text(inputTokens="742"), "bad_tokens"),
    ("negative tokens", text(outputTokens=-1), "bad_tokens"),
    ("half a token", text(totalTokens=0.5), "bad_tokens"),
    ("tokens beyond 32 bits", text(inputTokens=2**31), "bad_tokens"),
    ("tokens beyond all bits", text().replace(b":742", b":1e400"), "bad_tokens"),
    ("tokens a boolean", text(inputTokens=True), "bad_tokens"),
    ("a sum beyond 32 bits",
     text(inputTokens=2**31 - 1, outputTokens=1, totalTokens=...), "bad_tokens"),
    ("status unknown", text(status="ok"), "bad_status"),
    ("status a number", text(status=200), "bad_status"),
    ("environment unknown", text(environment="production"), "bad_enum"),
    ("dataMode unknown", text(dataMode="live"), "bad_enum"),
    ("dataMode a number", text(dataMode=1), "bad_enum"),
    ("latency as text", text(latencyMs="1043"), "bad_type"),
    ("negative latency", text(latencyMs=-1), "bad_type"),
    ("errorCode an object", text(errorCode={"code": 429}), "bad_type"),
    ("errorCode a boolean", text(errorCode=True), "bad_type"),
    ("endpointTag a number", text(endpointTag=5), "bad_type"),
    ("userId too long", text(userId="u" * 257), "bad_type"),
    ("tenantId a list", text(tenantId=[]), "bad_type"),
    ("featureTag an object", text(featureTag={}), "bad_type"),
    ("promptVersion a boolean", text(promptVersion=False), "bad_type"),
    ("metadata a list", text(metadata=[]), "bad_type"),
    ("metadata nested", text(metadata={"a": {"b": 1}}), "bad_type"),
]

# Fields whose absence is repaired, not refused.
OPTIONAL = ["externalRequestId", "inputTokens", "outputTokens", "totalTokens", "status",
            "latencyMs", "dataMode", "environment", "endpointTag", "promptVersion"]


def count_reasons(reasons):
    counts = {}
    for reason in reasons:
        counts["rejected." + reason] = counts.get("rejected." + reason, 0) + 1
    return counts


def metric(relay, name):
    """Sum of the series of a counter."""
    _, exposition = relay.admin("/metrics")
    found = re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", exposition, re.MULTILINE)
    return sum(float(value) for value in found)


def received_over(relay, kind):
    """Messages that listeners of this kind received."""
    return sum(listener["received"] for listener in relay.status()["listeners"]
               if listener["type"] == kind)


def memory(pid):
    """(VmHWM in bytes, whether a sanitizer's shadow memory is mapped)."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        sizes = {key: int(kib) << 10 for key, kib in re.findall(r"^(Vm\w+):\s+(\d+) kB$",
                                                                file.read(), re.MULTILINE)}
    return sizes["VmHWM"], sizes["VmPeak"] > 1 << 40


@contextlib.contextmanager
def descriptors(wanted):
    """Lets this process, and what it starts, have so many descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield limit
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(path, timeout=DEADLINE):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(timeout)
    client.connect(path)
    return client


def receive_all(client):
    """What the peer sent until it closed or reset the connection."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while data := client.recv(65536):
            received += data
    return received


class InputTest(RelayTest):
    def setUp(self):
        super().setUp()
        self.start_upstream()

    def settle(self, relay, received, reasons=(), rows=None, duplicates=0):
        """Waits until everything has its outcome; checks reasons and rows; returns the ledger."""
        ledger = self.wait_ledger(relay, received=received, pending=0, spooled=0)
        expected = count_reasons(reasons)
        rejected = {key: value for key, value in ledger["reasons"].items()
                    if key.startswith("rejected.")}
        self.assertEqual(rejected, expected)
        self.assertEqual(ledger["duplicates"], duplicates)
        self.assertEqual(ledger["delivered"], received - len(reasons) - duplicates)
        self.assertEqual((ledger["shed"], ledger["dead"], ledger["dropped"]), (0, 0, 0))
        if rows is not None:
            self.assertEqual(sorted(self.upstream.row_ids()), sorted(rows))
        return ledger

    def mixed(self):
        """Bad messages with a valid one before each and one at the end: (messages, good ids)."""
        messages, good = [], []
        for number, (_, bad, _) in enumerate(BAD):
            good.append(f"good-{number}")
            messages += [text(event_id=good[-1]), bad]
        good.append("good-last")
        return [*messages, text(event_id="good-last")], good

    def test_every_reason_on_the_stream_with_exact_acks(self):
        relay = self.start_relay()
        messages, good = self.mixed()
        with StreamClient(relay.path("telemetry.stream.sock")) as client:
            client.send(b"".join(line(message) for message in messages))
            self.assertEqual(client.finish(), (len(good), len(BAD)))
        self.settle(relay, len(messages), [reason for _, _, reason in BAD], good)

    def test_every_reason_in_datagrams(self):
        relay = self.start_relay()
        messages, good = self.mixed()
        for message in messages:
            relay.datagram(message)
        self.settle(relay, len(messages), [reason for _, _, reason in BAD], good)

    def test_every_reason_over_udp(self):
        relay = self.start_relay()
        messages, good = self.mixed()
        port = relay.port("udp")
        for number, message in enumerate(messages, 1):
            relay.udp(message, port)
            if number % 8 == 0:  # a paced sender: UDP has no flow control
                self.wait_ledger(relay, received=number)
        self.settle(relay, len(messages), [reason for _, _, reason in BAD], good)

    def test_every_reason_over_http_is_told(self):
        relay = self.start_relay()
        good = []
        for number, (why, bad, reason) in enumerate(BAD):
            good.append(f"good-{number}")
            status, _, body = relay.post(text(event_id=good[-1]))
            self.assertEqual((status, body["ok"], body["externalRequestId"]), (200, True, good[-1]))
            status, _, body = relay.post(bad)
            self.assertEqual((status, body["ok"], body["reason"]), (400, False, reason), why)
            self.assertEqual(len(body["errors"]), 1, why)
            self.assertTrue(body["errors"][0]["message"], why)
        self.settle(relay, 2 * len(BAD), [reason for _, _, reason in BAD], good)

    def test_an_id_is_required_when_asked_for(self):
        relay = self.start_relay(config="events: {missing_id: reject}\n")
        lines = [text(externalRequestId=...), text(event_id="has-one"),
                 text(externalRequestId=None)]
        self.assertEqual(relay.send_acked(lines), (1, 2))
        self.settle(relay, 3, ["missing_id"] * 2, ["has-one"])

    def test_absent_optional_fields_are_filled_in_not_refused(self):
        relay = self.start_relay()
        lines = [text(event_id=f"no-{name}", **{name: ...}) for name in OPTIONAL]
        lines.append(text(event_id="bare", **{name: ... for name in OPTIONAL[1:]}))
        self.assertEqual(relay.send_acked(lines), (len(lines), 0))
        self.wait_ledger(relay, delivered=len(lines), spooled=0)
        rows = {row["externalRequestId"]: row["body"] for row in self.rows()}
        minted = set(rows) - {f"no-{name}" for name in OPTIONAL} - {"bare"}
        self.assertEqual(len(minted), 1, "one id was made")
        self.assertEqual(len(rows), len(lines))
        bare = rows["bare"]
        self.assertEqual((bare["inputTokens"], bare["totalTokens"], bare["status"]),
                         (0, 0, "success"))
        self.assertNotIn("latencyMs", bare)

    def test_what_the_privacy_rules_forbid_reaches_neither_the_disk_nor_upstream(self):
        key_file = os.path.join(self.directory, "hash-key")
        with open(key_file, "w", encoding="utf-8") as file:
            file.write("0123456789abcdef0123456789abcdef\n")
        relay = self.start_relay(config=f"""
privacy: {{user_id: hash, tenant_id: drop, hash_key_file: {key_file}}}
events: {{model_aliases: {{gpt-4.1: gpt-4-1}}}}
listeners:
  - {{type: unix_stream, path: telemetry.stream.sock, defaults: {{featureTag: triage}}}}
""")
        usage = {"prompt_tokens": 30, "completion_tokens": 5, "total_tokens": 35}
        secret = {"prompt": "zq-secret", "metadata": {"Content": "zq-secret", "tenantId": "zq-acme"},
                  "userId": "zq-bob@example.com", "tenantId": "zq-acme"}
        good = text(event_id="kept", model="gpt-4.1", usage=usage, inputTokens=..., outputTokens=...,
                    totalTokens=..., **secret)
        self.assertEqual(relay.send_acked([good, text(status="perhaps", **secret)]), (1, 1))
        self.wait_ledger(relay, delivered=1, spooled=0)
        row = self.rows()[0]["body"]
        self.assertEqual((row["inputTokens"], row["outputTokens"], row["totalTokens"]), (30, 5, 35))
        self.assertEqual((row["model"], row["featureTag"]), ("gpt-4-1", "triage"))
        self.assertRegex(row["userId"], "^h_[0-9a-f]{32}$")
        self.assertTrue({"prompt", "usage", "tenantId"}.isdisjoint(row), row)
        self.assertEqual(relay.end(), 0)
        for folder, _, names in os.walk(relay.spool_dir):
            for name in names:
                with open(os.path.join(folder, name), "rb") as file:
                    self.assertNotIn(b"zq-", file.read(), name)
        self.assertNotIn("zq-", relay.log())

    def rows(self):
        """Rows one by one: the answer is NDJSON."""
        return [json.loads(row) for row in self.raw_rows()]

    def raw_rows(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream.control_port,
                                                timeout=DEADLINE)
        try:
            connection.request("GET", "/rows")
            return connection.getresponse().read().splitlines()
        finally:
            connection.close()

    def test_unknown_fields_arrive_byte_for_byte(self):
        relay = self.start_relay()
        odd = (b' {"externalRequestId":"odd", "provider":"openai" ,"model":"m","vendor":'
               b'{"a":[1,2.50,-0,1E+2,{"b":"\\u00e9\\/\\ud83d\\ude00"}]},"gr\xc3\xb6\xc3\x9fe"\t:'
               b' "\xc3\xa4","inputTokens":1,"outputTokens":2,"totalTokens":3,"status":"success",'
               b'"createdAt":"2026-05-01T00:00:00Z","empty":{}} ')
        self.assertEqual(relay.send_acked([odd, b"not json", nested(16)]), (2, 1))
        self.settle(relay, 3, ["not_json"])
        row = next(row for row in self.raw_rows() if b'"odd"' in row)
        self.assertIn(odd.strip(), row)

    def test_oversize_lines(self):
        relay = self.start_relay()
        lines = [
            sized("fits", EVENT_BYTES_MAX),
            sized("fits-cr", EVENT_BYTES_MAX) + b"\r",
            sized("one-more", EVENT_BYTES_MAX + 1),
            text(event_id="between"),
            b"x" * (1 << 20),
            b"\0" * (EVENT_BYTES_MAX + 1),
            text(event_id="last"),
        ]
        self.assertEqual(relay.send_acked(lines), (4, 3))
        self.settle(relay, len(lines), ["too_large"] * 3, ["fits", "fits-cr", "between", "last"])

    def test_oversize_datagrams(self):
        relay = self.start_relay()
        relay.datagram(sized("fits", EVENT_BYTES_MAX))
        relay.datagram(sized("too-large", EVENT_BYTES_MAX + 1))
        relay.datagram(b"x" * (150 << 10))
        many = [f"line-{number}" for number in range(10)]
        relay.datagram(b"".join(line(sized(one, 6000)) for one in many) + b"y" * 20_000)  # read whole
        packed = [f"packed-{number}" for number in range(400)]
        relay.datagram(b"".join(line(sized(one, 284)) for one in packed))
        cut = [f"cut-{number}" for number in range(40)]  # 29 of 9,001 bytes end before the cut
        relay.datagram(b"".join(line(sized(one, 9000)) for one in cut))
        relay.datagram(text(event_id="last"))
        self.settle(relay, 1 + 1 + 1 + 11 + 400 + 30 + 1, ["too_large"] * 3 + ["not_json"],
                    ["fits", *many, *packed, *cut[:29], "last"])
        status, _, found = http_json(UnixHttp(relay.path("admin.sock")), "POST", "/dead/list", {})
        self.assertEqual(status, 200, found)
        self.assertEqual(sorted(letter["bytes"] for letter in found["letters"]),
                         [20_000, EVENT_BYTES_MAX + 1, 11 * 9001, 150 << 10])

    def test_udp_datagrams_are_capped_by_the_kernel(self):
        relay = self.start_relay()
        port = relay.port("udp")
        relay.udp(sized("largest", 65_507), port)
        with self.assertRaises(OSError):
            relay.udp(b"x" * 65_508, port)
        relay.udp(text(event_id="last"), port)
        self.settle(relay, 2, [], ["largest", "last"])

    def test_half_a_line_then_close_counts_as_a_line(self):
        relay = self.start_relay()
        path = relay.path("telemetry.stream.sock")
        with connect(path) as client:
            client.sendall(line(text(event_id="whole")) + b'{"externalRequestId":"ha')
        with connect(path) as client:
            client.sendall(line(b"nonsense") + text(event_id="unterminated"))
        with StreamClient(path) as client:
            client.send(line(text(event_id="acked")) + text(event_id="acked-unterminated"))
            self.assertEqual(client.finish(), (2, 0))
        with StreamClient(path) as client:
            client.send(line(text(event_id="first")) + b"x" * (EVENT_BYTES_MAX + 1))
            self.assertEqual(client.finish(), (1, 1))
        self.settle(relay, 8, ["not_json", "not_json", "too_large"],
                    ["whole", "unterminated", "acked", "acked-unterminated", "first"])

    def test_a_line_of_one_gibibyte_needs_no_memory(self):
        relay = self.start_relay()
        before, sanitized = memory(relay.pid)
        chunk = b"x" * (1 << 20)
        with StreamClient(relay.path("telemetry.stream.sock")) as client:
            client.send(line(text(event_id="before")))
            for _ in range(1024):
                client.send(chunk)
            client.send(b"\n" + line(text(event_id="after")))
            client.wait_settled(3)
            self.assertEqual((client.durable, client.rejected), (2, 1))
            peak, _ = memory(relay.pid)
        self.assertLess(peak - before, 32 << 20)
        if not sanitized:
            self.assertLess(peak, 100 << 20)
        self.settle(relay, 3, ["too_large"], ["before", "after"])

    def test_nothing_is_not_an_event(self):
        relay = self.start_relay()
        port = relay.port("udp")
        for empty in (b"", b"\n", b"\r\n", b"\n\n\n", b"  \t\r\n \n"):
            relay.datagram(empty)
            relay.udp(empty, port)
        with StreamClient(relay.path("telemetry.stream.sock")) as client:
            client.send(b"\n\r\n  \t\r\n\n" + line(text(event_id="stream")) + b"\n \n")
            self.assertEqual(client.finish(), (1, 0))
        connect(relay.path("telemetry.stream.sock")).close()
        relay.datagram(text(event_id="datagram"))
        relay.udp(text(event_id="udp"), port)
        status, _, body = relay.post(b"")
        self.assertEqual((status, body["reason"]), (400, "not_json"))
        self.settle(relay, 4, ["not_json"], ["stream", "datagram", "udp"])

    def test_carriage_returns_and_several_events_in_a_datagram(self):
        relay = self.start_relay()
        port = relay.port("udp")
        ids = [f"{kind}-{number}" for kind in ("unix", "udp", "stream") for number in range(5)]
        packs = {kind: b"\r\n".join([text(event_id=f"{kind}-{number}") for number in range(5)]
                                    + [b"broken"]) for kind in ("unix", "udp", "stream")}
        relay.datagram(packs["unix"])
        relay.udp(packs["udp"] + b"\r\n", port)
        with StreamClient(relay.path("telemetry.stream.sock")) as client:
            client.send(packs["stream"] + b"\r\n")
            self.assertEqual(client.finish(), (5, 1))
        self.settle(relay, 18, ["not_json"] * 3, ids)

    def test_drops_that_clients_report_are_counted_and_are_no_events(self):
        relay = self.start_relay()
        relay.datagram(b'{"opsrelay":{"dropped":7}}')
        relay.datagram(b' { "opsrelay" : { "dropped" : 5 } } \r\n' + text(event_id="with-it"))
        relay.udp(b'{"opsrelay":{"dropped":30}}')
        wait_for(lambda: metric(relay, "opsrelay_client_dropped_total") == 42, "42 client drops")
        relay.datagram(b'{"opsrelay":{"dropped":-1}}')
        relay.datagram(b'{"opsrelay":{"dropped":"7"}}')
        self.settle(relay, 3, ["missing_provider"] * 2, ["with-it"])
        self.assertEqual(metric(relay, "opsrelay_client_dropped_total"), 42)

    def test_drops_reported_on_the_stream_are_counted_too(self):
        relay = self.start_relay()
        with StreamClient(relay.path("telemetry.stream.sock"), acks=False) as client:
            client.send(b'{"opsrelay":{"dropped":7}}\n' + line(text(event_id="one")))
            client.send(b'{"opsrelay":{"dropped":3}}\n')
        self.settle(relay, 1, [], ["one"])
        wait_for(lambda: metric(relay, "opsrelay_client_dropped_total") == 10, "10 client drops")

    def test_one_row_for_an_id_that_comes_over_every_listener(self):
        relay = self.start_relay()
        first = text(event_id="shared")
        self.assertEqual(relay.send_acked([first]), (1, 0))
        relay.datagram(first)
        relay.udp(first)
        status, _, body = relay.post(first)
        self.assertEqual((status, body["duplicate"]), (200, True))
        self.assertEqual(relay.send_acked([first, text(event_id="shared", latencyMs=1)]), (2, 0))
        ledger = self.settle(relay, 6, [], ["shared"], duplicates=5)
        self.assertEqual(ledger["reasons"], {"duplicates.same": 4, "duplicates.conflict": 1})
        self.assertEqual(self.upstream.stats()["repeated"], 0)

    def test_acks_advance_in_the_order_of_lines(self):
        relay = self.start_relay()
        bad = [number % 3 == 1 or number % 7 == 0 for number in range(600)]
        rejected_before = [0]
        for one in bad:
            rejected_before.append(rejected_before[-1] + one)
        with StreamClient(relay.path("telemetry.stream.sock")) as client:
            sent = 0
            while sent < len(bad):
                part = range(sent, min(sent + 40, len(bad)))
                client.send(b"".join(b"{broken\n" if bad[number]
                                     else line(text(event_id=f"e-{number}")) for number in part))
                sent = part.stop
                while client.durable + client.rejected < sent - 40:
                    self.assertTrue(client.read_ack())
                    settled = client.durable + client.rejected
                    self.assertEqual(client.rejected, rejected_before[settled])
            client.wait_settled(len(bad))
            self.assertEqual(client.rejected, sum(bad))
        self.settle(relay, len(bad), ["not_json"] * sum(bad),
                    [f"e-{number}" for number, one in enumerate(bad) if not one])

    def test_a_client_that_never_reads_its_acks_hurts_nobody(self):
        relay = self.start_relay(config="stream: {ack_timeout: 500ms}\n")
        path = relay.path("telemetry.stream.sock")
        ids = []
        closed = False
        with StreamClient(path) as mute, StreamClient(path) as other:
            mute.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            for number in range(20_000):
                if not closed:
                    try:
                        mute.send(line(text(event_id=f"mute-{number}")))
                    except ConnectionError:
                        closed = True
                ids.append(f"other-{number}")
                other.send(line(text(event_id=ids[-1])))
                other.wait_settled(number + 1)
                if closed and number % 50 == 49:
                    break
            self.assertEqual(other.finish(), (len(ids), 0))
        self.assertTrue(closed, "the connection whose acks nobody reads is closed")
        self.wait_ledger(relay, pending=0, spooled=0)
        rows = self.upstream.row_ids()
        self.assertEqual(set(ids) - set(rows), set())
        self.assertEqual(len(rows), len(set(rows)))

    def test_ten_thousand_connections(self):
        wanted = 10_000
        with descriptors(wanted + 500) as limit, contextlib.ExitStack() as stack:
            relay = self.start_relay()
            path = relay.path("telemetry.stream.sock")
            held = [stack.enter_context(StreamClient(path)) for _ in range(CONNECTIONS_MAX)]
            held[-1].send(line(text(event_id="held-last")))
            held[-1].wait_settled(1)
            batch = min(500, limit - CONNECTIONS_MAX - 100)
            over = wanted - CONNECTIONS_MAX
            done = 0
            while done < over:
                more = [connect(path) for _ in range(min(batch, over - done))]
                for client in more:
                    self.assertEqual(receive_all(client), b"")
                    client.close()
                done += len(more)
            wait_for(lambda: metric(relay, "opsrelay_connections_refused_total") == over,
                     f"{over} connections refused")
            # Those that were let in, and the other listeners, go on.
            held[0].send(line(text(event_id="held-first")))
            held[0].wait_settled(1)
            relay.datagram(text(event_id="datagram"))
            self.assertEqual(relay.post(text(event_id="http"))[0], 200)
            held.pop().socket.close()

            def let_in():
                with contextlib.suppress(ConnectionError), StreamClient(path) as client:
                    client.send(line(text(event_id="afterwards")))
                    return client.finish() == (1, 0)
                return False

            wait_for(let_in, "a connection in the place of one that was closed")
            self.settle(relay, 5, [],
                        ["held-last", "held-first", "datagram", "http", "afterwards"])

    def test_http_connections_over_the_limit_are_told(self):
        with descriptors(2 * CONNECTIONS_MAX + 500), contextlib.ExitStack() as stack:
            relay = self.start_relay()
            path = relay.path("http.sock")
            held = [stack.enter_context(connect(path)) for _ in range(CONNECTIONS_MAX)]
            for _ in range(50):
                with connect(path) as client:  # the answer comes before the question
                    head, _, body = receive_all(client).partition(b"\r\n\r\n")
                self.assertTrue(head.startswith(b"HTTP/1.1 503 "), head)
                self.assertIn(b"\r\nRetry-After: ", head)
                self.assertEqual(json.loads(body)["reason"], "too_many_connections")
            self.assertEqual(metric(relay, "opsrelay_connections_refused_total"), 50)
            with connect(relay.path("telemetry.stream.sock")) as client:
                client.sendall(text(event_id="stream"))
            held.pop().close()

            def let_in():
                with contextlib.suppress(ConnectionError):
                    return relay.post(text(event_id="afterwards"))[0] == 200
                return False

            wait_for(let_in, "HTTP again")
            self.settle(relay, 2, [], ["stream", "afterwards"])

    def test_full_of_connections_under_the_usual_descriptor_limit(self):
        """A service manager's usual soft limit is 1,024 descriptors: every listener and the spool
        must still work when one listener is full."""
        with contextlib.ExitStack() as stack:
            with descriptors(1024):
                relay = self.start_relay()
            stack.enter_context(descriptors(2 * CONNECTIONS_MAX + 500))
            path = relay.path("telemetry.stream.sock")
            for _ in range(CONNECTIONS_MAX):
                stack.enter_context(connect(path))
            with connect(path) as one_more:
                self.assertEqual(receive_all(one_more), b"")
            relay.datagram(text(event_id="datagram"))
            self.assertEqual(relay.post(text(event_id="http"))[0], 200)
            self.settle(relay, 2, [], ["datagram", "http"])

    def test_slow_requests_time_out_and_hold_nobody_up(self):
        relay = self.start_relay()
        port = relay.port("http")
        head = (f"POST {INGEST} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                "Content-Length: 500\r\n").encode()
        with contextlib.ExitStack() as stack:
            slow = []
            for number in range(200):
                client = stack.enter_context(
                    socket.create_connection(("127.0.0.1", port), DEADLINE))
                client.sendall((head[:20], head, head + b"\r\n", head + b"\r\n{")[number % 4])
                slow.append(client)
            trickling = stack.enter_context(
                socket.create_connection(("127.0.0.1", port), DEADLINE))
            half_line = stack.enter_context(connect(relay.path("telemetry.stream.sock")))
            half_line.sendall(b'{"externalRequestId":"slow",')
            good = []
            for number in range(50):
                good.append(f"quick-{number}")
                self.assertEqual(relay.post(text(event_id=good[-1]))[0], 200)
            endless = iter(head + b"\r\n" + b" " * 400)
            for _ in range(480):
                trickling.sendall(bytes([next(endless)]))
                if select.select([trickling], [], [], 0.2)[0]:
                    break
            for client in [trickling, *slow]:
                self.assertTrue(client.recv(4096).startswith(b"HTTP/1.1 408 "))
            half_line.sendall(b'"provider":"openai","model":"m"}\n')
        self.settle(relay, len(good) + 1, [], [*good, "slow"])

    def raw_http(self, port, request):
        """The whole answer to these bytes."""
        with socket.create_connection(("127.0.0.1", port), DEADLINE) as client:
            client.sendall(request)
            return receive_all(client)

    def test_http_errors_are_json_and_name_the_reason(self):
        relay = self.start_relay()
        port = relay.port("http")
        body = text(event_id="refused")

        def request(method="POST", path=INGEST, body=body, **changed):
            fields = {"Host": f"127.0.0.1:{port}", "Content-Type": "application/json",
                      "Content-Length": str(len(body)), "Connection": "close"}
            fields.update({name.replace("_", "-"): value for name, value in changed.items()})
            head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
            return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body

        large = b"x" * (EVENT_BYTES_MAX + 1)
        cases = [
            ("no such path", request(path="/v1/ingest"), 404, "not_found"),
            ("the root", request(path="/"), 404, "not_found"),
            ("GET", request(method="GET", body=b""), 405, "method_not_allowed"),
            ("DELETE", request(method="DELETE"), 405, "method_not_allowed"),
            ("a form", request(Content_Type="application/x-www-form-urlencoded"), 415,
             "unsupported_media_type"),
            ("plain text", request(Content_Type="text/plain"), 415, "unsupported_media_type"),
            ("an unknown encoding", request(Content_Encoding="br"), 415,
             "unsupported_media_type"),
            ("a foreign host", request(Host="evil.example"), 403, "host_not_allowed"),
            ("a host that looks local", request(Host="localhost.evil.example"), 403,
             "host_not_allowed"),
            ("no host", request(Host=None), 400, "bad_request"),
            ("a foreign origin", request(Origin="https://evil.example"), 403,
             "origin_not_allowed"),
            ("an opaque origin", request(Origin="null"), 403, "origin_not_allowed"),
            ("too large", request(body=large), 413, "too_large"),
            ("too large, announced only",
             request(body=b"", Content_Length=str(1 << 40)), 413, "too_large"),
            ("a length that is no number", request(Content_Length="12x"), 400, "bad_request"),
            ("two lengths", request(X="1\r\nContent-Length: 3"), 400, "bad_request"),
            ("not HTTP", b"hello\r\n\r\n", 400, "bad_request"),
            ("bytes", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "bad_request"),
            ("a header without end", request(X="y" * 9000), 431, "header_too_large"),
        ]
        for why, raw, status, reason in cases:
            with self.subTest(why):
                answer = self.raw_http(port, raw)
                head, _, rest = answer.partition(b"\r\n\r\n")
                self.assertTrue(head.startswith(f"HTTP/1.1 {status} ".encode()), answer[:300])
                self.assertIn(b"\r\nContent-Type: application/json", head)
                reply = json.loads(rest)
                self.assertEqual((reply["ok"], reply["reason"]), (False, reason))
                self.assertTrue(reply["errors"][0]["message"])
                self.assertEqual(b"\r\nAllow: POST" in head, status == 405)
            self.assertEqual(relay.post(text(event_id="good"))[0], 200, why)
        for event_id, changed in [("localhost", {"Host": "localhost"}), ("v6", {"Host": "[::1]:1"}),
                                  ("origin", {"Origin": "http://localhost:3000"}),
                                  ("charset", {"Content_Type": "application/json; charset=utf-8"}),
                                  ("no-type", {"Content_Type": None})]:
            answer = self.raw_http(port, request(body=text(event_id=event_id), **changed))
            self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), (event_id, answer[:300]))
        ledger = self.wait_ledger(relay, pending=0, spooled=0)
        self.assertEqual(ledger["reasons"], {"rejected.too_large": 2,
                                             "duplicates.same": len(cases) - 1})
        self.assertEqual(sorted(self.upstream.row_ids()),
                         ["charset", "good", "localhost", "no-type", "origin", "v6"])

    def test_http_bodies_in_chunks_and_pipelined_requests(self):
        relay = self.start_relay()
        port = relay.port("http")
        head = (f"POST {INGEST} HTTP/1.1\r\nHost: localhost\r\n"
                "Content-Type: application/json\r\n").encode()
        one, two, bad = text(event_id="chunked"), text(event_id="pipelined"), b"{broken"

        def sized_request(body, last=b""):
            return head + last + b"Content-Length: %d\r\n\r\n" % len(body) + body

        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (one[:7], one[7:]))
        answer = self.raw_http(port, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks
                               + b"0\r\n\r\n" + sized_request(bad) + sized_request(bad)
                               + sized_request(two, b"Connection: close\r\n"))
        statuses = re.findall(rb"HTTP/1\.1 (\d+) ", answer)
        self.assertEqual(statuses, [b"200", b"400", b"400", b"200"])
        broken = self.raw_http(port, head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n")
        self.assertTrue(broken.startswith(b"HTTP/1.1 400 "), broken)
        self.settle(relay, 4, ["not_json"] * 2, ["chunked", "pipelined"])

    def test_many_http_clients_at_once(self):
        relay = self.start_relay()
        port = relay.port("http")
        clients, each = 64, 20
        ids = [[f"c{client}-{number}" for number in range(each)] for client in range(clients)]
        headers = {"Content-Type": "application/json"}

        def talk(client):
            if client % 2:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
            else:
                connection = UnixHttp(relay.path("http.sock"), DEADLINE)
            with contextlib.closing(connection):
                for number, one in enumerate(ids[client]):
                    bad = number % 5 == 4
                    connection.request("POST", INGEST, b"{broken" if bad
                                       else text(event_id=one), headers)
                    reply = connection.getresponse()
                    body = json.loads(reply.read())
                    assert reply.status == (400 if bad else 200), (reply.status, body)

        in_threads([lambda client=client: talk(client) for client in range(clients)])
        good = [one for row in ids for number, one in enumerate(row) if number % 5 != 4]
        ledger = self.wait_ledger(relay, pending=0, spooled=0, delivered=len(good))
        self.assertEqual(ledger["rejected"], clients * each // 5)
        self.assertEqual(sorted(self.upstream.row_ids()), sorted(good))

    def test_garbage_on_every_listener_at_once_loses_no_valid_event(self):
        relay = self.start_relay()
        port = relay.port("udp")
        each = 150
        noise = [bad for _, bad, _ in BAD]

        def over_stream():
            lines = []
            for number in range(each):
                lines += [noise[number % len(noise)], text(event_id=f"stream-{number}")]
            assert relay.send_acked(lines) == (each, each)

        def over_datagrams():
            for number in range(each):
                relay.datagram(noise[(number + 7) % len(noise)] + b"\n"
                               + text(event_id=f"datagram-{number}"))

        def over_udp():
            for number in range(each):
                relay.udp(noise[(number + 13) % len(noise)][:1000] + b"\n"
                          + text(event_id=f"udp-{number}"), port)
                if number % 16 == 15:  # a paced sender: UDP has no flow control
                    wait_for(lambda: received_over(relay, "udp") >= 2 * number, "UDP received")

        def over_http():
            for number in range(each):
                assert relay.post(noise[(number + 17) % len(noise)])[0] == 400
                assert relay.post(text(event_id=f"http-{number}"))[0] == 200

        in_threads([over_stream, over_datagrams, over_udp, over_http])
        good = [f"{kind}-{number}" for kind in ("stream", "datagram", "udp", "http")
                for number in range(each)]
        ledger = self.wait_ledger(relay, pending=0, spooled=0, delivered=len(good))
        self.assertEqual(ledger["rejected"], 4 * each)
        self.assertEqual(sorted(self.upstream.row_ids()), sorted(good))


if __name__ == "__main__":
    unittest.main(verbosity=1)
