"""Builds the one extension, `helix_fast._codec`, and the page for the index; everything else stands in pyproject.toml.

Environment:
    HELIX_FAST_NO_EXTENSION=1        leave the extension out: plain Python only.
    HELIX_FAST_REQUIRE_EXTENSION=1   fail where it does not compile (release wheels), instead of going on without it.
    HELIX_FAST_SANITIZE=address,undefined   build with these sanitizers, for tests.
    HELIX_FAST_COVERAGE=1            count the lines that run, for coverage of the codec: slow.
    HELIX_FAST_DEBUG=1               keep symbols and debug information, for profilers and debuggers.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

SOURCE = "src/helix_fast/_codec.pyx"
ROOT = Path(__file__).resolve().parent
WITHOUT_EXTENSION = """
********************************************************************************
helix-fast: the compiled codec could not be built (%s).
helix-fast is installed WITHOUT it: the plain Python codec does the same, slower.
A C compiler and the Python headers (gcc, python3-dev) are what is needed.
********************************************************************************
"""


def asked(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


COVERAGE = asked("HELIX_FAST_COVERAGE")
MAY_BE_MISSING = not (asked("HELIX_FAST_REQUIRE_EXTENSION") or os.environ.get("HELIX_FAST_SANITIZE"))


def codec_extension() -> Extension:
    compile_args = ["/O2"] if sys.platform == "win32" else ["-O2"]
    link_args: list[str] = []
    sanitizers = os.environ.get("HELIX_FAST_SANITIZE")
    if sanitizers:
        # -O1 keeps the stack of a report readable.
        compile_args = [f"-fsanitize={sanitizers}", "-fno-omit-frame-pointer", "-g", "-O1"]
        link_args = [f"-fsanitize={sanitizers}"]
    elif sys.platform != "win32" and not (COVERAGE or asked("HELIX_FAST_DEBUG")):
        # Python's own flags ask for debug information, which is six times the size of the code.
        # Nothing unwinds the extension's stack either. What -O3 and -finline-functions add is a sixth, and no faster.
        compile_args += ["-g0", "-fno-asynchronous-unwind-tables", "-fvisibility=hidden", "-fno-inline-functions"]
        if sys.platform == "linux":
            compile_args += ["-ffunction-sections", "-fdata-sections", "--param=max-inline-insns-single=30"]
            compile_args += [f"-falign-{what}=1" for what in ("functions", "jumps", "labels", "loops")]
            link_args += ["-Wl,--strip-all", "-Wl,--gc-sections", "-Wl,-z,noseparate-code", "-Wl,--hash-style=gnu"]
    return Extension(
        "helix_fast._codec",
        [SOURCE],
        define_macros=[("CYTHON_TRACE_NOGIL", "1")] if COVERAGE else [],
        extra_compile_args=compile_args,
        extra_link_args=link_args,
    )


class BuildCodec(build_ext):
    """`build_ext` that goes on in plain Python where no compiler works, and says so."""

    def finalize_options(self) -> None:
        # Here, not at import: commands that only ask for metadata need no translation of the source.
        from Cython.Build import cythonize

        self.distribution.ext_modules = cythonize(
            self.distribution.ext_modules,
            include_path=["src"],
            # Coverage looks for the translated source beside the extension.
            build_dir=None if COVERAGE else "build/cython",
            force=COVERAGE,
            compiler_directives={
                "language_level": 3,
                "freethreading_compatible": True,
                "boundscheck": False,
                "wraparound": False,
                "initializedcheck": False,
                "embedsignature": True,
                "linetrace": COVERAGE,
            },
        )
        for extension in self.distribution.ext_modules:
            extension.optional = MAY_BE_MISSING  # cythonize forgets it
        super().finalize_options()

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except Exception as error:
            if not ext.optional:
                raise
            # A library of an older build would be loaded in place of what was asked for.
            Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)
            sys.stderr.write(WITHOUT_EXTENSION % error)


class BuildPackage(build_py):
    """`build_py` that leaves the comments out of scripts: two fifths of what goes to a server with them."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for path in Path(self.build_lib).rglob("*.lua"):
                path.write_text(without_comments(path.read_text("utf-8")), "utf-8")


def without_comments(script: str) -> str:
    """A script without the lines that are comments. They stay as empty lines: an error's line is that of the source."""
    return re.sub(r"^[ \t]*--(?! include ).*$", "", script, flags=re.MULTILINE)


def page() -> str:
    """The README for the index, which has no files beside it: links and pictures get this version's full addresses."""
    settings = (ROOT / "pyproject.toml").read_text("utf-8")
    version = re.findall(r'^version = "(.+)"$', settings, re.MULTILINE)[0]
    files = f"https://github.com/helix-fast/helix-fast/blob/v{version}/"
    pictures = f"https://raw.githubusercontent.com/helix-fast/helix-fast/v{version}/"
    text = (ROOT / "README.md").read_text("utf-8")
    text = re.sub(r"(!\[[^\]]*\]\()(?!https?:)([^)]+)", rf"\1{pictures}\2?sanitize=true", text)
    return re.sub(r"(\]\(|^\[[^\]]+\]: )(?!https?:|#)", rf"\1{files}", text, flags=re.MULTILINE)


wanted = (ROOT / SOURCE).exists() and not asked("HELIX_FAST_NO_EXTENSION")
setup(
    ext_modules=[codec_extension()] if wanted else [],
    cmdclass={"build_ext": BuildCodec, "build_py": BuildPackage},
    long_description=page(),
    long_description_content_type="text/markdown",
)
