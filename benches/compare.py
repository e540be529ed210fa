"""oxon beside NumPy, and beside PyTorch and JAX where they are installed: `python benches/compare.py`.

Every line is one task in all libraries that know it. Rounds are interleaved, so that whatever else the
machine does meets all alike; what is printed is the median of the paired ratios `time of the peer / time of
oxon` with its 95 % interval. A ratio of 1 is a tie, 2 means that oxon takes half the time. *Level* is a ratio
of at least 0.95.

`--only REGEX` picks tasks, `--rounds N` (at least 15), `--threads N` for all libraries, `--json FILE` keeps
the figures.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

Task = Callable[[], Any]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="regular expression that a task's name must match")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", default=None)
    args = parser.parse_args()
    if args.rounds < 15:
        parser.error("fewer than 15 rounds say nothing")
    return args


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
            once(tasks[name], 1 + repeats[name] // 10)
            times[name].append(once(tasks[name], repeats[name]))
    out: dict[str, Any] = {"oxon": statistics.median(times["oxon"])}
    for name in tasks:
        if name != "oxon":
            ratios = [p / o for p, o in zip(times[name], times["oxon"], strict=True)]
            out[name] = (statistics.median(ratios), *interval(ratios))
    return out


def libraries(threads: int) -> dict[str, Any]:
    """The libraries that are installed, each on so many threads."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OXON_NUM_THREADS"):
        os.environ[variable] = str(threads)
    os.environ.setdefault("XLA_FLAGS", f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}")
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
    return found


def matmul(lib: dict[str, Any], m: int, k: int, n: int, transposed: bool = False) -> dict[str, Task]:
    """(m, k) by (k, n), the second stored (n, k) if transposed, as a linear layer's weight is."""
    np, ox = lib["numpy"], lib["oxon"]
    rng = np.random.default_rng(0)
    a = rng.standard_normal((m, k), dtype=np.float32)
    b = rng.standard_normal((n, k) if transposed else (k, n), dtype=np.float32)
    x, y = ox.tensor(a), ox.tensor(b)
    y = y.T if transposed else y
    bt = b.T if transposed else b
    tasks: dict[str, Task] = {"oxon": lambda: ox.flush([x @ y]), "numpy": lambda: a @ bt}
    if torch := lib.get("torch"):
        s, t = torch.tensor(a), torch.tensor(b)
        t = t.T if transposed else t
        tasks["torch"] = lambda: s @ t
    if jax := lib.get("jax"):
        p, q = jax.numpy.asarray(a), jax.numpy.asarray(bt)
        f = jax.jit(lambda p, q: p @ q)
        tasks["jax"] = lambda: f(p, q).block_until_ready()
    return tasks


def elementwise(lib: dict[str, Any], count: int, name: str) -> dict[str, Task]:
    """One operation or chain over `count` float32."""
    np, ox = lib["numpy"], lib["oxon"]
    a = np.random.default_rng(0).standard_normal(count, dtype=np.float32)
    x = ox.tensor(a)
    bodies: dict[str, tuple[Callable[[Any, Any], Any], bool]] = {
        "add": (lambda m, x: x + x, True),
        "exp": (lambda m, x: m.exp(x), True),
        "tanh": (lambda m, x: m.tanh(x), True),
        "chain": (lambda m, x: m.tanh(x * 1.5 + 0.5) * x - m.exp(-x * x), True),
        "sum": (lambda m, x: x.sum(), True),
        "chain+sum": (lambda m, x: ((x - 0.5) * (x - 0.5)).sum(), True),
    }
    body, _ = bodies[name]
    tasks: dict[str, Task] = {"oxon": lambda: ox.flush([body(ox, x)]), "numpy": lambda: body(np, a)}
    if torch := lib.get("torch"):
        t = torch.tensor(a)
        tasks["torch"] = lambda: body(torch, t)
    if jax := lib.get("jax"):
        p = jax.numpy.asarray(a)
        f = jax.jit(lambda p: body(jax.numpy, p))
        tasks["jax"] = lambda: f(p).block_until_ready()
    return tasks


