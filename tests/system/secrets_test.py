#!/usr/bin/env python3
"""P16: keys, passwords and payloads stay where they belong. A key, a proxy's password and markers in
payloads are planted, the upstream answers with all of them, and nothing that opsrelay shows, writes
or leaves behind has one."""

import http.server
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import threading
import unittest

from harness import (DEADLINE, PATIENT, RELAY, Process, RelayTest, StreamClient, event, line,
                     wait_for)

KEY = "planted-key-7f3a9c5e1b"
NEXT_KEY = "planted-successor-2d8e6f4a0c"
TOKEN = "planted-token-5a7c9e1d3f"
PASSWORD = "planted-password-9b1d7c3e"
DENIED = "planted-prompt-4e8a2f6c"  # in a field that must not reach the disk
PAYLOAD = "planted-payload-6c0e4a8d"  # in what is forwarded


class Parrot(http.server.ThreadingHTTPServer):
    """An upstream, or a proxy, that answers with all it was told."""

    daemon_threads = True

    def __init__(self):
        self.replies = []  # (status, content type, is JSON) of the next ones; 200 when empty
        self.keys = []
        self.tells = True  # else it answers as an API does
        super().__init__(("127.0.0.1", 0), ParrotHandler)
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)
        self.thread.start()

    @property
    def port(self):
        return self.server_address[1]

    def handle_error(self, *_):
        """Clients end as they like."""

    def stop(self):
        self.shutdown()
        self.server_close()
        self.thread.join(DEADLINE)


class ParrotHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        said = self.rfile.read(length).decode()
        key = self.headers.get("X-API-Key", "")
        self.server.keys.append(key)
        status = self.server.replies.pop(0) if self.server.replies else 200
        if not self.server.tells:
            key, body = "OK", '{"ok":true}'
        elif status == 200:
            body = '{"ok":true,"planTier":"%s"}' % key
        elif status == "html":
            status, body = 200, f"<html>{key} {said}</html>"
        elif status == "not ok":
            status, body = 200, '{"ok":false,"reason":"%s"}' % key
        else:
            body = '{"ok":false,"reason":"%s","errors":[%s]}' % (key, said)
        self.answer(status, f"{key} {self.headers.get('Proxy-Authorization')}", body)

    def do_GET(self):
        self.answer(401, self.headers.get("X-API-Key", ""), self.headers.get("X-API-Key", ""))

    def do_CONNECT(self):
        said = str(self.headers)
        self.answer(407, f"{PASSWORD} {said.splitlines()[0]}", f"{PASSWORD} {said}")

    def answer(self, status, phrase, body):
        data = body.encode()
        self.send_response(status, phrase)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Echo", phrase)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def planted_event(event_id, **fields):
    return event(event_id, prompt=DENIED, metadata={"note": PAYLOAD}, custom=PAYLOAD, **fields)


