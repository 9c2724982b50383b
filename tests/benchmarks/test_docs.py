"""Writing the numbers of a run into the documentation, and the projection."""

from __future__ import annotations

from pathlib import Path

import pytest

import benchmarks.__main__ as runner
from benchmarks import docs, holds, projection, trace
from benchmarks import page as pages
from benchmarks.growth_report import (
    AppendPoint,
    Growth,
    RollupPoint,
    StreamsPoint,
    load_growth,
    save_growth,
    write_growth,
)
from benchmarks.measure import Also, Pair, Result, Variant
from benchmarks.projection import BYTES, CLIENT_CPU, SERVER_CPU, Cost
from benchmarks.results import Peer, Results, load, save
from benchmarks.scaling import NodeShare, ScalingPoint
from benchmarks.table import render

NAMES = ("results", "growth", "cluster", "projection")
PAGE = "# Page\n\nby hand\n\n" + "\n".join(f"<!-- {name}: begin -->\nold\n<!-- {name}: end -->" for name in NAMES)


def measured(ratio: float, **payloads: float) -> Result:
    costs = [Also(SERVER_CPU, 2.0, "µs", 3.0), Also(CLIENT_CPU, 6.0, "µs"), Also(BYTES, 500.0, "bytes")]
    return Result(
        what="w", against="a", unit="chunks/s", target=15.0, reach="at least", ours=300_000.0, baseline=20_000.0,
        ratio=ratio, reached=True, runs=[Pair(1.0, 1.0, ratio)], also=costs,
        payloads={name: Variant(1.0, 1.0, value) for name, value in payloads.items()},
    )  # fmt: skip


def a_run() -> Results:
    found = Results(size="full", measures={"P2": measured(15.5, ascii=14.5), "P10": measured(1.1)})
    found.peers = [
        Peer("load", "helix-fast", 300.0, "chunks/s", 1.0, [300.0]),
        Peer("load", "other", 100.0, "chunks/s", 3.0, [100.0], "not the same"),
    ]
    found.machine = {"cpu": "a chip", "cores": 2}
    return found


def a_growth() -> Growth:
    shares = [NodeShare(chunks, 1.0, 1) for chunks in (33_000, 34_000, 33_000)]
    return Growth(
        size="full",
        streams=[StreamsPoint(100, 300_000.0, 2.0, 6.0, 20.0, 3_000.0, None)],
        rollup=[RollupPoint(1_000, 0.5, 0.1)],
        append=[AppendPoint(0, 100.0), AppendPoint(1_000, 100.0)],
        scaling=[ScalingPoint(3, 100_000.0, 3.0, 7.0, 0.97, shares)],
    )


def page_of(folder: Path, text: str = PAGE) -> Path:
    path = folder / "page.md"
    path.write_text(text, "utf-8")
    return path


