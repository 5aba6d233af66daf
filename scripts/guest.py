# SPDX-License-Identifier: BSD-3-Clause
"""A guest on a terminal of its own, for scripts that type what a person would type, and what it
does with its devices, judged from this side."""
import errno
import fcntl
import hashlib
import http.server
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import threading
import time

MIB = 1 << 20
BOOT_S = 120  # two seconds on a machine with nothing else to do
STEP_S = 60
TRANSFER_S = 180


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
    """`viaduct run`, or another that boots our initramfs, on a pty, and a shell in it without prompt, echo or line editor."""

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
        out, match = self.expect(rb'@@END (\d+)\r*\n', seconds, f'guest, `{command[:60]}`')
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


def sha256(path):
    digest = hashlib.sha256()
    with open(path, 'rb') as f:
        while block := f.read(MIB):
            digest.update(block)
    return digest.hexdigest()


def tool(name):
    """Tools of e2fsprogs lie in /sbin, which is not in everybody's PATH."""
    path = shutil.which(name, path=os.environ.get('PATH', '') + ':/sbin:/usr/sbin')
    check(path, f'{name} is missing here; install it: apt install e2fsprogs')
    return path


def fill_file_system(guest, disk, n_files):
    """Has the guest make a file system and fill it; the SHA-256 of each file, as the guest tells.

    The files have many sizes, up to 35000 * `n_files`; some are deleted and written again."""
    guest.sh(f'mke2fs {disk} && mount -t ext2 {disk} /mnt', TRANSFER_S)
    last = n_files - 3
    guest.sh(f'for i in $(seq 1 {n_files}); do mkdir -p /mnt/$((i % 7)); '
             'dd if=/dev/urandom of=/mnt/$((i % 7))/$i bs=35000 count=$((i)) || exit 1; '
             f'done 2>/dev/null; rm /mnt/3/3 /mnt/5/12; cp /mnt/{last % 7}/{last} /mnt/3/again',
             TRANSFER_S)
    listing = guest.sh('cd /mnt && find . -type f | xargs sha256sum; cd /', TRANSFER_S)
    guest.sh('umount /mnt', TRANSFER_S)
    told = dict(reversed(line.split(None, 1)) for line in listing.splitlines())
    check(len(told) == n_files - 1, f'the guest lists {len(told)} files, not {n_files - 1}')
    return told


def check_file_system(image, told):
    """Holds an image against what the guest told of it; the bytes of all files."""
    fsck = subprocess.run([tool('e2fsck'), '-f', '-n', image], capture_output=True, text=True,
                          timeout=TRANSFER_S)
    check(fsck.returncode == 0, f'e2fsck found damage: {fsck.stdout}{fsck.stderr}')
    total = 0
    with tempfile.TemporaryDirectory(prefix='viaduct-files-') as out:
        subprocess.run([tool('debugfs'), '-R', f'rdump / {out}', image], check=True,
                       capture_output=True, timeout=TRANSFER_S)
        for name, digest in told.items():
            path = os.path.join(out, name)
            check(os.path.exists(path), f'{name} is not in the image')
            check(sha256(path) == digest, f'{name} has another checksum in the image')
            total += os.path.getsize(path)
    return total


def fetch_from_host(guest, n_bytes):
    """Has the guest fetch from a server on this machine's loopback; the seconds that it took."""
    data = os.urandom(n_bytes)
    sent = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header('Content-Length', str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            sent.append(len(data))

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        begin = time.monotonic()
        got = guest.sh(f'wget -q -O - http://10.0.2.2:{server.server_address[1]}/file '
                       '| sha256sum', TRANSFER_S)
        seconds = time.monotonic() - begin
        server.shutdown()
    check(got.split()[:1] == [hashlib.sha256(data).hexdigest()],
          f'the guest computed another checksum: {got}')
    check(sent == [len(data)], f'the server sent {sent}')
    return seconds
