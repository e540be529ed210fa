"""What a call costs, on tensors of 8 × 8."""

from __future__ import annotations

from typing import Any

from measure import Task, Tasks


def small(lib: dict[str, Any], name: str) -> dict[str, Task]:
    """What a call on 8 × 8 tensors costs."""
    np, ox = lib["numpy"], lib["oxon"]
    a = np.random.default_rng(0).standard_normal((8, 8), dtype=np.float32)
    x, y = ox.tensor(a), ox.tensor(a)
    torch = lib.get("torch")
    t = torch.tensor(a) if torch else None
    u = t.clone() if torch else None
    tasks: dict[str, Task]
    if name == "(a + b).numpy()":
        tasks = {"oxon": lambda: (x + y).numpy(), "numpy": lambda: a + a}
        if torch:
            tasks["torch"] = lambda: (t + u).numpy()
    elif name == "record a + b":
        tasks = {"oxon": lambda: x + y, "numpy": lambda: a + a}
        if torch:
            tasks["torch"] = lambda: t + u
    else:
        w = ox.tensor(a, requires_grad=True)

        def step() -> None:
            w.grad = None
            (w * w).sum().backward()
            assert w.grad is not None
            ox.flush([w.grad])

        tasks = {"oxon": step}
        if torch:
            v = torch.tensor(a, requires_grad=True)

            def torch_step() -> None:
                v.grad = None
                (v * v).sum().backward()

            tasks["torch"] = torch_step
    return tasks


TASKS: Tasks = {
    f"8x8 {_name}": lambda lib, name=_name: small(lib, name)
    for _name in ("(a + b).numpy()", "record a + b", "(w * w).sum().backward()")
}
