"""Wrong input of every kind gives a Python exception that says what was wrong: nothing panics, aborts or hangs.

First at random: a worker (`malformed.py`) calls everything public with malformed arguments. Then, one by one, what
must be refused in a certain way. For a longer search: `OXON_MALFORMED=2000 pytest tests/test_malformed.py`.
"""

# ruff: noqa: PT017
from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import malformed
import oxon as ox
import pytest
from arguments import EVIL, Attributes, Changing, Evil, Index, Length, fail, generator
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from malformed import targets

# A longer search draws other examples each time.
LONGER = int(os.environ.get("OXON_MALFORMED") or 0)
# No call takes this many seconds, however busy the machine is.
PATIENCE = 60.0


def judge(lines: queue.Queue[str | None], patience: float) -> tuple[list[str], bool]:
    """What went wrong in a round, from what the worker says of it (None when it has ended), and whether the
    worker can be used again."""
    bad: list[str] = []
    name = "nothing"
    while True:
        try:
            line = lines.get(timeout=patience)
        except queue.Empty:
            return [*bad, f"{name} hangs"], False
        if line is None:
            return [*bad, f"{name} ended the process"], False
        if line == "ok":
            return bad, True
        if line.startswith("bad "):
            bad.append(line[4:])
        else:
            name = line


