#!/usr/bin/env python3
"""Writes the blocking classes of helix_fast.sync from the async ones: same names, signatures and docstrings.

.ci/make_sync.py            writes src/helix_fast/sync/{agents,connect,context,locks,state,streams,usage}.py
.ci/make_sync.py --check    writes nothing; fails where a file is not what it would write

Each public method of a class below becomes one that runs the async one on the background loop. What cannot be made by
that rule is written by hand, in the base classes that are named here.
"""

from __future__ import annotations

import ast
import difflib
import re
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGE: Final = ROOT / "src" / "helix_fast"


@dataclass
class Made:
    """A class to be made.

    Attributes:
        source: module of the async class, below helix_fast.
        bases: of the blocking class; ``module:Name``, below helix_fast.sync.
        by_hand: members that the bases have.
        inherits: async base classes whose public methods count as well; ``module:Name``.
        without: parameters that make no sense in a thread, with the default value that takes their place.
        made: whether users make it themselves, so that it needs ``__init__``.
        attributes: the annotations of attributes that the source does not annotate.
    """

    source: str
    name: str
    bases: tuple[str, ...] = ()
    by_hand: frozenset[str] = frozenset()
    inherits: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    made: bool = False


STORE: Final = frozenset({"on", "key_prefix"})
MODULES: Final[dict[str, list[Made]]] = {
    "state": [Made("state.store", "RedisStateStore", ("base:BlockingStore",), STORE, made=True)],
    "streams": [
        Made(
            "streams.writer",
            "StreamWriter",
            ("writing:Writing",),
            frozenset({"stop_requested", "send_text", "until_stopped"}),
        ),
        Made(
            "streams.reader",
            "StreamReader",
            ("reading:ReadingChunks",),
            frozenset({"position", "close"}),
            ("streams.reader:_Reader",),
        ),
        Made(
            "streams.reader",
            "ResumableReader",
            ("reading:ReadingStored",),
            frozenset({"position", "close", "read_batch"}),
            ("streams.reader:_Reader",),
        ),
        Made("streams.manager", "RedisStreamManager", ("base:BlockingStore",), STORE, made=True),
        Made("streams.storage", "RedisResumableStorage", ("base:BlockingStore",), STORE, made=True),
    ],
    "usage": [
        Made("usage.recorder", "UsageRecorder", ("recording:Recording",), frozenset({"abandon"})),
        Made("usage.store", "RedisUsageStore", ("base:BlockingStore",), STORE, made=True),
    ],
    "locks": [
        Made("locks.lock", "Lock", ("locking:Holding",), frozenset({"fencing_token", "lost", "held", "remaining_ms"})),
        Made(
            "locks.manager", "RedisLockManager", ("base:BlockingStore",), STORE, without=("cancel_on_lost",), made=True
        ),
    ],
    "context": [Made("agents.context", "RunContext", ("stepping:Running",), frozenset({"stop_requested", "now"}))],
    "agents": [
        Made("agents.handle", "RunHandle", ("running:Handling",)),
        Made("agents.executor", "AgentExecutor", ("running:Executing",), frozenset({"on", "lifespan"}), made=True),
    ],
}
SPECIAL: Final = {  # bodies that the rule does not give; the parameters are the method's
    "RedisLockManager.hold": "return Hold._of(call(lambda: self._async.hold({arguments})), Lock)",
    "RedisResumableStorage.subscribe": "return Subscription(self._async, stream_id, callback, from_sequence)",
}
ARGUMENTS: Final = {
    "RedisLockManager.hold": {"on_lost": "told(on_lost, Lock)"},
    "StreamWriter.write_many": {"chunks": "listed(chunks)"},
    "RedisUsageStore.record_entries": {"entries": "listed(entries)"},
    "AgentExecutor.__init__": {"lock_manager": "lock_manager", "usage_store": "usage_store"},
}
RETURNS: Final = {"RedisResumableStorage.subscribe": "Subscription", "RedisLockManager.hold": "Hold[Lock]"}
"""Return types that are of another name than the async ones."""
TYPES: Final = {
    "Stores": "Helix",
    "StateStore": "RedisStateStore",
    "StreamManager": "RedisStreamManager",
    "LockManager": "RedisLockManager",
    "UsageStore": "RedisUsageStore",
}
"""The blocking class in place of a Protocol."""
NAMES: Final = {
    "Hold": "locking",
    "told": "locking",
    "Subscription": "subscription",
    "listed": "base",
    "call": "loop",
    "run": "loop",
}
"""What is written by hand, by its module."""

