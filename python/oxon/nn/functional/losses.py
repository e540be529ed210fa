"""Loss functions. Each is an elementwise loss that `reduction` turns into its mean or sum, or leaves."""

from __future__ import annotations

import math

from ..._core import ShapeError, clamp, exp, log, log1p, log_softmax, sqrt, where, xlogy
from ..._core import cross_entropy as _cross_entropy
from ..._core import nll_loss as _nll_loss
from ..._core import softplus as _softplus
from ._check import reduced, same_shape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..._core import Tensor

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_embedding_loss", "cosine_similarity",
    "cross_entropy", "gaussian_nll_loss", "hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss",
    "margin_ranking_loss", "mse_loss", "nll_loss", "pairwise_distance", "poisson_nll_loss",
    "smooth_l1_loss", "soft_margin_loss", "triplet_margin_loss",
]  # fmt: skip


# -- regression ------------------------------------------------------------------------------------


def mse_loss(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """(x - target)². Shapes must agree."""
    same_shape("mse_loss", x, target)
    error = x - target
    return reduced(error * error, reduction)


def l1_loss(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """|x - target|. Shapes must agree."""
    same_shape("l1_loss", x, target)
    return reduced((x - target).abs(), reduction)


def huber_loss(x: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """e² / 2 where e = |x - target| < δ, else δ (e - δ/2)."""
    if delta <= 0:
        raise ValueError(f"huber_loss: delta must be positive, not {delta}")
    same_shape("huber_loss", x, target)
    error = (x - target).abs()
    return reduced(where(error < delta, 0.5 * error * error, delta * (error - 0.5 * delta)), reduction)


def smooth_l1_loss(x: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """e² / 2β where e = |x - target| < β, else e - β/2; the L1 loss if β is 0."""
    if beta < 0:
        raise ValueError(f"smooth_l1_loss: beta must not be negative, not {beta}")
    if beta == 0:
        return l1_loss(x, target, reduction)
    same_shape("smooth_l1_loss", x, target)
    error = (x - target).abs()
    return reduced(where(error < beta, (0.5 / beta) * error * error, error - 0.5 * beta), reduction)


def poisson_nll_loss(
    x: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:
    """exp(x) - target x, or x - target log(x + eps) without `log_input`; `full` adds about log(target!)."""
    same_shape("poisson_nll_loss", x, target)
    loss = exp(x) - target * x if log_input else x - target * log(x + eps)
    if full:
        large = where(target > 1, target, 1.0)
        stirling = large * log(large) - large + 0.5 * log(2 * math.pi * large)
        loss = loss + where(target > 1, stirling, 0.0)
    return reduced(loss, reduction)


def gaussian_nll_loss(
    x: Tensor, target: Tensor, var: Tensor, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
    """(log v + (x - target)² / v) / 2 with v = max(var, eps); `full` adds log(2π) / 2.

    Args:
        var: the variances, of a shape that broadcasts to x's.
    """
    same_shape("gaussian_nll_loss", x, target)
    var = clamp(var, min=eps)
    error = x - target
    loss = 0.5 * (log(var) + error * error / var)
    return reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


# -- classification --------------------------------------------------------------------------------


def cross_entropy(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-Σ_c weight_c p_c log softmax(x)_c, where p is one at the target class, or the target itself.

    Args:
        x: logits `(N, C)`, `(N, C, *)` or `(C,)`.
        target: class indices `(N)`, `(N, *)` or `()`; or probabilities of x's shape.
        weight: `(C,)` or None. The mean over indices divides by the weights of the targets.
        ignore_index: examples of this index count neither in the loss nor in the mean; indices only.
        label_smoothing: ε in p (1 - ε) + ε / C.
    """
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"cross_entropy: label_smoothing must lie between 0 and 1, not {label_smoothing}")
    if x.ndim == 0:
        raise ShapeError("cross_entropy: logits need a class axis, (C,) or (N, C, *), not ()")
    if target.dtype.is_floating_point:
        return _cross_entropy_probabilities(x, target, weight, reduction, label_smoothing)
    if x.ndim > 1:
        return _cross_entropy(x, target, weight, ignore_index, reduction, label_smoothing)
    if target.ndim:
        raise ShapeError(
            f"cross_entropy: logits {tuple(x.shape)} need a target of shape (), not {tuple(target.shape)}"
        )
    loss = _cross_entropy(
        x.unsqueeze(0), target.unsqueeze(0), weight, ignore_index, reduction, label_smoothing
    )
    return loss.squeeze(0) if reduction == "none" else loss


def _cross_entropy_probabilities(
    x: Tensor, target: Tensor, weight: Tensor | None, reduction: str, label_smoothing: float
) -> Tensor:
    same_shape("cross_entropy", x, target)
    axis = 1 if x.ndim > 1 else 0
    classes = x.shape[axis]
    if label_smoothing:
        target = target * (1.0 - label_smoothing) + label_smoothing / max(classes, 1)
    loss = target * log_softmax(x, axis)
    if weight is not None:
        if tuple(weight.shape) != (classes,):
            raise ShapeError(f"cross_entropy: weight {tuple(weight.shape)} is not ({classes},)")
        loss = loss * weight.reshape((classes,) + (1,) * (x.ndim - 1 - axis))
    return reduced(-loss.sum(axis), reduction)


def nll_loss(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """-weight_t x_t at the target class t.

    Args:
        x: log-probabilities `(N, C)`, `(N, C, *)` or `(C,)`.
        target: class indices `(N)`, `(N, *)` or `()`.
        weight, ignore_index: as in `cross_entropy`.
    """
    if x.ndim == 1 and target.ndim == 0:
        loss = _nll_loss(x.unsqueeze(0), target.unsqueeze(0), weight, ignore_index, reduction)
        return loss.squeeze(0) if reduction == "none" else loss
    return _nll_loss(x, target, weight, ignore_index, reduction)


def _clamped_log(p: Tensor) -> Tensor:
    """max(log p, -100), with gradient 1/p down to the smallest p for which that is finite, else 0."""
    inside = p > (1e-4 if p.dtype.itemsize == 2 else 1e-37)
    return where(inside, log(where(inside, p, 1.0)), clamp(log(p.detach()), min=-100.0))


def _clamped_log1m(p: Tensor) -> Tensor:
    """max(log(1 - p), -100), with gradient -1/(1 - p), which is 0 from p = 1 on."""
    inside = p < 1.0
    return where(inside, log1p(-where(inside, p, 0.0)), clamp(log1p(-p.detach()), min=-100.0))


def binary_cross_entropy(
    x: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """-weight (t log x + (1 - t) log(1 - x)) for probabilities x, each logarithm at least -100.

    Args:
        x: probabilities; outside [0, 1] the loss is NaN.
        target: of x's shape, between 0 and 1.
        weight: of a shape that broadcasts to x's, or None.
    """
    same_shape("binary_cross_entropy", x, target)
    loss = (target - 1.0) * _clamped_log1m(x) - target * _clamped_log(x)
    return reduced(loss if weight is None else loss * weight, reduction)


def binary_cross_entropy_with_logits(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """`binary_cross_entropy` of σ(x), without overflow: (1 - t) x + log(1 + exp(-x)).

    Args:
        x: logits.
        target: of x's shape, between 0 and 1.
        weight: of a shape that broadcasts to x's, or None.
        pos_weight: multiplies the loss of the positive class; broadcasts to x's shape.
    """
    same_shape("binary_cross_entropy_with_logits", x, target)
    if pos_weight is None:
        loss = (1.0 - target) * x + _softplus(-x)
    else:
        loss = (1.0 - target) * x + (1.0 + (pos_weight - 1.0) * target) * _softplus(-x)
    return reduced(loss if weight is None else loss * weight, reduction)


def kl_div(x: Tensor, target: Tensor, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """target (log target - x), the divergence of the target from the model whose log-probabilities are x.

    Args:
        x: log-probabilities.
        target: probabilities, or log-probabilities with `log_target`.
        reduction: also "batchmean", the sum over everything divided by the first size.
    """
    same_shape("kl_div", x, target)
    loss = exp(target) * (target - x) if log_target else xlogy(target, target) - target * x
    if reduction == "batchmean":
        return loss.sum() / x.shape[0] if x.ndim else loss
    return reduced(loss, reduction)


def soft_margin_loss(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """log(1 + exp(-target x)) for targets 1 and -1."""
    same_shape("soft_margin_loss", x, target)
    return reduced(_softplus(-target * x), reduction)


# -- distances and rankings ------------------------------------------------------------------------


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x₁ · x₂ / (max(‖x₁‖, eps) max(‖x₂‖, eps)) along `dim`.

    >>> nn.functional.cosine_similarity(ox.tensor([[2.0, 0.0]]), ox.tensor([[-3.0, 0.0]])).tolist()
    [-1.0]
    """
    least = eps * eps
    norm1 = sqrt(clamp((x1 * x1).sum(dim), min=least))
    norm2 = sqrt(clamp((x2 * x2).sum(dim), min=least))
    return (x1 * x2).sum(dim) / (norm1 * norm2)


def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """‖x₁ - x₂ + eps‖ₚ along the last axis."""
    gap = (x1 - x2 + eps).abs()
    if p == 2:
        return sqrt((gap * gap).sum(-1, keepdim=keepdim))
    if p == 1:
        return gap.sum(-1, keepdim=keepdim)
    if p == math.inf:
        return gap.amax(-1, keepdim=keepdim)
    return (gap**p).sum(-1, keepdim=keepdim) ** (1.0 / p)


def hinge_embedding_loss(x: Tensor, target: Tensor, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """x where the target is 1, max(0, margin - x) where it is -1."""
    same_shape("hinge_embedding_loss", x, target)
    return reduced(where(target == 1, x, clamp(margin - x, min=0.0)), reduction)


def margin_ranking_loss(
    x1: Tensor, x2: Tensor, target: Tensor, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """max(0, -target (x₁ - x₂) + margin): the target is 1 where x₁ should rank higher, else -1."""
    same_shape("margin_ranking_loss", x1, x2)
    same_shape("margin_ranking_loss", x1, target)
    return reduced(clamp(margin - target * (x1 - x2), min=0.0), reduction)


def cosine_embedding_loss(
    x1: Tensor, x2: Tensor, target: Tensor, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """1 - cos(x₁, x₂) where the target is 1, max(0, cos(x₁, x₂) - margin) where it is -1.

    Args:
        x1, x2: `(N, D)` or `(D,)`.
        target: `(N,)` or `()`.
    """
    same_shape("cosine_embedding_loss", x1, x2)
    similarity = cosine_similarity(x1, x2, dim=-1)
    same_shape("cosine_embedding_loss", similarity, target)
    return reduced(where(target == 1, 1.0 - similarity, clamp(similarity - margin, min=0.0)), reduction)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin + d(anchor, positive) - d(anchor, negative)) with d the `pairwise_distance`.

    Args:
        anchor, positive, negative: `(N, D)` or `(D,)`.
        swap: take the negative's distance to the positive where that is smaller.
    """
    same_shape("triplet_margin_loss", anchor, positive)
    same_shape("triplet_margin_loss", anchor, negative)
    near = pairwise_distance(anchor, positive, p, eps)
    far = pairwise_distance(anchor, negative, p, eps)
    if swap:
        other = pairwise_distance(positive, negative, p, eps)
        far = where(other < far, other, far)
    return reduced(clamp(margin + near - far, min=0.0), reduction)
