#!/usr/bin/env python3
"""Alert rules and dashboard of the chart.

  monitoring_test.py facts      they name only metrics and labels that the README lists, which the daemon's
                                tests compare with what it exports; every alert is tested both ways
  monitoring_test.py promtool   Prometheus accepts the rules and the dashboard's queries, and each alert
                                fires when it should and only then

Exit status 77: promtool is not there, so its part could not run.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import yaml

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MONITORING = ROOT / "helm/opsrelay-lib/monitoring"
TESTS = HERE / "alerts_test.yaml"
SKIPPED = 77
# What a scrape or PromQL adds to every series.
FOREIGN_LABELS = {"job", "instance", "le"}


def documented():
    """{metric: (type, labels)} of the README."""
    rows = re.findall(r"^\| `((?:opsrelay|process)_\w+)(?:\{([\w,]+)\})?` \| (\w+) \|",
                      (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    return {name: (kind, set(labels.split(",")) - {""}) for name, labels, kind in rows}


def rules():
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard():
    return json.loads((MONITORING / "dashboard.json").read_text("utf-8"))


def panels():
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries():
    """(where, query) of everything that asks Prometheus for series."""
    found = [(rule["alert"], rule["expr"]) for rule in rules()]
    for panel in panels():
        found += [(panel["title"], target["expr"]) for target in panel["targets"]]
    return found


def selectors(query):
    """(metric, {label: value}) of each series that a query names."""
    for name, body in re.findall(r"\b((?:opsrelay|process)_\w+)(\{[^}]*\})?", query):
        yield name, dict(re.findall(r'(\w+)(?:=~|!=|!~|=)"([^"]*)"', body))


class Facts(unittest.TestCase):
    def family(self, name):
        """(type, labels) of the metric that a query names."""
        known = documented()
        base = re.sub("_(bucket|sum|count)$", "", name)
        if name not in known and known.get(base, [None])[0] == "histogram":
            return known[base]
        self.assertIn(name, known)
        return known[name]

    def test_metrics_and_labels_exist(self):
        self.assertGreater(len(documented()), 40)
        for where, query in queries():
            with self.subTest(where, query=query):
                named = list(selectors(query))
                self.assertTrue(named)
                labels = set(FOREIGN_LABELS)
                for name, matchers in named:
                    own = self.family(name)[1]
                    self.assertLessEqual(set(matchers) - FOREIGN_LABELS, own, name)
                    labels |= own
                for grouping in re.findall(r"\b(?:by|without|on|ignoring) \(([^)]*)\)", query):
                    self.assertLessEqual(set(re.findall(r"\w+", grouping)), labels)

    def test_counters_are_looked_at_by_rate(self):
        for where, query in queries():
            for name, _ in selectors(query):
                counts = self.family(name)[0] in ("counter", "histogram")
                rated = re.search(rf"\b(rate|increase)\({name}\b", query) is not None
                self.assertEqual(counts, rated, f"{where}: {query}")

    def test_texts_name_labels_that_the_query_leaves(self):
        for rule in rules():
            labels = set().union(*(self.family(name)[1] for name, _ in selectors(rule["expr"])))
            for grouping in re.findall(r"\bwithout \(([^)]*)\)", rule["expr"]):
                labels -= set(re.findall(r"\w+", grouping))
            for text in rule["annotations"].values():
                self.assertLessEqual(set(re.findall(r"\$labels\.(\w+)", text)), labels, rule["alert"])
        for panel in panels():
            for target in panel["targets"]:
                shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
                kept = set(re.findall(r"\w+", " ".join(re.findall(r"\bby \(([^)]*)\)",
                                                                  target["expr"]))))
                if "sum" in target["expr"] or "max" in target["expr"]:
                    self.assertLessEqual(shown, kept, target["expr"])

    def test_values_of_labels_exist(self):
        """A state or reason that was renamed would leave an alert silent for ever."""
        words = {}
        for label, header in {"state": "daemon/forward/lane_table.h",
                              "reason": "daemon/core/outcome.h",
                              "status": "daemon/parse/rules.h"}.items():
            words[label] = set(re.findall(r'"(\w+)"', (ROOT / header).read_text("utf-8")))
        for where, query in queries():
            for _, matchers in selectors(query):
                for label in set(matchers) - FOREIGN_LABELS:
                    self.assertLessEqual(set(matchers[label].split("|")), words[label], where)

    def test_every_alert_says_what_it_means_and_is_tested_both_ways(self):
        names = [rule["alert"] for rule in rules()]
        self.assertEqual(len(names), len(set(names)))
        for rule in rules():
            self.assertTrue(rule["alert"].startswith("Opsrelay"))
            self.assertIn(rule["labels"]["severity"], ("warning", "critical"))
            self.assertEqual(set(rule["annotations"]), {"summary", "description"})
        fires, silent = set(), set()
        for test in yaml.safe_load(TESTS.read_text("utf-8"))["tests"]:
            for case in test["alert_rule_test"]:
                (fires if case["exp_alerts"] else silent).add(case["alertname"])
        self.assertEqual(fires, set(names))
        self.assertEqual(silent, set(names))

    def test_the_chart_s_readme_lists_the_alerts(self):
        text = (ROOT / "helm/README.md").read_text("utf-8")
        listed = re.findall(r"^\| `(Opsrelay\w+)` \| (\w+) \|", text, re.MULTILINE)
        self.assertEqual(listed, [(rule["alert"], rule["labels"]["severity"]) for rule in rules()])

    def test_the_dashboard_s_panels_do_not_overlap(self):
        ids = [panel["id"] for panel in dashboard()["panels"]]
        self.assertEqual(len(ids), len(set(ids)))
        taken = set()
        for panel in dashboard()["panels"]:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"])
                     for y in range(at["y"], at["y"] + at["h"])}
            self.assertFalse(taken & cells, panel["title"])
            self.assertLessEqual(at["x"] + at["w"], 24)
            taken |= cells

    def test_every_variable_is_one_of_the_dashboard_s(self):
        known = {item["name"] for item in dashboard()["templating"]["list"]}
        text = (MONITORING / "dashboard.json").read_text("utf-8")
        used = set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval", "__all"}
        self.assertEqual(used, known)


class Promtool(unittest.TestCase):
    """Prometheus itself."""

    def promtool(self, directory, *arguments):
        done = subprocess.run(["promtool", *arguments], cwd=directory, capture_output=True, text=True,
                              timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_rules_are_accepted(self):
        self.promtool(MONITORING, "check", "rules", "alerts.yaml")

    def test_alerts_fire_when_they_should_and_only_then(self):
        with tempfile.TemporaryDirectory() as directory:
            for file in (MONITORING / "alerts.yaml", TESTS):
                shutil.copy(file, directory)
            self.promtool(directory, "test", "rules", TESTS.name)

    def test_queries_of_the_dashboard_are_accepted(self):
        """As recording rules, with Grafana's variables put in."""
        records = []
        for panel in panels():
            for target in panel["targets"]:
                query = re.sub(r"\$(job|instance)", ".*", target["expr"])
                records.append({"record": f"query_{len(records)}",
                                "expr": query.replace("$__rate_interval", "5m")})
        with tempfile.TemporaryDirectory() as directory:
            text = yaml.safe_dump({"groups": [{"name": "dashboard", "rules": records}]})
            pathlib.Path(directory, "queries.yaml").write_text(text, "utf-8")
            self.promtool(directory, "check", "rules", "queries.yaml")


def main(arguments):
    cases = {"facts": Facts, "promtool": Promtool}
    if len(arguments) != 1 or arguments[0] not in cases:
        sys.exit(__doc__)
    if arguments[0] == "promtool":
        os.environ["PATH"] += f"{os.pathsep}{ROOT / 'build/promtool/usr/bin'}"
        if shutil.which("promtool") is None:
            print("promtool: skipped, it is not on PATH; ./dev test downloads it (Debian: prometheus)")
            sys.exit(SKIPPED)
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(cases[arguments[0]])
    sys.exit(not unittest.TextTestRunner(verbosity=2).run(suite).wasSuccessful())


if __name__ == "__main__":
    main(sys.argv[1:])
