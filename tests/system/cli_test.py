#!/usr/bin/env python3
"""The command line against a running daemon: send, status, check, version and help, and what the
admin listener says."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import unittest

from harness import (DEADLINE, KEY, RELAY, RelayTest, UnixHttp, event, http_json, in_threads, line,
                     wait_for)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
COMMANDS = {"run", "check", "send", "status", "dead", "spool", "pause", "resume", "flush", "reload",
            "tail", "doctor", "completion", "man", "version"}
GROUPS = {"completion": {"bash", "zsh"},
          "dead": {"list", "show", "export", "replay", "purge"},
          "spool": {"stat", "verify", "export", "repair", "purge"}}
# What later issues may bring; help must not promise it before.
NOT_YET = ["webhook", "kafka", "nats", "otlp", "batch"]


def promtool(test):
    """The program; ./dev test unpacks it into build/. The test that asks is skipped without it."""
    unpacked = os.path.join(ROOT, "build", "promtool", "usr", "bin", "promtool")
    found = shutil.which("promtool") or (unpacked if os.access(unpacked, os.X_OK) else None)
    if found is None:
        test.skipTest("promtool (Debian: prometheus) is not here; ./dev test downloads it")
    return found


def text(**fields):
    return json.dumps(event(**fields), separators=(",", ":"))


def opsrelay(*arguments, stdin=None, environment=None):
    """(exit code, output, errors) of a command; settings of this shell do not reach it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPSRELAY_")}
    done = subprocess.run([RELAY, *arguments], input=stdin if stdin is not None else "", text=True,
                          capture_output=True, check=False, timeout=DEADLINE,
                          env={**kept, **(environment or {})})
    return done.returncode, done.stdout, done.stderr


