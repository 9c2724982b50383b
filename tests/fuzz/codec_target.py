"""The fuzz target: bytes become a program of calls, which the compiled codec and its plain twin run side by side.

Both must return the same, or raise an error of the same type. Objects live on within a program, so that errors in what
they have kept are found too. An engine (see `engines`) only has to bring bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import msgspec

from tests.fuzz.material import Material
from tests.fuzz.replies import piece_of, reply_of

MOST_CALLS = 100
MOST_OBJECTS = 3
OBJECTS = (
    "ChunkEncoder",
    "BatchBuilder",
    "AppendFramer",
    "Sequencer",
    "Window",
    "Rollup",
    "ReplyCutter",
    "StringArray",
)
PROPERTIES: dict[str, tuple[str, ...]] = {
    "AppendFramer": ("catch_up_frame", "channel"),
    "ChunkEncoder": ("agent_id", "agent_type"),
    "BatchBuilder": ("count", "size"),
    "Sequencer": ("last",),
    "Window": ("last",),
    "Rollup": ("entry_count", "malformed_count"),
    "ReplyCutter": ("size",),
    "StringArray": ("first", "last"),
}
# Where a call has two faults, the contract leaves open which of them is told.
EITHER: dict[str, set[str | bytes]] = {
    "frame_command": {"raised TypeError", "raised UnicodeEncodeError", "raised ValueError"}
}


class DifferenceError(AssertionError):
    """The two codecs do not answer alike."""


class Places(NamedTuple):
    """A tuple as number_chunks wants it."""

    chunk: Any
    sequence: int
    epoch: Any
    term: Any


class Loose(tuple[Any, ...]):  # noqa: SLOT001
    """A tuple with room for attributes, which it refuses."""


class Twins(msgspec.Struct, frozen=True):
    """One object in both codecs."""

    kind: str
    sides: tuple[Any, Any]


def answer(call: Callable[..., Any], arguments: list[Any]) -> tuple[Any, str | bytes]:
    """What a call returned, and what to compare: text also tells -0.0 from 0 and finds a NaN equal to itself."""
    try:
        result = call(*arguments)
    except Exception as error:
        return None, f"raised {type(error).__qualname__}"
    if isinstance(result, Iterator):
        result = list(result)
    if type(result) is bytes:
        return result, result
    return result, f"returned a {type(result).__name__}: {'' if type(result).__name__ in OBJECTS else repr(result)}"


class CodecTarget:
    """Runs programs on two codecs and counts what was called.

    Args:
        compiled: the module under test.
        plain: the module that is right.
    """

    def __init__(self, compiled: ModuleType, plain: ModuleType) -> None:
        self.modules = (compiled, plain)
        self.returned: Counter[str] = Counter()
        """Calls that returned, by `function` or `Class.method`; `Class` is its constructor."""
        self.raised: Counter[str] = Counter()
        """Calls that raised, by the same names."""
        self.programs = 0
        self._objects: dict[str, list[Twins]] = {}

    def run(self, data: bytes) -> None:
        """Run the program that the bytes mean.

        Raises:
            DifferenceError: the codecs do not answer alike; the message names the call.
        """
        self.programs += 1
        self._objects = {kind: [] for kind in OBJECTS}
        material = Material(data)
        for _ in range(MOST_CALLS):
            self._step(material)
            if not material.left:
                break
        for kind in PROPERTIES:
            for twins in self._objects[kind]:
                self._look(twins)
        for rollup in self._objects["Rollup"]:
            self._call("Rollup.export", rollup)

    def _step(self, material: Material) -> None:
        name = material.pick(STEPS)
        arguments = list(self._arguments(name, material))
        kind, _, method = name.partition(".")
        if not method:
            self._call(name, None, arguments)
            return
        twins = self._some(kind, material)
        if twins is not None:
            self._call(name, twins, arguments)
            if kind in PROPERTIES:
                self._look(twins)

    def _arguments(self, name: str, material: Material) -> Iterator[Any]:
        for make in SIGNATURES[name]:
            if make == "min_id?" and material.rarely():
                return
            if make == "range":
                yield from material.range()
            else:
                yield MAKERS[make](self, material)

    def _some(self, kind: str, material: Material) -> Twins | None:
        """An object that lives, or a new one; None where the arguments of a new one were refused."""
        known = self._objects[kind]
        if known and not material.rarely():
            return material.pick(known)
        if len(known) >= MOST_OBJECTS:
            known.pop(0)
        self._call(kind, None, list(self._arguments(kind, material)))
        return known[-1] if known else None

    def _look(self, twins: Twins) -> None:
        for attribute in PROPERTIES[twins.kind]:
            self._compare(f"{twins.kind}.{attribute}", [partial(getattr, side, attribute) for side in twins.sides], [])

    def _call(self, name: str, twins: Twins | None, arguments: list[Any] | None = None) -> None:
        *_, last = name.split(".")
        self._compare(name, [getattr(side, last) for side in (twins.sides if twins else self.modules)], arguments or [])

    def _compare(self, name: str, calls: list[Callable[..., Any]], arguments: list[Any]) -> None:
        answers = [
            answer(call, [argument.sides[side] if isinstance(argument, Twins) else argument for argument in arguments])
            for side, call in enumerate(calls)
        ]
        (result, compiled), (expected, plain) = answers
        if compiled != plain and {compiled, plain} - EITHER.get(name, set()):
            shown = ", ".join(repr(argument)[:300] for argument in arguments)
            raise DifferenceError(f"{name}({shown})\n  compiled: {compiled[:600]!r}\n  plain:    {plain[:600]!r}")
        refused = isinstance(compiled, str) and compiled.startswith("raised")
        (self.raised if refused else self.returned)[name] += 1
        kind = type(result).__name__
        if kind in OBJECTS:
            self._objects[kind] = [*self._objects[kind][1 - MOST_OBJECTS :], Twins(kind, (result, expected))]


def _object(kind: str) -> Callable[[CodecTarget, Material], Any]:
    """Makes an argument that is an object of the codec; rarely something else."""

    def make(target: CodecTarget, material: Material) -> Any:
        if material.rarely():
            return material.pick([None, "text", b"bytes"])
        return target._some(kind, material)

    return make


def _body(target: CodecTarget, material: Material) -> Any:
    """Lines of some encoder, some of them damaged; rarely any bytes."""
    if material.rarely():
        return material.blob()
    lines = []
    for _ in range(material.below(6)):
        twins = target._some("ChunkEncoder", material)
        line, _shown = answer(twins.sides[1].encode_text, [material.text(), material.u64()]) if twins else (None, "")
        line = bytearray(line or b"{}")
        if material.below(4) == 3:
            line[material.byte() % len(line)] = material.byte()
        lines.append(bytes(line))
    return b"\n".join(lines)


def _line_tail(target: CodecTarget, material: Material) -> Any:
    """What the lines of some encoder have after their text; rarely any bytes."""
    twins = target._some("ChunkEncoder", material)
    if twins is None or material.rarely():
        return material.pick([b'"', material.blob()])
    return twins.sides[1].encode_text("", 0)[30:-2]


def _exported(target: CodecTarget, material: Material) -> Any:
    """The sums of some rollup, some of them damaged; rarely anything."""
    twins = target._some("Rollup", material)
    if twins is None or material.rarely():
        return material.tree()
    exported = twins.sides[1].export()
    return material.damaged(json.loads(json.dumps(exported)) if material.below(2) else exported)


MAKERS: dict[str, Callable[[CodecTarget, Material], Any]] = {
    "number": lambda _, material: material.u64(),
    "text": lambda _, material: material.text(),
    "text?": lambda _, material: material.pick([None, material.text()]),
    "bytes": lambda _, material: material.blob(),
    "bytes?": lambda _, material: material.pick([None, material.blob()]),
    "line head": lambda _, material: material.pick([b'{"type":"text_delta","delta":"', material.blob()]),
    "line tail": _line_tail,
    "min_id?": lambda _, material: material.pick([None, material.blob()]),
    "payload": lambda _, material: material.payload(),
    "arguments": lambda _, material: material.arguments(),
    "tree": lambda _, material: material.tree(),
    "flag": lambda _, material: bool(material.below(2)),
    "entries": lambda _, material: material.entries(),
    "some entries": lambda _, material: material.several(material.entry, 6),
    "bytes or entry": lambda _, material: material.blob() if material.rarely() else material.entry(),
    "kinds": lambda _, material: material.kinds(),
    "bounds": lambda _, material: material.bounds(),
    "index": lambda _, material: material.pick([0, 1, 2, 9, -1, None]),
    "limit": lambda _, material: material.pick([0, 1, 2, 2**62, 2**70, -1]),
    "body": _body,
    "maker": lambda _, material: material.pick([dict, dict, dict, None]),
    "places": lambda _, material: material.pick([Places, Places, Places, tuple, Loose, list, None]),
    "values": lambda _, material: material.pick(
        [[], [None], ["a", 1.5, []], list(range(material.byte())), (), ("a", []), None]
    ),
    "page": lambda _, material: material.page(),
    "encoder": _object("ChunkEncoder"),
    "rollup": _object("Rollup"),
    "strings": _object("StringArray"),
    "page reply": lambda _, material: reply_of(material, material.page()),
    "array reply": lambda _, material: reply_of(material, material.entries()),
    "piece": lambda _, material: piece_of(material),
    "exported": _exported,
}
# What every entry point is called with: names of MAKERS; a range is two numbers.
SIGNATURES: dict[str, tuple[str, ...]] = {
    "ChunkEncoder": ("text", "text?"),
    "ChunkEncoder.encode_text": ("text", "number"),
    "BatchBuilder": (),
    "BatchBuilder.add": ("bytes",),
    "BatchBuilder.add_text": ("encoder", "text", "number"),
    "BatchBuilder.take": (),
    "AppendFramer": ("bytes", "bytes", "bytes"),
    "AppendFramer.xadd": ("number", "number", "number", "bytes", "bytes", "min_id?"),
    "AppendFramer.xadd_pieces": ("number", "number", "number", "bytes", "bytes", "min_id?"),
    "AppendFramer.publish": ("number", "range", "bytes"),
    "Sequencer": ("number",),
    "Sequencer.reserve": ("number",),
    "Sequencer.commit": (),
    "Sequencer.rollback": (),
    "Sequencer.jump": ("number",),
    "Window": ("number",),
    "Window.offer": ("range",),
    "Rollup": (),
    "Rollup.add": ("entries",),
    "Rollup.add_strings": ("strings", "index"),
    "Rollup.merge": ("rollup",),
    "Rollup.copy": (),
    "Rollup.restore": ("exported",),
    "Rollup.export": (),
    "frame_command": ("arguments",),
    "parse_push": ("payload",),
    "split_lines": ("bytes", "number", "number"),
    "join_lines": ("bytes", "number", "number"),
    "decode_texts": ("encoder", "body", "number", "number", "maker"),
    "frame_events": ("encoder", "body", "number", "number", "bytes", "number"),
    "frame_deltas": (
        "line head",
        "line tail",
        "body",
        "number",
        "number",
        "bytes",
        "bytes?",
        "bytes",
        "number",
        "flag",
    ),
    "number_chunks": ("places", "values", "number", "text", "text"),
    "iterate_but_last": ("values",),
    "merge_entries": ("page", "number"),
    "merge_page": ("page reply", "number"),
    "ReplyCutter": (),
    "ReplyCutter.feed": ("piece",),
    "ReplyCutter.next": (),
    "ReplyCutter.rest": (),
    "StringArray": ("array reply",),
    "StringArray.strings": ("index",),
    "check_finite": ("tree", "flag"),
    "load_entry": ("bytes or entry",),
    "select_entries": ("some entries", "kinds", "bounds", "bounds", "limit"),
}
# Objects are made when a method wants one. What does most with bytes comes up most often.
STEPS = [name for name in SIGNATURES if name not in OBJECTS] + [
    "BatchBuilder.add_text",
    "decode_texts",
    "frame_events",
    "frame_deltas",
    "merge_entries",
    "merge_page",
    "ReplyCutter.feed",
    "ReplyCutter.next",
    "Rollup.add",
    "Rollup.add",
    "select_entries",
]
