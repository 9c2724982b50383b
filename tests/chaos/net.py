"""Network namespaces behind a bridge: real partitions, loss and delay between addresses. Linux, and no rights needed.

The whole run is in a user namespace (``enter``), where it may make networks. Unix sockets still reach every server.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from helix_fast.embedded.supervisor import die_with_parent

ENTERED = "HELIX_CHAOS_IN_NAMESPACE"
TOOLS = ("unshare", "nsenter", "ip", "tc", "nft")
TABLE = "chaos"


def missing() -> str:
    """What this machine lacks; empty: nothing."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"{', '.join(absent)} missing"
    if ENTERED in os.environ:
        return ""
    tried = subprocess.run(
        ["unshare", "-rn", "sh", "-c", "ip link add br0 type bridge && nft add table bridge t"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return f"no network namespaces here: {tried.stderr.strip()[:100]}" if tried.returncode else ""


def enter(arguments: Sequence[str]) -> None:
    """Run this program again, in a network of its own, unless it is in one."""
    if ENTERED not in os.environ:
        os.environ[ENTERED] = "1"
        os.execvp("unshare", ["unshare", "-rn", sys.executable, "-m", "tests.chaos", *arguments])
    run("ip link set lo up")


def run(command: str) -> None:
    subprocess.run(command.split(), check=True, capture_output=True)


def join(pid: int) -> None:
    """Move this process into the network of another one."""
    libc = ctypes.CDLL(None, use_errno=True)
    network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    if libc.setns(network, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")
    os.close(network)


class Host:
    """A network namespace with one address. ``pid``: of the process that keeps it."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.address = f"10.77.0.{number}"
        self.link = f"h{number}"
        parent = os.getpid()
        self._keeper = subprocess.Popen(
            ["unshare", "-n", "sleep", "86400"],
            preexec_fn=lambda: die_with_parent(parent, signal.SIGKILL),  # noqa: PLW1509
        )
        self.pid = self._keeper.pid
        own = Path("/proc/self/ns/net").readlink()
        while Path(f"/proc/{self.pid}/ns/net").readlink() == own:
            assert self._keeper.poll() is None
        inside = ["nsenter", "-t", str(self.pid), "-n"]
        run(f"ip link add {self.link} type veth peer name eth0 netns {self.pid}")
        run(f"ip link set {self.link} master br0 up")
        for command in (f"ip addr add {self.address}/24 dev eth0", "ip link set eth0 up", "ip link set lo up"):
            run(" ".join([*inside, command]))

    @property
    def prefix(self) -> list[str]:
        """Put before a command, it runs there."""
        return ["nsenter", "-t", str(self.pid), "-n"]

    def stop(self) -> None:
        self._keeper.kill()
        self._keeper.wait()


class Network:
    """Hosts on a bridge; ``rules`` are undone by ``heal``."""

    def __init__(self, names: Sequence[str]) -> None:
        run("ip link add br0 type bridge")
        run("ip addr add 10.77.0.254/24 dev br0")
        run("ip link set br0 up")
        run(f"nft add table bridge {TABLE}")
        run(f"nft add chain bridge {TABLE} between {{ type filter hook forward priority 0 ; }}")
        self.hosts = {name: Host(name, number) for number, name in enumerate(names, 1)}
        self._shaped: list[Host] = []

    def _drop(self, rule: str) -> None:
        run(f"nft add rule bridge {TABLE} between {rule} drop")

    def cut(self, source: str, target: str) -> None:
        """Drop every packet from the one to the other."""
        self._drop(f"ip saddr {self.hosts[source].address} ip daddr {self.hosts[target].address}")

    def split(self, some: Sequence[str], others: Sequence[str]) -> None:
        """No packet passes between the one side and the other."""
        for one in some:
            for other in others:
                self.cut(one, other)
                self.cut(other, one)

    def lose(self, percent: int) -> None:
        """Drop this part of all packets."""
        self._drop(f"numgen random mod 100 < {percent}")

    def slow(self, name: str, milliseconds: int) -> str:
        """Delay what goes to a host: by netem, or where the kernel has none, by a narrow queue. Returns which."""
        host = self.hosts[name]
        self._shaped.append(host)
        try:
            run(f"tc qdisc add dev {host.link} root netem delay {milliseconds}ms {milliseconds // 3}ms")
        except subprocess.CalledProcessError:
            run(f"tc qdisc add dev {host.link} root tbf rate 256kbit burst 4kb latency {milliseconds}ms")
            return "tbf"
        return "netem"

    def unplug(self, name: str) -> None:
        """Take a host's link down."""
        run(f"ip link set {self.hosts[name].link} down")

    def heal(self) -> None:
        """All is as in the beginning."""
        run(f"nft flush chain bridge {TABLE} between")
        for host in self._shaped:
            subprocess.run(["tc", "qdisc", "del", "dev", host.link, "root"], check=False, capture_output=True)
        self._shaped.clear()
        for host in self.hosts.values():
            run(f"ip link set {host.link} up")

    def stop(self) -> None:
        for host in self.hosts.values():
            host.stop()
        run(f"nft delete table bridge {TABLE}")
        run("ip link del br0")
