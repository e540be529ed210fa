"""Elementwise chains, reductions, softmax and layer norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from measure import Task, Tasks


def elementwise(lib: dict[str, Any], count: int, name: str) -> dict[str, Task]:
    """One operation or chain over `count` float32."""
    np, ox = lib["numpy"], lib["oxon"]
    a = np.random.default_rng(0).standard_normal(count, dtype=np.float32)
    x = ox.tensor(a)
    bodies: dict[str, tuple[Callable[[Any, Any], Any], bool]] = {
        "add": (lambda m, x: x + x, True),
        "exp": (lambda m, x: m.exp(x), True),
        "tanh": (lambda m, x: m.tanh(x), True),
        "chain": (lambda m, x: m.tanh(x * 1.5 + 0.5) * x - m.exp(-x * x), True),
        "sum": (lambda m, x: x.sum(), True),
        "chain+sum": (lambda m, x: ((x - 0.5) * (x - 0.5)).sum(), True),
    }
    body, _ = bodies[name]
    tasks: dict[str, Task] = {"oxon": lambda: ox.flush([body(ox, x)]), "numpy": lambda: body(np, a)}
    if torch := lib.get("torch"):
        t = torch.tensor(a)
        tasks["torch"] = lambda: body(torch, t)
    if jax := lib.get("jax"):
        p = jax.numpy.asarray(a)
        f = jax.jit(lambda p: body(jax.numpy, p))
        tasks["jax"] = lambda: f(p).block_until_ready()
    return tasks


def rows(lib: dict[str, Any], name: str) -> dict[str, Task]:
    """Softmax or layer norm over the rows of 4096 × 1024."""
    np, ox = lib["numpy"], lib["oxon"]
    a = np.random.default_rng(0).standard_normal((4096, 1024), dtype=np.float32)
    x = ox.tensor(a)

    def numpy_softmax() -> Any:
        e = np.exp(a - a.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def numpy_norm() -> Any:
        mean = a.mean(-1, keepdims=True)
        return (a - mean) / np.sqrt(a.var(-1, keepdims=True) + 1e-5)

    softmax = name == "softmax"
    tasks: dict[str, Task] = {
        "oxon": (lambda: ox.flush([x.softmax(-1)]))
        if softmax
        else (lambda: ox.flush([ox.layer_norm(x, 1024)])),
        "numpy": numpy_softmax if softmax else numpy_norm,
    }
    if torch := lib.get("torch"):
        t = torch.tensor(a)
        tasks["torch"] = (
            (lambda: torch.softmax(t, -1))
            if softmax
            else (lambda: torch.nn.functional.layer_norm(t, (1024,)))
        )
    if jax := lib.get("jax"):
        p = jax.numpy.asarray(a)
        if softmax:
            f = jax.jit(lambda p: jax.nn.softmax(p, -1))
        else:
            f = jax.jit(
                lambda p: (p - p.mean(-1, keepdims=True)) / jax.numpy.sqrt(p.var(-1, keepdims=True) + 1e-5)
            )
        tasks["jax"] = lambda: f(p).block_until_ready()
    return tasks


TASKS: Tasks = {
    f"{_name} {_label}": lambda lib, name=_name, count=_count: elementwise(lib, count, name)
    for _name in ("add", "exp", "tanh", "chain", "sum", "chain+sum")
    for _label, _count in (("64K", 1 << 16), ("1M", 1 << 20), ("16M", 1 << 24))
}
for _name in ("softmax", "layer norm"):
    TASKS[f"{_name} 4096x1024"] = lambda lib, name=_name: rows(lib, name)
