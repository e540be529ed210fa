"""What a GPU does with oxon, whichever GPU it is: `python benches/gpu.py`, beside PyTorch where it has the same card.

The device is chosen as everywhere: `--device gpu:1` or `OXON_GPU_ADAPTER=llvmpipe`, so that software is measured
only where it is named. Two yardsticks are measured first: chains of fused multiply-adds in registers, the float32
peak, and a copy from buffer to buffer, each byte of which counts as read and as written. Then come, as sections that
`--only` picks:

`matmul`     squares of float32 and float16, in TFLOP/s and as a part of the peak, which is float32's for both
`conv`       the convolutions of ResNet-18 at 224 × 224, forward and with both gradients
`bandwidth`  elementwise chains, reductions, softmax, layer norm, Adam: bytes that must move, as a part of the copy's
`latency`    what submitting, recording and reading back cost
`training`   the steps of `compare.py`: time and microseconds a recorded kernel

A task whose estimate, its operations by the best rate of products so far, exceeds `--patience` seconds is skipped and
says so. Times are medians of rounds from recording to the end of the work; the device is waited for after each round.
"""

from __future__ import annotations

import argparse
import datetime
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from compare import markdown, seconds
from measure import Task
from tasks import conv, matmul, training

SQUARES = (256, 512, 1024, 2048, 4096, 8192)
# (channels, filters, size, kernel, stride) of ResNet-18's convolutions.
RESNET18 = (
    (3, 64, 224, 7, 2),
    (64, 64, 56, 3, 1),
    (64, 128, 56, 3, 2),
    (64, 128, 56, 1, 2),
    (128, 128, 28, 3, 1),
    (128, 256, 28, 3, 2),
    (128, 256, 28, 1, 2),
    (256, 256, 14, 3, 1),
    (256, 512, 14, 3, 2),
    (256, 512, 14, 1, 2),
    (512, 512, 7, 3, 1),
)
# Operations of a training step: multiplications and additions of its products, forward and back.
STEPS = {
    "step 16-16-1 b4": 7e3,
    "step mlp b128": 0.41e9,
    "step cnn b64": 0.16e9,
    "step resnet18 b32": 107e9,
    "step lstm b32": 4.0e9,
    "step gru b32": 3.0e9,
    "step gpt 4x128 b12": 3.9e9,
    "step gpt 6x384 b8": 140e9,
}
ROUNDS = 7
# A round lasts about so many seconds, so that waiting for the device matters little.
ROUND = 0.05
# How often a task runs at least: to warm up, to be timed once, and in rounds.
RUNS = 5

Rows = Iterator[list[str]]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="gpu")
    parser.add_argument("--only", default="", help="regular expression that a section's name must match")
    parser.add_argument("--batch", type=int, default=32, help="images of a convolution")
    parser.add_argument(
        "--elements", type=int, default=1 << 26, help="float32 of a bandwidth task, fewer on slow devices"
    )
    parser.add_argument("--patience", type=float, default=20.0, help="seconds that a task may take in all")
    parser.add_argument("--markdown", action="store_true", help="print tables in Markdown")
    return parser.parse_args()


class Bench:
    """The device, its yardsticks, and how tasks are timed on it."""

    def __init__(self, args: argparse.Namespace) -> None:
        import numpy as np
        import oxon as ox
        from oxon import _core

        self.args, self.ox, self.core = args, ox, _core
        self.lib: dict[str, Any] = {"numpy": np, "oxon": ox, "compile": False}
        ox.set_default_device(args.device)
        self.device = ox.get_default_device()
        if self.device == "cpu":
            sys.exit("benches/gpu.py: the device is no GPU; `python -m oxon doctor` tells which there are")
        self.card = next(d for d in ox.devices()[1:] if d.device == self.device)
        self.peak, self.copy = _core._gpu_speed(self.device)
        # Of products, operations a second: a guess until one has run.
        self.rate = self.peak / 20
        self.torch = torch_on(self.card.name)
        if self.torch:
            self.lib["torch"] = self.torch

    def wait(self) -> None:
        """Until both libraries have done their work."""
        self.ox.synchronize()
        if self.torch:
            self.torch.cuda.synchronize()

    def time(self, task: Task) -> float:
        """Seconds of a call, when many follow each other."""
        task()
        self.wait()
        start = time.perf_counter()
        task()
        self.wait()
        first = time.perf_counter() - start
        repeat = max(1, min(2000, int(ROUND / max(first, 1e-6))))
        times = []
        for _ in range(ROUNDS if first < 1 else 2):
            start = time.perf_counter()
            for _ in range(repeat):
                task()
            self.wait()
            times.append((time.perf_counter() - start) / repeat)
        return statistics.median(times)

    def pair(self, make: Callable[[dict[str, Any]], dict[str, Task]]) -> tuple[float, str]:
        """Seconds of oxon, and how many times as long PyTorch takes."""
        tasks = make(self.lib)
        ours = self.time(tasks["oxon"])
        peers = [self.time(tasks[name]) for name in ("torch", "torch nhwc") if name in tasks]
        return ours, f"{min(peers) / ours:.2f}" if peers else "–"

    def skipped(self, operations: float) -> str | None:
        """Why a task of so many operations is not run."""
        estimate = RUNS * operations / self.rate
        return f"skipped, ≈ {estimate:.0f} s" if estimate > self.args.patience else None


