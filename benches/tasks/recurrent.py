"""Recurrent layers over whole sequences, forward and with their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from measure import Task, Tasks


def recurrent(lib: dict[str, Any], kind: str, batch: int, train: bool) -> dict[str, Task]:
    """An LSTM or GRU of 256 units over 64 steps of 64 features, forward or forward and backward."""
    np, ox = lib["numpy"], lib["oxon"]
    x = np.random.default_rng(0).standard_normal((64, batch, 64), dtype=np.float32)

    def task(module: Any, finish: Callable[[list[Any]], object]) -> Task:
        layer, given = getattr(module.nn, kind)(64, 256), module.tensor(x)
        parameters = list(layer.parameters())
        if not train:

            def forward() -> None:
                with module.no_grad():
                    finish([layer(given)[0]])

            return forward

        def step() -> None:
            for parameter in parameters:
                parameter.grad = None
            layer(given)[0].sum().backward()
            finish([parameter.grad for parameter in parameters])

        return step

    tasks = {"oxon": task(ox, ox.flush)}
    if torch := lib.get("torch"):
        tasks["torch"] = task(torch, lambda _: None)
    return tasks


TASKS: Tasks = {}
for _kind in ("LSTM", "GRU"):
    for _batch in (1, 32):
        for _name, _train in (("", False), (" and back", True)):
            TASKS[f"{_kind} b{_batch}{_name}"] = lambda lib, kind=_kind, batch=_batch, train=_train: (
                recurrent(lib, kind, batch, train)
            )