def rows(lib: dict[str, Any], name: str) -> dict[str, Task]:
    """Softmax or layer norm over the rows of 4096 × 1024."""
    np, ox = lib["numpy"], lib["oxon"]
    a = np.random.default_rng(0).standard_normal((4096, 1024), dtype=np.float32)
    x = ox.tensor(a)

    def numpy_softmax() -> Any:
        e = np.exp(a - a.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def numpy_norm() -> Any:
        mean = a.mean(-1, keepdims=True)
        return (a - mean) / np.sqrt(a.var(-1, keepdims=True) + 1e-5)

    softmax = name == "softmax"
    tasks: dict[str, Task] = {
        "oxon": (lambda: ox.flush([x.softmax(-1)]))
        if softmax
        else (lambda: ox.flush([ox.layer_norm(x, 1024)])),
        "numpy": numpy_softmax if softmax else numpy_norm,
    }
    if torch := lib.get("torch"):
        t = torch.tensor(a)
        tasks["torch"] = (
            (lambda: torch.softmax(t, -1))
            if softmax
            else (lambda: torch.nn.functional.layer_norm(t, (1024,)))
        )
    if jax := lib.get("jax"):
        p = jax.numpy.asarray(a)
        if softmax:
            f = jax.jit(lambda p: jax.nn.softmax(p, -1))
        else:
            f = jax.jit(
                lambda p: (p - p.mean(-1, keepdims=True)) / jax.numpy.sqrt(p.var(-1, keepdims=True) + 1e-5)
            )
        tasks["jax"] = lambda: f(p).block_until_ready()
    return tasks


def small(lib: dict[str, Any], name: str) -> dict[str, Task]:
    """What a call on 8 × 8 tensors costs."""
    np, ox = lib["numpy"], lib["oxon"]
    a = np.random.default_rng(0).standard_normal((8, 8), dtype=np.float32)
    x, y = ox.tensor(a), ox.tensor(a)
    torch = lib.get("torch")
    t = torch.tensor(a) if torch else None
    u = t.clone() if torch else None
    tasks: dict[str, Task]
    if name == "(a + b).numpy()":
        tasks = {"oxon": lambda: (x + y).numpy(), "numpy": lambda: a + a}
        if torch:
            tasks["torch"] = lambda: (t + u).numpy()
    elif name == "record a + b":
        tasks = {"oxon": lambda: x + y, "numpy": lambda: a + a}
        if torch:
            tasks["torch"] = lambda: t + u
    else:
        w = ox.tensor(a, requires_grad=True)

        def step() -> None:
            w.grad = None
            (w * w).sum().backward()
            assert w.grad is not None
            ox.flush([w.grad])

        tasks = {"oxon": step}
        if torch:
            v = torch.tensor(a, requires_grad=True)

            def torch_step() -> None:
                v.grad = None
                (v * v).sum().backward()

            tasks["torch"] = torch_step
    return tasks


def training(lib: dict[str, Any], name: str) -> dict[str, Task]:
    """One training step with Adam: an MLP 784-512-256-10 on 128 images, or a small CNN on 64."""
    np, ox = lib["numpy"], lib["oxon"]
    rng = np.random.default_rng(0)
    batch = 128 if name == "mlp" else 64
    a = rng.standard_normal((batch, 784) if name == "mlp" else (batch, 1, 28, 28), dtype=np.float32)
    labels = rng.integers(0, 10, batch)

    def build(nn: Any) -> Any:
        if name == "mlp":
            return nn.Sequential(
                nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)
            )
        return nn.Sequential(
            *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
        )

    def task(module: Any, nn: Any, optim: Any) -> Task:
        model = build(nn)
        optimizer = optim.Adam(model.parameters(), lr=1e-3)
        x, y = module.tensor(a), module.tensor(labels)

        def step() -> None:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()

        return step

    from oxon import nn, optim

    tasks = {"oxon": task(ox, nn, optim)}
    if torch := lib.get("torch"):
        tasks["torch"] = task(torch, torch.nn, torch.optim)
    return tasks


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


