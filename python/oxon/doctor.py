"""What `python -m oxon doctor` does: it says what was found, holds kernels of each family on each device
against plain Python and against the CPU, and measures. Tests and benchmarks are elsewhere."""

from __future__ import annotations

import platform
from time import perf_counter

from . import _core, hardware

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ._core import Tensor


def examine(only: str | None = None) -> int:
    """Print the report and give the exit code: 0 if the CPU and every usable GPU, or the device that `only`
    names, compute what they should.

    >>> from oxon import doctor
    >>> doctor.examine("cpu")  # doctest: +ELLIPSIS
    oxon ...
    0
    """
    build = _core.build_info()
    gpu = "with GPU support" if build["gpu"] else "without GPU support"
    print(f"oxon {build['version']}, {build['profile']} build {gpu}, Python {platform.python_version()}")
    print(f"{platform.system()} {platform.release()}, {platform.machine()}")
    try:
        asked = [] if only is None else [_core.zeros(0, device=only).device]
        found = [hardware.cpu()] if asked == ["cpu"] else hardware.devices()
    except _core.DeviceError as error:
        print(f"\n{error}")
        if only is not None:
            return 1
        # Drivers that crash leave the CPU as it is, but `"gpu"` is broken.
        return _examine(hardware.cpu()) or 1
    failed = 0
    for device in found:
        if not asked or device.device in asked:
            failed += _examine(device, named=bool(asked))
    if not asked and len(found) == 1:
        print("\nno GPU: the system shows no adapter")
    return 1 if failed else 0


def _examine(device: hardware.Cpu | hardware.Gpu, named: bool = False) -> int:
    """Prints what a device is, can and does; how many families failed."""
    print(f"\n{device}")
    if isinstance(device, hardware.Gpu) and not device.usable and not named:
        print(f'  not tested; --device "{device.device}" does')
        return 0
    failed = 0
    for name, (call, truth) in FAMILIES.items():
        try:
            wrong = _compare(call, truth, device.device)
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
        print(f"  {name:12} {wrong or 'ok'}")
        failed += bool(wrong)
    if not failed:
        print(f"  matmul {_products(device.device):10.1f} GFLOP/s")
        print(f"  copy   {_copies(device.device):10.1f} GB/s")
    return failed


def _numbers(*shape: int) -> Tensor:
    return _core.randn(*shape, generator=_core.Generator(len(shape)), device="cpu")


def _rows(x: Tensor) -> list[list[float]]:
    rows: list[list[float]] = x.tolist()
    return rows


def _true_elementwise(x: Tensor) -> list[float]:
    from math import exp, tanh

    return [tanh(v * 2 - 1) + exp(-v * v) for row in _rows(x) for v in row]


def _true_matmul(x: Tensor) -> list[float]:
    rows = _rows(x)
    return [sum(a * b for a, b in zip(one, other, strict=True)) for one in rows for other in rows]


def _true_conv(x: Tensor) -> list[float]:
    """The sum over each 3×3 window, with the weights of `_kernel`."""
    rows, kernel, size = _rows(x), _rows(_kernel()), len(_rows(x))
    return [
        sum(kernel[a][b] * rows[i + a][j + b] for a in range(3) for b in range(3))
        for i in range(size - 2)
        for j in range(len(rows[0]) - 2)
    ]


def _true_softmax(x: Tensor) -> list[float]:
    from math import exp

    return [exp(v) / sum(map(exp, row)) for row in _rows(x) for v in row]


def _true_scan(x: Tensor) -> list[float]:
    from itertools import accumulate

    return [v for row in _rows(x) for v in accumulate(row)]


def _true_norm(x: Tensor) -> list[float]:
    found: list[float] = []
    for row in _rows(x):
        mean = sum(row) / len(row)
        variance = sum((v - mean) ** 2 for v in row) / len(row)
        found += [(v - mean) / (variance + 1e-5) ** 0.5 for v in row]
    return found


def _true_pool(x: Tensor) -> list[float]:
    rows = _rows(x)
    return [
        max(rows[i][j], rows[i][j + 1], rows[i + 1][j], rows[i + 1][j + 1])
        for i in range(0, len(rows) - 1, 2)
        for j in range(0, len(rows[0]) - 1, 2)
    ]


def _attend(x: Tensor) -> Tensor:
    from .nn.functional import scaled_dot_product_attention

    q = x[None, None]
    return scaled_dot_product_attention(q, q, q, scale=0.1)


def _true_attention(x: Tensor) -> list[float]:
    from math import exp

    rows, found = _rows(x), []
    for q in rows:
        weights = [exp(0.1 * sum(a * b for a, b in zip(q, k, strict=True))) for k in rows]
        for column in zip(*rows, strict=True):
            found.append(sum(w * v for w, v in zip(weights, column, strict=True)) / sum(weights))
    return found


