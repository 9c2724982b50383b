"""Merging: changes to the custom state: their check, their stored form, and the result of applying them. No I/O.

Scripts apply merge changes to JSON as text (``lua/state_merging.lua``). They cannot apply patches: that is done here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from helix_fast.arguments import shown
from helix_fast.errors import InvalidArgumentError, MalformedStateError, PatchError

from .json_patch import apply_patch
from .schema import MergeChanges, StagedChanges, decode_json, encode_json, encode_text, from_wire, refuse_snake_case

G = TypeVar("G", MergeChanges, StagedChanges)
_ABSENT: Final = object()


class Change(NamedTuple):
    """One change at the top level: ``set``, ``replace`` (a set of an array), ``extend`` or ``delete``."""

    kind: str
    name: str
    json: bytes


def as_merge_changes(changes: MergeChanges | Mapping[str, Any]) -> MergeChanges:
    """A caller's changes as a checked struct. A dict is in wire form if it has no names but those of MergeChanges.

    Any other dict holds the values themselves.

    Raises:
        InvalidArgumentError: no valid changes.
    """
    if isinstance(changes, Mapping):
        wire, python = set(MergeChanges.__struct_encode_fields__), set(MergeChanges.__struct_fields__)
        if not changes.keys() <= wire | python:
            changes = MergeChanges(dict(changes))
    return _given(MergeChanges, changes, "changes")


def as_staged_changes(changes: StagedChanges | Mapping[str, Any]) -> StagedChanges:
    """A caller's staged changes as a checked struct; ``merge_changes`` may be a MergeChanges.

    Raises:
        InvalidArgumentError: no valid changes.
    """
    inner: Any = changes.merge_changes if isinstance(changes, StagedChanges) else None
    if isinstance(changes, StagedChanges) and isinstance(inner, MergeChanges):
        changes = msgspec.structs.replace(
            changes,
            merge_changes=inner.values,
            array_replacements=(*changes.array_replacements, *inner.array_replacements),
            deletes=(*changes.deletes, *inner.deletes),
        )
    staged = _given(StagedChanges, changes, "staged changes")
    encode_text(staged.tool_call_id, "toolCallId")
    if not 0 <= staged.timestamp < 2**53:
        raise InvalidArgumentError(f"timestamp must be Unix milliseconds, not {staged.timestamp}")
    if staged.merge_changes is None and staged.deletes:
        raise InvalidArgumentError("staged deletes belong to merge_changes, which is None here")
    return staged


def _given(struct: type[G], value: Any, what: str) -> G:
    if isinstance(value, struct):
        value = {
            wire: getattr(value, name)
            for name, wire in zip(struct.__struct_fields__, struct.__struct_encode_fields__, strict=True)
        }
    elif not isinstance(value, Mapping):
        raise InvalidArgumentError(f"{what}: expected {struct.__name__} or a dict, got {type(value).__name__}")
    for name in ("arrayReplacements", "deletes"):
        if isinstance(value.get(name), (set, frozenset)):
            value = {**value, name: sorted(value[name])}
    refuse_snake_case(struct, value, what)
    unknown = value.keys() - set(struct.__struct_encode_fields__)
    if unknown:
        raise InvalidArgumentError(f"{what}: no field {min(map(shown, unknown))}")
    try:
        result: G = from_wire(struct, value, what)
    except MalformedStateError as error:
        raise InvalidArgumentError(str(error)) from error
    for name in (*result.array_replacements, *result.deletes):
        if not isinstance(name, str):
            raise InvalidArgumentError(f"{what}: a name must be a str, not {shown(name)}")
    return result


def changes_of(values: Mapping[str, Any], replacements: Sequence[str], deletes: Sequence[str]) -> list[Change]:
    """The changes in the order in which they apply: deletes first.

    Raises:
        InvalidArgumentError: a value that cannot be JSON.
    """
    changes = [Change("delete", name, b"") for name in deletes]
    for name, value in values.items():
        data = encode_json(value, f"changes.{name}")
        kind = "set"
        if data[:1] == b"[":
            kind = "replace" if name in replacements else "extend"
        changes.append(Change(kind, name, data))
    return changes


def staged_head(staged: StagedChanges) -> bytes:
    """The bytes with which the stored form of this tool call's changes begins, and of no other's."""
    return encode_json({"toolCallId": staged.tool_call_id}, "staged changes")[:-1] + b","


def staged_line(staged: StagedChanges) -> bytes:
    """The stored form of staged changes: JSON in which all values are strings, so that scripts can decode it."""
    operation: Any
    for operation in staged.patches:
        if not isinstance(operation, Mapping) or not isinstance(operation.get("op"), str):
            raise PatchError("a patch is a list of operations with an 'op'")
    line: dict[str, Any] = {"toolCallId": staged.tool_call_id, "timestamp": str(staged.timestamp)}
    if staged.patches:
        line["patches"] = encode_json(staged.patches, "patches").decode()
    if staged.array_replacements:
        line["arrayReplacements"] = list(staged.array_replacements)
    if staged.merge_changes is not None:
        changes = changes_of(staged.merge_changes, staged.array_replacements, staged.deletes)
        line["merge"] = [word for kind, name, data in changes for word in (kind, name, data.decode())]
    return encode_json(line, "staged changes")


def read_staged_line(line: bytes, key: str) -> StagedChanges:
    """The staged changes of a line from ``staged_line``.

    Raises:
        MalformedStateError: not such a line.
    """
    stored = decode_json(line, key, "staged")
    try:
        staged = StagedChanges(
            stored["toolCallId"],
            decode_json(stored.get("patches", "[]").encode(), key, "patches"),
            timestamp=int(stored["timestamp"]),
            array_replacements=tuple(stored.get("arrayReplacements", ())),
        )
        words = stored.get("merge")
        if words is not None:
            changes = list(zip(words[::3], words[1::3], words[2::3], strict=True))
            staged.deletes = tuple(name for kind, name, _ in changes if kind == "delete")
            staged.merge_changes = {
                name: decode_json(data.encode(), key, name) for kind, name, data in changes if kind != "delete"
            }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MalformedStateError(key, "staged", f"no staged change: {error!r}") from error
    return staged


class Merging:
    """Applies several changes to a custom state; ``custom`` and ``warnings`` are the result.

    ``custom`` is changed in place, and shares values with the changes.
    """

    def __init__(self, custom: dict[str, Any]) -> None:
        self.custom: dict[str, Any] = custom
        self.warnings: list[str] = []
        self._written: dict[str, tuple[str, Any]] = {}

    def merge(self, changes: Iterable[Change], source: str = "") -> None:
        """Apply the changes of tool call ``source``; '' outside of a step."""
        for kind, name, data in changes:
            value: Any = _ABSENT if kind == "delete" else msgspec.json.decode(data)
            self._write(_pointer(name), source, value, extends=kind == "extend")
            if value is _ABSENT:
                self.custom.pop(name, None)
                continue
            stored = self.custom.get(name, _ABSENT)
            if kind == "extend" and isinstance(stored, list):
                self.custom[name] = stored + value
                continue
            if kind == "extend" and stored is not _ABSENT:
                self.warnings.append(describe_warning("replaced", name, "", source))
            self.custom[name] = value

    def patch(self, patches: Sequence[Mapping[str, Any]], source: str) -> None:
        """Apply RFC 6902 operations.

        Raises:
            PatchError: they do not apply, or their result is no object; none of them was applied.
        """
        patched = apply_patch(self.custom, patches)
        if not isinstance(patched, dict):
            raise PatchError(f"a custom state is an object; the patch makes it a {type(patched).__name__}")
        self.custom = patched
        for operation in patches:
            path, value = operation["path"], operation.get("value")
            # only operations that set a member: an insertion into an array leaves the other elements unchanged
            inserts = operation["op"] == "add" and (path[-2:] == "/-" or path.rpartition("/")[2].isdigit())
            if operation["op"] in {"add", "replace"} and not inserts and not isinstance(value, (dict, list)):
                self._write(path, source, value)

    def _write(self, path: str, source: str, value: Any, *, extends: bool = False) -> None:
        before = self._written.get(path)
        if before is not None and before[0] != source and not extends and not _same(before[1], value):
            name = path[1:].replace("~1", "/").replace("~0", "~")
            self.warnings.append(describe_warning("conflict", name, before[0], source))
        self._written[path] = (source, Merging if extends else value)


def compute(custom: dict[str, Any], staged: Sequence[StagedChanges]) -> tuple[list[Change], list[str]]:
    """A step's staged changes, applied in the order of their timestamps: changes of whole members, and warnings.

    Raises:
        PatchError: a patch does not apply; then no change of the step may be applied.
    """
    before = {name: msgspec.json.encode(value) for name, value in custom.items()}
    merging = Merging(custom)
    for one in sorted(staged, key=lambda each: each.timestamp):
        if one.merge_changes is None:
            merging.patch(one.patches, one.tool_call_id)
        else:
            merging.merge(changes_of(one.merge_changes, one.array_replacements, one.deletes), one.tool_call_id)
    try:
        after = {name: encode_json(value, name) for name, value in merging.custom.items()}
    except InvalidArgumentError as error:  # each change is JSON, but not what the patches made of them: it is too deep
        raise PatchError(f"the patched state cannot be stored: {error}") from error
    changes = [Change("delete", name, b"") for name in before if name not in after]
    changes += [Change("replace", name, data) for name, data in after.items() if before.get(name) != data]
    return changes, merging.warnings


def describe_warning(kind: str, name: str, one: str, other: str) -> str:
    """The text of a warning."""
    if kind == "conflict":
        return f"{name}: tool calls {one!r} and {other!r} set it to different values; the later one stands"
    return f"{name}: an array was to extend what is no array; it replaced it"


def words_of(changes: Iterable[Change]) -> list[bytes | str]:
    """Changes as a script takes them: kind, name, JSON, kind, name, JSON, ..."""
    return [word for kind, name, data in changes for word in (kind, encode_name(name), data)]


def encode_name(name: str) -> bytes:
    """The name of a member of the custom state as UTF-8; InvalidArgumentError if it is no Unicode text."""
    try:
        return name.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(f"a name that is no Unicode text: {error}") from error


def read_warnings(words: Sequence[bytes]) -> list[str]:
    """The texts of the warnings in a script's reply, four words each."""
    texts = [word.decode() for word in words]
    return [describe_warning(*texts[i : i + 4]) for i in range(0, len(texts), 4)]


def _pointer(name: str) -> str:
    return "/" + name.replace("~", "~0").replace("/", "~1")


def _same(a: Any, b: Any) -> bool:
    if a is _ABSENT or b is _ABSENT or a is Merging or b is Merging:
        return a is b
    return msgspec.json.encode(a) == msgspec.json.encode(b)
