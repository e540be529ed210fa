"""Products of matrices."""

from __future__ import annotations

from typing import Any

from measure import Task, Tasks


def matmul(
    lib: dict[str, Any], m: int, k: int, n: int, transposed: bool = False, low: bool = False
) -> dict[str, Task]:
    """(m, k) by (k, n), the second stored (n, k) if transposed, as a linear layer has it; bfloat16 if low."""
    np, ox = lib["numpy"], lib["oxon"]
    rng = np.random.default_rng(0)
    a = rng.standard_normal((m, k), dtype=np.float32)
    b = rng.standard_normal((n, k) if transposed else (k, n), dtype=np.float32)
    x, y = ox.tensor(a), ox.tensor(b)
    if low:
        x, y = x.bfloat16(), y.bfloat16()
        ox.flush([x, y])
    y = y.T if transposed else y
    bt = b.T if transposed else b
    tasks: dict[str, Task] = {"oxon": lambda: ox.flush([x @ y])}
    if not low:
        tasks["numpy"] = lambda: a @ bt
    if torch := lib.get("torch"):
        s, t = torch.tensor(a), torch.tensor(b)
        if low:
            s, t = s.bfloat16(), t.bfloat16()
        t = t.T if transposed else t
        tasks["torch"] = lambda: s @ t
    if (jax := lib.get("jax")) and not low:
        p, q = jax.numpy.asarray(a), jax.numpy.asarray(bt)
        f = jax.jit(lambda p, q: p @ q)
        tasks["jax"] = lambda: f(p, q).block_until_ready()
    return tasks


TASKS: Tasks = {}
for _n in (64, 128, 256, 512, 1024, 2048):
    TASKS[f"matmul {_n}"] = lambda lib, n=_n: matmul(lib, n, n, n)
    TASKS[f"matmul {_n} transposed"] = lambda lib, n=_n: matmul(lib, n, n, n, True)
    TASKS[f"matmul {_n} bfloat16"] = lambda lib, n=_n: matmul(lib, n, n, n, low=True)
TASKS["matmul 32x784x256"] = lambda lib: matmul(lib, 32, 784, 256, True)
TASKS["matmul 1x4096x4096"] = lambda lib: matmul(lib, 1, 4096, 4096, True)