def _integers(x: Tensor) -> Tensor:
    """int64, beyond 32 bits."""
    return ((x * 1000).trunc().long() * 123_456_789_012 // 7 % 1000).float()


def _true_integers(x: Tensor) -> list[float]:
    from math import trunc

    whole = [trunc(v) for row in _rows((x * 1000).cpu()) for v in row]
    return [float(v * 123_456_789_012 // 7 % 1000) for v in whole]


def _scatter(x: Tensor) -> Tensor:
    """Rows added up in pairs, as the gradient of an embedding is."""
    index = (_core.arange(x.shape[0], device=x.device) // 2)[:, None].expand(x.shape[0], x.shape[1])
    return _core.zeros_like(x).scatter_add(0, index, x)


def _true_scatter(x: Tensor) -> list[float]:
    rows = _rows(x)
    empty = [0.0] * len(rows[0])
    pairs = [[*rows, empty][i : i + 2] for i in range(0, len(rows), 2)]
    sums = [[a + b for a, b in zip(*pair, strict=True)] for pair in pairs]
    return [v for row in sums + [empty] * (len(rows) - len(sums)) for v in row]


def _gradient(x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    gradient = _core._grad([x.tanh().sum()], [x])[0]
    assert gradient is not None
    return gradient


def _true_gradient(x: Tensor) -> list[float]:
    from math import tanh

    return [1 - tanh(v) ** 2 for row in _rows(x) for v in row]


def _kernel() -> Tensor:
    return _core.arange(9, dtype="float32", device="cpu").reshape(3, 3) / 9 - 0.5


def _order(x: Tensor) -> Tensor:
    """Rows backwards, as indices."""
    return _core.arange(x.shape[0] - 1, -1, -1, device=x.device)


# Of each family what runs, and what it gives by the definition in Python's float64, as one list.
FAMILIES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], list[float]]]] = {
    "elementwise": (lambda x: (x * 2 - 1).tanh() + (-x * x).exp(), _true_elementwise),
    "matmul": (lambda x: x @ x.mT, _true_matmul),
    "conv": (lambda x: _core.conv2d(x[None, None], _kernel().to(x.device)[None, None]), _true_conv),
    "reduce": (lambda x: x.sum(-1), lambda x: [sum(row) for row in _rows(x)]),
    "softmax": (lambda x: x.softmax(-1), _true_softmax),
    "take": (
        lambda x: _core.take(x, _order(x), 0),
        lambda x: [v for row in _rows(x)[::-1] for v in row],
    ),
    "scatter": (_scatter, _true_scatter),
    "scan": (lambda x: x.cumsum(-1), _true_scan),
    "norm": (lambda x: _core.layer_norm(x, (x.shape[-1],)), _true_norm),
    "pool": (lambda x: _core.max_pool2d(x[None, None], 2), _true_pool),
    "attention": (_attend, _true_attention),
    "integers": (_integers, _true_integers),
    "gradient": (_gradient, _true_gradient),
    "sort": (lambda x: x.sort(-1)[0], lambda x: [v for row in _rows(x) for v in sorted(row)]),
}


def _compare(
    call: Callable[[Tensor], Tensor], truth: Callable[[Tensor], list[float]], device: str
) -> str | None:
    """What is wrong with a family on a device: it is held against the definition, a GPU also against the CPU
    on a larger tensor."""
    small = _numbers(13, 37)
    wrong = _distance(call(small.to(device)), _core.tensor(truth(small), dtype="float32", device="cpu"))
    if wrong is None and device != "cpu":
        large = _numbers(150, 131)
        wrong = _distance(call(large.to(device)), call(large))
    return wrong


def _distance(got: Tensor, want: Tensor) -> str | None:
    got, want = got.cpu().reshape(-1), want.reshape(-1)
    error = (got - want).abs().amax().item()
    bound = 1e-4 * max(1.0, want.abs().amax().item())
    return None if error <= bound else f"WRONG: off by {error:.3g} where {bound:.3g} is allowed"


def _best(call: Callable[[], Tensor], device: str) -> float:
    """Seconds of a call that gives a new tensor; a GPU works through several before it is waited for."""
    best, times = float("inf"), 1
    until = perf_counter() + 1.0
    for _ in range(20):
        start = perf_counter()
        for _ in range(times):
            _core.flush([call()])
        _core.synchronize()
        spent = perf_counter() - start
        best = min(best, spent / times)
        if perf_counter() > until:
            break
        if device != "cpu" and spent < 0.05:
            times = min(4 * times, 64)
    return best


def _products(device: str) -> float:
    """GFLOP/s of a square product."""
    size = 256
    best = 0.0
    while True:
        seconds = _product(size, device)
        best = max(best, 2 * size**3 / seconds / 1e9)
        # Larger ones are faster until they take too long.
        if seconds > 0.02 or size >= 4096:
            return best
        size *= 2


def _product(size: int, device: str) -> float:
    x = _core.rand(size, size, device=device)
    return _best(lambda: x @ x, device)


def _copies(device: str) -> float:
    """GB/s, read and written, of a copy."""
    x = _core.rand(16 << 20, device=device)
    return 2 * x.nbytes / _best(lambda: x.clone(), device) / 1e9
