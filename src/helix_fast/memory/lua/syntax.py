"""Reads a script: text to a tree in which every local name is bound to its variable."""

from __future__ import annotations

import re
from typing import Final, NamedTuple, TypeAlias, Union


class ScriptSyntaxError(ValueError):
    """A script that is no Lua, or uses more of it than is offered here; says where."""


class Variable:
    """A local variable. ``captured`` when an inner function uses it: then it lives in a cell of its own."""

    __slots__ = ("captured", "slot")

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.captured = False


class Prototype:
    """A function's text. ``outer`` are the variables of the enclosing function that it uses, in its first slots."""

    __slots__ = ("body", "outer", "parameters", "slots", "variadic")

    def __init__(self) -> None:
        self.parameters: list[Variable] = []
        self.variadic = False
        self.outer: list[Variable] = []
        self.slots = 0
        self.body: list[Statement] = []


class Constant(NamedTuple):
    value: bool | float | bytes | None


class Varargs(NamedTuple):
    pass


class Local(NamedTuple):
    variable: Variable


class Global(NamedTuple):
    name: bytes


class Index(NamedTuple):
    table: Expression
    key: Expression


class Call(NamedTuple):
    function: Expression
    arguments: list[Expression]
    line: int


class MethodCall(NamedTuple):
    target: Expression
    name: bytes
    arguments: list[Expression]
    line: int


class FunctionBody(NamedTuple):
    prototype: Prototype


class Unary(NamedTuple):
    operator: str
    operand: Expression


class Binary(NamedTuple):
    operator: str
    left: Expression
    right: Expression


class TableConstructor(NamedTuple):
    array: list[Expression]
    fields: list[tuple[Expression, Expression]]


class Parenthesized(NamedTuple):
    inner: Expression


Expression: TypeAlias = Union[  # noqa: UP007  evaluated at run time on Python 3.10
    Constant, Varargs, Local, Global, Index, Call, MethodCall, FunctionBody, Unary, Binary, TableConstructor,
    Parenthesized,
]  # fmt: skip


class LocalAssignment(NamedTuple):
    variables: list[Variable]
    values: list[Expression]


class LocalFunction(NamedTuple):
    variable: Variable
    prototype: Prototype


class Assignment(NamedTuple):
    targets: list[Expression]
    values: list[Expression]


class CallStatement(NamedTuple):
    call: Expression


class Do(NamedTuple):
    body: list[Statement]


class While(NamedTuple):
    condition: Expression
    body: list[Statement]


class Repeat(NamedTuple):
    body: list[Statement]
    until: Expression


class If(NamedTuple):
    branches: list[tuple[Expression, list[Statement]]]
    otherwise: list[Statement]


class NumericFor(NamedTuple):
    variable: Variable
    start: Expression
    stop: Expression
    step: Expression | None
    body: list[Statement]


class GenericFor(NamedTuple):
    variables: list[Variable]
    values: list[Expression]
    body: list[Statement]


class Return(NamedTuple):
    values: list[Expression]


class Break(NamedTuple):
    pass


Statement: TypeAlias = Union[  # noqa: UP007  evaluated at run time on Python 3.10
    LocalAssignment, LocalFunction, Assignment, CallStatement, Do, While, Repeat, If, NumericFor, GenericFor, Return,
    Break,
]  # fmt: skip


class Token(NamedTuple):
    kind: str
    """``name``, ``number``, ``string``, ``end``, or the word or sign itself."""
    value: bytes | float
    line: int


KEYWORDS: Final = frozenset({
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local", "nil", "not", "or",
    "repeat", "return", "then", "true", "until", "while",
})  # fmt: skip
_TOKEN: Final = re.compile(
    r"(?P<space>[ \t\r\n]+|--\[\[.*?\]\]|--(?!\[=*\[)[^\n]*)"
    r"|(?P<number>0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
    r"|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<string>'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\")"
    r"|\[\[\n?(?P<long>.*?)\]\]"
    r"|(?P<sign>\.\.\.|\.\.|==|~=|<=|>=|[-+*/%^#<>=(){}\[\];:,.])",
    re.DOTALL | re.ASCII,
)
_ESCAPE: Final = re.compile(r"\\(\d{1,3}|.)", re.DOTALL | re.ASCII)
_ESCAPES: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def tokens(text: str) -> list[Token]:
    """The words of a script, which is bytes taken as Latin-1, so that string literals keep theirs."""
    found: list[Token] = []
    at, line = 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ScriptSyntaxError(f"line {line}: unexpected {text[at : at + 10]!r}")
        kind, word = str(match.lastgroup), match[0]
        if kind == "number":
            found.append(Token("number", float(int(word, 16)) if word[:2] in {"0x", "0X"} else float(word), line))
        elif kind == "name":
            found.append(Token(word if word in KEYWORDS else "name", word.encode(), line))
        elif kind == "string":
            found.append(Token("string", _ESCAPE.sub(_unescape, word[1:-1]).encode("latin-1"), line))
        elif kind == "long":
            found.append(Token("string", match["long"].encode("latin-1"), line))
        elif kind == "sign":
            found.append(Token(word, b"", line))
        line += word.count("\n")
        at = match.end()
    found.append(Token("end of script", b"", line))
    return found


def _unescape(match: re.Match[str]) -> str:
    word = match[1]
    return chr(int(word)) if word[0].isdigit() else _ESCAPES.get(word, word)
