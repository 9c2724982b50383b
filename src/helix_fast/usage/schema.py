"""Usage entries, tagged by ``kind``, in the wire form of the reference page: JSON with camelCase keys.

Fields that a struct does not know are kept in ``extra`` and written back, in ``tokens`` and ``source`` too; a kind that
is not known becomes :class:`UnknownUsage`. Wrong data is refused here, with MalformedEntryError, before it is sent.
"""

from collections.abc import Callable
from typing import Annotated, Any, Final, TypeVar, Union, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

from helix_fast import codec
from helix_fast.errors import InvalidArgumentError, MalformedEntryError

from .prices import Price, cost_of
from .responses import read_response

# Wire name of `extra`: no entry has a field of this name, and it is never written.
EXTRA: Final = "~helix_fast.extra"

Count = Annotated[int, Meta(ge=0)]
Milliseconds = Annotated[int, Meta(ge=0, lt=10**18)]
Amount = Union[Annotated[int, Meta(ge=0)], Annotated[float, Meta(ge=0)]]  # noqa: UP007
Value = Union[int, float]  # noqa: UP007
Extra = Union[dict[str, Any], UnsetType]  # noqa: UP007


class Part(msgspec.Struct, rename="camel", omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    extra: Extra = msgspec.field(default=UNSET, name=EXTRA)


class TokenCounts(Part):
    """Tokens of one model call, each a whole number from 0; None: not reported.

    ``reasoning`` is inside ``completion`` and ``cached`` (read from a cache) inside ``prompt``, as most providers
    report them, unless one does not fit in there or ``total`` has room for it beside prompt and completion. Without
    ``total``, prompt + completion counts, and what stands beside them.
    """

    prompt: Count | None = None
    completion: Count | None = None
    reasoning: Count | None = None
    cached: Count | None = None
    total: Count | None = None


class UsageSource(Part):
    """Who spent it: ``type`` is ``agent``, ``tool`` or any other text."""

    type: str
    name: str | None = None


class Usage(
    msgspec.Struct, tag_field="kind", rename="camel", omit_defaults=True, forbid_unknown_fields=True, kw_only=True
):
    """What every entry carries.

    Attributes:
        session_id: the session that spent it.
        id: makes the entry count once; made where it is None.
        run_id: the run within the session.
        step_count: the step, from 0.
        timestamp: Unix milliseconds; the time of recording where it is None.
        source: who spent it.
        extra: fields that this version does not know, by their wire names.
    """

    id: str | None = None
    session_id: str
    run_id: str | None = None
    step_count: Count = msgspec.field(default_factory=int)
    timestamp: Milliseconds | None = None
    source: UsageSource | None = None
    extra: Extra = msgspec.field(default=UNSET, name=EXTRA)

    @property
    def kind(self) -> str:
        """The entry's ``kind`` on the wire."""
        return str(self.__struct_config__.tag)


class TokenUsage(Usage, tag="tokens"):
    """A call of a model. ``cost``: what it has cost, from 0, in the unit of the prices; None: not known."""

    model: str
    tokens: TokenCounts
    cost: Amount | None = None

    @classmethod
    def from_response(
        cls,
        response: object,
        *,
        session_id: str,
        run_id: str | None = None,
        step_count: int = 0,
        model: str | None = None,
        id: str | None = None,  # noqa: A002  the field's name
        timestamp: int | None = None,
        source: UsageSource | None = None,
        price: Price | None = None,
    ) -> "TokenUsage":
        """The entry for the response of a provider or a framework, which is recognised by its shape.

        Args:
            response: an object or dict of OpenAI (chat, Responses, Agents), Anthropic (the message, or the last
                ``message_delta``, whose counts are cumulative), Gemini, LangChain (AIMessage, LLMResult), pydantic-ai
                (response, run or usage) or LiteLLM; or the usage in one of them.
            session_id, run_id, step_count, timestamp, source: of the entry.
            model: needed where the response does not name it, as a usage alone.
            id: default: the response's own id, so that it counts once; made when recorded where it has none.
            price: for ``cost``: a table of :class:`ModelPrice` by model, or a function of (model, TokenTotals) that
                returns the cost. None, a model that is not in the table, or a result None: the cost is not known.

        Raises:
            InvalidArgumentError: no usage is found, or no model; the message says what was found. Or a wrong price.
        """
        found = read_response(response)
        named = model or found.model
        if named is None:
            raise InvalidArgumentError(f"{type(response).__name__} does not name the model", hint="give model=")
        return cls(
            id=found.id if id is None else id,
            session_id=session_id,
            run_id=run_id,
            step_count=step_count,
            timestamp=timestamp,
            source=source,
            model=named,
            tokens=msgspec.convert(found.counts, TokenCounts),
            cost=None if price is None else cost_of(price, named, found.counts),
        )


class ToolUsage(Usage, tag="tool"):
    """A call of a tool. ``duration_ms`` is in milliseconds, from 0. Without ``success``: no ``error`` is one."""

    tool_name: str
    tool_call_id: str | None = None
    duration_ms: Amount | None = None
    success: bool | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        if self.success is None:
            self.success = self.error is None


class SubAgentUsage(Usage, tag="subagent"):
    """A run of a sub-agent, whose own usage is recorded at its own session ``sub_session_id``."""

    sub_session_id: str
    agent_type: str | None = None
    duration_ms: Amount | None = None
    success: bool | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        if self.success is None:
            self.success = self.error is None


class CustomUsage(Usage, tag="custom"):
    """Anything else that is measured: ``value``, any finite number, of a ``type``."""

    type: str
    value: Value
    unit: str | None = None
    metadata: dict[str, Any] | None = None


class UnknownUsage(msgspec.Struct, frozen=True):
    """An entry of a kind that this version does not know; ``data`` is the whole wire object, ``kind`` included.

    To be recorded it needs ``sessionId``, ``stepCount`` and ``timestamp``: what reading by them needs.
    """

    data: dict[str, Any]

    @property
    def kind(self) -> str:
        """The entry's ``kind`` on the wire."""
        return cast("str", self.data["kind"])

    def __getattr__(self, name: str) -> Any:
        """Fields by their wire name or its snake_case form, where that is no name of this class."""
        if not name.startswith("__"):
            data = self.data
            head, *rest = name.split("_")
            camel = head + "".join(part.capitalize() for part in rest)
            for key in (name, camel):
                if key in data:
                    return data[key]
            if name in {"id", "session_id", "run_id", "step_count", "timestamp", "source"}:
                return None
        raise AttributeError(name)


KnownUsage = Union[TokenUsage, ToolUsage, SubAgentUsage, CustomUsage]  # noqa: UP007  read at run time on Python 3.10
UsageEntry = Union[KnownUsage, UnknownUsage]  # noqa: UP007
KNOWN_KINDS: Final[dict[str, type[Usage]]] = {
    str(struct.__struct_config__.tag): struct for struct in (TokenUsage, ToolUsage, SubAgentUsage, CustomUsage)
}

PARTS: Final[dict[str, type[Part]]] = {"tokens": TokenCounts, "source": UsageSource}
decode_known: Callable[[bytes], KnownUsage] = msgspec.json.Decoder(KnownUsage).decode
_AnyStruct = TypeVar("_AnyStruct", bound=msgspec.Struct)


def _convert(fields: dict[str, Any], struct: type[_AnyStruct]) -> _AnyStruct:
    """A struct that keeps what it does not know, also in its parts."""
    names = {name for name in struct.__struct_encode_fields__ if name != EXTRA} | {"kind"}
    known = {name: value for name, value in fields.items() if name in names}
    extra = {name: value for name, value in fields.items() if name not in names}
    for name, part in PARTS.items():
        if name in names and isinstance(known.get(name), dict):
            known[name] = _convert(known[name], part)
    made = msgspec.convert(known, struct, from_attributes=True)
    for name in PARTS:
        if isinstance(known.get(name), Part):
            setattr(made, name, known[name])
    if extra:
        made.extra = extra  # type: ignore[attr-defined]
    return made


def decode_entry(data: bytes) -> UsageEntry:
    """Decode one stored entry.

    Raises:
        MalformedEntryError: no JSON object, no string ``kind``, or a known kind with missing or wrong fields.
    """
    try:
        return cast("UsageEntry", decode_known(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        fields = codec.load_entry(data)
        return from_wire(fields)
    except ValueError as error:
        raise MalformedEntryError(f"{error}: {data[:200]!r}") from error


def from_wire(fields: dict[str, Any]) -> UsageEntry:
    """The entry for an object in wire form. ValueError where it is none."""
    struct = KNOWN_KINDS.get(fields["kind"])
    return UnknownUsage(fields) if struct is None else cast("UsageEntry", _convert(fields, struct))
