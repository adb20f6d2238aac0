#!/usr/bin/env python3
"""The charts: what they render, what they refuse, and that the daemon reads what they configure.

  chart_test.py facts             the rendered examples in golden/ keep what Kubernetes needs
  chart_test.py config OPSRELAY   the program OPSRELAY accepts the configuration in them
  chart_test.py render            helm renders exactly golden/, and refuses bad values
  chart_test.py lint              helm lint --strict
  chart_test.py update            writes golden/ anew; review the difference

Exit status 77: helm is not installed, so render and lint could not run.
"""

import contextlib
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
GOLDEN = HERE / "golden"
CASES = sorted((HERE / "values").glob("*.yaml"))
KUBE_VERSIONS = ("1.29.0", "1.33.0", "1.36.0")
SKIPPED = 77

# Values that must be refused, and what the refusal names.
REFUSED = (
    ("opsrelay.spol=1", "Additional property spol is not allowed"),
    ("opsrelay.spool.on_full=refuse", "Additional property on_full is not allowed"),
    ("opsrelay.spool.maxBytes=512", "opsrelay.*spool.maxBytes|spool.maxBytes: "),
    ("opsrelay.spool.maxBytes=1GiB", "sizeLimit: 1Gi is too small for spool.maxBytes 1GiB; .*1600Mi"),
    ("opsrelay.spool.sizeLimit=831Mi", "sizeLimit: 831Mi is too small .*832Mi"),
    ("opsrelay.upstream.connections=65", "upstream.connections: Must be less than or equal to 64"),
    ("opsrelay.upstream.pipeline=17", "upstream.pipeline: Must be less than or equal to 16"),
    ("opsrelay.upstream.concurrency=off", "upstream.concurrency must be one of"),
    ("opsrelay.lanes.eu.upstream.url=https://x,opsrelay.lanes.eu.upstream.batchCompression=br",
     "upstream.batchCompression must be one of"),
    ("opsrelay.upstream.url=api.example", "upstream.url: Does not match pattern"),
    ("opsrelay.upstream.kind=kafka", "upstream.kind must be one of"),
    ("opsrelay.upstream.proxy=socks5://x", "upstream.proxy: Does not match pattern"),
    ("opsrelay.lanes.default.upstream.url=https://x", "lanes.default: the default lane is"),
    ("opsrelay.lanes.eu.upstream.timeout=3s", "lanes.eu.upstream.url: is missing"),
    ("opsrelay.lanes.eu.apiKey.secretName=x", "lanes.eu: upstream is required"),
    ("opsrelay.lanes.Eu.upstream.url=https://x", "lanes: Property name of \"Eu\" does not match"),
    ("opsrelay.lanes.eu.api_key=x", "Additional property api_key is not allowed"),
    ("opsrelay.listeners[0].type=tcp", "listeners.0.type must be one of"),
    ("opsrelay.listeners[0].path=x", "listeners.0: type is required"),
    ("opsrelay.listeners[0].type=udp,opsrelay.listeners[0].lane=eu",
     r"listeners\[0\].lane: eu is not in opsrelay.lanes"),
    ("opsrelay.metrics.address=pod", "metrics.address: Does not match pattern"),
    ("opsrelay.metrics.port=0", "metrics.port: Must be greater than or equal to 1"),
    ("opsrelay.monitoring.podMonitor.enabled=true", "podMonitor.enabled: needs .*metrics.enabled"),
    ("opsrelay.shutdown.deadline=1m", "shutdown.deadline: Does not match pattern"),
    ("opsrelay.log.level=trace", "log.level must be one of"),
    ("opsrelay.events.missingId=drop", "events.missingId must be one of"),
    ("opsrelay.dedupe.maxIds=9999", "dedupe.maxIds: Must be greater than or equal to 10000"),
    ("opsrelay.privacy.tenantId=mask", "privacy.tenantId must be one of"),
    ("opsrelay.privacy.tenantId=hash", "privacy.hashKey.secretName: is empty; .* needs a key"),
    ("opsrelay.image.repository=", "opsrelay.image.repository: is empty"),
    ("opsrelay.image.digest=sha256:12", "image.digest: Does not match pattern"),
    ("opsrelay.resources.limits.ephemeral-storage=1Gi", "ephemeral-storage is not allowed"),
)


