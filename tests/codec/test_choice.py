"""The choice of the codec, compiled or plain, and that both have one surface."""

from __future__ import annotations

import ast
import doctest
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import helix_fast
from helix_fast import codec as chosen
from tests.codec.twins import PURE_ASKED_FOR, TWINS, on_each_twin

STUB = Path(helix_fast.__file__).with_name("_codec.pyi")


def stub_definitions() -> dict[str, list[str] | dict[str, list[str] | None] | None]:
    """Public names of the stub with their parameters, None for a value; a class has its methods' and attributes'."""

    def parameters(node: ast.FunctionDef) -> list[str]:
        return [
            argument.arg for argument in [*node.args.args, *node.args.kwonlyargs] if argument.arg not in ("self", "cls")
        ]

    def members(body: list[ast.stmt]) -> dict[str, list[str] | None]:
        found: dict[str, list[str] | None] = {}
        for node in body:
            if isinstance(node, ast.FunctionDef):
                found[node.name] = parameters(node)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found[node.target.id] = None
        return found

    body = ast.parse(STUB.read_text()).body
    classes = {
        node.name: members(node.body)
        for node in body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    }
    return {**members(body), **classes}


def run_python(code: str, *, says: str = "", **environment: str) -> str:
    """What the code prints; on stderr it says nothing, or something with ``says`` in it."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**{key: value for key, value in os.environ.items() if key != "HELIX_FAST_PURE"}, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert says in done.stderr
    assert bool(says) is bool(done.stderr), done.stderr
    return done.stdout.strip()


def test_compiled_codec_is_the_one_in_use() -> None:
    if PURE_ASKED_FOR:
        pytest.skip("HELIX_FAST_PURE=1 asks for plain Python")
    assert chosen.ACCELERATED, "the extension helix_fast._codec could not be loaded: run `make build`"
    assert chosen.BatchBuilder.__module__ == "helix_fast._codec"


SHOW = (
    "from helix_fast import codec; "
    "print(codec.ACCELERATED, codec.BatchBuilder.__module__, codec.frame_command.__module__)"
)


@pytest.mark.slow
def test_environment_forces_plain_python() -> None:
    assert run_python(SHOW, HELIX_FAST_PURE="1") == "False helix_fast.codec.plain.encode helix_fast.codec.plain.frame"


@pytest.mark.slow
def test_missing_extension_falls_back_to_plain_python_and_says_so() -> None:
    hide = "import sys; sys.modules['helix_fast._codec'] = None; "
    shown = run_python(hide + SHOW, says="the compiled codec is missing")
    assert shown == "False helix_fast.codec.plain.encode helix_fast.codec.plain.frame"


def test_codec_loads_no_client_no_event_loop() -> None:
    code = (
        "import sys, importlib.util as u; sys.modules['helix_fast'] = p = type(sys)('helix_fast'); "
        f"p.__path__ = [{str(STUB.parent)!r}]; import helix_fast.codec; "
        "print(sorted({'redis', 'asyncio', 'hiredis', 'socket', 'msgspec'} & set(sys.modules)))"
    )
    assert run_python(code) == "[]"


def test_codec_module_offers_every_name_of_the_stub() -> None:
    # The compiled reader parses pushes itself; the function is the oracle of that.
    assert set(chosen.__all__) | {"parse_push"} == {"ACCELERATED", *stub_definitions()}
    assert all(hasattr(chosen, name) for name in chosen.__all__)


def public_members(item: type) -> set[str]:
    """Names of the class, without the methods that a subclass must have."""

    def is_missing(value: object) -> bool:
        return "NotImplementedError" in getattr(getattr(value, "__code__", None), "co_names", ())

    return {name for name, value in vars(item).items() if not name.startswith("_") and not is_missing(value)}


def instance_attributes(item: type) -> set[str]:
    """What a plain class without slots sets in its __init__."""
    made = getattr(item.__init__, "__code__", None)
    return set() if made is None or hasattr(item, "__slots__") else set(made.co_names)


@on_each_twin
def test_each_twin_has_the_names_and_parameters_of_the_stub(codec) -> None:
    for name, expected in stub_definitions().items():
        item = getattr(codec, name)
        if expected is None:
            continue
        if isinstance(expected, list):
            assert list(inspect.signature(item).parameters) == expected
            continue
        declared = {method for method in expected if not method.startswith("_")}
        assert declared - instance_attributes(item) <= public_members(item) <= declared
        for method, parameters in expected.items():
            attribute = inspect.getattr_static(item, method, None)
            if parameters is not None and not method.startswith("__") and callable(attribute):
                assert [p for p in inspect.signature(attribute).parameters if p != "self"] == parameters


@on_each_twin
def test_examples_of_the_stub_are_true(codec) -> None:
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner()
    ran = 0
    for node in ast.walk(ast.parse(STUB.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            test = parser.get_doctest(
                ast.get_docstring(node) or "", dict(vars(codec)), node.name, str(STUB), node.lineno
            )
            ran += runner.run(test).attempted
    assert ran >= 22
    assert runner.summarize(verbose=False).failed == 0


@on_each_twin
@pytest.mark.parametrize("name", ["ChunkEncoder", "BatchBuilder", "AppendFramer", "Sequencer", "Window"])
def test_objects_take_no_attributes_from_outside(codec, name) -> None:
    arguments = {"ChunkEncoder": ("a",), "AppendFramer": (b"k", b"c")}.get(name, ())
    made = getattr(codec, name)(*arguments)
    with pytest.raises(AttributeError):
        made.stray = 1
    for attribute in ("count", "size", "last"):
        with pytest.raises(AttributeError):
            setattr(made, attribute, 1)


def test_both_twins_are_under_test() -> None:
    assert len(TWINS) == (1 if PURE_ASKED_FOR else 2)
