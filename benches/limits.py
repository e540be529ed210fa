"""What the machine can do at best, and how near to it a task of oxon's comes; how the limits are measured is
`limits.rs`, which is compiled here by itself.

A task's work is what `ox.profile` counts: the multiply-adds that products, convolutions, attention and
recurrent layers have by their definition, and, where all of it is one kernel, the bytes that it reads and
writes. Its share is the time that the limits ask for over the time that it took; so a convolution whose
algorithm saves multiplications can have more than all of it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import Task

UNITS = {"KiB": 2**10, "MiB": 2**20}


@dataclass
class Limits:
    """Operations a second, and bytes moved a second, read or copied, over how many bytes a thread has."""

    flops: float
    read: dict[int, float]
    copy: dict[int, float]


@dataclass
class Work:
    """What a task has to do."""

    flops: int
    bytes: int
    reads: bool


def measure(threads: int) -> Limits | None:
    """The limits on one thread or on all, or None for other numbers and where there is no compiler."""
    compiler = shutil.which("rustc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder) / "limits")
        source = str(Path(__file__).with_name("limits.rs"))
        subprocess.run([compiler, "-O", "--edition=2024", "-o", program, source], check=True)
        lines = subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()
    columns = [int(number) for number in re.findall(r"(\d+) threads?", lines[0])]
    if threads not in columns:
        return None
    limits = Limits(0.0, {}, {})
    for line in lines[1:]:
        rate = 1e9 * float(line.split()[columns.index(threads) - len(columns)])
        if size := re.match(r"(read|copy within) (\d+) (\w+)", line):
            table = limits.read if size[1] == "read" else limits.copy
            table[int(size[2]) * UNITS[size[3]]] = rate
        else:
            limits.flops = rate
    return limits


def work(ox: Any, task: Task) -> Work:
    """What one call of a task of oxon's does."""
    task()
    with ox.profile() as costs:
        task()
    rows = costs.rows
    alone = len(rows) == 1 and rows[0].calls == 1
    moved = rows[0].bytes if alone else 0
    written = sum(_count(shape) for shape in rows[0].outputs) if alone else 0
    return Work(sum(row.flops for row in rows), moved, 4 * 8 * written < moved)


def share(limits: Limits, work: Work, seconds: float, threads: int) -> float | None:
    """The part of the time that the limits ask for, if the work is of a kind that has limits."""
    table = limits.read if work.reads else limits.copy
    # The memory that is as large as what a thread has to move.
    near = min(table, key=lambda size: abs(size.bit_length() - (work.bytes // threads).bit_length()))
    least = max(work.flops / limits.flops, work.bytes / table[near])
    return least / seconds if least else None


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
