"""Griffe extension of the documentation: turns the sections of our docstrings into Markdown lists.

Griffe's own reader of these sections wants one name and a colon in each line, and drops what it cannot read, such as
"InvalidIdError, StoreConnectionError.". Nothing is dropped here.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

SECTION = re.compile(r"^(Args|Attributes|Returns|Raises)(,[^:]*)?:$")
# What begins an item: names before a colon, or errors. Any other line goes on with the item before it.
ITEM = re.compile(r"^(?:\*{0,2}\w+(?:, \*{0,2}\w+)*:|\w+Error\b)")
NAMES = re.compile(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*):")
ERROR = re.compile(r"(?<![`\w])(\w+Error)\b(?!`)")
# Base classes by which a class is data.
STRUCT = re.compile(r"\b(Struct|NamedTuple|Chunk|Usage|_Part)\b")
FACTORY = re.compile(r"msgspec\.field\(default_factory=(\w+)\)")
ROLE = re.compile(r":\w+:(?=`)")


def as_markdown(docstring: str) -> str:
    """The docstring with each section as a heading in bold and a list."""
    lines: list[str] = []
    title = ""
    for line in ROLE.sub("", docstring).splitlines():
        section = SECTION.match(line)
        if section:
            title = section[1]
            lines += ["", f"**{line[:-1]}**", ""]
        elif title and line.startswith("    "):
            lines.append(item(line.strip(), first=not lines[-1], plain=title == "Returns"))
        elif line.strip():
            title = ""
            lines.append(line)
        else:
            lines.append("")
    return "\n".join(lines).strip()


def item(text: str, *, first: bool, plain: bool) -> str:
    """One line of a section: the begin of an item of its list, or more of one."""
    begins = first or (not plain and ITEM.match(text) is not None)
    if not plain:
        text = NAMES.sub(lambda found: ", ".join(f"`{name}`" for name in found[1].split(", ")) + ":", text)
        text = ERROR.sub(r"`\1`", text)
    return text if plain else f"- {text}" if begins else f"  {text}"


def fields(cls: griffe.Class) -> str:
    """The fields of a struct or named tuple with their types and defaults, as a block of code."""
    lines = []
    for name, member in cls.members.items():
        if isinstance(member, griffe.Attribute) and member.annotation is not None and not name.startswith("_"):
            default = "" if member.value is None else " = " + FACTORY.sub(r"\1()", str(member.value))
            lines.append(f"{name}: {member.annotation}{default}")
    return "\n".join(["**Fields**", "", "```python", *lines, "```"]) if lines else ""


class PlainDocstrings(griffe.Extension):
    """Rewrites every docstring as it is loaded, and lists the fields of structs, which griffe leaves out."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Called for each class when its members are known."""
        if cls.docstring is not None and STRUCT.search(" ".join(map(str, cls.bases))):
            cls.docstring.value = f"{cls.docstring.value}\n\n{fields(cls)}".strip()