def run(*command, check=True):
    """Runs a command; its output is in the error when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")
    return done


@contextlib.contextmanager
def example_chart():
    """A copy of the charts with the example's dependency in place."""
    with tempfile.TemporaryDirectory() as scratch:
        charts = pathlib.Path(scratch) / "helm"
        shutil.copytree(ROOT / "helm", charts, ignore=shutil.ignore_patterns("charts", "*.lock"))
        run("helm", "dependency", "update", charts / "example-app")
        yield charts / "example-app"


def template(chart, values, kube_version, *more, check=True):
    return run("helm", "template", "example", chart, "--values", values, "--kube-version",
               kube_version, *more, check=check)


def rendered(case):
    """The documents of a golden file, by kind; the ConfigMap with the dashboard is a "Dashboard"."""
    text = (GOLDEN / case.name).read_text(encoding="utf-8")
    return {"Dashboard" if "opsrelay.json" in document.get("data", {}) else document["kind"]: document
            for document in yaml.safe_load_all(text) if document}


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text).group(1))


class AnyName:
    """Contains every name."""

    def __contains__(self, name):
        return True


class Facts(unittest.TestCase):
    """What the kubelet and the pod's neighbours rely on, for each case."""

    def check_each(self, check):
        """Calls check(pod, sidecar, config) for each case."""
        self.assertTrue(CASES)
        for case in CASES:
            with self.subTest(case.name):
                documents = rendered(case)
                pod = documents["Deployment"]["spec"]["template"]["spec"]
                config = yaml.safe_load(documents["ConfigMap"]["data"]["opsrelay.yaml"])
                check(pod, pod["initContainers"][0], config)

    def test_native_sidecar_comes_first(self):
        def check(_pod, sidecar, _config):
            self.assertEqual(sidecar["name"], "opsrelay")
            self.assertEqual(sidecar["restartPolicy"], "Always")
            self.assertNotIn("lifecycle", sidecar)

        self.check_each(check)

    def test_probes_are_commands_and_readiness_is_not_probed(self):
        def check(_pod, sidecar, _config):
            self.assertEqual(sidecar["startupProbe"]["exec"]["command"],
                             ["/usr/bin/opsrelay", "status", "--ready"])
            self.assertEqual(sidecar["livenessProbe"]["exec"]["command"],
                             ["/usr/bin/opsrelay", "status", "--live"])
            self.assertNotIn("readinessProbe", sidecar)

        self.check_each(check)

    def test_no_privileges(self):
        def check(pod, sidecar, _config):
            context = sidecar["securityContext"]
            self.assertIs(context["runAsNonRoot"], True)
            self.assertIs(context["readOnlyRootFilesystem"], True)
            self.assertIs(context["allowPrivilegeEscalation"], False)
            self.assertGreater(context["runAsUser"], 0)
            self.assertEqual(context["capabilities"], {"drop": ["ALL"]})
            self.assertEqual(context["seccompProfile"], {"type": "RuntimeDefault"})
            self.assertIs(pod["automountServiceAccountToken"], False)

        self.check_each(check)

    def test_storage_is_not_limited_and_the_key_is_no_variable(self):
        def check(_pod, sidecar, _config):
            self.assertNotIn("ephemeral-storage", sidecar["resources"]["limits"])
            self.assertNotIn("env", sidecar)

        self.check_each(check)

    def test_application_sees_the_sockets_and_nothing_else(self):
        def check(pod, _sidecar, config):
            mounts = {mount["name"]: mount["mountPath"]
                      for mount in pod["containers"][0]["volumeMounts"]}
            self.assertEqual(mounts, {"opsrelay-run": config["run_dir"]})
            self.assertTrue(config["admin"]["socket"].startswith(config["spool"]["dir"] + "/"))

        self.check_each(check)

    def test_every_mount_has_its_volume_and_every_volume_its_mount(self):
        def check(pod, sidecar, config):
            volumes = [volume["name"] for volume in pod["volumes"]]
            mounts = {mount["name"]: mount["mountPath"] for mount in sidecar["volumeMounts"]}
            self.assertEqual(sorted(volumes), sorted(mounts))
            self.assertEqual(mounts["opsrelay-spool"], config["spool"]["dir"])
            for lane in [config["upstream"], *config.get("lanes", {}).values()]:
                for key in ("api_key_file", "ca_file", "client_cert_file", "client_key_file"):
                    if key in lane:
                        file = pathlib.PurePosixPath(lane[key])
                        self.assertIn(str(file.parent), mounts.values())
                        self.assertIn(file.name, self.files_of(pod, mounts, str(file.parent)))

        self.check_each(check)

    @staticmethod
    def files_of(pod, mounts, directory):
        """Names in a mounted volume; of a whole ConfigMap they are not known: any."""
        name = next(name for name, path in mounts.items() if path == directory)
        volume = next(volume for volume in pod["volumes"] if volume["name"] == name)
        if "secret" in volume:
            return [item["path"] for item in volume["secret"]["items"]]
        return AnyName()

    def test_no_lane_has_another_s_files(self):
        def check(pod, _sidecar, config):
            lanes = [config["upstream"], *config.get("lanes", {}).values()]
            keys = [lane["api_key_file"] for lane in lanes if "api_key_file" in lane]
            self.assertEqual(len(keys), len(set(keys)))
            names = [volume["name"] for volume in pod["volumes"]]
            self.assertEqual(len(names), len(set(names)))
            self.assertTrue(all(len(name) <= 63 for name in names))

        self.check_each(check)

    def test_a_lane_says_of_its_upstream_what_the_default_lane_says_and_the_rest_itself(self):
        config = yaml.safe_load(rendered(HERE / "values/everything.yaml")["ConfigMap"]["data"][
            "opsrelay.yaml"])
        self.assertEqual(config["lanes"]["asia"], {
            **{key: value for key, value in config["upstream"].items() if not key.endswith("_file")},
            "url": "https://asia.example", "allow_plaintext": False})
        self.assertEqual(config["lanes"]["europe"], {
            "kind": "opsmeter", "url": "https://eu.example", "connections": 4,
            "pipeline": 1, "concurrency": "adaptive", "batch_compression": "none", "timeout": "3s",
            "allow_plaintext": False, "api_key_file": "/etc/opsrelay-key-europe/api-key",
            "ca_file": "/etc/opsrelay-ca-europe/ca.crt",
            "client_cert_file": "/etc/opsrelay-cert-europe/tls.crt",
            "client_key_file": "/etc/opsrelay-cert-europe/tls.key"})

    def test_scrapes_find_the_port_that_the_daemon_listens_at(self):
        def check(_pod, sidecar, config):
            ports = {port["name"]: port["containerPort"] for port in sidecar.get("ports", [])}
            if "metrics" not in config:
                self.assertEqual(ports, {})
                return
            self.assertEqual(list(ports), ["opsr-metrics"])
            self.assertTrue(config["metrics"]["address"].endswith(f":{ports['opsr-metrics']}"))

        self.check_each(check)
        documents = rendered(HERE / "values/everything.yaml")
        monitor = documents["PodMonitor"]["spec"]
        self.assertEqual(monitor["podMetricsEndpoints"], [{"port": "opsr-metrics", "interval": "15s"}])
        labels = documents["Deployment"]["spec"]["template"]["metadata"]["labels"]
        self.assertEqual(monitor["selector"]["matchLabels"], labels)

    def test_monitoring_is_what_its_files_say_and_only_when_asked_for(self):
        documents = rendered(HERE / "values/everything.yaml")
        files = ROOT / "helm/opsrelay-lib/monitoring"
        self.assertEqual(documents["PrometheusRule"]["spec"],
                         yaml.safe_load((files / "alerts.yaml").read_text("utf-8")))
        self.assertEqual(documents["Dashboard"]["data"]["opsrelay.json"],
                         (files / "dashboard.json").read_text("utf-8"))
        self.assertEqual(documents["Dashboard"]["metadata"]["labels"]["grafana_dashboard"], "yes")
        for kind in ("PodMonitor", "PrometheusRule"):
            self.assertEqual(documents[kind]["metadata"]["labels"]["release"], "prometheus")
        self.assertEqual(set(rendered(HERE / "values/sidecar.yaml")), {"ConfigMap", "Deployment"})

    def test_spool_is_ephemeral_exactly_when_its_volume_is(self):
        def check(pod, _sidecar, config):
            spool = next(v for v in pod["volumes"] if v["name"] == "opsrelay-spool")
            self.assertIs(config["spool"]["ephemeral"], "emptyDir" in spool)

        self.check_each(check)

    def test_pod_waits_longer_than_the_application_and_the_drain(self):
        for case in CASES:
            with self.subTest(case.name):
                documents = rendered(case)
                pod = documents["Deployment"]["spec"]["template"]["spec"]
                config = yaml.safe_load(documents["ConfigMap"]["data"]["opsrelay.yaml"])
                values = yaml.safe_load(case.read_text("utf-8")) or {}
                own = values.get("gracePeriodSeconds", 30)
                self.assertEqual(pod["terminationGracePeriodSeconds"],
                                 own + seconds(config["shutdown"]["deadline"]) + 5)

    def test_version_is_the_project_s(self):
        cmake = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
        version = re.search(r"project\(opsrelay VERSION (\S+)", cmake).group(1)
        library = yaml.safe_load((ROOT / "helm/opsrelay-lib/Chart.yaml").read_text("utf-8"))
        example = yaml.safe_load((ROOT / "helm/example-app/Chart.yaml").read_text("utf-8"))
        self.assertEqual([library["version"], library["appVersion"]], [version, version])
        self.assertEqual(example["dependencies"][0]["version"], version)
        image = rendered(HERE / "values/sidecar.yaml")["Deployment"]
        image = image["spec"]["template"]["spec"]["initContainers"][0]["image"]
        self.assertEqual(image, f"registry.example/opsrelay:{version}")


