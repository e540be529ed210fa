"""Interleaved rounds of one task in several libraries, and what their ratios say; not what the tasks are."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

Task = Callable[[], Any]
# Names of tasks to what makes them: one callable for each library that knows the task.
Tasks = dict[str, Callable[[dict[str, Any]], dict[str, Task]]]


def once(task: Task, repeat: int) -> float:
    """Seconds per call over `repeat` calls."""
    start = time.perf_counter()
    for _ in range(repeat):
        task()
    return (time.perf_counter() - start) / repeat


def settle() -> None:
    """Waits until no thread of this process is busy: those of BLAS and OpenMP spin for a while after a call
    and would take a core from whichever library comes next."""
    for _ in range(100):
        start = time.process_time()
        time.sleep(0.005)
        if time.process_time() - start < 0.0005:
            return


def interval(ratios: list[float]) -> tuple[float, float]:
    """The 95 % interval of the median, from order statistics."""
    n = len(ratios)
    ordered = sorted(ratios)
    half = 0.98 * n**0.5
    return ordered[max(0, int(n / 2 - half))], ordered[min(n - 1, int(n / 2 + half))]


def measure(tasks: dict[str, Task], rounds: int) -> dict[str, Any]:
    """Interleaved rounds of all libraries on one task."""
    repeats = {}
    for name, task in tasks.items():
        task()
        first = once(task, 1)
        # About 20 ms a round, so that the clock and one interrupt matter little.
        repeats[name] = max(1, min(20_000, int(0.02 / max(first, 1e-7))))
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for r in range(rounds):
        # The order turns round, so that nobody always follows the same neighbour.
        names = list(tasks)
        for name in names[r % len(names) :] + names[: r % len(names)]:
            settle()
            # As long as the round itself: a system that woke two threads on one processor needs milliseconds
            # to see it, which cost PyTorch half of its rounds.
            once(tasks[name], repeats[name])
            times[name].append(once(tasks[name], repeats[name]))
    out: dict[str, Any] = {"oxon": statistics.median(times["oxon"])}
    for name in tasks:
        if name != "oxon":
            ratios = [p / o for p, o in zip(times[name], times["oxon"], strict=True)]
            out[name] = (statistics.median(ratios), *interval(ratios))
    return out
