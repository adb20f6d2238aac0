#!/usr/bin/env python3
"""`opsrelay doctor`: with a daemon and without, against upstreams with every kind of fault. It finds
what is wrong, names the remedy, shows no secret and changes nothing."""

import json
import os
import pwd
import socket
import subprocess
import unittest

from harness import DEADLINE, KEY, RELAY, RelayTest

PLANTED = "planted-secret-key"


class DoctorTest(RelayTest):
    def doctor(self, *, url=None, key=KEY, user=None, config="", timeout="20s",
               ports=("0", "off")):
        """(exit code, {check: [findings]}) of the JSON; the text must agree. `ports`: of admin and
        metrics."""
        key_file = os.path.join(self.directory, "doctor-key")
        if key is not None:
            with open(key_file, "w", encoding="utf-8") as file:
                file.write(key + "\n")
            os.chmod(key_file, 0o644)
        config_file = os.path.join(self.directory, "doctor.yaml")
        with open(config_file, "w", encoding="utf-8") as file:
            file.write(config)
        command = [RELAY, "doctor", "--config", config_file, "--run-dir",
                   os.path.join(self.directory, "run"), "--spool-dir",
                   os.path.join(self.directory, "spool"), "--upstream-url",
                   url or self.upstream.url, "--api-key-file", key_file, "--http-port", "0",
                   "--udp-port", "0", "--admin-port", str(ports[0]), "--metrics-port", str(ports[1]),
                   "--timeout", timeout]
        kept = {name: value for name, value in os.environ.items()
                if not name.startswith("OPSRELAY_") and "proxy" not in name.lower()}
        answers = []
        for output in ("json", "text"):
            done = subprocess.run([*command, "--output", output], capture_output=True, text=True,
                                  check=False, timeout=DEADLINE, env=kept, user=user)
            self.assertEqual(done.stderr, "")
            self.assertNotIn(key or "nothing", done.stdout)
            answers.append(done)
        self.assertEqual(answers[0].returncode, answers[1].returncode, answers)
        report = json.loads(answers[0].stdout)
        self.assertEqual(report["ok"], answers[0].returncode == 0)
        found = {}
        for one in report["checks"]:
            found.setdefault(one["check"], []).append(one)
            self.assertEqual(one["remedy"] is None or one["check"] == "config" or
                             one["result"] != "ok", True, one)
        failed = sum(one["result"] == "fail" for one in report["checks"])
        self.assertIn(f", {failed} failed\n", answers[1].stdout)
        return answers[0].returncode, found

    def check(self, found, name, result, *parts):
        """One of the findings of this check is of this result and names these."""
        matching = [one for one in found.get(name, []) if one["result"] == result]
        self.assertTrue(matching, (name, result, found))
        told = " ".join(f"{one['detail']} {one['remedy']}" for one in matching)
        for part in parts:
            self.assertIn(part, told)

    def test_without_a_daemon_all_is_tried_and_nothing_is_made(self):
        self.start_upstream()
        code, found = self.doctor()
        self.assertEqual(code, 0, found)
        self.check(found, "daemon", "warn", "no daemon runs")
        for name in ("config", "upstream.key", "upstream.resolve", "upstream.connect",
                     "upstream.answer", "upstream.clock", "spool.directory"):
            self.check(found, name, "ok")
        self.assertTrue(found["spool.sync"] and found["spool.space"] and found["spool.filesystem"])
        for name in ("run", "spool"):
            self.assertFalse(os.path.exists(os.path.join(self.directory, name)))
        stats = self.upstream.stats()
        self.assertEqual((stats["requests"], stats["rows"]), (0, 0), "no event is sent")
        self.assertEqual(stats["status_requests"], 2)

    def test_with_a_daemon_its_sockets_are_tried(self):
        self.start_upstream()
        relay = self.start_relay()
        before = sorted(os.listdir(relay.spool_dir))
        code, found = self.doctor_of(relay)
        self.assertEqual(code, 0, found)
        self.check(found, "daemon", "ok", "answers at", "/run/admin.sock")
        for kind in ("unix_datagram", "unix_stream", "http"):
            self.check(found, f"listener.{kind}", "ok")
        self.assertEqual(sorted(os.listdir(relay.spool_dir)), before)
        os.chmod(relay.path("telemetry.sock"), 0o600)
        code, found = self.doctor_of(relay)
        self.check(found, "listener.unix_datagram", "warn", "mode 0600, but 0666")
        self.assertEqual(relay.ledger()["received"], 0, "nothing was sent")

    def test_probes_and_scrapes_are_answered(self):
        self.start_upstream()
        relay = self.start_relay("--metrics-port", "0")
        admin, metrics = (int(relay.log().split(f"type={kind} address=127.0.0.1:")[1].split()[0])
                          for kind in ("admin", "metrics"))
        code, found = self.doctor_of(relay, ports=(admin, metrics))
        self.assertEqual(code, 0, found)
        self.check(found, "listener.admin", "ok",
                   f"127.0.0.1:{admin}: /livez, /readyz, /metrics answer")
        self.check(found, "listener.metrics", "ok", f"127.0.0.1:{metrics}: /metrics answers")
        code, found = self.doctor_of(relay, ports=(admin, metrics),
                                     config=f'metrics: {{address: "0.0.0.0:{metrics}"}}\n')
        self.check(found, "listener.metrics", "ok", "/metrics answers")
        # Probes get no answer where only scrapers do, nor either where the daemon does not listen.
        code, found = self.doctor_of(relay, ports=(metrics, relay.port("http")))
        self.assertEqual(code, 1)
        self.check(found, "listener.admin", "fail", "/livez: HTTP 404", "find out what listens")
        self.check(found, "listener.metrics", "fail", "/metrics: HTTP 404")
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            nobody = silent.getsockname()[1]
            code, found = self.doctor_of(relay, ports=("off", nobody))
            self.check(found, "listener.metrics", "fail", "refused", "give doctor its flags")
            self.assertNotIn("listener.admin", found)
            silent.listen()
            code, found = self.doctor_of(relay, ports=("off", nobody), timeout="300ms")
            self.check(found, "listener.metrics", "fail", "hangs, or something else")
            self.assertEqual(relay.end(), 0)
            code, found = self.doctor_of(relay, ports=(admin, nobody))
            self.check(found, "listener.admin", "ok", f":{admin}: free")
            self.check(found, "listener.metrics", "fail", "in use", "configure another port")

    def doctor_of(self, relay, **options):
        """Of this daemon: its directories take the place of the ones of doctor()."""
        for name in ("run", "spool"):
            link = os.path.join(self.directory, name)
            if not os.path.exists(link):
                os.symlink(os.path.join(relay.directory, name), link)
        return self.doctor(**options)

    def test_a_key_that_is_refused_missing_or_unreadable(self):
        self.start_upstream()
        code, found = self.doctor(key=PLANTED)
        self.assertEqual(code, 1)
        self.check(found, "upstream.answer", "fail", "HTTP 401", "the key was refused",
                   "upstream.api_key_file")
        os.remove(os.path.join(self.directory, "doctor-key"))
        code, found = self.doctor(key=None)
        self.assertEqual(code, 1)
        self.check(found, "upstream.key", "fail", "doctor-key", "No such file")
        self.assertNotIn("upstream.answer", found)

    def test_an_upstream_that_is_dead_or_has_no_name(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))  # bound, and nobody listens
            code, found = self.doctor(url=f"http://127.0.0.1:{unused.getsockname()[1]}")
        self.assertEqual(code, 1)
        self.check(found, "upstream.connect", "fail", "refused: connect to 127.0.0.1:", "firewall")
        code, found = self.doctor(url="https://does-not-exist.invalid")
        self.assertEqual(code, 1)
        self.check(found, "upstream.resolve", "fail", "does-not-exist.invalid", "resolv.conf")
        self.assertNotIn("upstream.connect", found)

    def test_certificates(self):
        rows = [("untrusted", (), False, "self-signed certificate"),
                ("expired", ("--tls-expired",), True, "expired"),
                ("another-host", ("--tls-host", "api.example.com"), True, "hostname mismatch")]
        for name, options, trusted, reason in rows:
            with self.subTest(name):
                upstream, certificate = self.start_tls(name, *options)
                trust = f'upstream: {{ca_file: "{certificate}"}}\n' if trusted else ""
                code, found = self.doctor(url=upstream.url, config=trust)
                self.assertEqual(code, 1)
                self.check(found, "upstream.connect", "fail", reason, "upstream.ca_file")
        upstream, certificate = self.start_tls("good")
        code, found = self.doctor(url=upstream.url,
                                  config=f'upstream: {{ca_file: "{certificate}"}}\n')
        self.check(found, "upstream.connect", "ok", "over TLS")
        self.assertIn("upstream.certificate", found)
        self.check(found, "upstream.answer", "ok")

    def test_a_clock_that_is_wrong(self):
        self.start_upstream()
        for offset, result, word in ((60_000, "warn", "behind"), (-3_600_000, "fail", "ahead of")):
            self.upstream.control(clock={"offset_ms": offset})
            code, found = self.doctor()
            self.check(found, "upstream.clock", result, word, "set the clock")
            self.assertEqual(code, 1 if result == "fail" else 0)

    def test_answers_that_are_not_the_apis(self):
        self.start_upstream()
        self.upstream.control(workspace_status="missing")
        code, found = self.doctor()
        self.assertEqual(code, 1)
        self.check(found, "upstream.answer", "fail", "HTTP 404", "upstream.url")
        self.upstream.control(workspace_status="broken")
        code, found = self.doctor()
        self.assertEqual(code, 0)
        self.check(found, "upstream.answer", "warn", "HTTP 500")

    def test_a_peer_that_never_answers_is_given_up(self):
        self.start_upstream()
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            code, found = self.doctor(timeout="300ms",
                                      url=f"http://127.0.0.1:{silent.getsockname()[1]}")
        self.assertEqual(code, 1)
        self.check(found, "upstream.answer", "fail", "no answer in time")

    def test_directories_that_cannot_be_used(self):
        self.start_upstream()
        spool = os.path.join(self.directory, "spool")
        with open(spool, "w", encoding="ascii") as file:
            file.write("a file")
        code, found = self.doctor()
        self.assertEqual(code, 1)
        self.check(found, "spool.directory", "fail", spool, "Not a directory", "spool.dir")
        os.remove(spool)
        if os.geteuid() != 0:
            self.skipTest("only root can become another user")
        os.mkdir(spool, 0o755)
        os.chmod(self.directory, 0o755)
        nobody = pwd.getpwnam("nobody").pw_uid
        self.doctor()  # writes its files as root
        code, found = self.doctor(user=nobody)
        self.assertEqual(code, 1)
        self.check(found, "spool.directory", "fail", spool, "Permission denied")

    def test_a_daemon_elsewhere_that_holds_the_spool(self):
        self.start_upstream()
        relay = self.start_relay()
        os.symlink(relay.spool_dir, os.path.join(self.directory, "spool"))
        code, found = self.doctor()
        self.assertEqual(code, 1)
        self.check(found, "daemon", "fail", f"process {relay.pid} has the spool", "--run-dir")

    def test_a_configuration_that_is_not_valid(self):
        self.start_upstream()
        code, found = self.doctor(config="spool: {max_bites: 1GiB}\n")
        self.assertEqual(code, 1)
        self.assertEqual(list(found), ["config"])
        self.check(found, "config", "fail", "did you mean spool.max_bytes?")


if __name__ == "__main__":
    unittest.main(verbosity=1)