class Worker:
    """A process that calls everything with what it is told to."""

    def __init__(self) -> None:
        self.home = tempfile.mkdtemp(prefix="oxon-malformed-")
        self.noise = tempfile.TemporaryFile("w+", dir=self.home)  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", malformed.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.noise,
            text=True,
            cwd=self.home,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
                "RUST_BACKTRACE": "0",
                "OXON_DATA": self.home,
                "HOME": self.home,
            },
        )
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def round(self, seed: int, evil: list[int], only: str | None = None) -> tuple[list[str], bool]:
        """What went wrong in one round of calls, and whether there can be another."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # where it has ended, which the reader tells
            self.process.stdin.write(json.dumps([seed, evil, only]) + "\n")
            self.process.stdin.flush()
        bad, usable = judge(self.lines, PATIENCE)
        if not usable:
            self.process.kill()
            bad[-1] += f" ({self.process.wait()}): {self.heard()}"
        return bad, usable

    def heard(self) -> str:
        """The last of what it wrote to its standard error."""
        self.noise.seek(0)
        return self.noise.read()[-2000:]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.reader.join()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdout.close()
        with contextlib.suppress(OSError):  # an order that it did not live to read
            self.process.stdin.close()
        self.noise.close()
        shutil.rmtree(self.home, ignore_errors=True)


class Crew:
    """One worker, replaced when it is lost."""

    def __init__(self) -> None:
        self.worker: Worker | None = None

    def round(self, seed: int, evil: list[int], only: str | None = None) -> list[str]:
        self.worker = self.worker or Worker()
        bad, usable = self.worker.round(seed, evil, only)
        if not usable:
            self.stop()
        return bad

    def stop(self) -> None:
        if self.worker is not None:
            self.worker.stop()
        self.worker = None


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    crew = Crew()
    yield crew
    crew.stop()


@settings(
    max_examples=LONGER or 30,
    derandomize=not LONGER,
    phases=[Phase.explicit, Phase.generate],  # to find a smaller example of a hang would take for ever
)
@given(st.integers(0, 2**32), st.lists(st.integers(0, len(EVIL) - 1), min_size=1, max_size=8))
def test_malformed_calls_give_exceptions(crew: Crew, seed: int, evil: list[int]) -> None:
    bad = crew.round(seed, evil)
    assert not bad, "\n".join([f"python tests/malformed.py {seed} '{evil}' NAME", *bad])


@pytest.mark.parametrize(
    ("said", "found", "usable"),
    [
        (["add", None], "add ended the process", False),
        (["add", "mul"], "mul hangs", False),
        (["add", "bad add PanicException", "ok"], "add PanicException", True),
    ],
)
def test_what_a_worker_says_is_understood(said: list[str | None], found: str, usable: bool) -> None:
    lines: queue.Queue[str | None] = queue.Queue()
    for line in said:
        lines.put(line)
    assert judge(lines, patience=0.01) == ([found], usable)


def test_a_lost_worker_is_told_and_replaced(crew: Crew) -> None:
    assert crew.round(0, [0], "oxon._core.add") == []
    assert crew.worker is not None
    crew.worker.process.kill()
    crew.worker.process.wait()
    assert "ended the process" in crew.round(0, [0], "oxon._core.add")[0]
    assert crew.round(0, [0], "oxon._core.add") == []


@pytest.mark.parametrize(
    ("error", "wrong"),
    [
        (ValueError("add: shapes (2,) and (3,) do not broadcast"), None),
        (Evil(), None),
        (ValueError(""), "names nothing"),
        (RuntimeError("internal error: entered unreachable code"), "is ours"),
        (ZeroDivisionError("division by zero"), "is no answer"),
        (SystemError("null argument"), "is no answer"),
        (BaseException("PanicException"), "is no answer"),
    ],
)
def test_what_is_wrong_with_an_exception(error: BaseException, wrong: str | None) -> None:
    found = malformed.verdict(error)
    assert found is None if wrong is None else found is not None and found.startswith(wrong)


def test_everything_public_is_called() -> None:
    known = targets()
    names: dict[int, list[str]] = {}
    for room in malformed.ROOMS:
        for name, value in malformed.public(room).items():
            if not isinstance(value, type) or (
                malformed.is_ours(value) and not issubclass(value, BaseException)
            ):
                names.setdefault(id(value), []).append(f"{room}.{name}")
    assert [all_names for all_names in names.values() if not {*known, *malformed.APART} & {*all_names}] == []
    assert {
        *(
            "oxon._core.add",
            "oxon._core.Tensor.__getitem__",
            "oxon._core.Tensor.grad=",
            "oxon._core.Generator",
        ),
        *("oxon.nn.Linear", "oxon.nn.Linear.__call__", "oxon.nn.Module.load_state_dict", "oxon.load"),
        *(
            "oxon.nn.functional.huber_loss",
            "oxon.nn.init.dirac_",
            "oxon.optim.Adam.step",
            "oxon.data.DataLoader",
        ),
        *("oxon.Trainer.fit", "oxon.train.callbacks.CSVLogger", "oxon.train.metrics.F1.update"),
    } <= {*known}
    methods = [n for n in dir(ox.Tensor) if not n.startswith("_") and callable(getattr(ox.Tensor, n))]
    assert {f"oxon._core.Tensor.{n}" for n in methods} <= set(known)


def test_objects_are_made_as_they_should_be() -> None:
    import random

    for room in malformed.ROOMS:
        for value in malformed.public(room).values():
            if isinstance(value, type) and malformed.is_ours(value) and not issubclass(value, BaseException):
                made = malformed.instance(value, random.Random(0))
                assert isinstance(made, value), (room, value)


# Aimed at one thing each.


def test_allocations_that_cannot_be() -> None:
    for make in (
        lambda: ox.empty(2**40),
        lambda: ox.ones(2**40).numpy(),
        lambda: ox.zeros(2**20, 2**20).sum(0),
        lambda: ox.rand(2**40),
        lambda: ox.randperm(2**40),
        lambda: ox.eye(2**20),
        lambda: ox.arange(2**40) + 1,
        lambda: ox.ones(2**20, 1) @ ox.ones(1, 2**20),
        lambda: ox.ones(2).repeat(2**40),
        lambda: ox.ones(2).repeat_interleave(2**40),
        lambda: ox.one_hot(ox.tensor([1]), 2**40),
        lambda: ox.tensor([1]).bincount(minlength=2**40),
        lambda: ox.pad(ox.ones(2), (0, 2**40)),
        lambda: ox.linspace(0, 1, 2**40),
        lambda: ox.kron(ox.ones(2**20), ox.ones(2**20)),
        lambda: ox.multinomial(ox.ones(3), 2**40, True),
        lambda: ox.ones(1).expand(2**40).clone(),
    ):
        with pytest.raises(MemoryError, match=r"GiB|address space|too large"):
            make().reshape(-1)[0].item()
    for sizes in ((2**62,), (2**32, 2**32), (2**63 - 1, 2)):
        with pytest.raises(MemoryError, match=str(sizes[0])):
            ox.empty(sizes)
    # Afterwards everything works as before.
    assert (ox.ones(3) + 1).tolist() == [2, 2, 2]


def test_sizes_and_ranks_that_cannot_be() -> None:
    with pytest.raises(ox.ShapeError, match="-1"):
        ox.zeros(2, -1)
    for make in (
        lambda: ox.zeros(*[1] * 40),
        lambda: ox.ones(1)[(None,) * 40],
        lambda: ox.ones(1).reshape((1,) * 40),
        lambda: ox.ones(1).expand(*[1] * 40),
        lambda: ox.ones(1).repeat(*[1] * 40),
        lambda: ox.stack([ox.ones(*[1] * 32)]),
        lambda: ox.ones(*[1] * 32).unsqueeze(0),
        lambda: ox.ones(*[1] * 32)[None],
        lambda: ox.tensordot(ox.ones(*[1] * 20), ox.ones(*[1] * 20), 0),
        lambda: ox.ones(*[1] * 32)[ox.zeros(1, 1, dtype="int64")],
        lambda: ox.meshgrid(*[ox.ones(1)] * 40),
        lambda: ox.ones(1).expand(*[1] * 32)[..., None],
        lambda: ox.ones(*[1] * 32).unflatten(0, (1, 1)),
    ):
        with pytest.raises((ValueError, IndexError), match=r"more than 32|32 axes|at most 32"):
            make()
    x = ox.arange(2.0).reshape(*[1] * 31, 2)
    assert (x + x.flip(-1)).sum().item() == 2
    assert x.sum(tuple(range(32))).item() == 1
    assert x.transpose(0, -1).contiguous().tolist() != []


def test_objects_that_lie() -> None:
    with pytest.raises((TypeError, ValueError)):
        ox.tensor(Length(5, [1, [2]]))
    assert ox.tensor(Length(5, [1, 2])).tolist() == [1, 2]
    with pytest.raises(Evil, match="breaks"):
        ox.tensor(generator())
    with pytest.raises(Evil, match="an index that breaks"):
        ox.tensor([1, Index(Evil("an index that breaks"))])
    x = ox.arange(6.0).reshape(2, 3)
    for _ in range(4):
        try:
            x[Changing(), 0].tolist()
        except (IndexError, ValueError) as error:
            assert "index" in str(error)
    for capsule in (None, 3, object()):
        with pytest.raises(BufferError):
            ox.from_dlpack(Attributes(__dlpack__=lambda c=capsule, **k: c, __dlpack_device__=lambda: (1, 0)))
    with pytest.raises(BufferError, match="kind 2"):
        ox.from_dlpack(Attributes(__dlpack__=fail, __dlpack_device__=lambda: (2, 0)))


def test_use_after_backward() -> None:
    x = ox.ones(3, requires_grad=True)
    y = (x * 2).exp()
    y.sum().backward()
    with pytest.raises(ox.GradError, match="freed by an earlier backward"):
        y.sum().backward()
    with pytest.raises(ox.GradError, match="freed"):
        ox.grad(y.sum(), x)
    assert (y + 1).tolist() == (y.detach() + 1).tolist()


# Files.


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.safetensors"
    ox.save({"a": ox.arange(4.0), "b": ox.tensor([[True, False]]), "c": ox.tensor(3)}, path)
    return path


def test_files_cut_anywhere(good: Path, tmp_path: Path) -> None:
    whole = good.read_bytes()
    bad = tmp_path / "bad"
    for end in range(len(whole)):
        bad.write_bytes(whole[:end])
        with pytest.raises(OSError, match=r"safetensors.*bad"):
            ox.load(bad)
    bad.write_bytes(whole + b"\0")
    with pytest.raises(OSError, match="safetensors"):
        ox.load(bad)
    bad.write_bytes(whole)
    assert ox.load(bad)["a"].tolist() == [0, 1, 2, 3]


def forged(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


FORGED = {
    "header longer than the file": forged({}, length=1000),
    "header longer than memory": forged({}, length=2**63),
    "header of all ones": forged({}, length=2**64 - 1),
    "header shorter than its text": forged({"a": entry("F32", [1], 0, 4)}, b"\0" * 4, length=10),
    "no JSON": forged(b"not json"),
    "no object": forged([1, 2]),
    "a number": forged(3),
    "not UTF-8": forged(b'{"\xff\xfe": 1}'),
    "nested without end": forged(b"[" * 100_000),
    "tensor is a number": forged({"a": 3}),
    "no dtype": forged({"a": {"shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4),
    "unknown dtype": forged({"a": entry("F33", [1], 0, 4)}, b"\0" * 4),
    "negative shape": forged({"a": entry("F32", [-1], 0, 4)}, b"\0" * 4),
    "huge shape": forged({"a": entry("F32", [2**62, 2**62], 0, 4)}, b"\0" * 4),
    "shape past the data": forged({"a": entry("F32", [2], 0, 4)}, b"\0" * 4),
    "offsets past the file": forged({"a": entry("F32", [2], 0, 8)}, b"\0" * 4),
    "offsets backwards": forged({"a": entry("F32", [1], 4, 0)}, b"\0" * 4),
    "offsets beyond 64 bits": forged({"a": entry("F32", [1], 0, 2**70)}, b"\0" * 4),
    "overlapping": forged({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 2, 6)}, b"\0" * 6),
    "the same bytes twice": forged({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 0, 4)}, b"\0" * 4),
    "a hole": forged({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 8, 12)}, b"\0" * 12),
    "a bool that is 2": forged({"a": entry("BOOL", [2], 0, 2)}, b"\x01\x02"),
    "metadata is a list": forged({"__metadata__": [1]}),
    "metadata holds numbers": forged({"__metadata__": {"a": 1}}),
    "structure without end": forged({"__metadata__": {"oxon.tree": '{"list":[' * 50_000}}),
    "structure names what is not there": forged({"__metadata__": {"oxon.tree": '{"tensor":"a"}'}}),
    "shape of nothing": forged({"a": entry("F32", [0, 2**62], 0, 4)}, b"\0" * 4),
    "too many axes": forged({"a": entry("F32", [1] * 100, 0, 4)}, b"\0" * 4),
}


@pytest.mark.parametrize("what", FORGED)
def test_forged_files(what: str, tmp_path: Path) -> None:
    path = tmp_path / "forged"
    path.write_bytes(FORGED[what])
    with pytest.raises((OSError, ValueError, MemoryError, ox.DTypeError), match=r"forged|load") as caught:
        ox.load(path)
    assert "internal error" not in str(caught.value)


@settings(max_examples=200)
@given(st.data())
def test_files_with_any_byte_changed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A changed byte is an error or other numbers, never a crash."""
    path = Path(tempfile.gettempdir()) / f"oxon-{os.getpid()}.safetensors"
    ox.save({"a": ox.arange(4.0), "b": ox.tensor([True, False]), "n": [1, {"x": ox.ones(2, 2).half()}]}, path)
    try:
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        try:
            loaded = ox.load(path)
        except (OSError, ValueError, MemoryError, TypeError) as error:
            assert "internal error" not in str(error)
            assert str(error)
        else:
            for value in loaded.values() if isinstance(loaded, dict) else loaded:
                repr(value)
    finally:
        path.unlink()


