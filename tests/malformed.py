"""The other side of `test_malformed.py`: makes one round of malformed calls after another in a process of its own,
so that a crash or a hang is a failure with the call that made it, and not the end of the test run.

To see one call again, with its traceback: `python tests/malformed.py SEED EVIL NAME`, as the failure prints it.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import random
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import oxon as ox
from arguments import EVIL, MAKE, PATIENT, PLAUSIBLE, TENSORS, Evil
from oxon import nn

# What may come out of a wrong call, with a message. Everything else is a failure.
SANE = (
    ArithmeticError, AttributeError, BufferError, LookupError, MemoryError, NotImplementedError, OSError,
    RuntimeError, StopIteration, TypeError, ValueError,
)  # fmt: skip
# Of those, what says nothing about the call.
MUTE = (ZeroDivisionError,)

ROOMS = (
    *("oxon._core", "oxon", "oxon.nn", "oxon.nn.functional", "oxon.nn.init", "oxon.nn.utils", "oxon.optim"),
    *("oxon.optim.schedules", "oxon.data", "oxon.data.transforms", "oxon.train", "oxon.train.callbacks"),
    *("oxon.train.metrics", "oxon.train.summary", "oxon.io", "oxon.autograd", "oxon.models", "oxon.amp"),
)

# What is not called, and why.
APART = {
    "oxon._core._after_fork_in_child": "forgets what other threads were doing",
    "oxon._core.set_num_threads": "4096 threads are allowed, and slow; it has a test of its own",
}


def is_ours(value: Any) -> bool:
    return (getattr(value, "__module__", None) or "").startswith("oxon")


def public(room: str) -> dict[str, Any]:
    """The callables that a module offers, by name."""
    module = importlib.import_module(room)
    if room == "oxon._core":
        names = [n for n in dir(module) if not n.startswith("__")]
        return {n: getattr(module, n) for n in names if callable(getattr(module, n))}
    names = getattr(module, "__all__", None) or [n for n in dir(module) if not n.startswith("_")]
    return {n: v for n in names if callable(v := getattr(module, n)) and is_ours(v)}


def members(kind: type) -> Iterator[tuple[str, bool]]:
    """Names of what a class adds to what it derives from, and whether each is to be called or to be assigned."""
    for name in dir(kind):
        owner = next((k for k in kind.__mro__ if name in k.__dict__), object)
        # What all modules and tensors have is called on those.
        if not is_ours(owner) or (
            owner in (nn.Module, ox.Tensor) and owner is not kind and name != "__call__"
        ):
            continue
        is_method = callable(getattr(kind, name))
        if name.startswith("__"):
            own = ("__eq__", "__lt__", "__ge__", "__hash__", "__repr__", "__reduce__", "__format__")
            if not is_method or name in ("__del__", "__class_getitem__") or name in {*dir(object)} - {*own}:
                continue
        elif name.startswith("_"):
            continue
        yield name, is_method


Call = Callable[[random.Random, Callable[[str], Any]], Any]


def invoke(function: Callable[..., Any], r: random.Random, draw: Callable[[str], Any]) -> Any:
    """One call with drawn arguments, some of which may be missing or too many."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = [inspect.Parameter(n, inspect.Parameter.POSITIONAL_ONLY) for n in "ab"]
    for p in parameters:
        optional = p.default is not inspect.Parameter.empty
        if p.kind == inspect.Parameter.VAR_POSITIONAL:
            args.extend(draw(p.name) for _ in range(r.choice([0, 1, 1, 2, 3])))
        elif p.kind == inspect.Parameter.VAR_KEYWORD:
            continue
        elif p.kind == inspect.Parameter.KEYWORD_ONLY or (
            optional and p.kind != inspect.Parameter.POSITIONAL_ONLY
        ):
            if r.random() < (0.4 if optional else 0.95):
                kwargs[p.name] = draw(p.name)
        elif optional and r.random() < 0.5:
            break
        else:
            args.append(draw(p.name))
    if r.random() < 0.03:
        args.append(draw("extra"))
    if r.random() < 0.02:
        kwargs["nonsense"] = 1
    return function(*args, **kwargs)


