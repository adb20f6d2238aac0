"""Runs the real daemon and the local upstream, sends events, and checks the ledger.

Python's standard library only. Every process is ended by its own handle, every wait has a deadline,
every path is below a temporary directory, every port is chosen by the kernel.
"""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import uuid

import matrix

BUILD = os.environ.get("RELAYTEST_BUILD", "")
RELAY = os.path.join(BUILD, "daemon", "opsrelay")
UPSTREAM = os.path.join(BUILD, "tests", "upstream", "opsrelay-upstream")
KEY = "test-key"
INGEST = "/v1/ingest/llm-request"
DEADLINE = 60.0  # seconds any single wait may take; generous, because sanitizers are slow
# The default of 400 ms suits the SDKs, not a test machine whose disk and cores are busy: a 503 "not
# confirmed" would be no fault of the daemon.
PATIENT = {"OPSRELAY_HTTP__ACK_TIMEOUT": "30s"}


def wait_for(condition, what, deadline=DEADLINE):
    """Polls `condition` until it is true; fails with `what` when it never is."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:.0f} s: {what}")
        time.sleep(0.02)


def event(event_id=None, **fields):
    """A valid event as a dict."""
    base = {
        "externalRequestId": event_id or str(uuid.uuid4()),
        "provider": "openai",
        "model": "gpt-4o-mini",
        "promptVersion": "triage_v7",
        "endpointTag": "support.triage",
        "inputTokens": 742,
        "outputTokens": 96,
        "totalTokens": 838,
        "latencyMs": 1043,
        "status": "success",
        "dataMode": "test",
        "environment": "dev",
    }
    base.update(fields)
    return {key: value for key, value in base.items() if value is not ...}


def line(event_or_text):
    """One newline-terminated line of a stream."""
    if isinstance(event_or_text, bytes):
        return event_or_text + b"\n"
    return json.dumps(event_or_text, separators=(",", ":")).encode() + b"\n"


class UnixHttp(http.client.HTTPConnection):
    """http.client over a Unix socket."""

    def __init__(self, path, timeout=10):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def http_json(connection, method, path, body=None, headers=None):
    """(status, headers, decoded JSON or text) of one request."""
    try:
        data = None if body is None else (body if isinstance(body, bytes) else json.dumps(body))
        connection.request(method, path, data, headers or {"Content-Type": "application/json"})
        reply = connection.getresponse()
        text = reply.read()
        if reply.getheader("Content-Type", "").split(";")[0] == "application/json":
            return reply.status, reply.headers, json.loads(text)
        return reply.status, reply.headers, text.decode()
    finally:
        connection.close()


class Process:
    """A child with its output in a file; always reaped."""

    def __init__(self, arguments, log_path, environment=None, user=None, descriptors=()):
        self.log_path = log_path
        with open(log_path, "ab") as log:
            self.child = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, **(environment or {})}, user=user, pass_fds=descriptors)

    @property
    def pid(self):
        return self.child.pid

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def running(self):
        return self.child.poll() is None

    def signal(self, number):
        if self.running():
            self.child.send_signal(number)

    def wait(self, deadline=DEADLINE):
        return self.child.wait(deadline)

    def kill(self):
        self.signal(signal.SIGKILL)
        return self.wait()

    def end(self, deadline=DEADLINE):
        """SIGTERM, then the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(deadline)


_HELD_PORTS = []


def hold_port():
    """A TCP port of 127.0.0.1 for servers of this test alone. A socket that never listens has it
    until the test ends: while no server runs a client is refused, as it should be, and nobody else
    is given the port; a client that calls would otherwise even be given it itself, and be
    connected to itself. The servers must set SO_REUSEADDR."""
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    _HELD_PORTS.append(holder)
    return holder.getsockname()[1]


class Upstream(Process):
    """opsrelay-upstream on a port that is held, or on the port of one that has ended."""

    def __init__(self, directory, *options, key=KEY, port=None):
        self.key = key
        arguments = [UPSTREAM, "--port", str(port or hold_port()), "--control-port", "0",
                     "--api-key", key, *options]
        super().__init__(arguments, os.path.join(directory, "upstream.log"))
        pattern = re.compile(
            r"listening on (https?)://127\.0\.0\.1:(\d+) control http://127\.0\.0\.1:(\d+)")
        found = wait_for(lambda: pattern.search(self.log()) or not self.running(), "upstream up")
        if found is True:
            raise AssertionError("opsrelay-upstream ended: " + self.log())
        self.scheme, self.port, self.control_port = found[1], int(found[2]), int(found[3])

    @property
    def url(self):
        host = "127.0.0.1" if self.scheme == "http" else "localhost"
        return f"{self.scheme}://{host}:{self.port}"

    def _control(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.control_port, timeout=DEADLINE)
        status, _, reply = http_json(connection, method, path, body)
        assert status == 200, (method, path, status, reply)
        return reply

    def control(self, **settings):
        """Changes behaviour at run time."""
        return self._control("POST", "/control", settings)

    def stats(self):
        return self._control("GET", "/stats")

    def workspace_status(self):
        """What the API's own clients read."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        status, _, reply = http_json(connection, "GET", "/v1/diagnostics/workspace-status",
                                     headers={"X-API-Key": self.key})
        assert status == 200, (status, reply)
        return reply

    def row_ids(self):
        """Every row's externalRequestId, in order of arrival."""
        text = self._control("GET", "/rows?ids=1")
        return text.split("\n")[:-1] if isinstance(text, str) else list(text)

    def rows(self):
        reply = self._control("GET", "/rows")
        if isinstance(reply, str):
            reply = [json.loads(row) for row in reply.splitlines()]
        return reply


