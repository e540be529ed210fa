"""Elementwise operations and chains, reductions, softmax and layer norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from measure import Task, Tasks

# In each library's own words where they differ; what NumPy has no word for, it does not take part in.
BODIES: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda m, x: x + x,
    "exp": lambda m, x: m.exp(x),
    "log": lambda m, x: m.log(x),
    "tanh": lambda m, x: m.tanh(x),
    "gelu": lambda m, x: m.nn.functional.gelu(x),
    "chain": lambda m, x: m.tanh(x * 1.5 + 0.5) * x - m.exp(-x * x),
    "sum": lambda m, x: x.sum(),
    "chain+sum": lambda m, x: ((x - 0.5) * (x - 0.5)).sum(),
}


def elementwise(lib: dict[str, Any], shape: tuple[int, ...], name: str) -> dict[str, Task]:
    """One operation or chain over float32 of the shape."""
    np, ox = lib["numpy"], lib["oxon"]
    a = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    a = abs(a) if name == "log" else a
    body = BODIES[name]
    x = ox.tensor(a)
    tasks: dict[str, Task] = {"oxon": lambda: ox.flush([body(ox, x)])}
    if name != "gelu":
        tasks["numpy"] = lambda: body(np, a)
    if torch := lib.get("torch"):
        t = torch.tensor(a)
        tasks["torch"] = lambda: body(torch, t)
        if lib.get("compile"):
            compiled = torch.compile(lambda t: body(torch, t))
            tasks["torch compile"] = lambda: compiled(t)
    if jax := lib.get("jax"):
        p = jax.numpy.asarray(a)
        f = jax.jit(
            (lambda p: jax.nn.gelu(p, approximate=False)) if name == "gelu" else lambda p: body(jax.numpy, p)
        )
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
        body = (
            (lambda t: torch.softmax(t, -1))
            if softmax
            else (lambda t: torch.nn.functional.layer_norm(t, (1024,)))
        )
        tasks["torch"] = lambda: body(t)
        if lib.get("compile"):
            compiled = torch.compile(body)
            tasks["torch compile"] = lambda: compiled(t)
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


SHAPES = {"64K": (1 << 16,), "1M": (1 << 20,), "4096x1024": (4096, 1024), "16M": (1 << 24,)}

TASKS: Tasks = {
    f"{_name} {_label}": lambda lib, name=_name, shape=_shape: elementwise(lib, shape, name)
    for _name in BODIES
    for _label, _shape in SHAPES.items()
}
for _name in ("softmax", "layer norm"):
    TASKS[f"{_name} 4096x1024"] = lambda lib, name=_name: rows(lib, name)
