"""The memory that training steps take at their peak, in oxon and in PyTorch:

    python benches/memory.py [--only REGEX] [--markdown]

Each network of `tasks/training.py` is trained for some steps in a process of its own for each library.
Before, the process has trained a tiny perceptron, so that the library has loaded whatever it loads late. The
figure is how far the most memory that the process ever had resident, as the system counts it (VmHWM), lies
above what it had then: weights, the optimizer's state, inputs, activations, gradients and scratch, and for
oxon, beside it, the most that its tensors held by its own count. Two threads; Linux.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import re
import subprocess
import sys
from typing import Any

import numpy as np
from tasks.training import NAMES, data, network, step

STEPS = 6


def status(key: str) -> float:
    """A figure in MiB of what the system says about this process."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(key))


def train(module: Any, library: str, name: str) -> None:
    """Some steps of a network."""
    a, b = data(np, name)
    model = network({"numpy": np, library: module}, library, name)
    run = step(module, model, name, module.tensor(a), module.tensor(b), model, False)
    for _ in range(STEPS):
        float(run())


def child(library: str, name: str) -> None:
    """Measures in this process, and prints the figures."""
    module = importlib.import_module("oxon" if library == "oxon" else library)
    module.set_num_threads(2)
    train(module, library, "tiny")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak starts anew
    before = status("VmRSS")
    train(module, library, name)
    own = module.memory_summary()["peak"] / 2**20 if library == "oxon" else None
    print(json.dumps({"peak": status("VmHWM") - before, "own": own}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return child(*args.child)
    libraries = ["oxon"] + ["torch"] * (importlib.util.find_spec("torch") is not None)
    header = ["peak of a step, MiB", *libraries, "oxon's tensors"]
    rule = "|---" * len(header) + "|\n"
    row = " | ".join if args.markdown else lambda cells: "".join(f"{cell:>20}" for cell in cells)
    print(f"| {row(header)} |\n{rule}" if args.markdown else row(header) + "\n", end="")
    for label, name in NAMES.items():
        if not re.search(args.only, label):
            continue
        found = {}
        for library in libraries:
            command = [sys.executable, __file__, "--child", library, name]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[library] = json.loads(out.splitlines()[-1])
        cells = [label, *(f"{found[x]['peak']:.1f}" for x in libraries), f"{found['oxon']['own']:.1f}"]
        print(f"| {row(cells)} |" if args.markdown else row(cells), flush=True)
    return None


if __name__ == "__main__":
    main()
