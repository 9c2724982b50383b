"""What `helix-fast doctor` finds, and how it is shown."""

from __future__ import annotations

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .output import counted, printable

STYLES = {"ok": "green", "warning": "yellow", "error": "bold red"}


class Finding(msgspec.Struct):
    """The result of one check.

    Attributes:
        name: of the check, in a word or two.
        level: ``ok``, ``warning`` (works, but not as well, or not in every case) or ``error`` (does not work).
        detail: what was found.
        hint: what to do about it; empty if nothing.
        see: the address of the documentation's section about the error; empty if there was none.
    """

    name: str
    level: str
    detail: str
    hint: str = ""
    see: str = ""


def show(findings: list[Finding]) -> None:
    """Print the findings as a table, and how many need attention."""
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        text = Text(printable(finding.detail))
        if finding.hint:
            text.append(f"\n→ {printable(finding.hint)}", "italic")
        if finding.see:
            text.append(f"\n→ {printable(finding.see)}", "dim")
        table.add_row(Text(printable(finding.name)), Text(finding.level, STYLES[finding.level]), text)
    console = Console()
    console.print(table)
    errors, warnings = (sum(finding.level == level for finding in findings) for level in ("error", "warning"))
    console.print(f"{counted(errors, 'error')}, {counted(warnings, 'warning')}")
