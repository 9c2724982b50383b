"""Every link of the documentation leads somewhere, every page is two clicks from home, and numbers agree."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
OURS = "https://github.com/helix-fast/helix-fast/blob/main/"
TEXTS = [*PAGES, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"))]


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def links_of(text: str) -> set[str]:
    """Targets of inline links, and of those that are defined at the end of a page."""
    text = without_code(text)
    return {
        *re.findall(r"\]\(([^)\s]+)\)", text),
        *(target for target, _title in definitions_of(text)),
    }


def definitions_of(text: str) -> list[tuple[str, str]]:
    """Target and title of each link that is defined on a line of its own."""
    return re.findall(r'^\[[^\]]+\]: (\S+)(?: "(.+)")?$', without_code(text), re.MULTILINE)


def names_of_tests(file: Path) -> set[str]:
    return set(re.findall(r"def (test_\w+)", file.read_text("utf-8")))


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as Python-Markdown and GitHub make them, and those that it names itself."""
    text = without_code(page.read_text("utf-8"))
    found = set(re.findall(r'(?:id="|\{ *#)([\w.-]+)', text))
    for heading in re.findall(r"^#+ (.+?)(?: \{.*\})?$", text, re.MULTILINE):
        plain = re.sub(r"[^\w\s-]", "", heading.strip().lower())
        found |= {re.sub(r"[\s-]+", "-", plain), re.sub(r"\s", "-", plain)}
    return found


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_links_of_a_page_lead_to_files_and_headings_that_exist(page: Path) -> None:
    wrong = []
    for link in links_of(page.read_text("utf-8")):
        path, _, anchor = link.partition("#")
        if path.startswith(OURS):
            target = ROOT / path.removeprefix(OURS)
        elif ":" in path:
            continue  # of others; their pages are not ours to test
        else:
            target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors_of(target)):
            wrong.append(link)
    assert wrong == []


def test_a_claim_that_links_to_tests_names_tests_that_are_in_the_file() -> None:
    """The title of such a link has the names: a browser shows it under the pointer."""
    wrong, named = [], 0
    for page in TEXTS:
        for target, title in definitions_of(page.read_text("utf-8")):
            file = ROOT / target.removeprefix(OURS)
            if file.suffix == ".py" and ("tests/" in target or "/contract/" in target):
                named += 1
                wrong += [(page.name, name) for name in title.split() or [target] if name not in names_of_tests(file)]
    assert wrong == []
    assert named > 20


def test_every_test_that_a_page_names_exists() -> None:
    files = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "src" / "helix_fast" / "testing").rglob("*.py")]
    known = {file.name for file in files}.union(*map(names_of_tests, files))
    known |= {file.stem for file in files}
    wrong = [
        (page.name, name)
        for page in TEXTS
        for name in re.findall(r"\btest_\w+(?:\.py)?", without_code(page.read_text("utf-8")))
        if name not in known
    ]
    assert wrong == []


def test_every_page_is_two_clicks_from_home() -> None:
    """By the links in the texts alone: who searches on a phone sees no navigation."""
    beside = {
        page: {(page.parent / link.partition("#")[0]).resolve() for link in links_of(page.read_text("utf-8"))}
        & {*PAGES}
        for page in PAGES
    }
    first = beside[DOCS / "index.md"]
    second = first.union(*(beside[page] for page in first & {*PAGES}))
    assert {*PAGES} - second - {DOCS / "index.md"} == set()


def test_every_page_is_in_the_navigation_once() -> None:
    nav = (ROOT / "mkdocs.yml").read_text("utf-8").split("\nnav:\n")[1]
    assert sorted(re.findall(r"([\w/-]+\.md)$", nav, re.MULTILINE)) == sorted(str(p.relative_to(DOCS)) for p in PAGES)


def test_front_page_and_performance_page_are_of_one_run() -> None:
    page = (DOCS / "performance.md").read_text("utf-8")
    readme = (ROOT / "README.md").read_text("utf-8")
    chart = (DOCS / "images" / "throughput.svg").read_text("utf-8")
    numbers = re.findall(r"!\[Chunks stored per second: (.*?)\]", readme)[0]
    for name, rate in re.findall(r"([\w -]+?) ([\d,]+)(?:; |$)", numbers):
        assert f">{rate}" in chart, name
        assert f"| {rate} |" in page, name


@pytest.mark.parametrize("source", sorted((DOCS / "images").glob("*.mmd")), ids=lambda path: path.stem)
def test_a_diagram_is_drawn_from_its_source_and_shown(source: Path) -> None:
    """`.ci/diagrams` draws them: pages show them without a script, and without a network."""
    image = source.with_suffix(".svg").read_text("utf-8")
    assert image.endswith(f"<!-- source: {hashlib.sha256(source.read_bytes()).hexdigest()} -->\n")
    assert "<script" not in image
    assert any(f"(images/{source.stem}.svg)" in page.read_text("utf-8") for page in PAGES)


def test_pages_fetch_nothing_from_elsewhere() -> None:
    settings = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert "font: false" in settings
    assert not re.findall(r"extra_(?:javascript|css):.*https?:", settings)
    for page in PAGES:
        assert not re.findall(
            r"!\[[^\]]*\]\(https?:|<(?:img|script|iframe)\b", without_code(page.read_text("utf-8"))
        ), page