WIDTH: Final = 120
WORDS: Final = [  # of docstrings, in this order
    (r"\basync with\b", "with"),
    (r"\basync for\b", "for"),
    (r"\bawait (?=[\w(])", ""),
    (r"\b([Aa])n async context manager\b", r"\1 context manager"),
    (r", until it ends: an async iterator, no ``await``\.", ", until it ends."),
    (r"\b([Aa])n async iterator\b", r"\1n iterator"),
    (r"its calls cancelled", "its calls interrupted"),
    (r"\b[Aa]n ``asyncio\.Event``", "A ``Flag``"),
    (r"``asyncio\.Event``", "``Flag``"),
    (r", on any event loop\b", ", in any thread"),
    (r"\bthe running event loop\b", "the background event loop"),
    (r"\b(?:another|a) task (?=waits|iterates)", "another thread "),
    (r"\bOne task at a time\b", "One thread at a time"),
    (r"in the same turn of the event loop", "in the same turn of the background event loop"),
    (r"\bredis\.asyncio`` client", "redis.asyncio`` client"),
    (r"A cancelled write may", "A write that KeyboardInterrupt ended may"),
    (
        r"called with the lock by the event loop, as soon",
        "called with the lock on the background event loop, where it must be quick, as soon",
    ),
    (r"\n +cancel_on_lost: [^\n]*", ""),
    (r"; with ``cancel_on_lost``, instead\n +of the cancellation", ""),
    (r"also when the body raises or is cancelled", "also when the body raises"),
    (r"; it may be a coroutine function", ", in a thread of the subscription"),
    (
        r"A callable that ends the subscription; its result may be awaited\.",
        "A Subscription: calling it ends the subscription and waits until no callback runs;\n"
        "    ``wait()`` waits for the end of the stream.",
    ),
    (r"\b([Aa])n ``with``", r"\1 ``with``"),
    (r"from ``with`` or ``await``", "from ``with``, or the first use"),
    (r"helix_fast import", "helix_fast.sync import"),
]


class Source:
    """A module of the async side: its classes, and where the names that it uses come from."""

    def __init__(self, name: str) -> None:
        self.name = f"helix_fast.{name}"
        self.path = PACKAGE.joinpath(*name.split(".")).with_suffix(".py")
        self.code = self.path.read_text("utf-8")
        self.tree = ast.parse(self.code)
        self.imports: dict[str, tuple[str, str | None]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self.imports[alias.asname or alias.name.split(".")[0]] = (alias.name, None)
            elif isinstance(node, ast.ImportFrom):
                base = self.name.split(".")[: -node.level] if node.level else []
                module = ".".join([*base, *filter(None, [node.module])])
                for alias in node.names:
                    self.imports[alias.asname or alias.name] = (module, alias.name)
        for node in self.tree.body:  # what the module defines itself
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                self.imports[node.name] = (self.name, node.name)
            targets = (
                node.targets
                if isinstance(node, ast.Assign)
                else [node.target]
                if isinstance(node, ast.AnnAssign)
                else []
            )
            for target in targets:
                if isinstance(target, ast.Name):
                    self.imports[target.id] = (self.name, target.id)

    def find(self, name: str) -> ast.ClassDef | ast.FunctionDef:
        """A class or function of the module."""
        for node in self.tree.body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
                return node
        raise SystemExit(f"{self.path} has no {name}")


class Blocked(ast.NodeTransformer):
    """Puts the blocking class in place of a Protocol."""

    def visit_Name(self, node: ast.Name) -> ast.Name:
        """The name that takes its place."""
        return ast.Name(TYPES.get(node.id, node.id), node.ctx)


@dataclass
class Module:
    """A module that is being made."""

    name: str
    lines: list[str] = field(default_factory=list)
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)

    def use(self, source: Source, node: ast.AST | None) -> str:
        """The text of an annotation or default value; its names are imported."""
        if node is None:
            return ""
        node = Blocked().visit(deepcopy(node))
        for each in ast.walk(node):
            if isinstance(each, ast.Name) and each.id in source.imports:
                self.need(each.id, source.imports[each.id])
            elif isinstance(each, ast.Name) and each.id in BLOCKING:
                self.need(each.id)
        return ast.unparse(node)

    def need(self, name: str, origin: tuple[str, str | None] | None = None) -> None:
        """Import a name; that of a blocking class instead of the async one's."""
        if name in NAMES:
            origin = (f".{NAMES[name]}", name)
        elif name in BLOCKING:
            if BLOCKING[name] == self.name:
                return
            origin = (f".{BLOCKING[name]}", name)
        if origin is not None:
            self.imports[name] = origin

    def text(self, doc: str) -> str:
        """The whole module."""
        plain = [f"import {name}" for name, (module, what) in self.imports.items() if what is None and name == module]
        imported: dict[str, list[str]] = {}
        for name, (module, what) in self.imports.items():
            if what is not None:
                imported.setdefault(module, []).append(what if what == name else f"{what} as {name}")
        typed = imported.pop("typing_extensions", [])  # not there at run time
        found = [f"from {module} import {', '.join(sorted(names))}" for module, names in imported.items()]
        if typed:
            self.imports["TYPE_CHECKING"] = ("typing", "TYPE_CHECKING")
            found += ["from typing import TYPE_CHECKING", "", "if TYPE_CHECKING:"]
            found += [f"    from typing_extensions import {', '.join(sorted(typed))}"]
        return "\n".join(
            [f'"""{doc}"""', "", "from __future__ import annotations", "", *plain, *found, "", *self.lines, ""]
        )


