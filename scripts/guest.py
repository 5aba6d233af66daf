# SPDX-License-Identifier: BSD-3-Clause
"""A guest on a terminal of its own, for scripts that type what a person would type."""
import errno
import fcntl
import os
import pty
import re
import select
import signal
import socket
import struct
import termios
import time

MIB = 1 << 20
BOOT_S = 120  # two seconds on a machine with nothing else to do
STEP_S = 60


class Failed(Exception):
    """A check that did not hold, or a wait that came to its end."""


def check(condition, what):
    if not condition:
        raise Failed(what)


def wait_until(condition, seconds, what):
    """Asks again and again; the value that was true, or Failed."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        check(time.monotonic() < end, f'{what} did not happen within {seconds} s')
        time.sleep(0.05)


class Guest:
    """`viaduct run` on a pty, and a shell in it without prompt, echo or line editor."""

    def __init__(self, command):
        self.heard = b''
        self.has_terminal = True
        try:
            self.pid, self.fd = pty.fork()
        except OSError:  # a chroot without /dev/pts: a socket has to do, it has no size
            self.has_terminal = False
            ours, theirs = socket.socketpair()
            self.fd = ours.detach()
            self.pid = os.fork()
            if self.pid == 0:
                os.setsid()
                os.dup2(theirs.fileno(), 0)
                os.dup2(0, 1)
                os.dup2(0, 2)
            theirs.close()
        if self.pid == 0:
            try:
                os.execv(command[0], command)
            finally:
                os._exit(127)
        if self.has_terminal:
            self.resize(80, 24)

    def resize(self, columns, rows):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))

    def write(self, text):
        data = text.encode()
        while data:
            data = data[os.write(self.fd, data):]

    def expect(self, pattern, seconds, what):
        """Reads until `pattern` matches; what came before it, and the match."""
        end = time.monotonic() + seconds
        while True:
            match = re.search(pattern, self.heard)
            if match:
                before = self.heard[:match.start()]
                self.heard = self.heard[match.end():]
                return before.decode(errors='replace').replace('\r', ''), match
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                raise Failed(f'{what}: nothing for {seconds} s; last heard: {self.last_words()}')
            try:
                now = os.read(self.fd, 65536)
            except OSError as e:
                if e.errno != errno.EIO:
                    raise
                now = b''
            if not now:
                raise Failed(f'{what}: the guest is gone; its last words: {self.last_words()}')
            self.heard += now

    def last_words(self):
        lines = self.heard.decode(errors='replace').replace('\r', '').strip().splitlines()
        return '\n    '.join([''] + lines[-12:]) if lines else '(nothing)'

    def log_in(self):
        """Waits for the prompt, then starts a shell that reads the terminal as if it were a script."""
        welcome, _ = self.expect(rb'guest:\S*# ', BOOT_S, 'waiting for the shell prompt')
        # The prompt's line editor takes in all that is typed ahead, so wait until it is gone.
        self.write('stty -echo; echo "@@"READY; sh /proc/self/fd/0; echo "@@"BACK\n')
        self.expect(rb'@@READY', STEP_S, 'entering the inner shell')
        self.sh('true')
        return welcome

    def sh(self, command, seconds=STEP_S, may_fail=False):
        """Runs a command in the guest; its output. The marker is split so as not to match
        the typed text itself."""
        self.write('{ ' + command + '\n} </dev/null 2>&1; echo "@@"END $?\n')
        out, match = self.expect(rb'@@END (\d+)\r?\n', seconds, f'guest, `{command[:60]}`')
        check(may_fail or match[1] == b'0', f'guest, `{command}`: status {match[1].decode()}: {out}')
        return out.strip()

    def leave(self, status):
        self.write('\x04')
        self.expect(rb'@@BACK', STEP_S, 'leaving the inner shell')
        self.write(f'exit {status}\n')

    def wait(self, seconds):
        """The exit status of `viaduct run`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    self.heard += os.read(self.fd, 65536)
                except OSError:
                    time.sleep(0.05)
        raise Failed(f'viaduct run did not end within {seconds} s')

    def end(self):
        if self.pid:
            os.kill(self.pid, signal.SIGTERM)
            try:
                self.wait(20)
            except Failed:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)


def children(pid):
    """All processes below `pid`."""
    parents = {}
    for entry in os.listdir('/proc'):
        if entry.isdigit():
            try:
                with open(f'/proc/{entry}/stat') as f:
                    parents[int(entry)] = int(f.read().rpartition(')')[2].split()[1])
            except OSError:
                continue
    found = [pid]
    for p in found:
        found += [child for child, parent in parents.items() if parent == p]
    return found[1:]


def memory_file(pid):
    """A descriptor path of the file that is the guest's memory, open in the engine below `pid`."""
    for p in children(pid):
        try:
            if 'linux' not in os.path.basename(os.readlink(f'/proc/{p}/exe')):
                continue
            # Deleted at once by its owner, and much larger than anything else open there.
            for fd in os.listdir(f'/proc/{p}/fd'):
                path = f'/proc/{p}/fd/{fd}'
                if os.readlink(path).endswith('(deleted)') and os.stat(path).st_size >= 64 * MIB:
                    return path
        except OSError:
            continue
    raise Failed("the guest's memory file was not found under /proc")