def run(*arguments, environment=None):
    """What a command prints."""
    done = subprocess.run([RELAY, *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=DEADLINE, check=False,
                          env={**os.environ, **(environment or {})})
    return done.stdout + done.stderr


class SecretsTest(RelayTest):
    def setUp(self):
        super().setUp()
        self.parrot = Parrot()
        self.addCleanup(self.parrot.stop)

    def start_parroted(self, config="", **settings):
        settings.setdefault("key", KEY)
        return self.start_relay(upstream_url=f"http://127.0.0.1:{self.parrot.port}",
                                config="log: {level: debug}\n" + config, **settings)

    def assert_clean(self, text, what, planted):
        for secret in planted:
            self.assertNotIn(secret, text, f"{what} shows {secret}")

    @staticmethod
    def answered(relay):
        """Requests whose reply was read."""
        counts = re.findall(r"^opsrelay_upstream_requests_total{.*} (\d+)$",
                            relay.admin("/metrics")[1], re.MULTILINE)
        return sum(int(count) for count in counts)

    def everything_shown(self, relay):
        """{where: text} of all that an operator can look at without asking for payloads."""
        shown = {path: str(relay.admin(path)[1])
                 for path in ("/status", "/metrics", "/readyz", "/livez", f"/{PAYLOAD}")}
        # The reply to a path that does not exist may not repeat it either.
        shown["log"] = relay.log()
        shown["status"] = run("status", "--run-dir", relay.run_dir)
        shown["status json"] = run("status", "--run-dir", relay.run_dir, "--output", "json")
        for name in ("cmdline", "comm"):
            with open(f"/proc/{relay.pid}/{name}", encoding="utf-8") as file:
                shown[name] = file.read()
        return shown

    def files_of(self, relay):
        """The bytes of every file of the spool, and of the run directory's."""
        found = {}
        for top in (relay.spool_dir, relay.run_dir):
            for directory, _, names in os.walk(top):
                for name in names:
                    path = os.path.join(directory, name)
                    if os.path.isfile(path):
                        with open(path, "rb") as file:
                            found[path] = file.read()
        return found

    # --- What is shown ---

    def test_an_upstream_that_tells_everything_back(self):
        """The lane's state, its last error, logs, metrics and replies to clients stay clean."""
        relay = self.start_parroted()
        for number, status in enumerate((500, "html", 401, "not ok", 403, 402, 429, 404, 400, 422)):
            with self.subTest(reply=status):
                before = self.answered(relay)
                self.parrot.replies = [status]
                code, _, reply = relay.post(planted_event(f"told-{number}"))
                self.assertEqual(code, 200)
                self.assert_clean(str(reply), "a reply", (KEY, DENIED, PAYLOAD))
                wait_for(lambda: self.answered(relay) > before, "a reply")
                for where, text in self.everything_shown(relay).items():
                    self.assert_clean(text, where, (KEY, DENIED, PAYLOAD))
                # A new key wakes a parked lane, and the next round has it.
                with open(relay.key_file, "w", encoding="utf-8") as file:
                    file.write(f"{KEY}-{number}\n")
                self.wait_ledger(relay, spooled=0)
        self.assertEqual(relay.end(), 0)
        self.assert_clean(relay.log(), "log", (KEY, DENIED, PAYLOAD))
        for path, data in self.files_of(relay).items():
            self.assert_clean(data, path, (KEY.encode(), DENIED.encode()))

    def test_events_that_are_refused_here(self):
        relay = self.start_parroted()
        refused = [
            planted_event("no-model", model=...),
            planted_event("tokens", inputTokens=PAYLOAD),
            planted_event("status", status=PAYLOAD),
            planted_event("environment", environment=PAYLOAD),
            planted_event("x" * 300),
            planted_event("latency", latencyMs=PAYLOAD),
        ]
        bodies = [*refused, f'{{"{PAYLOAD}": '.encode(), f'["{PAYLOAD}"]'.encode(),
                  f'{{"{PAYLOAD}":1,"{PAYLOAD}":2}}'.encode(), b'"\xff' + PAYLOAD.encode() + b'"']
        for body in bodies:
            code, headers, reply = relay.post(body)
            self.assertEqual(code, 400, (body, reply))
            self.assert_clean(str(reply) + str(headers), "a reply", (KEY, DENIED, PAYLOAD))
        for path, host in ((f"/{PAYLOAD}", "localhost"), ("/v1/ingest/llm-request", PAYLOAD)):
            _, headers, reply = relay.post(planted_event("elsewhere"), path=path, headers={
                "Host": host, "Origin": f"http://{PAYLOAD}", "Content-Type": "application/json"})
            self.assert_clean(str(reply) + str(headers), "a reply", (KEY, DENIED, PAYLOAD))
        with StreamClient(relay.path("telemetry.stream.sock")) as client:
            client.send(f'{{"{PAYLOAD}\n{PAYLOAD}}}\n'.encode())
            self.assertEqual(client.finish(), (0, 2))
        relay.datagram(PAYLOAD.encode())
        wait_for(lambda: relay.ledger()["rejected"] == len(bodies) + 3, "all refused")
        for where, text in self.everything_shown(relay).items():
            self.assert_clean(text, where, (KEY, DENIED, PAYLOAD))
        self.assertEqual(relay.end(), 0)
        for path, data in self.files_of(relay).items():
            self.assert_clean(data, path, (KEY.encode(), DENIED.encode()))

    def test_the_tokens_of_a_listener(self):
        """Those that let in, and those that were tried."""
        token_file = os.path.join(self.directory, "tokens")
        with open(token_file, "w", encoding="utf-8") as file:
            file.write(TOKEN + "\n")
        tried = TOKEN + "-tried"
        relay = self.start_parroted(
            "listeners:\n  - {type: unix_stream, path: telemetry.stream.sock}\n"
            f'  - {{type: http, path: http.sock, token_file: "{token_file}"}}\n')
        for token, expected in ((TOKEN, 200), (tried, 401)):
            for header in ("X-API-Key", "Authorization"):
                value = token if header == "X-API-Key" else "Bearer " + token
                code, headers, reply = relay.post(
                    planted_event(f"{expected}-{header}"),
                    {"Content-Type": "application/json", header: value})
                self.assertEqual(code, expected)
                self.assert_clean(str(reply) + str(headers), "a reply", (TOKEN,))
        with open(token_file, "a", encoding="utf-8") as file:
            file.write(TOKEN[:9] + "\n")
        wait_for(lambda: "token file cannot be used" in relay.log(), "a warning")
        self.wait_ledger(relay, delivered=2)
        for where, text in self.everything_shown(relay).items():
            self.assert_clean(text, where, (TOKEN[:9],))
        refused = run("check", "--config", relay.config_file)
        self.assertIn("line 2 is no token", refused)
        self.assert_clean(refused, "check", (TOKEN[:9],))
        with open(token_file, "w", encoding="utf-8") as file:
            file.write(TOKEN + "\n")
        shown = run("check", "--config", relay.config_file)
        self.assertIn(f"token_file: \"{token_file}\"", shown)
        self.assert_clean(shown, "check", (TOKEN,))
        self.assertEqual(relay.end(), 0)
        for path, data in self.files_of(relay).items():
            self.assert_clean(data, path, (TOKEN.encode(),))

    def test_a_proxy_that_tells_its_password(self):
        url = f"http://me:{PASSWORD}@127.0.0.1:{self.parrot.port}"
        for name, config, environment in (
                ("file", f'upstream: {{proxy: "{url}"}}\n', {}),
                ("variable", "", {"OPSRELAY_UPSTREAM__PROXY": url}),
                ("HTTPS_PROXY", "", {"HTTPS_PROXY": url})):
            with self.subTest(source=name):
                relay = self.start_relay(
                    name="relay-" + name, upstream_url="https://opsmeter.invalid", key=KEY,
                    config="log: {level: debug}\n" + config, environment=environment)
                self.assertEqual(relay.send_acked([planted_event(name)]), (1, 0))
                wait_for(lambda: relay.lane()["state"] == "backing_off", "backing_off")
                self.assertIn("refused with status 407", relay.lane()["last_error"])
                for where, text in self.everything_shown(relay).items():
                    self.assert_clean(text, where, (KEY, PASSWORD, DENIED, PAYLOAD))
                shown = run("check", "--config", relay.config_file, environment=environment)
                self.assertIn(f"http://***@127.0.0.1:{self.parrot.port}", shown)
                self.assert_clean(shown, "check", (PASSWORD,))
                if name != "HTTPS_PROXY":
                    with open(f"/proc/{relay.pid}/environ", "rb") as file:
                        self.assert_clean(file.read(), "environ", (PASSWORD.encode(),))
                self.assertEqual(relay.end(), 0)
                for path, data in self.files_of(relay).items():
                    self.assert_clean(data, path, (KEY.encode(), PASSWORD.encode()))

    # --- What is left behind ---

    def start_bare(self, directory, user=None):
        """A daemon without flags for a key, which is in its environment; its run directory."""
        run_dir = os.path.join(directory, "run")
        process = Process(
            [RELAY, "run", "--run-dir", run_dir, "--spool-dir", os.path.join(directory, "spool"),
             "--http-port", "off", "--udp-port", "off", "--admin-port", "off", "--upstream-url",
             f"http://127.0.0.1:{self.parrot.port}"],
            os.path.join(self.directory, "bare.log"), {**PATIENT, "OPSRELAY_API_KEY": KEY}, user)
        self.processes.append(process)
        wait_for(lambda: 'msg="ready"' in process.log() or not process.running(), "a start")
        self.assertTrue(process.running(), process.log())
        return process, run_dir

    def test_a_key_from_the_environment(self):
        process, run_dir = self.start_bare(self.directory)
        with StreamClient(os.path.join(run_dir, "telemetry.stream.sock")) as client:
            client.send(line(planted_event("one")))
            self.assertEqual(client.finish(), (1, 0))
        wait_for(lambda: self.parrot.keys == [KEY], "a request with the key")
        with open(f"/proc/{process.pid}/environ", "rb") as file:
            self.assert_clean(file.read(), "environ", (KEY.encode(),))
        self.assertEqual(process.end(), 0)
        self.assert_clean(process.log(), "log", (KEY, DENIED, PAYLOAD))

    def test_a_replaced_key_is_not_in_memory_any_more(self):
        self.parrot.tells = False
        relay = self.start_parroted()
        self.assertEqual(relay.send_acked([event() for _ in range(200)]), (200, 0))
        self.wait_ledger(relay, delivered=200)
        self.assertTrue(memory_has(relay.pid, KEY.encode()), "the search finds nothing at all")
        with open(relay.key_file + ".new", "w", encoding="utf-8") as file:
            file.write(NEXT_KEY)
        os.rename(relay.key_file + ".new", relay.key_file)
        wait_for(lambda: "api key read from file" in relay.log(), "the new key")
        self.assertEqual(relay.send_acked([event() for _ in range(200)]), (200, 0))
        self.wait_ledger(relay, delivered=400)
        self.assertEqual(self.parrot.keys[-1], NEXT_KEY)
        self.assertFalse(memory_has(relay.pid, KEY.encode()), "the old key is in memory")

    def test_it_cannot_be_dumped(self):
        """What dumps a process, and whoever else runs as its user, finds /proc/PID to be root's."""
        user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        # Sockets with the longest path that there may be are bound through /proc/self/fd.
        room = 107 - len("/run/telemetry.stream.sock") - len(tempfile.gettempdir()) - 10
        directory = tempfile.mkdtemp(prefix="l" + "o" * (room - 2) + "-")
        self.addCleanup(shutil.rmtree, directory, True)
        os.chmod(directory, 0o711)
        os.chown(directory, user.pw_uid, user.pw_gid)
        process, run_dir = self.start_bare(directory, user.pw_uid if os.geteuid() == 0 else None)
        self.assertGreaterEqual(len(os.path.join(run_dir, "telemetry.stream.sock")), 100)
        self.assertEqual(os.stat(f"/proc/{process.pid}/environ").st_uid, 0)
        with StreamClient(os.path.join(run_dir, "telemetry.stream.sock")) as client:
            client.send(line(planted_event("one")))
            self.assertEqual(client.finish(), (1, 0))
        self.assertEqual(process.end(), 0)


# AddressSanitizer's shadow is larger than this, the daemon's memory is not.
SHADOW_BYTES = 1 << 30


def memory_has(pid, wanted):
    """Whether a process has these bytes in memory that it may write to."""
    with open(f"/proc/{pid}/maps", encoding="ascii", errors="replace") as maps:
        areas = [line.split()[:2] for line in maps]
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for area, rights in areas:
            if not rights.startswith("rw"):
                continue
            begin, end = (int(number, 16) for number in area.split("-"))
            if end - begin > SHADOW_BYTES:
                continue
            try:
                memory.seek(begin)
                if wanted in memory.read(end - begin):
                    return True
            except OSError:
                continue  # a page that is nowhere, such as a guard
    return False


if __name__ == "__main__":
    unittest.main(verbosity=1)
