#!/usr/bin/env python3
"""The unit, its user and its configuration fit together, and systemd agrees.

  systemd_test.py facts              what the files say about each other
  systemd_test.py config OPSRELAY    the program OPSRELAY accepts opsrelay.yaml
  systemd_test.py analyze OPSRELAY   systemd-analyze verify, and the score of the sandbox

Exit status 77: systemd-analyze is not installed, so analyze could not run.
"""

import collections
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
UNIT = ROOT / "systemd/opsrelay.service"
SOCKETS = [ROOT / "systemd/opsrelay.socket", ROOT / "systemd/opsrelay-inet.socket"]
SCORE_MAX = 1.5  # of 10; less is tighter
SKIPPED = 77


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def unit(file=UNIT):
    """Values of every key of the unit, by section."""
    sections, section = {}, None
    for line in file.read_text("utf-8").splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), collections.defaultdict(list))
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section[key].append(value)
    return sections


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text).group(1))


class Facts(unittest.TestCase):
    """No program is needed for these."""

    def setUp(self):
        self.service = unit()["Service"]
        self.config = yaml.safe_load((ROOT / "systemd/opsrelay.yaml").read_text("utf-8"))

    def test_stop_timeout_outlasts_the_drain(self):
        deadline = seconds(self.config["shutdown"]["deadline"])
        self.assertEqual(seconds(self.service["TimeoutStopSec"][0]), deadline + 5)

    def test_directories_are_the_configured_ones(self):
        self.assertEqual("/run/" + self.service["RuntimeDirectory"][0], self.config["run_dir"])
        self.assertEqual("/var/lib/" + self.service["StateDirectory"][0],
                         self.config["spool"]["dir"])
        self.assertEqual(self.service["StateDirectoryMode"], ["0750"])

    def test_the_key_may_be_missing_and_is_where_the_configuration_says(self):
        name, source = self.service["LoadCredential"][0].split(":")
        # An absolute path that does not exist would keep the unit from starting.
        self.assertFalse(source.startswith("/"))
        self.assertEqual(self.config["upstream"]["api_key_file"],
                         f"/run/credentials/{UNIT.name}/{name}")

    def test_reload_waits_for_the_answer_of_the_same_program(self):
        self.assertEqual(self.service["ExecReload"], ["/usr/bin/opsrelay reload"])
        self.assertEqual(self.service["ExecStart"], ["/usr/bin/opsrelay run"])

    def test_user_exists(self):
        users = [line.split()[1]
                 for line in (ROOT / "systemd/opsrelay.sysusers").read_text("utf-8").splitlines()
                 if line.startswith("u ")]
        self.assertEqual(users, self.service["User"])
        self.assertEqual(users, self.service["Group"])

    def test_it_never_gives_up(self):
        self.assertEqual(unit()["Unit"]["StartLimitIntervalSec"], ["0"])
        self.assertEqual(self.service["Restart"], ["always"])
        self.assertEqual(self.service["LimitCORE"], ["0"])

    def test_the_sockets_are_the_services(self):
        names = " ".join(file.name for file in SOCKETS)
        self.assertEqual(unit()["Unit"]["Wants"], [names])
        self.assertIn(names, unit()["Unit"]["After"])
        for file in SOCKETS:
            self.assertEqual(unit(file)["Socket"]["Service"], [UNIT.name])
        # Or systemd would remove the sockets' files with the directory at every restart.
        self.assertEqual(self.service["RuntimeDirectoryPreserve"], ["yes"])

    def test_the_sockets_directory_is_made_as_the_service_would(self):
        run_dir = "/run/" + self.service["RuntimeDirectory"][0]
        mode = self.service["RuntimeDirectoryMode"][0]
        user, group = self.service["User"][0], self.service["Group"][0]
        self.assertEqual(unit(SOCKETS[0])["Socket"]["ExecStartPre"],
                         [f"/usr/bin/install -d -m {mode} -o {user} -g {group} {run_dir}"])

    def test_peer_credentials_and_kernel_limits_stay_visible(self):
        self.assertNotIn("PrivateUsers", self.service)
        self.assertNotIn("ProcSubset", self.service)


class Config(unittest.TestCase):
    """The daemon reads the file that is shipped."""

    opsrelay = ""

    def test_configuration_is_accepted(self):
        run(self.opsrelay, "check", "--config", ROOT / "systemd/opsrelay.yaml")

    def test_every_socket_is_a_listener_of_it(self):
        shown = json.loads(run(self.opsrelay, "check", "--output", "json", "--config",
                               ROOT / "systemd/opsrelay.yaml"))
        kinds = {"unix_datagram": "ListenDatagram", "udp": "ListenDatagram",
                 "unix_stream": "ListenStream", "http": "ListenStream"}
        listeners = {(kinds[one["type"]], one.get("path") or one["address"])
                     for one in shown["config"]["listeners"]}
        held = {(key, address) for file in SOCKETS for key in ("ListenDatagram", "ListenStream")
                for address in unit(file)["Socket"][key]}
        self.assertEqual(held, listeners)


class Analyze(unittest.TestCase):
    """What systemd says, without systemd running."""

    opsrelay = ""

    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        # verify wants the program to be there.
        self.unit = pathlib.Path(scratch.name) / UNIT.name
        text = UNIT.read_text("utf-8")
        self.unit.write_text(text.replace("/usr/bin/opsrelay", self.opsrelay), "utf-8")
        self.sockets = [pathlib.Path(shutil.copy(file, scratch.name)) for file in SOCKETS]

    def test_verify_has_nothing_to_say_about_the_unit(self):
        done = subprocess.run(["systemd-analyze", "verify", self.unit, *self.sockets],
                              capture_output=True, text=True, timeout=60, check=False)
        # It also reports on other units of this machine, and the manual of a unit elsewhere.
        ours = [line for line in done.stderr.splitlines()
                if any(file.name in line for file in [UNIT, *SOCKETS])]
        self.assertEqual(ours, [])

    def test_sandbox(self):
        report = run("systemd-analyze", "security", "--offline=yes", "--no-pager", self.unit)
        score = re.search(r"Overall exposure level for \S+: ([0-9.]+)", report)
        self.assertIsNotNone(score, report)
        self.assertLess(float(score.group(1)), SCORE_MAX, report)


def main(arguments):
    cases = {"facts": Facts, "config": Config, "analyze": Analyze}
    if not arguments or arguments[0] not in cases:
        sys.exit(__doc__)
    case = cases[arguments[0]]
    if case is Analyze and shutil.which("systemd-analyze") is None:
        print("analyze: skipped, systemd-analyze is not installed (package systemd)")
        sys.exit(SKIPPED)
    if case is not Facts:
        case.opsrelay = arguments[1]
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(case)
    sys.exit(not unittest.TextTestRunner(verbosity=2).run(suite).wasSuccessful())


if __name__ == "__main__":
    main(sys.argv[1:])
