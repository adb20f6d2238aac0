"""What a parent holds for a daemon, and passes to it as systemd does: sd_listen_fds(3)."""

import fcntl
import os
import socket

FIRST_COPY = 100  # far from 3, where the daemon's begin


class HeldSockets:
    """Listening sockets that outlive every daemon; close() ends them."""

    def __init__(self):
        self.held = []
        self.descriptors = ()

    def unix(self, kind, path):
        made = socket.socket(socket.AF_UNIX, kind)
        made.bind(path)
        return self.hold(made)

    def ip(self, kind):
        """On a free port of 127.0.0.1; the port."""
        made = socket.socket(socket.AF_INET, kind)
        made.bind(("127.0.0.1", 0))
        return self.hold(made).getsockname()[1]

    def hold(self, made):
        if made.type == socket.SOCK_STREAM:
            made.listen()
        self.held.append(made)
        self.descriptors += (fcntl.fcntl(made.fileno(), fcntl.F_DUPFD_CLOEXEC, FIRST_COPY),)
        return made

    def close(self):
        for one in self.held:
            one.close()
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.held, self.descriptors = [], ()

    def command(self, arguments, pid="$$", count=None):
        """`arguments` as a command that has the sockets from 3 on, last first: their order says
        nothing. Only bash can name descriptors above 9."""
        numbers = reversed(range(len(self.descriptors)))
        moves = " ".join(f"{3 + at}<&{self.descriptors[number]} {self.descriptors[number]}<&-"
                         for at, number in enumerate(numbers))
        names = ":".join(f"held-{number}" for number in reversed(range(len(self.descriptors))))
        script = (f"LISTEN_PID={pid} LISTEN_FDS={count or len(self.held)} LISTEN_FDNAMES={names} "
                  f'exec "$@" {moves}')
        return ["bash", "-c", script, "bash", *arguments]