def test_numbers_of_a_run_replace_those_between_the_markers_and_nothing_else(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    docs.write_results(a_run(), page)
    text = page.read_text("utf-8")
    assert text.startswith("# Page\n\nby hand\n")
    assert "| P2 | w | 300,000 | 20,000 | chunks/s | 15.50 | ≥ 15 | yes |" in text
    assert "| ascii | 14.50 |" in text
    assert "| load | other | 100 | chunks/s | 3.00 x | not the same |" in text
    assert text.count("\nold\n") == 2  # growth and cluster
    docs.write_results(a_run(), page)
    assert page.read_text("utf-8") == text


@pytest.mark.slow
def test_growth_is_written_with_its_chart(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    page, file = page_of(tmp_path), tmp_path / "growth.json"
    save_growth(a_growth(), file)
    assert load_growth(file) == a_growth()
    write_growth(load_growth(file), page, tmp_path / "images")
    text = page.read_text("utf-8")
    assert "| 100 | 300,000 | 2.00 | 6.00 | 20.00 | 3,000 | - |" in text
    assert "33,000 / 34,000 / 33,000 | 1 / 1 / 1 | 97% of the time" in text
    assert "(images/growth.png)" in text
    assert (tmp_path / "images" / "growth.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("text", [PAGE.replace("<!-- results: end -->", ""), PAGE + PAGE, ""])
def test_page_without_its_markers_is_left_alone(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    page, run = page_of(tmp_path, text), tmp_path / "results.json"
    save(a_run(), run)
    none = str(tmp_path / "none.json")
    assert docs.main(["--results", str(run), "--growth", none, "--page", str(page)]) == 2
    assert "results: begin" in capsys.readouterr().err
    assert page.read_text("utf-8") == text


def test_documentation_has_every_place_that_a_run_fills() -> None:
    text = pages.PAGE.read_text("utf-8")
    for name in NAMES:
        text = pages.replace(text, name, "")


@pytest.mark.slow
def test_runner_fills_the_page_and_tells_what_the_projection_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, file = page_of(tmp_path), tmp_path / "results.json"
    monkeypatch.setattr(runner, "write_results", lambda run: docs.write_results(run, page))
    assert runner.main(["--tiny", "--only", "P2,P4", "--payload", "cjk-20", "--docs", "--output", str(file)]) == 0
    run = load(file)
    assert run.payload == "cjk-20"
    assert [cost.what for cost in projection.costs_of(run)] == ["written", "written and read live"]
    assert all(cost.server > 0 and cost.client > 0 and cost.bytes > 100 for cost in projection.costs_of(run))
    assert "| written and read live |" in page.read_text("utf-8")


def test_machine_is_shared_out_so_that_neither_side_waits() -> None:
    cost = Cost("written", server=2.0, client=6.0, bytes=500.0, rate=300_000.0)
    carried = projection.one_machine(cost, cores=17)
    assert (carried.servers, carried.clients) == (4, 12)
    assert carried.rate == pytest.approx(0.7 * 2_000_000)


def test_cluster_is_as_fast_as_its_busiest_node() -> None:
    cost = Cost("written", server=2.0, client=6.0, bytes=500.0, rate=300_000.0)
    assert projection.imbalance(100_000, 1) == 0
    carried = projection.cluster(cost, nodes=12)
    assert 0.97 * 0.7 * 6_000_000 < carried.rate < 0.7 * 6_000_000
    assert carried.clients == 36


def test_projection_says_what_it_assumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(a_run(), tmp_path / "run.json")
    assert projection.main([str(tmp_path / "run.json")]) == 0
    told = capsys.readouterr().out
    assert "300,000 chunks/s (written) on 2 cores of this machine (a chip)" in " ".join(told.split())
    assert projection.main([str(tmp_path / "none.json")]) == 2


def test_payload_that_a_measure_lacks_leaves_its_place_empty() -> None:
    run = a_run()
    run.measures["P3"] = measured(9.0, cjk=8.5)
    lines = render(run).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("ratio by payload"))
    assert lines[start].split()[-2:] == ["P2", "P3"]
    assert lines[start + 2].split() == ["ascii", "14.50"]
    assert lines[start + 3].split() == ["cjk", "8.50"]


@pytest.mark.slow
def test_pauses_of_the_loop_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert holds.main(["--quick", "--runs", "1", "--only", "messages"]) == 0
    told = capsys.readouterr().out
    assert "save_state, 1,000 messages, one of them new" in told
    assert "list_sessions" not in told


def test_a_million_sessions_are_reckoned_from_cpu_and_bytes(tmp_path: Path) -> None:
    run = a_run()
    assert projection.monthly_table(run) == []
    run.measures["P2"].also += [
        Also(SERVER_CPU.replace("ours", "baseline"), 4.0, "µs"),
        Also(CLIENT_CPU.replace("ours", "baseline"), 40.0, "µs"),
    ]
    run.measures["P11"] = measured(0.9)
    run.measures["P11"].ours, run.measures["P11"].baseline = 117.0, 130.0
    theirs, ours = projection.monthly_rows(run)
    assert (theirs.servers / ours.servers, theirs.clients / ours.clients) == pytest.approx((2.0, 40 / 6))
    rate = 1_000_000 * 2_000 / (30 * 86_400)
    assert ours.servers == pytest.approx(rate * 2.0 * 4 / 0.7 / 1e6)
    assert ours.gigabytes == pytest.approx(rate * 86_400 * 117 / 1e9)
    page = page_of(tmp_path, PAGE + "\n<!-- monthly: begin -->\n<!-- monthly: end -->")
    docs.write_results(run, page)
    assert "| helix-fast | " in page.read_text("utf-8")


def test_steps_of_a_chunk_are_named_and_found() -> None:
    lines = trace.rows([5.0, 6.0], [[1.0, 1.0]] * len(trace.STEPS), "idle")
    assert [line[0] for line in lines] == ["idle", *trace.STEPS, "all"]
    assert trace.after([1.0, 3.0], 2.0) == 3.0