def torch_on(name: str) -> Any:
    """PyTorch, where it sees the card of this name; its products are float32's own, as oxon's are."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    places = range(torch.cuda.device_count())
    same = [
        at
        for at in places
        if torch.cuda.get_device_name(at) in name or name in torch.cuda.get_device_name(at)
    ]
    if not same:
        return None
    torch.set_default_device(f"cuda:{same[0]}")
    torch.cuda.set_device(same[0])
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return torch


def products(bench: Bench) -> Rows:
    """Squares."""
    yield ["matmul", "time", "TFLOP/s", "of the peak", "PyTorch / oxon"]
    for dtype in ("float32", "float16"):
        for n in SQUARES:
            name, operations = f"{dtype} {n}", 2.0 * n**3
            if why := bench.skipped(operations):
                yield [name, why, "", "", ""]
                continue
            ours, peer = bench.pair(lambda lib, n=n, dtype=dtype: matmul.matmul(lib, n, n, n, dtype=dtype))
            rate = operations / ours
            if dtype == "float32":
                bench.rate = max(rate, bench.rate if n > SQUARES[0] else 0)
            yield [name, seconds(ours), f"{rate / 1e12:.3g}", f"{rate / bench.peak:.0%}", peer]


def convolutions(bench: Bench) -> Rows:
    """Those of ResNet-18, in the order in which it meets them."""
    yield ["convolution", "time", "TFLOP/s", "of the peak", "PyTorch / oxon"]
    for train in (False, True):
        for c, k, size, kernel, stride in RESNET18:
            n = bench.args.batch
            name = f"{kernel}x{kernel} {c}-{k} at {size}{f' s{stride}' if stride > 1 else ''} b{n}"
            name += " and back" * train
            operations = 2.0 * n * k * (size // stride) ** 2 * c * kernel**2 * (3 if train else 1)
            if why := bench.skipped(operations):
                yield [name, why, "", "", ""]
                continue
            sizes = (n, c, k, size, kernel, stride, 1)
            ours, peer = bench.pair(lambda lib, s=sizes, t=train: conv.convolution(lib, s, t))
            rate = operations / ours
            yield [name, seconds(ours), f"{rate / 1e12:.3g}", f"{rate / bench.peak:.0%}", peer]


def bandwidth(bench: Bench) -> Rows:
    """What reads and writes memory and computes next to nothing."""
    # A pass over the elements takes a tenth of a second at most by the copy's speed.
    count = 1 << min(bench.args.elements.bit_length() - 1, max(16, int(bench.copy / 80).bit_length() - 1))
    shape = (count // 1024, 1024)
    yield [f"over {count >> 10} Ki float32", "time", "GB/s", "of the copy", "PyTorch / oxon"]
    for name, passes, make in BANDWIDTH:
        ours, peer = bench.pair(lambda lib, make=make: on_both(lib, make, shape))
        rate = 4.0 * count * passes / ours
        yield [name, seconds(ours), f"{rate / 1e9:.4g}", f"{rate / bench.copy:.0%}", peer]


def on_both(lib: dict[str, Any], make: Callable[[Any, Any], Task], shape: tuple[int, ...]) -> dict[str, Task]:
    """The task in each library on the same numbers, drawn on its own device."""
    tasks = {"oxon": make(lib["oxon"], lib["oxon"].randn(*shape))}
    if torch := lib.get("torch"):
        tasks["torch"] = make(torch, torch.randn(*shape))
    return tasks


def forward(body: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Task]:
    """A task of one expression over the elements."""
    return lambda module, x: lambda: finish(module, [body(module, x)])


def back(body: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Task]:
    """The same with its gradient, whose own gradient is as large as the elements."""

    def make(module: Any, x: Any) -> Task:
        w, dy = x.requires_grad_(), module.ones_like(x)

        def step() -> None:
            w.grad = None
            body(module, w).backward(dy)
            finish(module, [w.grad])

        return step

    return make


def adam(module: Any, x: Any) -> Task:
    """A step of Adam over one parameter."""
    w = module.nn.Parameter(x)
    w.grad = module.ones_like(x)
    optimizer = module.optim.Adam([w], lr=1e-3)

    def step() -> None:
        optimizer.step()
        finish(module, [w])

    return step


def finish(module: Any, values: list[Any]) -> None:
    """Has oxon record what it deferred; PyTorch has done so."""
    if flush := getattr(module, "flush", None):
        flush(values)


# Name, how often each element must pass between memory and the device, and the task.
BANDWIDTH: tuple[tuple[str, int, Callable[[Any, Any], Task]], ...] = (
    ("x + x", 2, forward(lambda m, x: x + x)),
    ("tanh(1.5 x + 0.5) x − exp(−x²)", 2, forward(lambda m, x: m.tanh(x * 1.5 + 0.5) * x - m.exp(-x * x))),
    ("x transposed", 2, forward(lambda m, x: x.T.contiguous())),
    ("sum", 1, forward(lambda m, x: x.sum())),
    ("sum of rows", 1, forward(lambda m, x: x.sum(-1))),
    ("sum of columns", 1, forward(lambda m, x: x.sum(0))),
    ("softmax", 2, forward(lambda m, x: x.softmax(-1))),
    ("layer norm", 2, forward(lambda m, x: m.nn.functional.layer_norm(x, (1024,)))),
    ("softmax and back", 5, back(lambda m, x: x.softmax(-1))),
    ("layer norm and back", 5, back(lambda m, x: m.nn.functional.layer_norm(x, (1024,)))),
    # Reads the weight, its gradient and both moments, writes the weight and both moments.
    ("Adam", 7, adam),
)


def latency(bench: Bench) -> Rows:
    """What a kernel costs beside its work."""
    ox, core = bench.ox, bench.core
    x, large = ox.zeros(8, 8), ox.zeros(min(1 << 24, bench.args.elements))
    host = large.cpu()
    bench.wait()
    yield ["latency", "time", ""]

    def small() -> None:
        ox.flush([x + 1.0])

    def waited() -> None:
        small()
        ox.synchronize()

    def chain() -> None:
        y = x
        for _ in range(1000):
            y = y + 1.0
            ox.flush([y])

    yield ["empty submission, waited for", seconds(bench.time(ox.synchronize)), ""]
    yield ["8x8 kernel, waited for", seconds(bench.time(waited)), ""]
    yield ["8x8 kernel among many, each from Python", seconds(bench.time(chain) / 1000), ""]
    for name in ("step 16-16-1 b4", "step mlp b128"):
        step = training.TASKS[name]({**bench.lib, "torch": None})["oxon"]
        step()
        before = core._gpu_dispatches()
        step()
        kernels = core._gpu_dispatches() - before
        ours = bench.time(step)
        yield [f"replayed {name}", seconds(ours), f"{kernels} kernels, {ours / kernels * 1e6:.1f} µs each"]
    yield ["read 4 bytes that are there", seconds(bench.time(lambda: x[0, 0].item())), ""]
    for name, task in (("read", large.cpu), ("write", lambda: host.to(bench.device))):
        took, size = bench.time(task), 4 * large.numel()
        yield [f"{name} {size >> 20} MiB", seconds(took), f"{size / took / 1e9:.3g} GB/s"]


def steps(bench: Bench) -> Rows:
    """The training steps of `compare.py`."""
    yield ["training", "time", "kernels", "µs a kernel", "PyTorch / oxon"]
    for name, make in training.TASKS.items():
        # Three steps more, which the first losses are compared by.
        if why := bench.skipped(1.6 * STEPS[name]):
            yield [name, why, "", "", ""]
            continue
        tasks = make(bench.lib)
        before = bench.core._gpu_dispatches()
        tasks["oxon"]()
        kernels = bench.core._gpu_dispatches() - before
        ours, peer = bench.pair(lambda _, tasks=tasks: tasks)
        yield [name, seconds(ours), str(kernels), f"{ours / kernels * 1e6:.1f}", peer]


SECTIONS: dict[str, Callable[[Bench], Rows]] = {
    "matmul": products,
    "conv": convolutions,
    "bandwidth": bandwidth,
    "latency": latency,
    "training": steps,
}


def plain(cells: list[str]) -> str:
    """A line of a table on a screen."""
    return f"{cells[0]:42}" + "".join(f"{cell:>18}" for cell in cells[1:])


def main() -> None:
    """Measure and print."""
    args = parse()
    bench = Bench(args)
    info = bench.ox.build_info()
    if info["profile"] != "release":
        print("warning: oxon was built for development; install it with `pip install .`", file=sys.stderr)
    card = bench.card
    print(
        f"oxon {info['version']}, {card.name} ({card.type}, {card.backend}, driver {card.driver})", end=", "
    )
    print(f"PyTorch {bench.torch.__version__}" if bench.torch else "no PyTorch on it", end=", ")
    print(datetime.date.today())
    print(f"peak of float32 multiply-adds {bench.peak / 1e12:.3g} TFLOP/s; copy {bench.copy / 1e9:.4g} GB/s")
    row = markdown if args.markdown else plain
    for name, section in SECTIONS.items():
        if not re.search(args.only, name):
            continue
        print()
        for n, cells in enumerate(section(bench)):
            print(row(cells), flush=True)
            if n == 0 and args.markdown:
                print("|---" * len(cells) + "|")


if __name__ == "__main__":
    main()
