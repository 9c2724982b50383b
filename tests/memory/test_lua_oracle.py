"""Our Lua against the original one, in this process: the same snippets, made-up programs, and our own scripts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helix_fast import connect
from helix_fast.memory import MemoryServer
from tests.support.replies import asks_memory, same

pytest.importorskip("lupa.lua51", reason="lupa is not installed: pip install lupa")

from tests.support.lupa_scripts import LupaScripts
from tests.support.tour import byways, tour

SNIPPETS = (Path(__file__).parent.parent / "data" / "lua_snippets.txt").read_text().splitlines()


def on_original_lua() -> MemoryServer:
    server = MemoryServer()
    server._scripts = LupaScripts(server._run)  # type: ignore[assignment]
    return server


def both(*call: Any) -> tuple[Any, Any]:
    """The reply of the original Lua and ours."""
    return asks_memory(on_original_lua())(*call), asks_memory(MemoryServer())(*call)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_answers_as_in_the_original(snippet: str) -> None:
    theirs, ours = both("EVAL", snippet.encode().decode("unicode_escape"), 2, "k1", "k2", "7", "30")
    assert same(theirs, ours), f"the original says {theirs!r}, ours {ours!r}"


async def test_our_scripts_mean_the_same_in_the_original(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helix_fast.memory.server.Scripts", LupaScripts)
    async with connect("memory://") as helix:
        await tour(helix)
        await byways(helix)


# Programs that Hypothesis makes up: expressions of all kinds in variables, branches and loops that end.

# No number stands there as such: Lua 5.1 works out constants beforehand, and keeps 0 and -0 as one and the same.
NUMBERS = st.one_of(
    st.integers(-20, 20).map(str), st.sampled_from(["0.5", "1e3", "9007199254740992", "-0.25", "1e15", "0x1F", "7.125"])
).map("n('{}')".format)
TEXTS = st.sampled_from(["''", "'a'", "'10'", "'0x10'", "' 7 '", "'abc'", "'A'", "'1e2'", "'x y'", "[[long]]"])
ATOMS = st.one_of(NUMBERS, TEXTS, st.sampled_from(["nil", "true", "false", "a", "b", "c", "t[1]", "t.k", "#t"]))
BINARY = st.sampled_from(["+", "-", "*", "/", "%", "^", "..", "==", "~=", "<", "<=", ">", ">=", "and", "or"])


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("({} {} {})".format, inner, BINARY, inner),
        st.builds("(not {})".format, inner),
        st.builds("(- {})".format, inner),
        st.builds("(#tostring({}))".format, inner),
        st.builds("tonumber({})".format, inner),
        st.builds("string.format('%5.2f|%d|%s', {}, 3, tostring({}))".format, inner, inner),
        st.builds("string.rep(tostring({}), 2)".format, inner),
        st.builds("math.floor({})".format, inner),
        st.builds("math.max({}, {})".format, inner, inner),
        st.builds("select('#', {}, {})".format, inner, inner),
        st.builds("(function(...) local x, y = ... return y end)({}, {})".format, inner, inner),
        st.builds("#{{{}, {}, 3}}".format, inner, inner).filter(lambda text: "nil" not in text),
    )


EXPRESSIONS = st.recursive(ATOMS, larger, max_leaves=8)


def compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("{} {}".format, inner, inner),
        st.builds("if {} then {} else {} end".format, EXPRESSIONS, inner, inner),
        st.builds("for i = 1, 3 do {} if i == 2 then break end end".format, inner),
        st.builds("do local a = {} {} end".format, EXPRESSIONS, inner),
        st.builds("local m = 0 while m < 2 do m = m + 1 {} end".format, inner).map("do {} end".format),
        st.builds("for k, v in ipairs({{{}, 2}}) do c = k {} end".format, EXPRESSIONS, inner),
    )


STATEMENTS = st.recursive(
    st.builds("{} = {}".format, st.sampled_from(["a", "b", "c", "t[1]", "t.k", "t[#t + 1]"]), EXPRESSIONS),
    compound,
    max_leaves=6,
)
PROGRAM = """
local a, b, c, t, n = 1, 'x', nil, {{5, 6, k = 'v'}}, tonumber
local fine, failed = pcall(function() {} end)
local function shown(v) if type(v) == 'table' then return 'table' end return type(v) .. ' ' .. tostring(v) end
return {{tostring(fine), shown(a), shown(b), shown(c), shown(t[1]), shown(t.k)}}
"""


def without_signs(reply: Any) -> Any:
    """NaN has none, but its text has the processor's; and of -0 nothing is left here where it is rounded."""
    if isinstance(reply, list):
        return [without_signs(each) for each in reply]
    return re.sub(rb"-(nan|0(?![.\d]))", rb"\1", reply) if isinstance(reply, bytes) else reply


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@settings(max_examples=300)
@given(STATEMENTS)
def test_a_made_up_program_answers_as_in_the_original(statements: str) -> None:
    program = PROGRAM.format(statements)
    theirs, ours = both("EVAL", program, 0)
    assert same(without_signs(theirs), without_signs(ours)), program


ITEMS = st.sampled_from(
    ["%d", "%a", "%s", "%w", "%p", "%x", "%u", ".", "a", "b", "%.", "[abc]", "[^a]", "[%d_]", "[a-c]", " "]
)
PIECES = st.builds("{}{}".format, ITEMS, st.sampled_from(["", "", "*", "+", "-", "?"]))
CAPTURES = st.one_of(PIECES, PIECES.map("({})".format))
PATTERNS = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "^"]),
    st.lists(CAPTURES, min_size=1, max_size=5).map("".join),
    st.sampled_from(["", "$"]),
)


@settings(max_examples=300)
@given(st.text("aAbc19_ .,\n\x00é", max_size=12), PATTERNS, st.integers(-3, 6))
def test_a_made_up_pattern_finds_the_same_as_in_the_original(subject: str, pattern: str, start: int) -> None:
    program = """
      local out = {string.find(ARGV[1], ARGV[2], tonumber(ARGV[3]))}
      out[#out + 1] = '|'
      for x, y in string.gmatch(ARGV[1], ARGV[2]) do out[#out + 1] = tostring(x) .. ',' .. tostring(y) end
      local text, times = string.gsub(ARGV[1], ARGV[2], '<%0>')
      out[#out + 1], out[#out + 2] = text, times
      return out
    """
    theirs, ours = both("EVAL", program, 0, subject, pattern, str(start))
    assert same(theirs, ours)