def recurrent(lib: dict[str, Any], kind: str, batch: int, train: bool) -> dict[str, Task]:
    """An LSTM or GRU of 256 units over 64 steps of 64 features, forward or forward and backward."""
    np, ox = lib["numpy"], lib["oxon"]
    x = np.random.default_rng(0).standard_normal((64, batch, 64), dtype=np.float32)

    def task(module: Any, finish: Callable[[list[Any]], object]) -> Task:
        layer, given = getattr(module.nn, kind)(64, 256), module.tensor(x)
        parameters = list(layer.parameters())
        if not train:

            def forward() -> None:
                with module.no_grad():
                    finish([layer(given)[0]])

            return forward

        def step() -> None:
            for parameter in parameters:
                parameter.grad = None
            layer(given)[0].sum().backward()
            finish([parameter.grad for parameter in parameters])

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


def processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        return names[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def all_tasks(lib: dict[str, Any]) -> dict[str, Callable[[], dict[str, Task]]]:
    """Names of tasks to what makes them."""
    out: dict[str, Callable[[], dict[str, Task]]] = {}
    for n in (64, 128, 256, 512, 1024, 2048):
        out[f"matmul {n}"] = lambda n=n: matmul(lib, n, n, n)
        out[f"matmul {n} transposed"] = lambda n=n: matmul(lib, n, n, n, True)
    out["matmul 32x784x256"] = lambda: matmul(lib, 32, 784, 256, True)
    out["matmul 1x4096x4096"] = lambda: matmul(lib, 1, 4096, 4096, True)
    for name in ("add", "exp", "tanh", "chain", "sum", "chain+sum"):
        for label, count in (("64K", 1 << 16), ("1M", 1 << 20), ("16M", 1 << 24)):
            out[f"{name} {label}"] = lambda name=name, count=count: elementwise(lib, count, name)
    out["softmax 4096x1024"] = lambda: rows(lib, "softmax")
    out["layer norm 4096x1024"] = lambda: rows(lib, "layer norm")
    for name in ("(a + b).numpy()", "record a + b", "(w * w).sum().backward()"):
        out[f"8x8 {name}"] = lambda name=name: small(lib, name)
    for label, sizes in LAYERS.items():
        out[f"conv {label}"] = lambda sizes=sizes: convolution(lib, sizes, False)
        out[f"conv {label} and back"] = lambda sizes=sizes: convolution(lib, sizes, True)
    for label, (shape, causal) in HEADS.items():
        out[f"attention {label}"] = lambda shape=shape, causal=causal: attention(lib, shape, causal, False)
        out[f"attention {label} and back"] = lambda shape=shape, causal=causal: attention(
            lib, shape, causal, True
        )
    for kind in ("LSTM", "GRU"):
        for batch in (1, 32):
            for name, train in (("", False), (" and back", True)):
                out[f"{kind} b{batch}{name}"] = lambda kind=kind, batch=batch, train=train: recurrent(
                    lib, kind, batch, train
                )
    out["step mlp b128"] = lambda: training(lib, "mlp")
    out["step cnn b64"] = lambda: training(lib, "cnn")
    return out


def main() -> None:
    """Measure and print."""
    args = parse()
    lib = libraries(args.threads)
    info = lib["oxon"].build_info()
    if info["profile"] != "release":
        print("warning: oxon was built for development; install it with `pip install .`", file=sys.stderr)
    versions = ", ".join(
        f"{name} {lib[name].__version__}" for name in ("numpy", "torch", "jax") if name in lib
    )
    peers = [name for name in ("numpy", "torch", "torch nhwc", "jax") if name.split()[0] in lib]
    print(
        f"oxon {info['version']} ({info['isa']}) on {args.threads} threads; {versions}; {args.rounds} rounds"
    )
    print(f"{processor()}, {os.cpu_count()} processors, {datetime.date.today()}")
    print("time of the peer / time of oxon: median [95 % interval]\n")
    print(f"{'task':36}{'oxon':>12}" + "".join(f"{p:>24}" for p in peers))
    results = {}
    for name, make in all_tasks(lib).items():
        if not re.search(args.only, name):
            continue
        found = measure(make(), args.rounds)
        results[name] = found
        line = f"{name:36}{found['oxon'] * 1e6:10.1f}µs"
        for peer in peers:
            line += f"{'{:.2f} [{:.2f}, {:.2f}]'.format(*found[peer]):>24}" if peer in found else f"{'–':>24}"
        print(line, flush=True)
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"info": info, "threads": args.threads, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
