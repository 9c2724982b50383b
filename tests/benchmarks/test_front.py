"""The chart and the demo's table of the README are made of the files of runs."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import front
from benchmarks.measure import Result
from benchmarks.page import MarkerError
from benchmarks.results import Peer, Results

README = "top\n<!-- chart: begin -->\nold\n<!-- chart: end -->\n<!-- demo: begin -->\nold\n<!-- demo: end -->\nend\n"
FULL = {
    "sessions": 200, "chunks_written": 258_268, "chunks_read": 258_268, "resumes": 907, "lost": 0, "duplicated": 0,
    "out_of_order": 0, "chunks_per_second": 12_345.6, "latency_p50_ms": 3.251, "latency_p99_ms": 6.889,
    "text_identical": True,
}  # fmt: skip


def a_run() -> Results:
    store = Result(
        what="w", against="a", unit="chunks/s", target=15.0, reach="at least", ours=300_000.0, baseline=20_000.0,
        ratio=15.0, reached=True, runs=[],
    )  # fmt: skip
    found = Results(size="full", measures={"P2": store})
    rates = {"helix-fast": (300_000.0, 1.0), "redis-py": (30_000.0, 10.0), "coredis": (1.0, 1.0)}
    found.peers = [Peer(front.LOAD, name, rate, "chunks/s", times, []) for name, (rate, times) in rates.items()]
    found.peers.append(Peer("another load", "redis-py", 7.0, "chunks/s", 1.0, []))
    found.machine, found.versions = {"cpu": "a <chip>", "cores": 2}, {"python": "3.11", "server": "Valkey 9"}
    found.taken_at = "2026-11-26T05:00:00+00:00"
    return found


def test_the_chart_has_a_bar_for_each_client_and_names_its_machine() -> None:
    chart = ElementTree.fromstring(front.chart(a_run()))
    texts = [text.text for text in chart.iter("{http://www.w3.org/2000/svg}text")]
    assert len(list(chart.iter("{http://www.w3.org/2000/svg}rect"))) == 3
    assert [bar.name for bar in front.bars(a_run())] == ["helix-fast", "redis-py", "pydantic store"]
    assert "20,000  (helix-fast: 15.0 x)" in texts
    assert "a <chip>, 2 cores for server and clients together, Python 3.11, Valkey 9, 2026-11-26" in texts


def test_the_readme_is_rewritten_between_its_markers_alone(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(README, "utf-8")
    demo = front.Demo(FULL, {"latency_p50_ms": 0.071, "latency_p99_ms": 0.239})
    front.write_front(a_run(), demo, readme, tmp_path / "images")
    text = readme.read_text("utf-8")
    assert text.startswith("top\n")
    assert text.endswith("end\n")
    assert "old" not in text
    assert "helix-fast 300,000; redis-py 30,000; pydantic store 20,000" in text
    assert "│ chunks/s                               │  12,346 │" in text
    assert "0.07 ms and 0.24 ms" in text
    assert (tmp_path / "images" / front.CHART).read_text("utf-8") == front.chart(a_run())


def test_a_run_without_peers_leaves_the_front_page_alone(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(README, "utf-8")
    front.write_front(Results(size="full", measures={}), None, readme, tmp_path)
    assert readme.read_text("utf-8") == README


def test_a_readme_without_markers_is_refused(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("by hand", "utf-8")
    with pytest.raises(MarkerError):
        front.write_front(a_run(), None, readme, tmp_path)