def instance(kind: type, r: random.Random) -> Any:
    """An object of a class, made as it should be."""
    make = MAKE.get(kind.__name__)
    if make is not None:
        return make(r)
    required = [
        p.name
        for p in inspect.signature(kind).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return kind(*(PLAUSIBLE[name](r) for name in required))


def of_class(name: str, kind: type) -> Iterator[tuple[str, Call]]:
    """Calls of a class, of its methods, and assignments to its attributes."""
    yield name, lambda r, draw: invoke(kind, r, draw)
    for member, is_method in members(kind):
        if is_method:

            def call(r: random.Random, draw: Callable[[str], Any], member: str = member) -> Any:
                return invoke(getattr(instance(kind, r), member), r, draw)

            yield f"{name}.{member}", call
        else:

            def assign(r: random.Random, draw: Callable[[str], Any], member: str = member) -> Any:
                thing = instance(kind, r)
                observe(getattr(thing, member))
                setattr(thing, member, draw(member))
                return thing

            yield f"{name}.{member}=", assign


def targets() -> dict[str, Call]:
    """Everything public that can be called, by name, each once."""
    found: dict[str, Call] = {}
    seen: dict[int, str] = {}
    for room in ROOMS:
        for short, value in public(room).items():
            name = f"{room}.{short}"
            if name in APART or id(value) in seen:
                continue
            seen[id(value)] = name
            if not inspect.isclass(value):
                found[name] = lambda r, draw, value=value: invoke(value, r, draw)
            elif not issubclass(value, BaseException) and is_ours(value):
                found.update(of_class(name, value))
    return found


def call(name: str, target: Call, r: random.Random, evil: list[int]) -> None:
    """One call: plausible arguments, of which some are replaced by evil ones; then its result is observed."""
    rate = r.choice([0.0, 0.2, 0.5, 1.0])

    def draw(name: str) -> Any:
        if r.random() < rate:
            value = EVIL[r.choice(evil)]()
            return 1 if name in PATIENT and isinstance(value, int) else value
        known = PLAUSIBLE.get(name)
        return known(r) if known and r.random() < 0.9 else r.choice(TENSORS)()

    observe(target(r, draw))


def observe(result: Any, depth: int = 0) -> None:
    """Looks at what came out, since what is deferred may fail only then."""
    if isinstance(result, ox.Tensor):
        small = result.numel() < 10_000
        if small:
            repr(result)
        if small or (result.numel() > 2**36 and result.is_contiguous()):
            result.tolist()
            if result.requires_grad and not result.is_leaf:
                result.sum().backward()
    elif isinstance(result, (list, tuple)) and depth < 2:
        for item in result[:10]:
            observe(item, depth + 1)
    elif isinstance(result, ox.data.DataLoader):
        for _, batch in zip(range(3), result, strict=False):
            observe(batch, depth + 1)
    elif is_ours(type(result)):
        repr(result)


def verdict(error: BaseException) -> str | None:
    """What is wrong with an exception, if anything."""
    said = " ".join([str(error), *getattr(error, "__notes__", ())])
    text = f"{type(error).__name__}: {said}"
    if isinstance(error, Evil):
        return None
    if not isinstance(error, SANE) or isinstance(error, MUTE) or "panic" in type(error).__name__.lower():
        return f"is no answer: {text}"
    if "internal error" in text or "panicked" in text:
        return f"is ours: {text}"
    # Python's own lists and tuples run out of memory without a word.
    speechless = (StopIteration, MemoryError)
    if not isinstance(error, speechless) and not re.search(r"\w\w", said):
        return f"names nothing: {text}"
    return None


def reset() -> None:
    """The process's switches as they were."""
    ox.set_default_device("cpu")
    ox.set_fuse(True)
    ox._core._set_grad_enabled(True)
    ox._core._set_anomaly_enabled(False)
    for _ in range(8):  # the regions that one call may have entered
        ox._core._autocast_exit()


def confine() -> None:
    """No network, and no more memory than a wrong call should ever need, so that running out of it is seen."""
    import socket

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise OSError("there is no network here")

    socket.socket.connect = refuse  # type: ignore[method-assign]
    socket.getaddrinfo = refuse
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))


def serve() -> None:
    """Reads `[seed, evil, name or null]` lines, makes all those calls, and writes the name of each before it is
    made, `bad …` for what should not have come out, and `ok` when all are done."""
    # Files of its own: a wrong call may print, or take a number for an open file.
    orders, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):
        os.dup2(nothing, number)
    known = targets()
    confine()
    for line in orders:
        seed, evil, only = json.loads(line)
        for name in [only] if only else known:
            answers.write(name + "\n")
            answers.flush()
            try:
                call(name, known[name], random.Random(f"{seed} {name}"), evil)
            except BaseException as error:
                wrong = verdict(error)
                if wrong:
                    answers.write(f"bad {name} {wrong!r}\n")
            reset()
        answers.write("ok\n")
        answers.flush()


if __name__ == "__main__":
    if len(sys.argv) == 1:
        serve()
    else:
        call(
            sys.argv[3],
            targets()[sys.argv[3]],
            random.Random(f"{sys.argv[1]} {sys.argv[3]}"),
            eval(sys.argv[2]),
        )