def test_files_that_cannot_be_written(good: Path, tmp_path: Path) -> None:
    before = good.read_bytes()
    with pytest.raises(MemoryError, match="GiB"):
        ox.save({"a": ox.ones(2**40)}, good)
    assert good.read_bytes() == before
    with pytest.raises(OSError, match="no/such"):
        ox.save({"a": ox.ones(1)}, tmp_path / "no/such/place")
    with pytest.raises(OSError):
        ox.save({"a": ox.ones(1)}, tmp_path)
    for name in ("", "a\0b"):
        with pytest.raises((OSError, ValueError)):
            ox.save({"a": ox.ones(1)}, name)
        with pytest.raises((OSError, ValueError)):
            ox.load(name)
    with pytest.raises(OSError, match=r"directory"):
        ox.load(tmp_path)
    if os.path.exists("/dev/full"):
        with pytest.raises(OSError):
            ox.save({"a": ox.ones(1)}, "/proc/nothing")
    assert sorted(os.listdir(tmp_path)) == ["good.safetensors"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_directories_that_may_not_be_written(good: Path, tmp_path: Path) -> None:
    before = good.read_bytes()
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OSError, match="cannot write"):
            ox.save({"a": ox.ones(1)}, good)
    finally:
        tmp_path.chmod(0o700)
    assert good.read_bytes() == before


def test_files_that_are_closed_or_no_files(good: Path) -> None:
    with open(good, "rb") as file:
        pass
    for path in (file, 0, True, 3.5, None, b"\xff", object()):
        with pytest.raises((TypeError, OSError, ValueError)):
            ox.load(path)  # type: ignore[arg-type]
        with pytest.raises((TypeError, OSError, ValueError)):
            ox.save({"a": ox.ones(1)}, path)  # type: ignore[arg-type]


def test_numbers_of_threads_and_devices() -> None:
    for n in (0, -1, 2**40, "two", None, 1.5):
        with pytest.raises((ValueError, TypeError, OverflowError)):
            ox.set_num_threads(n)
    for device in ("tpu", "", 3, None):
        with pytest.raises((ox.DeviceError, TypeError), match=r"unknown|str|name"):
            ox.set_default_device(device)
    assert ox.get_default_device() == "cpu"
