"""What commands print: nothing that a terminal obeys, in any encoding, and where to look when nothing is there."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from helix_fast import connect
from helix_fast.cli.output import counted, print_json
from tests.support.cli import command, new_interpreter

CONTROLS = "a\x1b[31m\x9b2J\u202eb\x7fc\u2028\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ENCODINGS = {"cp1252": {"PYTHONIOENCODING": "cp1252"}, "ascii": {"PYTHONIOENCODING": "ascii"}, "C": C_LOCALE}


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii"])
def test_json_holds_no_character_that_a_terminal_obeys(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding))
    print_json({"text": CONTROLS})
    printed = raw.getvalue().decode(encoding)
    assert printed.removesuffix("\n").isprintable()
    assert json.loads(printed) == {"text": CONTROLS}


@pytest.mark.slow
async def test_control_characters_of_a_model_do_not_reach_the_terminal(server_url: str) -> None:
    async with connect(server_url) as helix:
        async with await helix.streams.create_writer("s", "a") as writer:
            await writer.write({"type": "text_delta", "delta": CONTROLS})
        await helix.streams.end_stream("s")
        await helix.state.create_session("s", agent_type=CONTROLS)
        await helix.usage.record_tokens("s", CONTROLS, prompt=1, completion=1)
    for words in (("tail", "s"), ("inspect", "s"), ("usage", "s")):
        for form in ((), ("--json",)):
            done = command(*words, *form, "--url", server_url)
            assert done.returncode == 0, done.stderr
            assert done.stdout.replace("\n", "").isprintable(), (words, form)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_demo_ends_well_in_an_encoding_without_arrows(encoding: str, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("Some words, to be streamed by one agent. " * 20, "utf-8")
    done = new_interpreter("demo", "--sessions", "1", "--text", str(text), env=ENCODINGS[encoding])
    assert done.returncode == 0, done.stderr
    assert "latency write -> read, p50" in done.stdout
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tail", "inspect", "usage"])
def test_an_empty_server_of_its_own_is_told(name: str) -> None:
    done = command(name, "x")
    assert done.returncode == 2
    assert "embedded:// is a new, empty server" in done.stderr
    assert "--url" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_doctor_does_not_warn_of_what_an_embedded_server_is_meant_to_be() -> None:
    found = {each["name"]: each for each in json.loads(command("doctor", "--json").stdout)}
    assert found["persistence"]["level"] == "ok"


def test_nouns_agree_with_their_numbers() -> None:
    assert [counted(count, "stream") for count in (0, 1, 1000)] == ["0 streams", "1 stream", "1,000 streams"]
    assert [counted(count, "entry", "entries") for count in (1, 2)] == ["1 entry", "2 entries"]