class Config(unittest.TestCase):
    """The daemon reads what the chart configures."""

    opsrelay = ""

    def test_configuration_is_accepted(self):
        for case in CASES:
            with self.subTest(case.name), tempfile.TemporaryDirectory() as scratch:
                file = pathlib.Path(scratch) / "opsrelay.yaml"
                text = rendered(case)["ConfigMap"]["data"]["opsrelay.yaml"]
                # The one file that has to be there when the daemon starts.
                key = pathlib.Path(scratch) / "hash-key"
                key.write_text("0123456789abcdef0123456789abcdef", "ascii")
                file.write_text(re.sub(r"/etc/opsrelay-hash-key/[^\"]+", str(key), text), "utf-8")
                run(self.opsrelay, "check", "--no-files", "--config", file)


class Render(unittest.TestCase):
    """Helm itself."""

    maxDiff = None

    def test_golden(self):
        with example_chart() as chart:
            for case in CASES:
                for version in KUBE_VERSIONS:
                    with self.subTest(case.name, version=version):
                        self.assertEqual(template(chart, case, version).stdout,
                                         (GOLDEN / case.name).read_text(encoding="utf-8"))

    def test_every_golden_file_has_a_case(self):
        self.assertEqual(sorted(file.name for file in GOLDEN.glob("*")),
                         [case.name for case in CASES])

    def test_refused_values(self):
        values = HERE / "values/sidecar.yaml"
        with example_chart() as chart:
            for setting, complaint in REFUSED:
                with self.subTest(setting):
                    done = template(chart, values, KUBE_VERSIONS[0], "--set", setting, check=False)
                    self.assertNotEqual(done.returncode, 0)
                    self.assertRegex(done.stderr, complaint)

    def test_cluster_without_native_sidecars_is_refused(self):
        with example_chart() as chart:
            done = template(chart, HERE / "values/sidecar.yaml", "1.28.15", check=False)
            self.assertRegex(done.stderr, "Kubernetes v1.28.15 has no native sidecars")


class Lint(unittest.TestCase):
    """Helm's own opinion."""

    def test_lint(self):
        run("helm", "lint", "--strict", ROOT / "helm/opsrelay-lib")
        with example_chart() as chart:
            for case in CASES:
                run("helm", "lint", "--strict", chart, "--values", case)


def update():
    GOLDEN.mkdir(exist_ok=True)
    with example_chart() as chart:
        for case in CASES:
            (GOLDEN / case.name).write_text(template(chart, case, KUBE_VERSIONS[0]).stdout, "utf-8")


def main(arguments):
    cases = {"facts": Facts, "config": Config, "render": Render, "lint": Lint, "update": None}
    if not arguments or arguments[0] not in cases:
        sys.exit(__doc__)
    what = arguments[0]
    if what in ("render", "lint", "update") and shutil.which("helm") is None:
        print(f"{what}: skipped, helm is not on PATH; ./dev test gets it when npm is installed")
        sys.exit(SKIPPED)
    if what == "update":
        update()
        return
    if what == "config":
        Config.opsrelay = arguments[1]
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(cases[what])
    sys.exit(not unittest.TextTestRunner(verbosity=2).run(suite).wasSuccessful())


if __name__ == "__main__":
    main(sys.argv[1:])
