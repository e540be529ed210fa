"""The house holds: who may know whom, how long files are, and that every operation has doc, stub, test and a
gradient or the words "not differentiable"."""

from __future__ import annotations

import re
from pathlib import Path

import make_stub
import pytest

ROOT = Path(__file__).parents[1]
RUST = ROOT / "rust"
PYTHON = ROOT / "python" / "oxon"

# Room: the rooms whose names its files may use, beside its own.
ARROWS = {
    "core": set(),
    "ir": {"core"},
    "cpu": {"core", "ir"},
    "gpu": {"core", "ir"},
    "graph": {"core", "ir"},
    "ops": {"core", "ir", "graph"},
    "autograd": {"core", "ir", "graph", "ops"},
    "io": {"core", "graph", "cpu"},
    "python": {"core", "ir", "cpu", "graph", "ops", "autograd", "io"},
}
# Files that may name more, and why.
EXCEPTIONS = {
    "graph/device.rs": {"cpu", "gpu"},  # the one place that names both backends
    "graph/tensor.rs": {"cpu"},  # host memory comes in and is read here
    "ops/host.rs": {"cpu"},  # indices that are on the host are checked at the call
}
UNSAFE = {"cpu", "gpu"}
UNSAFE_FILES = {
    "python/buffer.rs",
    "python/convert.rs",
    "python/numpy.rs",
    "python/dlpack.rs",
    "python/mod.rs",
}
TOO_LONG = 600


def rust_files() -> list[Path]:
    tests = {"tests", "tests.rs"}
    return sorted(p for p in RUST.rglob("*.rs") if not tests & set(p.relative_to(RUST).parts))


def code(path: Path) -> str:
    """The text without comments."""
    return re.sub(r"//[^\n]*", "", path.read_text())


@pytest.mark.parametrize("path", rust_files(), ids=lambda p: str(p.relative_to(RUST)))
def test_rust_rooms_know_only_those_above(path: Path) -> None:
    name = path.relative_to(RUST).as_posix()
    room = name.split("/")[0]
    if room not in ARROWS:
        return
    text = code(path)
    used = set(re.findall(r"crate::(core|ir|cpu|gpu|graph|ops|autograd|io|python)\b", text))
    for group in re.findall(r"use crate::\{([^}]*)\}", text):
        used |= set(re.findall(r"\b(core|ir|cpu|gpu|graph|ops|autograd|io|python)\b", group))
    allowed = ARROWS[room] | {room} | EXCEPTIONS.get(name, set())
    assert used <= allowed, f"{name} names {sorted(used - allowed)}"
    if room != "python":
        assert "pyo3" not in text, f"{name} names pyo3"
    if room != "gpu":
        assert not re.search(r"\bwgpu::", text), f"{name} names wgpu"
    if room not in UNSAFE and name not in UNSAFE_FILES:
        assert not re.search(r"\bunsafe\b(?!_op_in_unsafe_fn)", text), f"{name} has unsafe code"


def test_every_unsafe_block_says_why() -> None:
    missing = []
    for path in rust_files():
        if re.search(r"^//! .*SAFETY:", path.read_text(), re.M):
            continue  # one reason for all, at the head of the file
        lines = path.read_text().splitlines()
        for i, line in enumerate(lines):
            if re.search(r"(^|[^\w\"`])unsafe (\{|impl)", line.split("//")[0]):
                before = "\n".join(lines[max(0, i - 12) : i + 1])
                if "SAFETY" not in before and "# Safety" not in before:
                    missing.append(f"{path.relative_to(ROOT)}:{i + 1}")
    assert not missing, missing


PYTHON_ARROWS = {
    "nn": {"_core", "autograd"},
    "optim": {"_core", "autograd"},
    "data": {"_core", "autograd"},
    "models": {"_core", "autograd", "nn"},
    "train": {"_core", "amp", "autograd", "nn", "optim", "data"},
}


def test_python_rooms_know_only_those_above() -> None:
    for room, allowed in PYTHON_ARROWS.items():
        for path in (PYTHON / room).rglob("*.py"):
            depth = len(path.relative_to(PYTHON).parts)
            for line in path.read_text().splitlines():
                # At the top of a file: what is imported when the module is.
                found = re.match(r"from (\.+)(\w*)", line)
                if path == PYTHON / "nn" / "utils.py" and "..optim" in line:
                    continue  # PyTorch's name for what lives with the optimizers
                if found and len(found.group(1)) == depth and found.group(2):
                    assert found.group(2) in allowed | {room}, f"{path.relative_to(ROOT)}: {line}"


def test_files_are_short_and_say_what_lives_there() -> None:
    long, mute = [], []
    for path in [*rust_files(), *PYTHON.rglob("*.py"), *(ROOT / "shaders").glob("*.wgsl")]:
        text = path.read_text()
        if len(text.splitlines()) > TOO_LONG:
            long.append(f"{path.relative_to(ROOT)} {len(text.splitlines())}")
        if not text.lstrip().startswith(("//!", '"""', "//")):
            mute.append(str(path.relative_to(ROOT)))
    assert not long, long
    assert not mute, mute


def test_the_stub_has_the_table() -> None:
    text = make_stub.STUB.read_text()
    lines = [line for line in text.splitlines() if line]
    assert [line for line in make_stub.render(text).splitlines() if line] == lines, (
        "run `python tests/make_stub.py`"
    )


def test_every_operation_of_the_table_is_documented_and_decided() -> None:
    from oxon import _core

    table = (RUST / "ir" / "elementwise.rs").read_text()
    for name, (doc, _, _, differentiable) in _core.ELEMENTWISE.items():
        assert doc.endswith("."), name
        if name == "where":
            continue
        row = re.search(rf"^ +{name}\([a-z, ]+\) \{{.*?;$(?=\n +(///|\}}))", table, re.S | re.M)
        assert row, name
        assert ("grad(" in row.group()) == differentiable, name
        assert ("not differentiable" in row.group()) == (not differentiable), name


def test_every_public_name_has_a_doc() -> None:
    from oxon import _core

    silent = [
        name
        for name in dir(_core)
        if not name.startswith("_") and callable(getattr(_core, name)) and not getattr(_core, name).__doc__
    ]
    assert not silent, silent
    silent = [
        name
        for name in dir(_core.Tensor)
        if not name.startswith("_") and not getattr(_core.Tensor, name).__doc__
    ]
    assert not silent, silent


def test_import_is_light() -> None:
    import subprocess
    import sys

    code = (
        "import sys, oxon; "
        "heavy = {'numpy', 'matplotlib', 'asyncio', 'inspect', 'dataclasses', 'urllib', 'json'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"], check=True
    )
