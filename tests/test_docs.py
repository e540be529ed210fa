"""Every example in docstrings, in the README and in docs/ runs and gives what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import oxon as ox
import pytest
from oxon import _core, nn, optim

# What the examples take as imported.
GLOBALS = {"ox": ox, "nn": nn, "optim": optim, "F": nn.functional}
ROOT = Path(__file__).parents[1]
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
MODULES = [
    "oxon",
    *(m.name for m in pkgutil.walk_packages(ox.__path__, "oxon.") if not m.name.endswith("_core")),
]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ox.manual_seed(0)
    result = doctest.testmod(importlib.import_module(name), optionflags=OPTIONS, extraglobs=GLOBALS)
    assert result.failed == 0


def test_docstrings_of_the_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    finder = doctest.DocTestFinder(recurse=False)
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    for owner in (_core, _core.Tensor):
        for name in dir(owner):
            if not name.startswith("_"):
                for test in finder.find(getattr(owner, name), name, module=False, globs=dict(GLOBALS)):
                    runner.run(test)
    assert runner.failures == 0


def blocks(path: Path) -> str:
    """The Python blocks of a page, as one program."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", path.read_text(), re.S | re.M))


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_pages(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ox.manual_seed(0)
    exec(compile(blocks(path), str(path), "exec"), {"__name__": "__main__"})


def test_the_readme_has_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert 'pip install ".[plot]" && python examples/digits.py' in text
    assert 'pip install -e ".[test]" && cargo test && pytest' in text