BLOCKING: Final = {made.name: module for module, classes in MODULES.items() for made in classes} | {"Helix": "helix"}
_sources: dict[str, Source] = {}


def source_of(name: str) -> Source:
    """A module of the async side, read once."""
    return _sources.setdefault(name, Source(name))


def blocking(doc: str | None) -> str:
    """A docstring in the words of the blocking form."""
    text = doc or ""
    for old, new in WORDS:
        text = re.sub(old, new, text)
    return text


def docstring(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, indent: str) -> list[str]:
    """The docstring of a class or method, as lines."""
    text = blocking(ast.get_docstring(node))
    if not text:
        return []
    if "\n" not in text and len(text) + len(indent) + 6 <= WIDTH:
        return [f'{indent}"""{text}"""']
    lines = wrapped(f'"""{text}', WIDTH - len(indent))
    return [*(f"{indent}{line}".rstrip() for line in lines), f'{indent}"""']


def wrapped(text: str, width: int) -> list[str]:
    """The lines. What makes one too wide goes over to the next line of the same paragraph or item."""
    lines: list[str] = []
    over = ""
    for line in [*text.splitlines(), ""]:
        indent = len(line) - len(line.lstrip())
        if over:
            before = len(lines[-1]) - len(lines[-1].lstrip())
            hang = before if before in {0, 8} else before + 4
            if line.strip() and indent == hang:
                line = f"{' ' * indent}{over} {line.strip()}"
            else:
                lines.append(" " * hang + over)
            over = ""
        if len(line) > width:
            cut = line.rindex(" ", 0, width + 1)
            line, over = line[:cut], line[cut + 1 :]
        lines.append(line)
    return lines[:-1]


