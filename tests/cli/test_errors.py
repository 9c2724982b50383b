"""Bad input to the command line: one line on stderr that says what is wrong and what to do, exit code 2."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helix_fast.testing.servers import ServerProcess, free_port
from tests.support.cli import command, new_interpreter

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def assert_one_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("helix-fast: ")
    assert done.stderr.count("\n") == 1
    for part in parts:
        assert part in done.stderr


def test_unreachable_url_is_told_with_the_address() -> None:
    port = free_port()
    assert_one_line(command("demo", "--url", f"redis://127.0.0.1:{port}"), f"127.0.0.1:{port}", "check that the server")


def test_url_is_taken_from_the_environment() -> None:
    port = free_port()
    done = command("demo", "--json", env={"HELIX_URL": f"redis://127.0.0.1:{port}"})
    assert_one_line(done, f"127.0.0.1:{port}")


@pytest.mark.parametrize("url", ["http://localhost", "nonsense", "redis://localhost:port", "embedded://host"])
def test_url_that_is_none_is_told_with_the_schemes_that_work(url: str) -> None:
    assert_one_line(command("demo", "--url", url), "embedded://")


@pytest.mark.server
async def test_wrong_password_is_told_and_not_shown(short_path: Path) -> None:
    server = ServerProcess(short_path, tcp=True, options={"requirepass": "right-one"})
    await server.start()
    try:
        done = command("demo", "--url", f"redis://:wrong-one@127.0.0.1:{server.port}")
        assert_one_line(done, "refused the credentials", "check user name and password")
        assert "wrong-one" not in done.stderr
    finally:
        await server.stop()


def test_missing_text_file_is_told(tmp_path: Path) -> None:
    assert_one_line(command("demo", "--text", str(tmp_path / "none.txt")), "none.txt", "No such file", "--text")


def test_text_that_is_a_directory_empty_or_not_utf8_is_told(tmp_path: Path) -> None:
    assert_one_line(command("demo", "--text", str(tmp_path)), "directory")
    empty, binary = tmp_path / "empty.txt", tmp_path / "binary.txt"
    empty.write_bytes(b"")
    binary.write_bytes(b"ok \xff\xfe")
    assert_one_line(command("demo", "--text", str(empty)), "empty")
    assert_one_line(command("demo", "--text", str(binary)), "not UTF-8", "byte 3")


@pytest.mark.parametrize(
    "arguments",
    [("--sessions", "0"), ("--sessions", "many"), ("--rate", "-1"), ("--rate", "nan"), ("--rate", "inf"), ("--bogus",)],
)
def test_option_that_makes_no_sense_is_refused_before_anything_starts(arguments: tuple[str, ...]) -> None:
    done = command("demo", *arguments, env={"HELIX_FAST_SERVER": "none"})
    assert done.returncode == 2
    assert arguments[0] in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_server_program_is_told_with_what_to_install() -> None:
    assert_one_line(command("demo", env={"HELIX_FAST_SERVER": "no-such-server"}), "no-such-server")


@pytest.mark.slow
@pytest.mark.parametrize("package", ["typer", "rich"])
def test_missing_package_of_the_command_line_is_told_with_what_to_install(package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from helix_fast.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "demo"], capture_output=True, text=True, timeout=60, check=False)
    assert_one_line(done, "pip install 'helix-fast[cli]'")


@pytest.mark.slow
def test_version_is_told() -> None:
    done = new_interpreter("--version")
    assert (done.returncode, done.stdout.split()[0], done.stderr) == (0, "helix-fast", "")
