"""How time and memory grow: with threads, batch, layers and sequence.

    python benches/scaling.py [--rounds 7] [--markdown] [--plot docs/scaling.png]

Threads: the training steps of `compare.py` of a perceptron, ResNet-18 and a GPT with 1, 2, … threads, as many
as the process may use. Growth: the GPT's step with batch and with layers, which should cost in proportion;
attention forward and backward with the sequence, whose time should grow with its square and whose memory in
proportion. An exponent is the slope of log cost over log size between the two largest sizes: 1 is in
proportion, 2 is the square. Times are medians of rounds that go round the sizes.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import oxon as ox
from measure import once
from tasks.training import training

Row = tuple[str, list[int], list[float], str]


def step(layers: int, batch: int, width: int = 128, block: int = 64) -> Callable[[], Any]:
    """A training step of a GPT."""
    model = ox.models.GPT(ox.models.GPTConfig(65, block, layers, width // 32, width))
    optimizer = ox.optim.Adam(model.parameters(), lr=1e-3)
    x = ox.randint(0, 65, (batch, block))

    def run() -> None:
        optimizer.zero_grad()
        ox.nn.functional.cross_entropy(model(x).flatten(0, -2), x.flatten()).backward()
        optimizer.step()

    return run


def attention(length: int) -> Callable[[], Any]:
    """Causal attention, forward and backward: 4 heads of 64."""
    q, k, v = (ox.randn(1, 4, length, 64, requires_grad=True) for _ in range(3))

    def run() -> None:
        q.grad = k.grad = v.grad = None
        ox.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward()
        ox.flush([t.grad for t in (q, k, v) if t.grad is not None])

    return run


def timed(
    tasks: list[Callable[[], Any]], rounds: int, before: list[Callable[[], Any]] | None = None
) -> list[float]:
    """Milliseconds of each."""
    found: list[list[float]] = [[] for _ in tasks]
    for r in range(rounds + 1):
        for i, task in enumerate(tasks):
            if before:
                before[i]()
            seconds = once(task, 2)
            if r > 0:
                found[i].append(1e3 * seconds)
    return [statistics.median(times) for times in found]


def threads(rounds: int) -> list[Row]:
    """Steps with more and more threads."""
    most = ox.get_num_threads()
    counts = sorted({*(2**i for i in range(most.bit_length()) if 2**i <= most), most})
    rows: list[Row] = []
    for name in ("mlp", "resnet18", "gpt 4x128 b12"):
        task = training({"numpy": np, "oxon": ox, "compile": False}, name)["oxon"]
        set_each: list[Callable[[], Any]] = [lambda n=n: ox.set_num_threads(n) for n in counts]
        times = timed([task] * len(counts), rounds, set_each)
        rows.append((f"{name}: ms, threads", counts, times, f"{times[0] / times[-1]:.2f} times as fast"))
    ox.set_num_threads(most)
    return rows


def slope(sizes: list[int], costs: list[float]) -> str:
    """The exponent of the growth between the two largest sizes."""
    return f"exponent {math.log(costs[-1] / costs[-2]) / math.log(sizes[-1] / sizes[-2]):.2f}"


def memory() -> Row:
    """What attention takes beside its inputs. The peak only grows, so this comes first, in rising sizes."""
    sizes, peaks = [1024, 2048, 4096, 8192], []
    for size in sizes:
        run = attention(size)
        held = 3 * 4 * size * 64 * 4
        run()
        peaks.append((ox.memory_summary()["peak"] - held) / 2**20)
        del run
    return "attention: MiB beside its inputs, sequence", sizes, peaks, slope(sizes, peaks)


def growth(rounds: int) -> list[Row]:
    """Steps of larger and larger work."""
    rows: list[Row] = []
    for name, sizes, make in (
        ("GPT step: ms, batch", [4, 8, 16, 32], lambda n: step(4, n)),
        ("GPT step: ms, layers", [2, 4, 8, 16], lambda n: step(n, 8)),
        ("attention: ms, sequence", [256, 512, 1024, 2048, 4096], attention),
    ):
        times = timed([make(size) for size in sizes], rounds)
        rows.append((name, sizes, times, slope(sizes, times)))
    return rows


def draw(rows: list[Row], path: str) -> None:
    """Everything over size, both logarithmic."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4))
    for name, sizes, costs, _ in rows:
        axes[int("threads" not in name)].plot(sizes, costs, marker="o", label=name)
    for axis, title in zip(axes, ("with threads", "with size"), strict=True):
        axis.set(xscale="log", yscale="log", title=title)
        axis.set_xscale("log", base=2)
        axis.legend(fontsize="x-small")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--plot", help="a file for the picture")
    args = parser.parse_args()
    of_memory = memory()
    rows = [*threads(args.rounds), *growth(args.rounds), of_memory]
    if args.markdown:
        print("| | | |\n|---|---|---|")
    for name, sizes, costs, note in rows:
        figures = ", ".join(f"{size}: {cost:.3g}" for size, cost in zip(sizes, costs, strict=True))
        print(f"| {name} | {figures} | {note} |" if args.markdown else f"{name:<44} {figures:<70} {note}")
    sys.stdout.flush()
    if args.plot:
        draw(rows, args.plot)


if __name__ == "__main__":
    main()