class SendTest(RelayTest):
    def setUp(self):
        super().setUp()
        self.start_upstream()
        self.relay = self.start_relay()

    def send(self, *arguments, stdin=None, code=0):
        """The report of `send --output json`, which must end with this code."""
        got, output, errors = opsrelay("send", "--run-dir", self.relay.run_dir, "--output", "json",
                                       *arguments, stdin=stdin)
        self.assertEqual(got, code, output + errors)
        report = json.loads(output)
        self.assertEqual(report["events"],
                         report["durable"] + report["rejected"] + report["unconfirmed"])
        return report

    def assert_rows(self, *ids):
        self.wait_ledger(self.relay, pending=0, spooled=0)
        self.assertEqual(sorted(self.upstream.row_ids()), sorted(ids))

    def file(self, content):
        path = os.path.join(self.directory, "events.ndjson")
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(content)
        return path

    def test_arguments(self):
        report = self.send(text(event_id="one"), text(event_id="two").replace(",", ",\n"))
        self.assertEqual((report["durable"], report["complete"]), (2, True))
        self.assert_rows("one", "two")

    def test_a_file(self):
        lines = "\n".join(text(event_id=f"f-{number}") for number in range(500))
        path = self.file("\n\r\n" + lines.replace("\n", "\r\n") + "\n\n" + text(event_id="last"))
        self.assertEqual(self.send("--file", path)["durable"], 501)
        self.assert_rows("last", *(f"f-{number}" for number in range(500)))

    def test_standard_input(self):
        lines = "".join(text(event_id=f"i-{number}") + "\n" for number in range(500))
        self.assertEqual(self.send(stdin=lines)["durable"], 500)
        self.assertEqual(self.send("--file", "-", stdin=lines)["durable"], 500)
        self.assertEqual(self.send("-", stdin=lines)["durable"], 500)
        self.assert_rows(*(f"i-{number}" for number in range(500)))
        self.assertEqual(self.relay.ledger()["duplicates"], 1000)
        self.assertEqual(self.send(stdin="\n \n")["events"], 0)

    def test_rejected_events_are_told_and_the_others_arrive(self):
        lines = [text(event_id="good-1"), "{broken", text(event_id="good-2"),
                 text(status="unknown"), "x" * (65 << 10), '{"opsrelay":{"acks":true}}',
                 text(event_id="good-3")]
        report = self.send("--file", self.file("\n".join(lines)), code=1)
        self.assertEqual((report["durable"], report["rejected"]), (3, 4))
        self.assert_rows("good-1", "good-2", "good-3")
        code, output, _ = opsrelay("send", "--run-dir", self.relay.run_dir, "{broken")
        self.assertEqual(code, 1)
        self.assertIn("1 event: 0 durable, 1 rejected, 0 unconfirmed", output)

    def test_where_the_daemon_is(self):
        config = os.path.join(self.directory, "client.yaml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"run_dir: {self.relay.run_dir}\n")
        for number, (flags, environment) in enumerate([
                (["--config", config], {}), (["--socket", self.relay.path("telemetry.stream.sock")],
                                             {}),
                ([], {"OPSRELAY_RUN_DIR": self.relay.run_dir}), ([], {"OPSRELAY_CONFIG": config})]):
            with self.subTest(f"{flags} {environment}"):
                code, output, errors = opsrelay("send", *flags, text(event_id=f"by-{number}"),
                                                environment=environment)
                self.assertEqual((code, errors), (0, ""))
                self.assertIn("1 durable", output)
        self.assertEqual(opsrelay("send", "--quiet", "--run-dir", self.relay.run_dir, text()),
                         (0, "", ""))

    def test_no_daemon(self):
        nowhere = os.path.join(self.directory, "nowhere")
        code, output, errors = opsrelay("send", "--run-dir", nowhere, "--retries", "1", text())
        self.assertEqual(code, 1)
        self.assertIn("1 unconfirmed", output)
        self.assertIn(nowhere + "/telemetry.stream.sock", errors)
        self.assertIn("opsrelay status", errors)

    def test_a_file_that_is_not_there(self):
        missing = os.path.join(self.directory, "missing.ndjson")
        code, _, errors = opsrelay("send", "--run-dir", self.relay.run_dir, "--file", missing)
        self.assertEqual(code, 1)
        self.assertIn(missing, errors)
        self.assertIn("No such file", errors)
        code, output, errors = opsrelay("send", "--run-dir", self.relay.run_dir, "--file",
                                        self.directory)
        self.assertEqual((code, output), (1, ""))
        self.assertEqual(errors, f"opsrelay: --file {self.directory}: Is a directory; name a file "
                                 "of events, one JSON object a line\n")

    def test_what_is_not_sent_is_told_by_itself(self):
        lines = ["x" * ((1 << 20) + 1), '{"opsrelay":{"acks":true}}', text(event_id="good")]
        code, output, errors = opsrelay("send", "--run-dir", self.relay.run_dir, "--file",
                                        self.file("\n".join(lines)))
        self.assertEqual((code, output), (1, "3 events: 1 durable, 2 rejected, 0 unconfirmed\n"))
        self.assertEqual(errors, "opsrelay: 1 rejected and not sent: longer than 1048576 bytes\n"
                                 "opsrelay: 1 rejected and not sent: a line that begins with "
                                 '{"opsrelay" is a message to the daemon, not an event\n')

    def test_a_kill_in_the_middle_is_survived_with_one_row_each(self):
        count = 20_000
        ids = [f"k-{number}" for number in range(count)]
        lines = [line(event(one)) for one in ids]
        child = subprocess.Popen(
            [RELAY, "send", "--run-dir", self.relay.run_dir, "--output", "json"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={name: value for name, value in os.environ.items()
                 if not name.startswith("OPSRELAY_")})
        try:
            def feed():
                for start in range(0, count // 2, 500):
                    child.stdin.write(b"".join(lines[start:start + 500]))

            def kill():
                wait_for(lambda: self.relay.ledger()["received"] > 0, "the first lines")
                self.relay.kill()
                self.relay.start()

            in_threads([feed, kill])
            child.stdin.write(b"".join(lines[count // 2:]))
            output, errors = child.communicate(timeout=DEADLINE)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        self.assertEqual(child.returncode, 0, errors)
        report = json.loads(output)
        self.assertEqual((report["events"], report["durable"]), (count, count))
        self.assertGreaterEqual(report["reconnects"], 1)
        ledger = self.wait_ledger(self.relay, pending=0, spooled=0)
        self.assertEqual(ledger["dropped"], 0)
        self.assertEqual(sorted(self.upstream.row_ids()), sorted(ids))


class StatusTest(RelayTest):
    def setUp(self):
        super().setUp()
        self.start_upstream()

    def test_what_a_running_daemon_says(self):
        relay = self.start_relay()
        relay.send_acked([event("one"), b"broken"])
        self.wait_ledger(relay, delivered=1, spooled=0)
        where = ("--run-dir", relay.run_dir)
        code, output, errors = opsrelay("status", *where)
        self.assertEqual((code, errors), (0, ""))
        self.assertRegex(output, r"^opsrelay \d+\.\d+\.\d+: ready\n")
        for pattern in (r"received +2\b", r"delivered +1\b", r"rejected\.not_json +1\b",
                        r"default: active", r"unix_stream +\S+ +2 received"):
            self.assertRegex(output, pattern)
        code, output, errors = opsrelay("status", *where, "--output", "json")
        self.assertEqual((code, errors), (0, ""))
        self.assert_ledger(json.loads(output)["ledger"])
        self.assertEqual(json.loads(output)["ledger"]["received"], 2)
        self.assertEqual(opsrelay("status", *where, "--ready"), (0, "ready\n", ""))
        self.assertEqual(opsrelay("status", *where, "--live"), (0, "live\n", ""))
        code, output, _ = opsrelay("status", *where, "--ready", "--output", "json")
        self.assertEqual((code, json.loads(output)), (0, {"ready": True, "reasons": []}))

    def test_the_admin_port_when_the_socket_is_gone(self):
        relay = self.start_relay()
        port = admin_port(relay)
        nowhere = os.path.join(self.directory, "nowhere")
        for flags in (["--admin-port", port], ["--run-dir", nowhere, "--admin-port", port]):
            self.assertEqual(opsrelay("status", "--live", *flags), (0, "live\n", ""))

    def test_a_daemon_that_is_not_ready(self):
        self.upstream.control(down=True)
        relay = self.start_relay(config="spool: {ephemeral: true}\nshutdown: {deadline: 1m}\n")
        relay.send_acked([event("waits")])
        relay.signal(signal.SIGTERM)  # an ephemeral spool is delivered first: that waits
        wait_for(lambda: relay.admin("/readyz")[0] == 503, "not ready")
        where = ("--run-dir", relay.run_dir)
        self.assertEqual(opsrelay("status", *where, "--ready"), (1, "not ready\nstopping\n", ""))
        self.assertEqual(opsrelay("status", *where, "--live"), (0, "live\n", ""))
        code, output, _ = opsrelay("status", *where)
        self.assertEqual(code, 0)
        self.assertRegex(output, r"^opsrelay \S+: not ready\n  stopping\n")
        self.upstream.control(down=False)
        self.assertEqual(relay.wait(), 0)
        self.assertEqual(self.upstream.row_ids(), ["waits"])

    def test_upstream_down_does_not_make_it_unready(self):
        self.upstream.control(down=True)
        relay = self.start_relay()
        relay.send_acked([event()])
        wait_for(lambda: relay.lane()["state"] == "backing_off", "backing off")
        self.assertEqual(opsrelay("status", "--run-dir", relay.run_dir, "--ready")[0], 0)

        # While an attempt is under way there is no next one to tell.
        def told():
            output = opsrelay("status", "--run-dir", relay.run_dir)[1]
            return ", next attempt " in output and output

        output = wait_for(told, "a status with the next attempt")
        self.assertRegex(output, r"default: backing_off since \S+, next attempt \S+, 1 spooled")
        self.assertIn("last error: ", output)

    def test_no_daemon(self):
        nowhere = os.path.join(self.directory, "nowhere")
        for flags in ([], ["--ready"], ["--live"], ["--output", "json"]):
            code, output, errors = opsrelay("status", "--run-dir", nowhere, *flags)
            self.assertEqual((code, output), (1, ""), flags)
            for part in ("does not answer", nowhere + "/admin.sock", "opsrelay run", "--run-dir"):
                self.assertIn(part, errors)

    def test_something_else_behind_the_socket(self):
        path = os.path.join(self.directory, "admin.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
            other.bind(path)
            other.listen()

            def answer():
                other.settimeout(DEADLINE)
                connection, _ = other.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"220 mail.example ESMTP\r\n\r\n")

            def ask():
                code, _, errors = opsrelay("status", "--run-dir", self.directory)
                self.assertEqual(code, 1)
                self.assertIn("not from opsrelay", errors)

            in_threads([answer, ask])


class CheckTest(RelayTest):
    def write(self, content):
        path = os.path.join(self.directory, "opsrelay.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
        return path

    def test_what_it_prints_can_be_read_again(self):
        config = self.write("spool: {max_bytes: 1GiB, commit_gap: 5ms}\nadmin: {address: 'off'}\n"
                            f"run_dir: {self.directory}\nlog: {{level: warn}}\nlisteners:\n"
                            "  - {type: unix_stream, path: s.sock, mode: '0600'}\n"
                            "  - {type: udp, address: '[::1]:9999'}\n")
        code, first, _ = opsrelay("check", "--config", config)
        self.assertEqual(code, 0)
        for part in ("max_bytes: 1GiB", "commit_gap: 5ms", f'path: "{self.directory}/s.sock"',
                     'mode: "0600"', 'address: "[::1]:9999"'):
            self.assertIn(part, first)
        code, second, _ = opsrelay("check", "--config", self.write(first))
        self.assertEqual((code, second), (0, first))

    def test_as_json(self):
        config = self.write("spool: {max_bytes: 1GiB}\n")
        code, output, errors = opsrelay("check", "--config", config, "--output", "json",
                                        "--run-dir", self.directory)
        self.assertEqual((code, errors), (0, ""))
        printed = json.loads(output)
        self.assertEqual(printed["config"]["spool"]["max_bytes"], "1GiB")
        self.assertEqual(printed["config"]["run_dir"], self.directory)
        self.assertEqual(len(printed["config"]["listeners"]), 5)
        self.assertTrue(any("no API key" in warning for warning in printed["warnings"]))

    def test_a_file_that_is_not_valid(self):
        config = self.write("spool:\n  dir: /x\n  max_bites: 1GiB\n")
        code, output, errors = opsrelay("check", "--config", config)
        self.assertEqual((code, output), (2, ""))
        self.assertEqual(errors, f"opsrelay: {config}:3:3: spool.max_bites: unknown key; did you "
                                 "mean spool.max_bytes?\n")

    def test_the_key_is_masked(self):
        config = self.write("")
        for output_flag in ("text", "json"):
            code, output, errors = opsrelay("check", "--config", config, "--output", output_flag,
                                            environment={"OPSRELAY_API_KEY": KEY})
            self.assertEqual(code, 0)
            self.assertIn("***", output)
            self.assertNotIn(KEY, output + errors)

    def test_a_key_file_that_cannot_be_read_is_a_warning(self):
        missing = os.path.join(self.directory, "missing")
        for path, reason in ((missing, "No such file or directory"),
                             (self.directory, "not a regular file")):
            code, _, errors = opsrelay("check", "--config", self.write(""), "--api-key-file", path)
            self.assertEqual(code, 0)
            self.assertIn(f"warning: upstream.api_key_file: API key file {path}: {reason}; ",
                          errors)
            self.assertIn("events are spooled until it can be read", errors)

    def test_files_of_another_machine_are_left_alone_when_told(self):
        config = self.write("upstream: {ca_file: /nonexistent/ca, api_key_file: /nonexistent/key}\n"
                            "listeners:\n"
                            "  - {type: http, path: a.sock, token_file: /nonexistent/tokens}\n"
                            "  - {type: http, path: b.sock, group: no-such-group}\n")
        self.assertEqual(opsrelay("check", "--config", config)[0], 2)
        code, output, errors = opsrelay("check", "--config", config, "--no-files")
        self.assertEqual((code, errors), (0, ""))
        self.assertIn("/nonexistent/ca", output)

    def test_it_touches_nothing(self):
        opsrelay("check", "--config", self.write(""), "--run-dir", self.directory + "/run",
                 "--spool-dir", self.directory + "/spool")
        self.assertEqual(os.listdir(self.directory), ["opsrelay.yaml"])


class UsageTest(unittest.TestCase):
    def test_version(self):
        code, output, errors = opsrelay("version")
        self.assertEqual((code, errors), (0, ""))
        found = re.match(r"opsrelay (\d+\.\d+\.\d+\S*)\n", output)
        self.assertTrue(found, output)
        code, output, _ = opsrelay("version", "--output", "json")
        self.assertEqual((code, json.loads(output)["version"]), (0, found[1]))
        self.assertIn("rocksdb", " ".join(json.loads(output)["libraries"]).lower())

    def test_help_names_what_exists_and_nothing_else(self):
        code, output, _ = opsrelay("--help")
        self.assertEqual(code, 0)
        listed = re.search(r"^Subcommands:\n((?:  \S.*\n)+)", output, re.MULTILINE)
        self.assertEqual(set(re.findall(r"^  (\S+)", listed[1], re.MULTILINE)), COMMANDS)
        for command in sorted(COMMANDS):
            with self.subTest(command):
                code, page, errors = opsrelay(command, "--help")
                self.assertEqual((code, errors), (0, ""))
                options, _, footer = page.partition("\n\n\n")
                own = set(re.findall(r"--[a-z][a-z-]*", options))
                for example in re.findall(r"opsrelay [a-z]+ .*", footer):
                    words = re.findall(r"[^\s()]+", example)
                    self.assertIn(words[1], COMMANDS, example)
                    if words[1] == command:
                        if command in GROUPS:
                            own = self.flags_in_group(command, words[2])
                        flags = set(re.findall(r"(?<=\s)--[a-z-]+", example))
                        self.assertLessEqual(flags, own, example)
                self.assertIn("Examples:", page)
                for word in NOT_YET:
                    self.assertNotRegex(page, rf"(?i)\b{word}\b")
                for long in page.splitlines():
                    self.assertLessEqual(len(long), 100, long)
        for word in NOT_YET:
            self.assertNotRegex(output, rf"(?i)\b{word}\b")

    def flags_in_group(self, group, command):
        self.assertIn(command, GROUPS[group])
        code, page, errors = opsrelay(group, command, "--help")
        self.assertEqual((code, errors), (0, ""))
        for long in page.splitlines():
            self.assertLessEqual(len(long), 100, long)
        return set(re.findall(r"--[a-z][a-z-]*", page))

    def test_groups_have_their_commands(self):
        for group, commands in GROUPS.items():
            page = opsrelay(group, "--help")[1]
            listed = re.search(r"^Subcommands:\n((?:  \S.*\n)+)", page, re.MULTILINE)
            self.assertEqual(set(re.findall(r"^  (\S+)", listed[1], re.MULTILINE)), commands)

    def test_wrong_usage_is_told_with_the_nearest_word(self):
        cases = [
            ([], "a command is missing"),
            (["statsu"], "unknown command statsu; did you mean status?"),
            (["sent", "{}"], "unknown command sent; did you mean send?"),
            (["zzzzzzzz"], "unknown command zzzzzzzz\n"),
            (["status", "--redy"], "unknown argument --redy; did you mean --ready?"),
            (["run", "--spool-dirs=/x"],
             "unknown argument --spool-dirs; did you mean --spool-dir?"),
            (["status", "--output", "xml"], "write text or json"),
            (["status", "--ready", "--live"], "--live"),
            (["status", "--timeout", "3"], '--timeout: "3" is not a duration'),
            (["send", "--retries", "-1", "{}"], "--retries"),
            (["send", "--file", "x", "{}"], "--file"),
            (["status", "--admin-port", "70000"], "--admin-port"),
        ]
        for arguments, complaint in cases:
            with self.subTest(" ".join(arguments)):
                code, output, errors = opsrelay(*arguments)
                self.assertEqual((code, output), (2, ""))
                self.assertTrue(errors.startswith("opsrelay"), errors)
                self.assertIn(complaint, errors)

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full here")
    def test_output_that_cannot_be_written_is_an_error(self):
        with open("/dev/full", "w", encoding="ascii") as full:
            done = subprocess.run([RELAY, "version"], stdout=full, stderr=subprocess.PIPE,
                                  text=True, check=False, timeout=DEADLINE)
        self.assertEqual(done.returncode, 1)
        self.assertIn("standard output: No space left", done.stderr)


def admin_port(relay):
    found = re.search(r"type=admin address=127\.0\.0\.1:(\d+)", relay.log())
    assert found, relay.log()
    return found[1]


class AdminTest(RelayTest):
    def setUp(self):
        super().setUp()
        self.start_upstream()
        self.relay = self.start_relay()
        self.port = admin_port(self.relay)

    def both(self):
        """A connection by each way."""
        return (UnixHttp(self.relay.path("admin.sock"), DEADLINE),
                http.client.HTTPConnection("127.0.0.1", int(self.port), timeout=DEADLINE))

    def test_the_same_over_port_and_socket(self):
        for connection in self.both():
            self.assertEqual(http_json(connection, "GET", "/livez")[::2], (200, {"live": True}))
            status, headers, body = http_json(connection, "GET", "/readyz?verbose=1")
            self.assertEqual((status, body), (200, {"ready": True, "reasons": []}))
            self.assertEqual(headers["Cache-Control"], "no-store")
            status, _, body = http_json(connection, "GET", "/status")
            self.assertEqual(status, 200)
            self.assert_ledger(body["ledger"])
            self.assertEqual({item["type"] for item in body["listeners"]},
                             {"unix_datagram", "unix_stream", "udp", "http"})
            status, headers, body = http_json(connection, "GET", "/metrics")
            self.assertEqual(status, 200)
            self.assertTrue(headers["Content-Type"].startswith("text/plain; version=0.0.4"))
            status, _, body = http_json(connection, "GET", "/nothing")
            self.assertEqual((status, body["reason"]), (404, "not_found"))
            status, headers, body = http_json(connection, "POST", "/status", b"")
            self.assertEqual(
                (status, body["reason"]),
                (404, "not_found") if isinstance(connection, UnixHttp) else
                (403, "only_over_admin_socket"))
            connection.request("HEAD", "/status")
            reply = connection.getresponse()
            self.assertEqual((reply.status, reply.read()), (200, b""))
            self.assertGreater(int(reply.headers["Content-Length"]), 0)
            connection.close()

    def test_the_metrics_port_serves_metrics_alone(self):
        self.relay.end()
        self.relay.arguments += ["--metrics-port", "0"]
        self.relay.start()
        found = re.search(r"type=metrics address=127\.0\.0\.1:(\d+)", self.relay.log())
        self.assertTrue(found, self.relay.log())

        def ask(path):
            scraper = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=DEADLINE)
            with contextlib.closing(scraper):
                scraper.request("GET", path, headers={"Host": "relay.monitoring.svc:8712"})
                reply = scraper.getresponse()
                return reply.status, reply.headers["Content-Type"], reply.read().decode()

        status, kind, body = ask("/metrics")
        self.assertEqual(status, 200)
        self.assertTrue(kind.startswith("text/plain; version=0.0.4"))
        self.assertIn("\nopsrelay_build_info{", body)
        for path in ("/status", "/readyz", "/livez", "/"):
            status, kind, body = ask(path)
            self.assertEqual((status, kind, json.loads(body)["reason"]),
                             (404, "application/json", "not_found"))

    def test_browsers_are_kept_out(self):
        for headers, status in [({"Host": "evil.example"}, 403), ({"Host": "localhost:1"}, 200),
                                ({"Origin": "https://evil.example"}, 403), ({"Host": ""}, 403),
                                ({"Origin": "http://localhost:3000"}, 200)]:
            _, connection = self.both()
            got = http_json(connection, "GET", "/status", None, headers)[0]
            self.assertEqual(got, status, headers)

    def test_requests_that_are_none_are_answered(self):
        head = b"Host: localhost\r\nConnection: close\r\n"
        for request, status in [
                (b"garbage\r\n\r\n", 400),
                (b"POST /status HTTP/1.1\r\n" + head + b"Content-Length: 2\r\n\r\n{}", 403),
                (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n" + head + b"\r\n", 431)]:
            with self.subTest(request[:20]), \
                    socket.create_connection(("127.0.0.1", int(self.port)), DEADLINE) as client:
                client.sendall(request)
                answer = b""
                with contextlib.suppress(ConnectionError):
                    while data := client.recv(65536):
                        answer += data
                self.assertTrue(answer.startswith(b"HTTP/1.1 %d " % status), answer)
        self.assertEqual(self.relay.admin("/livez")[0], 200)

    def test_a_full_admin_port_does_not_fail_the_probes(self):
        """Any process here can hold connections to the port; the socket is for the owner."""
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(
                    socket.create_connection(("127.0.0.1", int(self.port)), DEADLINE))
            for flag in ("--live", "--ready"):
                code, _, errors = opsrelay("status", flag, "--run-dir", self.relay.run_dir)
                self.assertEqual((code, errors), (0, ""))

    def test_modes_of_the_sockets(self):
        modes = {name: stat.S_IMODE(os.stat(self.relay.path(name)).st_mode)
                 for name in os.listdir(self.relay.run_dir) if name.endswith(".sock")}
        self.assertEqual(modes, {"admin.sock": 0o600, "telemetry.sock": 0o666,
                                 "telemetry.stream.sock": 0o666, "http.sock": 0o666})

    def metrics(self):
        """{family: (type, {series: value})}; every line must parse."""
        body = self.relay.admin("/metrics")[1]
        self.assertTrue(body.endswith("\n"))
        name, number = r"[a-zA-Z_:][a-zA-Z0-9_:]*", r"[-+]?(?:\d+(?:\.\d+)?(?:e[-+]?\d+)?|Inf)|NaN"
        label = rf'{name}="(?:[^"\\\n]|\\[\\"n])*"'
        sample = re.compile(rf"({name})(\{{{label}(?:,{label})*\}})? ({number})")
        families, current = {}, None
        for text_line in body.splitlines():
            if text_line.startswith("# HELP "):
                current = text_line.split(" ", 3)[2]
                self.assertNotIn(current, families, "a family stands twice")
                self.assertGreater(len(text_line.split(" ", 3)), 3, text_line)
                families[current] = [None, {}]
            elif text_line.startswith("# TYPE "):
                _, _, family, kind = text_line.split(" ")
                self.assertEqual(family, current)
                self.assertIn(kind, ("counter", "gauge", "histogram"))
                families[current][0] = kind
            else:
                found = sample.fullmatch(text_line)
                self.assertTrue(found, text_line)
                base = found[1]
                if families[current][0] == "histogram":
                    base = re.sub("_(bucket|sum|count)$", "", base)
                self.assertEqual(base, current, "a sample outside of its family")
                series = found[1] + (found[2] or "")
                self.assertNotIn(series, families[current][1], "a series stands twice")
                families[current][1][series] = float(found[3])
        return families

    def test_metrics_parse_and_show_the_ledger(self):
        self.relay.send_acked([event("one"), event("one"), event("two"), b"broken", b"[]"])
        ledger = self.wait_ledger(self.relay, delivered=2, spooled=0)
        families = self.metrics()
        for term, family in {"received": "events_received_total",
                             "accepted": "events_accepted_total",
                             "duplicates": "events_duplicate_total",
                             "rejected": "events_rejected_total", "shed": "events_shed_total",
                             "pending": "events_pending", "recovered": "events_recovered_total",
                             "replayed": "events_replayed_total",
                             "delivered": "events_delivered_total", "dead": "events_dead_total",
                             "dropped": "events_dropped_total", "spooled": "spool_events",
                             "imbalance": "ledger_imbalance"}.items():
            with self.subTest(term):
                kind, series = families["opsrelay_" + family]
                self.assertEqual(sum(series.values()), ledger[term])
                self.assertEqual(kind, "counter" if family.endswith("_total") else "gauge")
        rejected = families["opsrelay_events_rejected_total"][1]
        self.assertEqual(rejected['opsrelay_events_rejected_total{reason="not_json"}'], 1)
        self.assertEqual(len(rejected), 14, "one series a reason, from the start")
        for family, (kind, series) in families.items():
            if kind == "histogram":
                counts = [one for one in series if one.startswith(family + "_count")]
                self.assertTrue(counts, family)
                for counted in counts:
                    labels = counted[len(family + "_count"):].strip("{}")
                    begin = family + "_bucket{" + (labels + "," if labels else "") + "le="
                    buckets = [value for one, value in series.items() if one.startswith(begin)]
                    self.assertGreater(len(buckets), 1, counted)
                    self.assertEqual(buckets, sorted(buckets), counted)
                    self.assertEqual(buckets[-1], series[counted])
            elif kind == "counter":
                self.assertTrue(family.endswith("_total"), family)

    def test_metrics_and_readme_name_the_same(self):
        with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
            operate = re.search(r"^## Operate\n(.*?)(?=^## )", file.read(),
                                re.MULTILINE | re.DOTALL)[1]
        table = {name: (kind, labels.split(",") if labels else [], text)
                 for name, labels, kind, text in re.findall(
                     r"^\| `(\w+)(?:\{([\w,]+)\})?` \| (\w+) \| (.*?) \|$", operate, re.MULTILINE)}
        # One series of everything that has labels only once something happened.
        self.relay.send_acked([event("one"), b"broken"])
        self.wait_ledger(self.relay, delivered=1)
        families = self.metrics()
        self.assertEqual(list(table), list(families))
        for name, (kind, labels, _) in table.items():
            with self.subTest(name):
                self.assertEqual(families[name][0], kind)
                self.assertTrue(families[name][1], "no series")
                for series in families[name][1]:
                    found = re.findall(r'(\w+)="(?:[^"\\]|\\.)*"', series)
                    self.assertEqual([label for label in found if label != "le"], labels)
        mentioned = set(re.findall(r"\bopsrelay_[a-z_]+[a-z]\b", operate))
        self.assertLessEqual(mentioned - set(table), {"opsrelay_llm"})

    def test_promtool_finds_nothing_wrong(self):
        self.relay.send_acked([event("one"), event("two", endpointTag='a"b\\c'), b"broken"])
        self.wait_ledger(self.relay, delivered=2)
        done = subprocess.run([promtool(self), "check", "metrics"], text=True, check=False,
                              input=self.relay.admin("/metrics")[1], capture_output=True,
                              timeout=DEADLINE)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def test_llm_usage_counts_accepted_events_once(self):
        def call(key, **fields):
            return event(key, provider="acme", model="m-1", inputTokens=10, outputTokens=4,
                         totalTokens=14, **fields)

        self.relay.send_acked([call("one", endpointTag="chat"), call("one", endpointTag="chat"),
                               call("two", endpointTag="chat"),
                               call("three", endpointTag=None, status="error",
                                    errorCode="timeout"),
                               b'{"provider":"acme","model":"m-1","inputTokens":-1}'])
        self.wait_ledger(self.relay, delivered=3, duplicates=1, rejected=1)
        families = self.metrics()
        for total, chat, failed in [("requests", 2, 1), ("input_tokens", 20, 10),
                                    ("output_tokens", 8, 4)]:
            name = f"opsrelay_llm_{total}_total"
            labels = name + '{provider="acme",model="m-1",endpoint_tag='
            self.assertEqual(families[name][1], {labels + '"chat",status="success"}': chat,
                                                 labels + '"",status="error"}': failed})

    def test_process_metrics_are_this_process_s(self):
        families = {name: values for name, (_, values) in self.metrics().items()
                    if name.startswith("process_")}
        with open(f"/proc/{self.relay.pid}/stat", encoding="utf-8") as file:
            fields = file.read().rpartition(")")[2].split()
        self.assertEqual(families["process_threads"]["process_threads"], int(fields[17]))
        resident = families["process_resident_memory_bytes"]["process_resident_memory_bytes"]
        self.assertGreater(resident, 1 << 20)
        self.assertGreater(families["process_cpu_seconds_total"]["process_cpu_seconds_total"], 0)
        opened = families["process_open_fds"]["process_open_fds"]
        self.assertGreater(opened, 5)
        self.assertLess(opened, families["process_max_fds"]["process_max_fds"])

    def test_every_line_of_a_hostile_address_is_escaped(self):
        directory = os.path.join(self.directory, 'a"b\\c')
        self.relay.end()
        self.relay.run_dir = directory
        self.relay.arguments[self.relay.arguments.index("--run-dir") + 1] = directory
        self.relay.start()
        self.assertTrue(any("a\\\"b\\\\c" in series for series in
                            self.metrics()["opsrelay_listener_received_total"][1]))


if __name__ == "__main__":
    unittest.main(verbosity=1)
