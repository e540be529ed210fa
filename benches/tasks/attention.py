"""Attention, forward and with its gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from measure import Task, Tasks


def attention(lib: dict[str, Any], shape: tuple[int, ...], causal: bool, train: bool) -> dict[str, Task]:
    """Attention of queries, keys and values (N, heads, L, E), forward or forward and backward."""
    np, ox = lib["numpy"], lib["oxon"]
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(shape, dtype=np.float32) for _ in range(4)]

    def task(module: Any, finish: Callable[[list[Any]], object]) -> Task:
        function = module.nn.functional.scaled_dot_product_attention
        q, k, v, weight = (module.tensor(x) for x in values)
        leaves = [x.requires_grad_() for x in (q, k, v)]
        if not train:

            def forward() -> None:
                with module.no_grad():
                    finish([function(q, k, v, is_causal=causal)])

            return forward

        def step() -> None:
            for leaf in leaves:
                leaf.grad = None
            function(q, k, v, is_causal=causal).backward(weight)
            finish([leaf.grad for leaf in leaves])

        return step

    tasks = {"oxon": task(ox, ox.flush)}
    if torch := lib.get("torch"):
        tasks["torch"] = task(torch, lambda _: None)
    return tasks


HEADS = {
    "12x4x64x32 causal": ((12, 4, 64, 32), True),
    "8x6x256x64 causal": ((8, 6, 256, 64), True),
    "8x6x256x64": ((8, 6, 256, 64), False),
    "1x8x1024x64 causal": ((1, 8, 1024, 64), True),
}

TASKS: Tasks = {}
for _label, (_shape, _causal) in HEADS.items():
    for _name, _train in (("", False), (" and back", True)):
        TASKS[f"attention {_label}{_name}"] = lambda lib, shape=_shape, causal=_causal, train=_train: (
            attention(lib, shape, causal, train)
        )