class Relay(Process):
    """The daemon in a directory of its own; start() may be called again after an end."""

    def __init__(self, directory, upstream_url, *options, key=KEY, config="", environment=None,
                 sockets=None, under=()):
        """under: a command that becomes the daemon, given as its arguments."""
        self.directory = directory
        self.sockets = sockets  # HeldSockets of a parent
        self.run_dir = os.path.join(directory, "run")
        self.spool_dir = os.path.join(directory, "spool")
        self.key_file = os.path.join(directory, "api-key")
        self.config_file = os.path.join(directory, "opsrelay.yaml")
        if key is not None:
            with open(self.key_file, "w", encoding="utf-8") as file:
                file.write(key + "\n")
        with open(self.config_file, "w", encoding="utf-8") as file:
            file.write(config)
        ports = [argument for flag in ("--http-port", "--udp-port", "--admin-port")
                 if flag not in options for argument in (flag, "0")]
        self.arguments = [
            *under, RELAY, "run", "--config", self.config_file, "--run-dir", self.run_dir, "--spool-dir",
            self.spool_dir, "--upstream-url", upstream_url, "--api-key-file", self.key_file,
            *ports, *options]
        self.environment = {**PATIENT, **(environment or {})}
        self.start()

    def start(self, ready=True):
        sockets = self.sockets
        super().__init__(sockets.command(self.arguments) if sockets else self.arguments,
                         os.path.join(self.directory, "relay.log"), self.environment,
                         descriptors=sockets.descriptors if sockets else ())
        if ready:
            wait_for(lambda: self.ready() or not self.running(), "relay ready")
            if not self.running():
                raise AssertionError("opsrelay ended: " + self.log()[-4000:])

    def ready(self):
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.admin("/readyz")[0] == 200
        return False

    def admin(self, path):
        """(status, decoded body) of the admin socket."""
        status, _, body = http_json(UnixHttp(os.path.join(self.run_dir, "admin.sock")), "GET", path)
        return status, body

    def status(self):
        status, body = self.admin("/status")
        assert status == 200, body
        return body

    def ledger(self):
        return self.status()["ledger"]

    def lane(self):
        return self.status()["lanes"][0]

    def path(self, name):
        return os.path.join(self.run_dir, name)

    def port(self, kind):
        """Port of the udp or http listener."""
        for listener in self.status()["listeners"]:
            if listener["type"] == kind and not listener["address"].startswith("/"):
                return int(listener["address"].rsplit(":", 1)[1])
        raise AssertionError(f"no {kind} listener")

    # --- Clients ---

    def datagram(self, data):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.settimeout(DEADLINE)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)  # what is granted
            client.sendto(data, self.path("telemetry.sock"))

    def udp(self, data, port=None):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(data, ("127.0.0.1", port or self.port("udp")))

    def post(self, body, headers=None, path=INGEST):
        """(status, headers, JSON) over http.sock."""
        return http_json(UnixHttp(self.path("http.sock"), DEADLINE), "POST", path, body, headers)

    def send_acked(self, events, name="telemetry.stream.sock"):
        """Sends lines over the acked stream; returns the final (durable, rejected)."""
        with StreamClient(self.path(name)) as client:
            client.send(b"".join(line(item) for item in events))
            return client.finish()


class StreamClient:
    """A stream connection that asked for acks."""

    def __init__(self, path, acks=True):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(DEADLINE)
        try:
            self.socket.connect(path)
        except OSError:
            self.socket.close()
            raise
        self.buffer = b""
        self.durable = 0
        self.rejected = 0
        if acks:
            self.socket.sendall(b'{"opsrelay":{"acks":true}}\n')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def read_ack(self):
        """Reads until one ack is complete; False at the end of the stream."""
        while b"\n" not in self.buffer:
            data = self.socket.recv(65536)
            if not data:
                return False
            self.buffer += data
        ack, self.buffer = self.buffer.split(b"\n", 1)
        counts = json.loads(ack)
        assert counts["durable"] >= self.durable and counts["rejected"] >= self.rejected, counts
        self.durable, self.rejected = counts["durable"], counts["rejected"]
        return True

    def wait_settled(self, lines):
        while self.durable + self.rejected < lines:
            if not self.read_ack():
                raise ConnectionError("closed before everything was settled")

    def finish(self):
        """Half-closes, reads to the end; the final counts."""
        self.socket.shutdown(socket.SHUT_WR)
        while self.read_ack():
            pass
        return self.durable, self.rejected