def members(made: Made) -> Iterator[tuple[Source, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """The public methods and properties, each of the class that has it first."""
    seen = set(made.by_hand)
    for place in (f"{made.source}:{made.name}", *made.inherits):
        module, _, name = place.partition(":")
        source = source_of(module)
        for node in source.find(name).body:
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or node.name in seen:
                continue
            if not node.name.startswith("_"):
                seen.add(node.name)
                yield source, node


def make_class(module: Module, made: Made) -> None:
    """Add a blocking class to a module."""
    source = source_of(made.source)
    node = source.find(made.name)
    assert isinstance(node, ast.ClassDef)
    module.imports[f"_{made.source.split('.')[-1]}"] = (source.name.rpartition(".")[0], source.name.rpartition(".")[2])
    wrapped_class = f"_{made.source.split('.')[-1]}.{made.name}"
    bases = []
    for base in made.bases:
        where, _, name = base.partition(":")
        module.imports[name] = (f".{where}", name)
        bases.append(f'{name}["{wrapped_class}"]' if where == "base" else name)
    module.lines += ["", "", f"class {made.name}({', '.join(bases)}):", *docstring(node, "    "), ""]
    begin = len(module.lines)
    inits = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
    init = inits[-1] if inits else None  # after its overloads
    if made.made and init is not None:
        for overload in inits[:-1]:
            module.need("overload", ("typing", "overload"))
            signature, _ = parameters(module, source, made, overload)
            module.lines += ["    @overload", f"    def __init__({signature}) -> None: ..."]
        signature, arguments = parameters(module, source, made, init)
        over = f"self._async = {wrapped_class}" if "BlockingStore" in str(made.bases) else "super().__init__"
        module.lines += [f"    def __init__({signature}) -> None:", f"        {over}({arguments})", ""]
    if init is not None:
        make_attributes(module, source, made, init)
    for origin, member in members(made):
        make_member(module, origin, made, member)
    if len(module.lines) == begin:
        module.lines += ["    _async: " + wrapped_class]


def make_attributes(module: Module, source: Source, made: Made, init: ast.FunctionDef) -> None:
    """The public attributes that ``__init__`` sets, as properties."""
    annotations = {one.arg: one.annotation for one in (*init.args.args, *init.args.kwonlyargs)}
    for node in ast.walk(init):
        target = (
            node.target
            if isinstance(node, ast.AnnAssign)
            else node.targets[0]
            if isinstance(node, ast.Assign)
            else None
        )
        if not (isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self"):
            continue
        name = target.attr
        annotation = node.annotation if isinstance(node, ast.AnnAssign) else annotations.get(name)
        if name.startswith("_") or name in made.by_hand or annotation is None or name in {"record", "operation"}:
            continue
        module.lines += [
            "    @property", f"    def {name}(self) -> {module.use(source, annotation)}:",
            f'        """{about(source.find(made.name), name)}"""', f"        return self._async.{name}", "",
        ]  # fmt: skip


def about(node: ast.ClassDef | ast.FunctionDef, attribute: str) -> str:
    """What the class says of an attribute, in a line."""
    for line in (ast.get_docstring(node) or "").splitlines():
        names, colon, text = line.strip().partition(": ")
        if colon and attribute in names.split(", ") and text.endswith("."):
            return text[0].upper() + text[1:]
    return f"``{attribute}``, see the class."


def parameters(
    module: Module, source: Source, made: Made, node: ast.FunctionDef | ast.AsyncFunctionDef
) -> tuple[str, str]:
    """The signature, and the arguments with which the async method is called."""
    args = node.args
    given = ARGUMENTS.get(f"{made.name}.{node.name}", {})

    def one(arg: ast.arg, default: ast.expr | None) -> str:
        text = arg.arg
        if arg.annotation is not None and arg.arg != "self":
            text += f": {module.use(source, arg.annotation)}"
        if default is None:
            return text
        module.use(source, default)
        return f"{text} = {ast.get_source_segment(source.code, default)}"

    def value(arg: ast.arg) -> str:
        if arg.arg in given:
            module.need(given[arg.arg].partition("(")[0])
            return given[arg.arg]
        names = (
            {TYPES.get(each.id, each.id) for each in ast.walk(arg.annotation) if isinstance(each, ast.Name)}
            if arg.annotation
            else set()
        )
        if names & BLOCKING.keys():
            return f"None if {arg.arg} is None else {arg.arg}._async"
        return arg.arg

    positional = [*args.posonlyargs, *args.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
    signature = [one(arg, default) for arg, default in zip(positional, defaults, strict=True)]
    if args.posonlyargs:
        signature.insert(len(args.posonlyargs), "/")
    arguments = [value(arg) for arg in positional if arg.arg != "self"]
    keywords = [(a, d) for a, d in zip(args.kwonlyargs, args.kw_defaults, strict=True) if a.arg not in made.without]
    if args.vararg:
        signature.append("*" + one(args.vararg, None))
        arguments.append("*" + args.vararg.arg)
    elif keywords:
        signature.append("*")
    signature += [one(arg, default) for arg, default in keywords]
    arguments += [f"{arg.arg}={value(arg)}" for arg, _ in keywords]
    if args.kwarg:
        signature.append("**" + one(args.kwarg, None))
        arguments.append("**" + args.kwarg.arg)
    return ", ".join(signature), ", ".join(arguments)


def make_member(module: Module, source: Source, made: Made, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    """Add a method or property."""
    key = f"{made.name}.{node.name}"
    is_property = any(isinstance(each, ast.Name) and each.id == "property" for each in node.decorator_list)
    signature, arguments = parameters(module, source, made, node)
    returns = RETURNS.get(key) or module.use(source, node.returns)
    call = f"self._async.{node.name}({arguments})"
    names = {each.id for each in ast.walk(node.returns) if isinstance(each, ast.Name)} if node.returns else set()
    made_of = sorted(names & (BLOCKING.keys() | {"Hold"}))
    if key in RETURNS:
        module.need(returns.partition("[")[0])
    if key in SPECIAL:
        body = SPECIAL[key].format(arguments=arguments)
        for name in ("call", "run"):
            if f"{name}(" in body:
                module.need(name)
    elif is_property:
        body = f"return self._async.{node.name}"
    else:
        runner = "run" if isinstance(node, ast.AsyncFunctionDef) else "call"
        module.need(runner)
        body = f"run({call})" if runner == "run" else f"call(lambda: {call})"
        if made_of:
            over = "_over_any" if "None" in returns else "_over"
            body = f"{made_of[0]}.{over}({body})"
        if returns != "None":
            body = f"return {body}"
    module.lines += ["    @property"] if is_property else []
    module.lines += [
        f"    def {node.name}({signature}) -> {returns}:",
        *docstring(node, "        "),
        f"        {body}",
        "",
    ]


def make_connect(module: Module) -> None:
    """The function ``connect``."""
    source = source_of("connect")
    node = source.find("connect")
    assert isinstance(node, ast.FunctionDef)
    module.imports["_connect"] = ("helix_fast", "connect")
    signature, arguments = parameters(module, source, Made("connect", "connect"), node)
    module.need("Helix")
    first = blocking(ast.get_docstring(node)).replace(
        "``helix = connect(url)`` and ``helix.close()``",
        "``helix = connect(url)``, which connects with its first use, and ``helix.close()``",
    )
    lines = wrapped(f'"""{first}', WIDTH - 4)
    module.lines += [
        "", "", f"def connect({signature}) -> Helix:", *(f"    {line}".rstrip() for line in lines), '    """',
        f"    return Helix(lambda: _connect({arguments}), url)", "",
    ]  # fmt: skip


def make(name: str) -> str:
    """The text of a module."""
    module = Module(name)
    if name == "connect":
        make_connect(module)
        origin = "helix_fast.connect"
    else:
        for made in MODULES[name]:
            make_class(module, made)
        origin = f"helix_fast.{MODULES[name][0].source.partition('.')[0]}"
    text = module.text(f"One file: written by .ci/make_sync.py from {origin}. Edit that, and run it.")
    path = str(PACKAGE / "sync" / f"{name}.py")
    ruff = [sys.executable, "-m", "ruff"]
    for command in (
        ["check", "--select=I,F401,PLW0108,TC,UP037", "--fix-only", "--unsafe-fixes", "-q"],
        ["format", "-q"],
    ):
        done = subprocess.run(
            [*ruff, *command, "--stdin-filename", path, "-"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        if done.returncode:
            sys.exit(f"{name}: {done.stderr}\n{text}")
        text = done.stdout
    return text


def main() -> None:
    """Write the modules, or compare them."""
    check = "--check" in sys.argv[1:]
    stale = []
    for name in (*MODULES, "connect"):
        path = PACKAGE / "sync" / f"{name}.py"
        text = make(name)
        old = path.read_text("utf-8") if path.exists() else ""
        if old == text:
            continue
        if check:
            stale.append(path.relative_to(ROOT))
            sys.stderr.writelines(
                difflib.unified_diff(old.splitlines(True), text.splitlines(True), str(path), "as made")
            )
        else:
            path.write_text(text, "utf-8")
    if stale:
        sys.exit(f"not what the async classes give: {', '.join(map(str, stale))}; run .ci/make_sync.py")


if __name__ == "__main__":
    main()
