# SPDX-License-Identifier: BSD-3-Clause
"""`viaduct serve` under test: its processes, what they hold, and what they say of themselves."""
import os
import re
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../../scripts'))
from guest import STEP_S, check, children, wait_until  # noqa: E402

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), '../..'))
SKIPPED = 77  # Meson's word for a test that could not be done here


def peer_or_skip(directory, peer):
    """Where the packages of `peer` lie, fetched now if need be; ends the test if there are none."""
    fetch = subprocess.run([f'{ROOT}/scripts/fetch-peers', directory, peer], capture_output=True,
                           text=True)
    if fetch.returncode != 0:
        print('skipped: ' + fetch.stderr.strip())
        sys.exit(SKIPPED)
    return os.path.join(directory, peer)


def testpmd(dpdk, drivers, vdev, *words):
    """DPDK's program for trying its drivers, with one device and without privileges; ends at enter."""
    # Some of Debian's packages have their libraries in /lib still.
    libraries = [d for root in ('usr/lib', 'lib') for d, _, files in os.walk(f'{dpdk}/{root}')
                 if any('.so' in name for name in files)]
    drivers = [f'{d}/{name}.so.23' for d in libraries if '/pmds-' in d
               for name in ('librte_bus_vdev', 'librte_mempool_ring', *drivers)]
    return subprocess.Popen(
        [f'{dpdk}/usr/bin/dpdk-testpmd', '--no-pci', '--no-huge', '-m', '256', '--lcores',
         '0@0,1@0', '--no-telemetry', '--no-shconf',
         *[word for driver in drivers for word in ('-d', driver)],
         '--vdev', vdev, '--', '--total-num-mbufs=2048', *words],
        env=dict(os.environ, LD_LIBRARY_PATH=':'.join(libraries)), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


class Devices:
    """`viaduct serve WORDS`, with a control socket and a log in `directory`."""

    def __init__(self, viaduct, directory, words):
        self.viaduct = viaduct
        self.control = f'{directory}/control'
        self.log = f'{directory}/log'
        with open(self.log, 'w') as log:
            self.process = subprocess.Popen(
                [viaduct, 'serve', '--control', self.control, *words], stdin=subprocess.DEVNULL,
                stderr=log)
        wait_until(lambda: os.path.exists(self.control), STEP_S, 'viaduct serve listening')

    def ctl(self, *words):
        done = subprocess.run([self.viaduct, 'ctl', self.control, *words], capture_output=True,
                              text=True, timeout=STEP_S)
        check(done.returncode == 0, f"ctl {' '.join(words)}: {done.stdout}{done.stderr}".strip())
        return done.stdout.strip()

    def number(self, device, name):
        """What stands behind the first `name` in the device's status."""
        status = self.ctl(device, 'status')
        match = re.search(rf'\b{name} (\d+)', status)
        check(match, f'{device} says nothing of {name}: {status}')
        return int(match[1])

    def says(self, device, words):
        return words in self.ctl(device, 'status').splitlines()[0]

    def wait_for(self, device, words):
        wait_until(lambda: self.says(device, words), STEP_S, f'{device}: {words}')

    def check_without_fault(self, devices):
        for device in devices:
            check(self.number(device, 'faults') == 0, f"{self.ctl(device, 'status')}")

    def holdings(self):
        """Descriptors and mappings of each device process."""
        held = {}
        for pid in children(self.process.pid) or [self.process.pid]:
            with open(f'/proc/{pid}/maps') as maps:
                # Of files, that is; heaps may come and go.
                files = [line for line in maps if len(line.split()) > 5
                         and not line.split()[5].startswith('[')]
            held[pid] = (len(os.listdir(f'/proc/{pid}/fd')), len(files))
        return held

    def check_not_grown(self, before):
        """Holds no more than `before`; less it may, as the NAT forgets connections in its time."""
        now = self.holdings()
        check(all(n <= b for pid in before for n, b in zip(now[pid], before[pid])),
              f'descriptors, mappings of each process: {before}, now {now}')

    def end(self):
        """Ends well, or the test fails; a device that had to warn of something has failed."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(STEP_S)
        check(status == 0, f'viaduct serve ended with {status}')
        with open(self.log) as log:
            said = log.read()
        check(not said, f'viaduct serve had to say: {said}')

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STEP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        with open(self.log) as log:
            sys.stdout.write(log.read())