class RelayTest(unittest.TestCase):
    """A temporary directory, an upstream and daemons that are ended with the test."""

    MATRIX = None  # its section of the fault matrix in tests/README.md

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.matrix_rows = []
        cls.passed = set()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        if cls.MATRIX is None or not cls.passed:
            return
        everything = set(unittest.TestLoader().getTestCaseNames(cls))
        matrix.check(cls.MATRIX, cls.matrix_rows, whole=cls.passed == everything)

    def record(self, site, fault, outcome):
        """A row of the fault matrix: what this test provoked, and what came of it."""
        type(self).matrix_rows.append((site, fault, outcome))

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="opsrelay-test-")
        self.processes = []
        self.upstream = None

    def tearDown(self):
        failed = any(error for _, error in getattr(self._outcome, "errors", []) or [])
        result = self._outcome.result
        failed = failed or any(test is self for test, _ in result.failures + result.errors)
        for process in reversed(self.processes):
            if process.running():
                process.kill()
        if not failed:
            type(self).passed.add(self._testMethodName)
        if failed:
            for process in self.processes:
                print(f"--- {process.log_path} ---\n{process.log()[-6000:]}")
        for process in self.processes:
            sanitizer = re.search(r"ERROR: \w+Sanitizer|runtime error:|BUG: ", process.log())
            if sanitizer and not failed:
                print(process.log()[-8000:])
            self.assertIsNone(sanitizer, f"a sanitizer or an assertion spoke in {process.log_path}")
        shutil.rmtree(self.directory, ignore_errors=True)

    def start_tls(self, name, *options):
        """An upstream with a certificate of its own; (upstream, path of the certificate)."""
        directory = os.path.join(self.directory, name)
        os.makedirs(directory)
        certificate = os.path.join(directory, "certificate.pem")
        upstream = Upstream(directory, "--tls-self-signed", "--tls-cert-out", certificate, *options)
        self.processes.append(upstream)
        self.assertEqual(upstream.scheme, "https")
        return upstream, certificate

    def start_upstream(self, *options, **settings):
        self.upstream = Upstream(self.directory, *options, **settings)
        self.processes.append(self.upstream)
        return self.upstream

    def start_relay(self, *options, upstream_url=None, name="relay", **settings):
        directory = os.path.join(self.directory, name)
        os.makedirs(directory, exist_ok=True)
        url = upstream_url or self.upstream.url
        relay = Relay(directory, url, *options, **settings)
        self.processes.append(relay)
        return relay

    def assert_balanced(self, relay):
        """Both identities hold; returns the ledger."""
        ledger = relay.ledger()
        self.assert_ledger(ledger)
        return ledger

    def assert_ledger(self, ledger):
        self.assertEqual(ledger["imbalance"], 0, ledger)
        self.assertEqual(
            ledger["received"],
            ledger["duplicates"] + ledger["rejected"] + ledger["shed"] + ledger["accepted"]
            + ledger["pending"], ledger)
        self.assertEqual(
            ledger["recovered"] + ledger["accepted"] + ledger["replayed"],
            ledger["delivered"] + ledger["dead"] + ledger["dropped"] + ledger["spooled"], ledger)

    def wait_ledger(self, relay, deadline=DEADLINE, **terms):
        """Waits until the ledger shows these terms; returns it, balanced."""
        last = {}

        def reached():
            last.update(relay.ledger())
            return all(last[key] == value for key, value in terms.items())

        try:
            wait_for(reached, f"ledger {terms}", deadline)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {last}; lane {relay.lane()}") from None
        self.assert_ledger(last)
        return last

    def final_ledger(self, relay):
        """The ledger that the daemon logged as its last line."""
        lines = [text for text in relay.log().splitlines() if 'msg="ledger"' in text]
        self.assertTrue(lines, relay.log()[-2000:])
        last_line = relay.log().splitlines()[-1]
        self.assertEqual(lines[-1], last_line, "the ledger must be the last line of the log")
        return {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)\b", last_line)}


def in_threads(functions):
    """Runs the functions at the same time; raises the first error."""
    errors = []

    def guarded(function):
        try:
            function()
        except BaseException as error:  # handed to the caller below
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE * 3)
        if thread.is_alive():
            raise AssertionError("a thread did not end")
    if errors:
        raise errors[0]
