"""Convolutions, forward and with their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from measure import Task, Tasks


def convolution(lib: dict[str, Any], sizes: tuple[int, ...], train: bool) -> dict[str, Task]:
    """One layer, (N, C, K, size, kernel, stride, groups), forward or forward and backward; PyTorch in both of
    its memory formats."""
    np, ox = lib["numpy"], lib["oxon"]
    n, c, k, size, kernel, stride, groups = sizes
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, c, size, size), dtype=np.float32)
    w = rng.standard_normal((k, c // groups, kernel, kernel), dtype=np.float32) * 0.05
    options = {"stride": stride, "padding": kernel // 2, "groups": groups}

    def task(module: Any, a: Any, b: Any, finish: Callable[[list[Any]], object]) -> Task:
        conv2d = module.nn.functional.conv2d
        if not train:

            def forward() -> None:
                with module.no_grad():
                    finish([conv2d(a, b, **options)])

            return forward

        def step() -> None:
            a.grad = b.grad = None
            conv2d(a, b, **options).sum().backward()
            finish([a.grad, b.grad])

        return step

    tasks = {"oxon": task(ox, ox.tensor(x, requires_grad=True), ox.tensor(w, requires_grad=True), ox.flush)}
    if torch := lib.get("torch"):
        for name, form in (("torch", torch.contiguous_format), ("torch nhwc", torch.channels_last)):
            a, b = (torch.tensor(v).contiguous(memory_format=form).requires_grad_() for v in (x, w))
            tasks[name] = task(torch, a, b, lambda _: None)
    return tasks


LAYERS = {
    "7x7 s2 3-64 at 224": (8, 3, 64, 224, 7, 2, 1),
    "3x3 64 at 56": (8, 64, 64, 56, 3, 1, 1),
    "3x3 128 at 28": (8, 128, 128, 28, 3, 1, 1),
    "3x3 256 at 14": (8, 256, 256, 14, 3, 1, 1),
    "3x3 512 at 7": (8, 512, 512, 7, 3, 1, 1),
    "1x1 64-256 at 56": (8, 64, 256, 56, 1, 1, 1),
    "depthwise 128 at 56": (8, 128, 128, 56, 3, 1, 128),
    "3x3 16-32 at 32 b64": (64, 16, 32, 32, 3, 1, 1),
}

TASKS: Tasks = {}
for _label, _sizes in LAYERS.items():
    TASKS[f"conv {_label}"] = lambda lib, sizes=_sizes: convolution(lib, sizes, False)
    TASKS[f"conv {_label} and back"] = lambda lib, sizes=_sizes: convolution(lib, sizes, True)
