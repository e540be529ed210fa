"""Normalisation: over the batch, over the features of an example, over groups of channels, to unit length."""

from __future__ import annotations

from ..._core import ShapeError, group_norm, layer_norm
from ..._core import batch_norm as _batch_norm
from ..._core import batch_norm_train as _batch_norm_train
from ..._core import rms_norm as _rms_norm
from ...autograd import no_grad

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..._core import Tensor

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "normalize", "rms_norm"]


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / √(var + eps) · weight + bias for each channel.

    Args:
        x: `(N, C)` or `(N, C, *)`.
        running_mean, running_var: `(C,)`; used in evaluation, updated in training unless None.
        weight, bias: `(C,)` or None.
        training: whether mean and variance are the batch's (biased variance; the running one is unbiased).
        momentum: the share of the batch in the new running statistics.

    Raises:
        ShapeError: in training, when there is only one value for each channel.
    """
    if x.ndim < 2:
        raise ShapeError(f"batch_norm: expected (N, C, *), not {tuple(x.shape)}")
    if not training:
        if running_mean is None or running_var is None:
            raise ValueError("batch_norm: evaluation needs running_mean and running_var")
        return _batch_norm(x, weight, bias, running_mean, running_var, eps)
    count = x.numel() // max(x.shape[1], 1)
    if count == 1:
        raise ShapeError(
            f"batch_norm: training needs more than one value for each channel, not {tuple(x.shape)}"
        )
    y, mean, var = _batch_norm_train(x, weight, bias, eps)
    with no_grad():
        if running_mean is not None:
            running_mean.copy_(_moved(running_mean, mean, momentum))
        if running_var is not None:
            running_var.copy_(_moved(running_var, var * (count / max(count - 1, 1)), momentum))
    return y


def _moved(running: Tensor, batch: Tensor, momentum: float | Tensor) -> Tensor:
    return running * (1 - momentum) + batch * momentum


def instance_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`batch_norm` of each example on its own.

    Args:
        x: `(N, C, *)`.
        running_mean, running_var: `(C,)` or None; updated by the mean over the batch of each example's.
        use_input_stats: whether statistics are the example's or the running ones.
    """
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    if x.ndim < 3:
        raise ShapeError(f"instance_norm: expected (N, C, *), not {tuple(x.shape)}")
    n, c, *rest = x.shape
    count = x.numel() // max(n * c, 1)
    if count == 1:
        raise ShapeError(f"instance_norm: needs more than one value for each channel, not {tuple(x.shape)}")
    y, mean, var = _batch_norm_train(x.reshape((1, n * c, *rest)), None, None, eps)
    with no_grad():
        if running_mean is not None:
            running_mean.copy_(_moved(running_mean, mean.reshape((n, c)).mean(0), momentum))
        if running_var is not None:
            unbiased = var.reshape((n, c)).mean(0) * (count / max(count - 1, 1))
            running_var.copy_(_moved(running_var, unbiased, momentum))
    return _scaled(y.reshape(x.shape), weight, bias)


def _scaled(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """y · weight + bias, both along axis 1."""
    per_channel = (y.shape[1],) + (1,) * (y.ndim - 2)
    if weight is not None:
        y = y * weight.reshape(per_channel)
    return y if bias is None else y + bias.reshape(per_channel)


def rms_norm(
    x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """x / √(mean(x²) + eps) · weight, the mean over the last axes.

    Args:
        x: `(*, *normalized_shape)`.
        normalized_shape: the sizes of those axes.
        weight: `normalized_shape` or None.
        eps: None for the spacing of numbers at 1 in the dtype that it is computed in: x's, or under autocast
            float32.
    """
    return _rms_norm(x, normalized_shape, weight, eps)


def normalize(x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x / max(‖x‖ₚ, eps) along `dim`.

    >>> nn.functional.normalize(ox.tensor([[0.0, 4.0]])).tolist()
    [[0.0, 1.0]]
    """
    if p == 2:
        return x / (x * x).sum(dim, keepdim=True).clamp(min=eps * eps).sqrt()
    return x / x.norm(p, dim, keepdim=True).clamp(min=eps)
