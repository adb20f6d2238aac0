"""Servers from the distribution in front of the local upstream: nginx (TLS, client certificates, a
Unix socket) and tinyproxy. `./dev setup` installs them; a test that needs them fails without."""

import os
import shutil
import socket
import subprocess

from harness import DEADLINE, Process, hold_port, wait_for

NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
TINYPROXY = shutil.which("tinyproxy", path=os.environ.get("PATH", "") + ":/usr/sbin")


def accepts(port):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def start(make):
    """make(port) → a Process, once it listens."""
    port = hold_port()
    process = make(port)
    wait_for(lambda: not process.running() or accepts(port), "a server that listens")
    assert process.running(), "the server does not start: " + process.log()[-3000:]
    return process


class Authority:
    """Certificates of a CA of our own, made by openssl."""

    def __init__(self, directory, name="ca"):
        self.directory = directory
        self.key, self.certificate = self._paths(name)
        self._openssl("req", "-x509", *self._new_key(self.key), "-out", self.certificate, "-days",
                      "2", "-subj", f"/CN=opsrelay test {name}")

    @staticmethod
    def _openssl(*arguments):
        done = subprocess.run(["openssl", *arguments], stdin=subprocess.DEVNULL, text=True,
                              capture_output=True, timeout=DEADLINE, check=False)
        assert done.returncode == 0, done.stderr

    @staticmethod
    def _new_key(path):
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", path)

    def _paths(self, name):
        return tuple(os.path.join(self.directory, f"{name}.{end}") for end in ("key", "pem"))

    def issue(self, name, host="localhost", key=None, certificate=None):
        """(key file, certificate file) for /CN=name and the host."""
        made = self._paths(name)
        key, certificate = key or made[0], certificate or made[1]
        request = os.path.join(self.directory, name + ".csr")
        extensions = os.path.join(self.directory, name + ".ext")
        with open(extensions, "w", encoding="utf-8") as file:
            file.write(f"subjectAltName=DNS:{host}\n")
        self._openssl("req", *self._new_key(key), "-out", request, "-subj", f"/CN={name}")
        self._openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key,
                      "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", certificate)
        return key, certificate


class Nginx(Process):
    """Passes requests on to a port of this host. `server` is put into its server block."""

    def __init__(self, directory, name, port, upstream_port, listen, server):
        assert NGINX, "nginx is not installed; run ./dev setup"
        self.port = port
        self.access_log = os.path.join(directory, name + "-access.log")
        self.config = os.path.join(directory, name + ".conf")
        temp = "\n".join(
            f"  {kind}_temp_path {directory}/{name}-{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        user = "user root;" if os.geteuid() == 0 else ""
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(f"""
daemon off;
worker_processes 1;
{user}
pid {directory}/{name}.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
{temp}
  log_format one '$status $ssl_client_s_dn $connection';
  access_log {self.access_log} one;
  upstream api {{ server 127.0.0.1:{upstream_port}; keepalive 16; }}
  server {{
    listen {listen};
    {server}
    location / {{
      proxy_pass http://api;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
  }}
}}
""")
        super().__init__([NGINX, "-c", self.config, "-p", directory],
                         os.path.join(directory, name + ".log"))

    def kill(self):
        """With SIGTERM, for a master that is killed leaves its workers running."""
        return self.end()

    def requests(self):
        """[status, subject of the client's certificate, number of the connection] of each."""
        with open(self.access_log, encoding="utf-8") as file:
            return [line.rstrip("\n").split(" ") for line in file]


class Tinyproxy(Process):
    """An HTTP proxy that makes tunnels to one port, for one user."""

    def __init__(self, directory, name, port, to_port, user, password):
        assert TINYPROXY, "tinyproxy is not installed; run ./dev setup"
        self.port = port
        config = os.path.join(directory, name + ".conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"""
Port {port}
Listen 127.0.0.1
Timeout 60
MaxClients 50
Allow 127.0.0.1
ConnectPort {to_port}
BasicAuth {user} {password}
LogLevel Connect
""")
        super().__init__([TINYPROXY, "-d", "-c", config], os.path.join(directory, name + ".log"))
