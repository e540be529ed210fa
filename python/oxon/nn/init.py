"""Starting values for parameters: each function binds the given tensor to new values and returns it.

Names and defaults are those of `torch.nn.init`. All take `generator=` for a stream of random numbers
of their own. Layers call `default_`.
"""

from __future__ import annotations

import math

from .._core import Tensor, erfinv, eye, float64, full_like, randn
from ..autograd import no_grad

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._core import Generator


def _bind(tensor: Tensor, value: Tensor) -> Tensor:
    with no_grad():
        return tensor.copy_(value)


# -- plain distributions ---------------------------------------------------------------------------


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform in [a, b).

    >>> w = nn.init.uniform_(ox.empty(1000), -1, 1)
    >>> bool((w >= -1).all()), bool((w < 1).all())
    (True, True)
    """
    with no_grad():
        return tensor.uniform_(a, b, generator=generator)


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Normal with `mean` and standard deviation `std`."""
    with no_grad():
        return tensor.normal_(mean, std, generator=generator)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Normal with `mean` and `std`, given that it lies in [a, b].

    Draws p uniformly between the two bounds' cumulative probabilities and takes the value whose
    cumulative probability is p: mean + std √2 erf⁻¹(2p - 1).
    """
    if not std > 0:
        raise ValueError(f"trunc_normal_: std must be positive, not {std}")
    low, high = (math.erf((bound - mean) / (std * math.sqrt(2.0))) for bound in (a, b))
    with no_grad():
        p = tensor.uniform_(low, high, generator=generator)
        return tensor.copy_((erfinv(p) * (std * math.sqrt(2.0)) + mean).clamp(a, b))


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Everywhere `val`."""
    return _bind(tensor, full_like(tensor, val))


def zeros_(tensor: Tensor) -> Tensor:
    """Everywhere 0."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Everywhere 1."""
    return constant_(tensor, 1.0)


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix; a matrix that is not square is padded with zeros."""
    if tensor.ndim != 2:
        raise ValueError(f"eye_: expected a matrix, not {tuple(tensor.shape)}")
    rows, columns = tensor.shape
    return _bind(tensor, eye(rows, columns, dtype=tensor.dtype, device=tensor.device))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A convolution's weight that passes channels on unchanged, group by group.

    Args:
        tensor: `(K, C, *)` of 3 to 5 axes.
    """
    if not 3 <= tensor.ndim <= 5 or groups < 1 or tensor.shape[0] % groups:
        raise ValueError(f"dirac_: {tuple(tensor.shape)} is not a convolution's weight of {groups} groups")
    rows, columns = tensor.shape[0] // groups, tensor.shape[1]
    value = full_like(tensor, 0.0).detach()
    centre = tuple(size // 2 for size in tensor.shape[2:])
    unit = eye(rows, columns, dtype=tensor.dtype, device=tensor.device)
    for group in range(groups):
        value[(slice(group * rows, (group + 1) * rows), slice(None), *centre)] = unit
    return _bind(tensor, value)


# -- by fan ----------------------------------------------------------------------------------------


def _fans(tensor: Tensor) -> tuple[int, int]:
    """How many inputs an output sums, and how many outputs an input reaches."""
    if tensor.ndim < 2:
        raise ValueError(f"fan in and fan out need at least two axes, not {tuple(tensor.shape)}")
    window = math.prod(tensor.shape[2:])
    return tensor.shape[1] * window, tensor.shape[0] * window


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which weights grow to make up for what an activation takes from the variance.

    Args:
        nonlinearity: "linear", "conv1d", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu" or "selu".
        param: the negative slope of leaky ReLU, 0.01 if None.

    >>> nn.init.calculate_gain("tanh")
    1.6666666666666667
    """
    if nonlinearity in ("linear", "conv1d", "conv2d", "conv3d", "sigmoid"):
        return 1.0
    if nonlinearity == "tanh":
        return 5.0 / 3.0
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        return math.sqrt(2.0 / (1.0 + slope * slope))
    if nonlinearity == "selu":
        return 0.75
    raise ValueError(f"calculate_gain: unknown nonlinearity {nonlinearity!r}")


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform in ±gain √(6 / (fan in + fan out)) (Glorot and Bengio, 2010)."""
    bound = gain * math.sqrt(6.0 / max(sum(_fans(tensor)), 1))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with standard deviation gain √(2 / (fan in + fan out)) (Glorot and Bengio, 2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / max(sum(_fans(tensor)), 1)), generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode must be 'fan_in' or 'fan_out', not {mode!r}")
    fan = _fans(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fan, 1))


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform in ±√3 gain / √fan (He et al., 2015, https://arxiv.org/abs/1502.01852).

    Args:
        a: the negative slope of the leaky ReLU that follows.
        mode: "fan_in" keeps the variance of activations, "fan_out" that of gradients.
        nonlinearity: what follows; see `calculate_gain`.
    """
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Normal with standard deviation gain / √fan; arguments as `kaiming_uniform_`'s."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def default_(weight: Tensor, bias: Tensor | None = None) -> None:
    """How linear and convolution layers start: both uniform in ±1/√(fan in)."""
    fan_in, _ = _fans(weight)
    bound = 1.0 / math.sqrt(fan_in) if fan_in else 0.0
    uniform_(weight, -bound, bound)
    if bias is not None:
        uniform_(bias, -bound, bound)


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """A random matrix with orthonormal rows or columns, whichever are fewer, times `gain`.

    The orthogonal factor U Vᵀ of a normal matrix U S Vᵀ, which is uniformly distributed, found by the
    Newton-Schulz iteration X ← X (3 I - Xᵀ X) / 2: it brings every singular value between 0 and √3 to 1.
    (Saxe et al., 2013, https://arxiv.org/abs/1312.6120)

    Args:
        tensor: of at least two axes; all but the first count as columns.
    """
    if tensor.ndim < 2:
        raise ValueError(f"orthogonal_: needs at least two axes, not {tuple(tensor.shape)}")
    if tensor.numel() == 0:
        return tensor
    rows = tensor.shape[0]
    columns = tensor.numel() // rows
    tall = max(rows, columns), min(rows, columns)
    # On the CPU, the only device with the float64 that the iteration needs to end.
    x = randn(tall, dtype=float64, device="cpu", generator=generator)
    unit = eye(tall[1], dtype=x.dtype, device="cpu")
    with no_grad():
        x = x / (x * x).sum().sqrt()
        for _ in range(100):
            gram = x.mT @ x
            if float((gram - unit).abs().amax().item()) < 1e-12:
                break
            x = x @ (1.5 * unit - 0.5 * gram)
        x = x if rows >= columns else x.mT
        return tensor.copy_((x.reshape(tuple(tensor.shape)) * gain).to(tensor.dtype))
