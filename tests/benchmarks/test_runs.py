"""The benchmarks' own parts that could be wrong: the gate, the file format, the medians, and what a run is held to."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks import compare, results
from benchmarks.__main__ import all_measures, chosen, main, run
from benchmarks.baselines.bare_client import read_rate, send_prebuilt
from benchmarks.baselines.pydantic_store import CHUNKS, ENTRIES, TextDelta
from benchmarks.bench_usage import make_entries
from benchmarks.measure import (
    TINY,
    Also,
    Measure,
    Pair,
    Reach,
    Result,
    Size,
    WrongRunError,
    check,
    meets,
    result_of,
    take,
    take_pairs,
)
from benchmarks.payloads import HEADLINE, PAYLOADS, chunk_json, numbered, payload_of
from benchmarks.stream_reads import percentile
from benchmarks.table import render
from benchmarks.targets import TARGETS
from helix_fast import TextDeltaChunk
from helix_fast.embedded import EmbeddedServer
from helix_fast.streams.chunks import decode_chunk

pytestmark = pytest.mark.slow


def result(ratio: float, reach: Reach = "at least", target: float = 2.0) -> Result:
    pair = Pair(ours=ratio * 10, baseline=10, ratio=ratio)
    return Result(
        what="w", against="a", unit="u", target=target, reach=reach, ours=pair.ours, baseline=10.0, ratio=ratio,
        reached=meets(ratio, target, reach), runs=[pair], seconds=7.0,
    )  # fmt: skip


def run_of(size: str = "full", **measures: Result) -> results.Results:
    return results.Results(size=size, measures=measures, machine={"cores": 2}, versions={"python": "3"}, taken_at="now")


def gate(folder: Path, old: results.Results, new: results.Results, *options: str) -> int:
    before, after = folder / "old.json", folder / "new.json"
    results.save(old, before)
    results.save(new, after)
    return compare.main([str(before), str(after), *options])


# the gate


@pytest.mark.parametrize(
    ("old", "new", "reach", "code"),
    [
        (2.0, 1.71, "at least", 0),
        (2.0, 1.69, "at least", 1),
        (2.0, 9.0, "at least", 0),
        (1.0, 1.17, "at most", 0),
        (1.0, 1.19, "at most", 1),
        (1.0, 0.2, "at most", 0),
    ],
)
def test_gate_closes_where_a_ratio_got_worse_by_more_than_15_percent(
    tmp_path: Path, old: float, new: float, reach: Reach, code: int
) -> None:
    assert gate(tmp_path, run_of(P1=result(old, reach)), run_of(P1=result(new, reach))) == code


def test_gate_closes_where_a_measure_is_missing_though_the_others_got_better(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = run_of(P1=result(2.0), P2=result(15.0)), run_of(P1=result(4.0))
    assert gate(tmp_path, old, new) == 1
    assert "P2" in capsys.readouterr().out


def test_gate_lets_a_new_measure_pass(tmp_path: Path) -> None:
    assert gate(tmp_path, run_of(P1=result(2.0)), run_of(P1=result(2.0), P2=result(0.1))) == 0


def test_gate_closes_where_a_ratio_is_no_number() -> None:
    assert compare.gain_of(result(2.0), result(float("nan"))) < 0.85
    assert compare.gain_of(result(1.0, "at most"), result(float("inf"), "at most")) < 0.85


def test_gate_refuses_runs_of_different_size_and_files_that_are_none(tmp_path: Path) -> None:
    assert gate(tmp_path, run_of(P1=result(2.0)), run_of("quick", P1=result(2.0))) == 2
    assert compare.main([str(tmp_path / "none.json"), str(tmp_path / "none.json")]) == 2
    other = run_of(P1=result(2.0))
    other.payload = "cjk-200"
    assert gate(tmp_path, run_of(P1=result(2.0)), other) == 2
    broken = tmp_path / "broken.json"
    broken.write_text('{"P1": {"ratio": "fast"}, "size": "full"}', "utf-8")
    assert compare.main([str(broken), str(broken)]) == 2


def test_allowance_can_be_set(tmp_path: Path) -> None:
    assert gate(tmp_path, run_of(P1=result(2.0)), run_of(P1=result(1.0)), "--allowed", "0.6") == 0


def test_measures_are_sorted_by_number() -> None:
    assert sorted(["P10", "P9-decode", "P2", "P9"], key=compare.order) == ["P2", "P9", "P9-decode", "P10"]


# the file


def test_file_has_the_measures_at_its_top_beside_machine_and_versions(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    results.save(run_of(P1=result(2.5)), path)
    wire = json.loads(path.read_text("utf-8"))
    assert wire["P1"]["ratio"] == 2.5
    assert {"ratio", "target", "ours", "baseline", "unit", "runs"} <= set(wire["P1"])
    assert wire["P1"]["runs"] == [{"ours": 25.0, "baseline": 10.0, "ratio": 2.5}]
    assert wire["machine"] == {"cores": 2}
    assert wire["versions"] == {"python": "3"}
    assert results.load(path) == run_of(P1=result(2.5))


def test_every_target_of_the_table_has_a_measure() -> None:
    keys = [measure.key for measure in all_measures()]
    assert [key for key in keys if "-" not in key] == [f"P{number}" for number in (*range(1, 17), *range(18, 23))]
    assert len(set(keys)) == len(keys)
    assert keys == list(TARGETS)


@pytest.mark.parametrize("kind", all_measures(), ids=lambda kind: kind.key)
def test_measure_is_held_to_its_line_of_the_table_and_the_gate_knows_its_direction(kind: type[Measure]) -> None:
    target, reach = TARGETS[kind.key]
    assert (kind.target, kind.reach) == (target, reach)
    # Latency, time, bytes and their ratios are good when they are small.
    assert reach == ("at most" if kind.unit in {"ms", "µs", "ns", "µs/chunk", "bytes"} else "at least")
    better, worse = (target * 1.2, target * 0.8) if reach == "at least" else (target * 0.8, target * 1.2)
    assert compare.gain_of(result(target, reach), result(better, reach)) > 1.15
    assert compare.gain_of(result(target, reach), result(worse, reach)) < 0.85


def test_web_servers_are_measured_apart_and_added_to_the_file(tmp_path: Path) -> None:
    apart = {"P13", "P14"}
    assert {measure.key for measure in chosen(None, web=True)} == apart
    assert not apart & {measure.key for measure in chosen(None)}
    path = tmp_path / "results.json"
    assert results.added(run_of(P13=result(9.0)), path) == run_of(P13=result(9.0)), "there is no file"
    before = run_of(P1=result(2.0), P13=result(1.0))
    before.failed["P14"] = "WrongRunError"
    results.save(before, path)
    both = results.added(run_of(P13=result(9.0), P14=result(0.2)), path)
    assert {key: found.ratio for key, found in both.measures.items()} == {"P1": 2.0, "P13": 9.0, "P14": 0.2}
    assert both.failed == {}
    other = run_of("quick", P13=result(9.0))
    assert results.added(other, path) == other, "of another size"


@pytest.mark.thorough
def test_web_servers_are_measured(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    assert main(["--tiny", "--web", "--output", str(path)]) == 0
    assert sorted(results.load(path).measures) == ["P13", "P14"]


def test_unknown_measure_is_refused() -> None:
    assert [measure.key for measure in chosen("P9,P1")] == ["P1", "P9"]
    with pytest.raises(ValueError, match="P99"):
        chosen("P1,P99")


def test_table_tells_what_was_reached_and_what_failed() -> None:
    shown = run_of(P2=result(2.5), P10=result(1.5, "at most", 1.25))
    shown.failed["P3"] = "WrongRunError: lost one"
    lines = render(shown).splitlines()
    assert lines[1].startswith("P2")
    assert lines[1].split()[-5:] == ["≥", "2", "yes", "7", "s"]
    assert lines[2].split()[-5:] == ["≤", "1.25", "NO", "7", "s"]
    assert "P3 FAILED: WrongRunError: lost one" in lines
    assert "payload headline" in lines[-1]


# how a measure is taken


class Counting(Measure):
    key = "P1"
    what, against, unit, target = "counting", "itself", "n", 2.0
    needs_server = False

    def __init__(self) -> None:
        super().__init__(Size("full"))
        self.turns: list[str] = []
        self.limit = 5.0
        self.closed = False

    async def ours(self) -> float:
        self.turns.append("A")
        return [1.0, 100.0, 20.0, 30.0, 40.0, 1000.0][self.turns.count("A") - 1]

    async def baseline(self) -> float:
        self.turns.append("B")
        return [1.0, 100.0, 10.0, 10.0, 10.0, 10.0][self.turns.count("B") - 1]

    async def clean(self) -> None:
        self.closed = True

    def also(self) -> list[Also]:
        return [Also("second condition", 4.0, "n", self.limit)]


async def test_sides_take_turns_and_the_ratio_is_the_median_of_the_pairs() -> None:
    measure = Counting()
    found = await take(measure)
    assert "".join(measure.turns) == "AB" * 6  # one to warm up, five that count
    assert [pair.ratio for pair in found.runs] == [1.0, 2.0, 3.0, 4.0, 100.0]
    assert (found.ratio, found.ours, found.baseline) == (3.0, 40.0, 10.0)
    assert found.reached
    assert measure.closed


async def test_second_condition_that_is_missed_is_not_reached() -> None:
    measure = Counting()
    measure.limit = 3.0
    assert not (await take(measure)).reached
    assert not result_of(Counting, [Pair(1, 1, 1.9)], []).reached


async def test_measure_is_closed_and_told_when_a_run_was_wrong() -> None:
    class Wrong(Counting):
        async def ours(self) -> float:
            check(1, 2, "entries")
            return 1.0

    measure = Wrong()
    with pytest.raises(WrongRunError, match="entries: 1, expected 2"):
        await take(measure)
    assert measure.closed


async def test_failed_measure_does_not_cost_the_others(tmp_path: Path) -> None:
    class Failing(Counting):
        def __init__(self, _size: Size) -> None:
            super().__init__()

        async def prepare(self) -> None:
            raise RuntimeError("no such thing")

    class Working(Failing):
        key = "P2"

        async def prepare(self) -> None:
            return

    found = await run(Size(TINY), [Failing, Working], peers=False)
    assert found.failed == {"P1": "RuntimeError: no such thing"}
    assert list(found.measures) == ["P2"]
    assert found.versions["server"].startswith(("Valkey", "Redis"))


async def test_pairs_are_as_many_as_asked_for() -> None:
    measure = Counting()
    assert len(await take_pairs(measure.ours, measure.baseline, 2)) == 2
    assert Size("full").runs >= 5


def test_percentile_is_the_nearest_rank() -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], 0.99) == 99.0
    assert percentile([7.0], 0.99) == 7.0


# what is compared is the same work


def test_payloads_have_the_sizes_that_they_say() -> None:
    assert 105 <= len(chunk_json(HEADLINE)) <= 120
    assert sorted({len(text.encode()) for _name, text in PAYLOADS}) == [20, 200, 2000]
    assert any("\\n" in chunk_json(text).decode() and '\\"' in chunk_json(text).decode() for _name, text in PAYLOADS)
    assert any(len(text) < len(text.encode()) / 2 for _name, text in PAYLOADS)
    assert {max(text) >= "\U00010000" for name, text in PAYLOADS if name.startswith("emoji")} == {True}
    assert {max(text) < "\U00010000" for name, text in PAYLOADS if name.startswith("cjk")} == {True}


@pytest.mark.parametrize("name", ["headline", "ascii-20", "cjk-200", "emoji-2000", "escaped-200"])
def test_numbered_text_is_as_long_as_the_text_and_never_the_same_twice(name: str) -> None:
    text = payload_of(name).text
    found = [numbered(text, number) for number in (1, 2, 10_000)]
    assert {len(one.encode()) for one in found} == {len(text.encode())}
    assert len(set(found)) == 3


def test_unknown_payload_is_refused() -> None:
    with pytest.raises(ValueError, match="klingon-20"):
        payload_of("klingon-20")


@pytest.mark.parametrize("text", [text for _name, text in PAYLOADS], ids=[name for name, _text in PAYLOADS])
def test_baseline_and_ours_read_the_same_chunk(text: str) -> None:
    wire = chunk_json(text)
    mine, theirs = decode_chunk(wire), CHUNKS.validate_json(wire)
    assert isinstance(mine, TextDeltaChunk)
    assert isinstance(theirs, TextDelta)
    assert (mine.delta, mine.agent_id, mine.timestamp) == (theirs.delta, theirs.agent_id, theirs.timestamp)
    assert json.loads(theirs.model_dump_json(by_alias=True, exclude_none=True)) == json.loads(wire)


def test_baseline_takes_every_usage_entry_that_is_made() -> None:
    entries = make_entries(30, 1)
    kinds = [ENTRIES.validate_json(msgspec.json.encode(entry)).kind for entry in entries]
    assert kinds == [entry["kind"] for entry in entries]
    assert len({entry["id"] for entry in entries}) == 30


def test_rate_of_redis_benchmark_is_its_last_one() -> None:
    title = 'XADD k * chunk {"delta":"5.0 requests"} sequence 1'
    output = f"{title}: rps=0.0 (overall: 0.0)\r{title}: 735294.12 requests per second, p50=7.6 msec\n"
    assert read_rate(output) == 735294.12
    with pytest.raises(RuntimeError):
        read_rate("Could not connect to Redis\n")


async def test_bare_client_appends_at_least_what_it_was_told(server_url: str, embedded_server: EmbeddedServer) -> None:
    import redis.asyncio as redis

    rate = await asyncio.to_thread(send_prebuilt, embedded_server.socket_path, "bare", b"{}", 1500)
    async with redis.Redis(unix_socket_path=embedded_server.socket_path) as client:
        length: Any = await client.xlen("bare")
    assert rate > 0
    assert length == 2048  # whole rounds of 8 connections and 128 commands


def test_runner_writes_table_and_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "results.json"
    assert main(["--tiny", "--only", "P9,P8", "--output", str(path)]) == 0
    assert "acquire + release" in capsys.readouterr().out
    found = results.load(path)
    assert sorted(found.measures) == ["P8", "P9"]
    assert (found.size, found.failed) == (TINY, {})
    assert list(found.measures["P9"].payloads) == ["ascii-200", "cjk-200", "emoji-200", "escaped-200"]
    assert found.measures["P9"].seconds > 0
