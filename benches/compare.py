"""oxon beside NumPy, and beside PyTorch, JAX and ONNX Runtime where they are installed:
`python benches/compare.py`.

Every line is one task of `tasks` in all libraries that know it. Rounds are interleaved, so that whatever else
the machine does meets all alike; what is printed is the median of the paired ratios `time of the peer / time
of oxon` with its 95 % interval. A ratio of 1 is a tie, 2 means that oxon takes half the time. *Level* is a
ratio of at least 0.95.

`--only REGEX` picks tasks, `--rounds N` (at least 15), `--threads N` for all libraries, `--compile` adds
`torch.compile`, `--autocast` has training steps run in bfloat16 where `ox.autocast` and `torch.autocast`
would, `--isa avx2` keeps all libraries that can be told to AVX2 (not NumPy's own loops nor ONNX Runtime),
`--limits` measures what the machine can do at best and puts oxon's share of it in brackets (see `limits.py`),
`--markdown` prints a table for `docs/performance.md`, `--json FILE` keeps the figures.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import sys
from typing import Any

import limits
from measure import measure
from tasks import TASKS

PEERS = ("numpy", "torch", "torch nhwc", "torch compile", "jax", "ort")
# What each library has to be told so that it uses no wider vectors than AVX2's.
AVX2 = {
    "OXON_ISA": "avx2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="regular expression that a task's name must match")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--compile", action="store_true", help="torch.compile too, which takes its time")
    parser.add_argument("--autocast", action="store_true", help="training steps in mixed precision")
    parser.add_argument("--isa", choices=["avx2"], help="vector instructions that all libraries keep to")
    parser.add_argument("--limits", action="store_true", help="show the share of the machine's limit")
    parser.add_argument("--markdown", action="store_true", help="print a table in Markdown")
    parser.add_argument("--json", default=None)
    args = parser.parse_args()
    if args.rounds < 15:
        parser.error("fewer than 15 rounds say nothing")
    return args


def libraries(threads: int, isa: str | None) -> dict[str, Any]:
    """The libraries that are installed, on so many threads and, where they can be told, on these vectors."""
    if isa:
        os.environ.update(AVX2)
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_max_isa=AVX2"
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OXON_NUM_THREADS"):
        os.environ[variable] = str(threads)
    eigen = f" --xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}"
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + eigen
    import numpy as np
    import oxon as ox

    found: dict[str, Any] = {"numpy": np, "oxon": ox}
    try:
        import torch

        torch.set_num_threads(threads)
        found["torch"] = torch
    except ImportError:
        pass
    try:
        import jax

        found["jax"] = jax
    except ImportError:
        pass
    try:
        import onnxruntime

        found["ort"] = onnxruntime
    except ImportError:
        pass
    return found


def processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        return names[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def seconds(time: float) -> str:
    """A time as people read it."""
    return f"{time * 1e6:.1f} µs" if time < 1e-3 else f"{time * 1e3:.2f} ms"


def plain(cells: list[str]) -> str:
    """A line of the table on a screen."""
    return f"{cells[0]:36}{cells[1]:>18}" + "".join(f"{cell:>24}" for cell in cells[2:])


def markdown(cells: list[str]) -> str:
    """The same in Markdown."""
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Measure and print."""
    args = parse()
    lib = libraries(args.threads, args.isa)
    lib["compile"], lib["autocast"] = args.compile, args.autocast
    info = lib["oxon"].build_info()
    if info["profile"] != "release":
        print("warning: oxon was built for development; install it with `pip install .`", file=sys.stderr)
    versions = ", ".join(
        f"{name} {lib[name].__version__}" for name in ("numpy", "torch", "jax", "ort") if name in lib
    )
    peers = [name for name in PEERS if name.split()[0] in lib and (name != "torch compile" or args.compile)]
    print(
        f"oxon {info['version']} ({info['isa']}) on {args.threads} threads; {versions}; {args.rounds} rounds"
        + "; training steps under autocast in bfloat16" * args.autocast
    )
    print(f"{processor()}, {os.cpu_count()} processors, {datetime.date.today()}")
    best = limits.measure(args.threads) if args.limits else None
    if best:
        rates = [max(table.values()) / 1e9 for table in (best.read, best.copy)]
        print(
            f"limits: {best.flops / 1e9:.0f} GFLOP/s; in the nearest memory {rates[0]:.0f} GB/s read, "
            f"{rates[1]:.0f} GB/s moved by copying; in brackets oxon's share"
        )
    print("time of the peer / time of oxon: median [95 % interval]\n")
    row = markdown if args.markdown else plain
    print(row(["task", "oxon", *peers]))
    if args.markdown:
        print("|---" * (len(peers) + 2) + "|")
    results = {}
    for name, make in TASKS.items():
        if not re.search(args.only, name):
            continue
        tasks = make(lib)
        found = measure(tasks, args.rounds)
        results[name] = found
        time = seconds(found["oxon"])
        if best:
            found["share"] = limits.share(
                best, limits.work(lib["oxon"], tasks["oxon"]), found["oxon"], args.threads
            )
            time += f" ({found['share']:.0%})" if found["share"] else " (–)"
        ratios = ["{:.2f} [{:.2f}, {:.2f}]".format(*found[peer]) if peer in found else "–" for peer in peers]
        print(row([name, time, *ratios]), flush=True)
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"info": info, "threads": args.threads, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
