"""From the start of the interpreter to 97 % of the handwritten digits, in oxon, PyTorch and plain NumPy:

    python benches/digits/compare.py [--rounds 15] [--markdown]

Each of `with_oxon.py`, `with_torch.py` and `with_numpy.py` is a program of its own: it imports its library,
reads the images, and trains the same perceptron, 64-256-256-10, from the same weights, in the same order, by
the same rule (Adam, batches of 64), until 97 % of the test images are recognised after an epoch. Nothing is
drawn. The time is that of the whole process, exit included; rounds go round the programs.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import interval

HERE = Path(__file__).parent
SIZES = [64, 256, 256, 10]
EPOCHS = 20


def prepare(folder: Path) -> None:
    """The images, the first weights and the order of the images, as NumPy and as safetensors."""
    import oxon as ox

    rng = np.random.default_rng(0)
    arrays = {}
    for name in ("train", "test"):
        images, labels = ox.data.digits(name).tensors
        arrays[f"{name}_images"] = images.numpy().reshape(-1, 64).astype(np.float32)
        arrays[f"{name}_labels"] = labels.numpy().astype(np.int64)
    for i, (inputs, outputs) in enumerate(itertools.pairwise(SIZES)):
        bound = inputs**-0.5
        arrays[f"weight{i}"] = rng.uniform(-bound, bound, (outputs, inputs)).astype(np.float32)
        arrays[f"bias{i}"] = np.zeros(outputs, np.float32)
    count = len(arrays["train_labels"])
    arrays["order"] = np.stack([rng.permutation(count) for _ in range(EPOCHS)]).astype(np.int64)
    np.savez(folder / "start.npz", **arrays)
    ox.save({name: ox.tensor(array) for name, array in arrays.items()}, str(folder / "start.safetensors"))


def once(program: str, folder: Path) -> tuple[float, str]:
    """Seconds that a program takes, and what it says."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(HERE / program), str(folder)], capture_output=True, text=True, check=True
    )
    return time.perf_counter() - start, done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    programs = ["with_oxon.py", "with_numpy.py"]
    try:
        import torch  # noqa: F401

        programs.append("with_torch.py")
    except ImportError:
        print("PyTorch is not installed", file=sys.stderr)
    times: dict[str, list[float]] = {program: [] for program in programs}
    said = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for program in programs:  # files into the cache of the system
            once(program, folder)
        for r in range(args.rounds):
            for program in programs[r % len(programs) :] + programs[: r % len(programs)]:
                seconds, said[program] = once(program, folder)
                times[program].append(seconds)
    if args.markdown:
        print("| | seconds | of oxon's time | |\n|---|---|---|---|")
    for program in programs:
        ratios = [a / b for a, b in zip(times[program], times["with_oxon.py"], strict=True)]
        low, high = interval(ratios)
        cells = [program[5:-3], f"{statistics.median(times[program]):.3f}"]
        cells += [f"{statistics.median(ratios):.2f} [{low:.2f}, {high:.2f}]", said[program]]
        print("| " + " | ".join(cells) + " |" if args.markdown else "  ".join(f"{c:<20}" for c in cells))


if __name__ == "__main__":
    main()
