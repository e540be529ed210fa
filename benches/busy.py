"""How much slower a training step becomes beside other programs:

    python benches/busy.py [--only REGEX] [--rounds 15] [--markdown]

Beside as many processes as there are processors, each of them busy with nothing but counting, half of each
processor is left, so that 2 is fair; more is lost where threads wait for one that the system has put aside.
Rounds without and with the others take turns. PyTorch is measured beside oxon where it is installed.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from typing import Any

from measure import Task, interval

TASKS = {"matmul 512": None, "mlp b128": "mlp", "gpt 4x128 b12": "gpt 4x128 b12", "resnet18 b32": "resnet18"}


def tasks_of(label: str, lib: dict[str, Any]) -> dict[str, Task]:
    """The task in oxon, and in PyTorch if it is there."""
    from tasks.matmul import matmul
    from tasks.training import training

    name = TASKS[label]
    made = training(lib, name) if name else matmul(lib, 512, 512, 512)
    return {library: made[library] for library in ("oxon", "torch") if library in made}


def spent(task: Task) -> float:
    """Seconds a call takes, over about 0.3 s, so that the system has shared the processors out many times."""
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < 0.3 or calls < 3:
        task()
        calls += 1
    return (time.perf_counter() - start) / calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    import numpy as np
    import oxon as ox

    lib: dict[str, Any] = {"numpy": np, "oxon": ox, "compile": False}
    try:
        import torch

        torch.set_num_threads(ox.get_num_threads())
        lib["torch"] = torch
    except ImportError:
        pass
    others = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)
    ]
    row = (lambda cells: f"| {' | '.join(cells)} |") if args.markdown else "  ".join
    try:
        turn(others, signal.SIGSTOP)
        print(row([f"{'beside busy processes':24}", "library", "alone, ms", "times slower"]))
        if args.markdown:
            print("|---|---|---|---|")
        for label in TASKS:
            if not re.search(args.only, label):
                continue
            for library, task in tasks_of(label, lib).items():
                task()
                alone, ratios = [], []
                for _ in range(args.rounds):
                    alone.append(spent(task))
                    turn(others, signal.SIGCONT)
                    time.sleep(0.05)
                    ratios.append(spent(task) / alone[-1])
                    turn(others, signal.SIGSTOP)
                low, high = interval(ratios)
                slower = f"{statistics.median(ratios):.2f} [{low:.2f}, {high:.2f}]"
                print(
                    row([f"{label:24}", library, f"{1e3 * statistics.median(alone):.2f}", slower]), flush=True
                )
    finally:
        for other in others:
            other.kill()


def turn(others: list[subprocess.Popen[bytes]], how: signal.Signals) -> None:
    """Stops the other processes, or lets them go on."""
    for other in others:
        other.send_signal(how)


if __name__ == "__main__":
    main()
