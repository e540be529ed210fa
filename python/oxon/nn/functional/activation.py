"""Activation functions, written in elementwise operations so that the core fuses each into one loop."""

from __future__ import annotations

from ..._core import (
    ShapeError,
    expm1,
    gelu_tanh,
    log_softmax,
    logsigmoid,
    relu,
    sigmoid,
    silu,
    softmax,
    tanh,
    where,
)
from ..._core import gelu as _gelu
from ..._core import softplus as _softplus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..._core import Tensor
    from ..._core import dtype as DType

__all__ = [
    "celu", "elu", "gelu", "glu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu",
    "log_softmax", "logsigmoid", "mish", "prelu", "relu", "relu6", "selu", "sigmoid", "silu", "softmax",
    "softmin", "softplus", "softshrink", "softsign", "tanh", "tanhshrink", "threshold",
]  # fmt: skip

# Fixed points of the map of mean 0 and variance 1 (Klambauer et al., 2017, https://arxiv.org/abs/1706.02515).
_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else `negative_slope` x."""
    return where(x > 0, x, x * negative_slope)


def prelu(x: Tensor, weight: Tensor) -> Tensor:
    """x where x > 0, else w x, with one learned w or one for each channel (axis 1).

    Args:
        x: `(N, C, *)`, or any shape if `weight` holds one number.
        weight: `(C,)` or `(1,)`.
    """
    if weight.numel() != 1:
        channels = x.shape[1] if x.ndim > 1 else 1
        if tuple(weight.shape) != (channels,):
            raise ShapeError(
                f"prelu: weight {tuple(weight.shape)} needs one number, or one for each of the {channels} "
                f"channels of the input {tuple(x.shape)}"
            )
        weight = weight.reshape((channels,) + (1,) * (x.ndim - 2))
    return where(x > 0, x, x * weight)


def _expm1_below_zero(x: Tensor, positive: Tensor) -> Tensor:
    """expm1(x) where x ≤ 0, else 0; what is not used never overflows, so its gradient is 0 and not NaN."""
    return expm1(where(positive, 0.0, x))


def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else α (exp(x) - 1)."""
    positive = x > 0
    return where(positive, x, alpha * _expm1_below_zero(x, positive))


def selu(x: Tensor) -> Tensor:
    """λ elu(x, α) with the constants that keep mean 0 and variance 1."""
    return _SELU_SCALE * elu(x, _SELU_ALPHA)


def celu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else α (exp(x/α) - 1)."""
    if alpha == 0:
        raise ValueError("celu: alpha must not be 0")
    positive = x > 0
    return where(positive, x, alpha * _expm1_below_zero(x / alpha, positive))


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x Φ(x), with Φ the normal distribution's, or its approximation through tanh.

    Args:
        approximate: "none" for the exact form, "tanh" for the approximation.
    """
    if approximate == "none":
        return _gelu(x)
    if approximate == "tanh":
        return gelu_tanh(x)
    raise ValueError(f"gelu: approximate must be 'none' or 'tanh', not {approximate!r}")


def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(β x)) / β, and x itself where β x > `threshold`."""
    scaled = x if beta == 1 else x * beta
    smooth = _softplus(scaled)
    return where(scaled > threshold, x, smooth if beta == 1 else smooth / beta)


def softsign(x: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return x / (1.0 + x.abs())


def tanhshrink(x: Tensor) -> Tensor:
    """x - tanh(x)."""
    return x - tanh(x)


def softshrink(x: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by λ: x - λ above λ, x + λ below -λ, 0 between."""
    if lambd < 0:
        raise ValueError(f"softshrink: lambd must not be negative, not {lambd}")
    return where(x > lambd, x - lambd, where(x < -lambd, x + lambd, x * 0.0))


def hardshrink(x: Tensor, lambd: float = 0.5) -> Tensor:
    """x where |x| > λ, else 0."""
    return where(x.abs() <= lambd, 0.0, x)


def hardtanh(x: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """x kept between `min_val` and `max_val`; at and beyond the bounds the gradient is 0."""
    if min_val > max_val:
        raise ValueError(f"hardtanh: min_val {min_val} lies above max_val {max_val}")
    return where(x <= min_val, min_val, where(x >= max_val, max_val, x))


def relu6(x: Tensor) -> Tensor:
    """min(max(x, 0), 6)."""
    return hardtanh(x, 0.0, 6.0)


def hardsigmoid(x: Tensor) -> Tensor:
    """relu6(x + 3) / 6, a sigmoid of three straight lines."""
    return relu6(x + 3.0) / 6.0


def hardswish(x: Tensor) -> Tensor:
    """x relu6(x + 3) / 6."""
    return x * relu6(x + 3.0) / 6.0


def mish(x: Tensor) -> Tensor:
    """x tanh(log(1 + exp(x)))."""
    return x * tanh(_softplus(x))


def threshold(x: Tensor, threshold: float, value: float) -> Tensor:
    """x where x > `threshold`, else `value`."""
    return where(x <= threshold, value, x)


def softmin(x: Tensor, dim: int, dtype: DType | None = None) -> Tensor:
    """softmax(-x) along `dim`."""
    return softmax(-x, dim, dtype=dtype)


def glu(x: Tensor, dim: int = -1) -> Tensor:
    """a σ(b), where a and b are the two halves of x along `dim`."""
    size = x.shape[dim]
    if size % 2:
        raise ShapeError(f"glu: axis {dim} of {tuple(x.shape)} cannot be halved")
    a, b = x.chunk(2, dim)
    return a * sigmoid(b)
