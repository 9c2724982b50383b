"""`helix-fast usage` on a real server: its output as text, JSON and picture."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from helix_fast import Helix, connect
from helix_fast.testing.contract.usage_helpers import sub_agent, tokens


def command(*arguments: str, cwd: Path | None = None, without: str = "") -> subprocess.CompletedProcess[str]:
    """Run `helix-fast usage` as a process; `without` names a package that cannot be imported."""
    hide = f"import sys; sys.modules[{without!r}] = None\n" if without else ""
    program = hide + "from helix_fast.cli import main\nmain()"
    return subprocess.run(
        [sys.executable, "-c", program, "usage", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=cwd,
    )


@pytest.fixture
async def helix(server_url: str) -> AsyncIterator[Helix]:
    async with connect(server_url) as stores:
        yield stores


@pytest.fixture
async def session(helix: Helix) -> str:
    common = {"sessionId": "s-1", "stepCount": 1, "timestamp": 1_700_000_000_000}
    await helix.usage.record_entries(
        [
            tokens("s-1", tokens={"prompt": 1_234_000, "completion": 567}),
            tokens("s-1", model="evil\x1b[2J$model", timestamp=1_700_000_060_000),
            {**common, "kind": "tool", "toolName": "search", "durationMs": 12.5, "success": True},
            {**common, "kind": "tool", "toolName": "search", "durationMs": 7.5, "success": False},
            {**common, "kind": "custom", "type": "cost", "value": 0.25},
            {**common, "kind": "embedding"},
            sub_agent("s-1", "child"),
            sub_agent("s-1", "gone"),
        ]
    )
    await helix.usage.record_entry(tokens("child", model="small", tokens={"total": 1_000_000}))
    return "s-1"


def cells(output: str, name: str) -> list[str]:
    """The row of a table that begins with a name."""
    (row,) = (line for line in output.splitlines() if line.strip("│┃ ").startswith(name))
    return [cell.strip() for cell in row.strip("│ ").split("│")]


async def test_tables_by_model_and_tool(session: str, server_url: str) -> None:
    done = command(session, "--url", server_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert cells(done.stdout, "gpt-4o") == ["gpt-4o", "1", "1,234,000", "0", "567", "0", "1,234,567"]
    assert cells(done.stdout, "all")[-1] == "1,234,717"
    assert cells(done.stdout, "search") == ["search", "2", "1", "1", "20", "10", "12.5"]
    assert cells(done.stdout, "researcher")[:4] == ["researcher", "2", "2", "0"]
    assert cells(done.stdout, "cost") == ["cost", "1", "0.25", "0.25", "0.25"]
    assert "1 entry of kind embedding" in done.stdout
    assert "\x1b" not in done.stdout
    assert "small" not in done.stdout


async def test_costs_are_shown_where_there_are_any(helix: Helix, server_url: str) -> None:
    for number, cost in enumerate((0.25, 0.5, None)):
        await helix.usage.record_entry(tokens("s-1", id=f"a{number}", cost=cost))
    await helix.usage.record_tokens("s-1", "priced", prompt=1, completion=1, cost=0.001)
    await helix.usage.record_tokens("s-1", "free?", prompt=1, completion=1)
    done = command("s-1", "--url", server_url)
    found = [cells(done.stdout, name)[-1] for name in ("gpt-4o", "priced", "free?", "all")]
    assert found == [">=0.75", "0.001", "?", ">=0.751"]


async def test_sub_agents_are_included_when_asked_for(session: str, server_url: str) -> None:
    done = command(session, "--include-sub-agents", "--url", server_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert cells(done.stdout, "all")[-1] == "2,234,717"
    assert "1 below it" in done.stdout
    assert "no usage of gone" in done.stdout


async def test_json_is_the_rollup(session: str, server_url: str) -> None:
    done = command(session, "--json", "--include-sub-agents", "--url", server_url)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    rollup = json.loads(done.stdout)
    assert rollup["tokens"]["total"] == 2_234_717
    assert rollup["byModel"]["small"]["total"] == 1_000_000
    assert rollup["toolStats"]["byTool"]["search"]["failures"] == 1
    assert rollup["missingSessions"] == ["gone"]
    assert list(rollup["bySession"]) == ["s-1", "child"]


async def test_the_plot_is_a_png_of_the_whole_tree(session: str, server_url: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = command(session, "--include-sub-agents", "--plot", "usage.png", "--url", server_url, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "usage.png").read_bytes().startswith(b"\x89PNG\r\n")


@pytest.mark.slow
def test_bars_are_stacked_by_model_and_add_up() -> None:
    pytest.importorskip("matplotlib")
    from helix_fast.cli.usage_plot import BARS, MODELS, bars
    from helix_fast.usage.schema import TokenCounts, TokenUsage

    entries = [
        TokenUsage(session_id="s", model=f"m{n % 12}", timestamp=1000 + 7 * n, tokens=TokenCounts(prompt=n))
        for n in range(500)
    ]
    begins, width, series = bars(list(entries))
    assert len(begins) <= BARS
    assert begins[0] == 1000
    assert begins[-1] <= 1000 + 7 * 499 < begins[-1] + width
    assert len(series) == MODELS + 1
    assert sum(sum(counts) for counts in series.values()) == sum(range(500))
    first = [entry for entry in entries if (entry.timestamp or 0) < begins[1]]
    assert sum(counts[0] for counts in series.values()) == sum(entry.tokens.prompt or 0 for entry in first)


async def test_a_plot_of_no_tokens_is_a_picture_too(helix: Helix, server_url: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    await helix.usage.record_entry(sub_agent("s-2", "child"))
    done = command("s-2", "--plot", str(tmp_path / "empty.png"), "--url", server_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "empty.png").stat().st_size > 1000


def assert_one_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 2
    assert done.stderr.startswith("helix-fast: ")
    assert done.stderr.count("\n") == 1
    for part in parts:
        assert part in done.stderr
    assert done.stdout == ""


async def test_a_session_without_usage_is_one_line_on_stderr(server_url: str) -> None:
    assert_one_line(command("nobody", "--url", server_url), "no usage is recorded for 'nobody'")


async def test_an_id_that_cannot_be_one_is_one_line_on_stderr(server_url: str) -> None:
    assert_one_line(command("a{b}", "--url", server_url), "braces")


async def test_a_plot_that_cannot_be_written_is_one_line_on_stderr(
    session: str, server_url: str, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    done = command(session, "--plot", str(tmp_path / "no" / "such.png"), "--url", server_url)
    assert_one_line(done, "cannot write", "such.png")


async def test_without_matplotlib_the_plot_says_what_to_install(session: str, server_url: str) -> None:
    done = command(session, "--plot", "x.png", "--url", server_url, without="matplotlib")
    assert_one_line(done, "pip install 'helix-fast[plot]'")
