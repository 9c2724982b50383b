"""Try the installed codec without the rest of the package, which needs msgspec, which does not support Python 3.13t.

Runs the examples of its stub on the compiled codec, and fails where loading it switched a GIL on.
"""

from __future__ import annotations

import ast
import doctest
import sys
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

warnings.simplefilter("error")
package = find_spec("helix_fast")
assert package is not None, "helix_fast is not installed"
# The package without its __init__, which imports everything.
sys.modules["helix_fast"] = bare = ModuleType("helix_fast")
bare.__path__ = list(package.submodule_search_locations or ())
stub = Path(bare.__path__[0], "_codec.pyi")
codec = import_module("helix_fast._codec")
runner = doctest.DocTestRunner()
for node in ast.walk(ast.parse(stub.read_text("utf-8"))):
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        text = ast.get_docstring(node) or ""
        runner.run(doctest.DocTestParser().get_doctest(text, dict(vars(codec)), node.name, str(stub), node.lineno))
gil = getattr(sys, "_is_gil_enabled", lambda: None)()
result = runner.summarize()
sys.stdout.write(f"{result.attempted} examples, {result.failed} failed; GIL: {gil}\n")
sys.exit(bool(result.failed or not result.attempted or (gil and "free-threading" in sys.version)))
