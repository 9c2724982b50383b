"""The command line, `helix-fast`: one file a command. The library imports nothing from here."""

from __future__ import annotations

import sys

MISSING = "helix-fast: the command line needs typer and rich: pip install 'helix-fast[cli]'"


def main() -> None:
    """Run the command that ``sys.argv`` names, and exit with its code."""
    try:
        try:
            import rich  # noqa: F401
            import typer  # noqa: F401
        except ImportError:
            sys.stderr.write(MISSING + "\n")
            sys.exit(2)
        from .app import app
        from .output import print_what_can_be_encoded

        print_what_can_be_encoded()
        app(prog_name="helix-fast")
    except KeyboardInterrupt:
        # Ctrl-C during the imports; a running command handles it in `run`.
        sys.exit(130)
