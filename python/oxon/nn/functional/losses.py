"""Loss functions. Each is an elementwise loss that `reduction` turns into its mean or sum, or leaves."""

from __future__ import annotations

import math

from ..._core import (
    _autocast,
    binary_cross_entropy,
    cross_entropy,
    exp,
    l1_loss,
    log,
    mse_loss,
    nll_loss,
    softplus,
    where,
)
from ..._core import binary_cross_entropy_with_logits as _binary_cross_entropy_with_logits
from ..._core import huber_loss as _huber_loss
from ..._core import kl_div as _kl_div
from ..._core import smooth_l1_loss as _smooth_l1_loss
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


def huber_loss(x: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """e² / 2 where e = |x - target| < δ, else δ (e - δ/2). Shapes must agree."""
    return _huber_loss(x, target, delta, reduction)


def smooth_l1_loss(x: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """e² / 2β where e = |x - target| < β, else e - β/2; the L1 loss if β is 0. Shapes must agree."""
    return _smooth_l1_loss(x, target, beta, reduction)


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
    x, target = _autocast("poisson_nll_loss", x, target)
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
    x, target, var = _autocast("gaussian_nll_loss", x, target, var)
    var = var.clamp(min=eps)
    error = x - target
    loss = 0.5 * (log(var) + error * error / var)
    return reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


# -- classification --------------------------------------------------------------------------------


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
    return _binary_cross_entropy_with_logits(x, target, weight, pos_weight, reduction)


def kl_div(x: Tensor, target: Tensor, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """target (log target - x), the divergence of the target from the model whose log-probabilities are x.

    Args:
        x: log-probabilities.
        target: probabilities, or log-probabilities with `log_target`.
        reduction: also "batchmean", the sum over everything divided by the first size.
    """
    return _kl_div(x, target, log_target, reduction)


def soft_margin_loss(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """log(1 + exp(-target x)) for targets 1 and -1."""
    same_shape("soft_margin_loss", x, target)
    x, target = _autocast("soft_margin_loss", x, target)
    return reduced(softplus(-target * x), reduction)


# -- distances and rankings ------------------------------------------------------------------------


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x₁ · x₂ / (max(‖x₁‖, eps) max(‖x₂‖, eps)) along `dim`.

    >>> nn.functional.cosine_similarity(ox.tensor([[2.0, 0.0]]), ox.tensor([[-3.0, 0.0]])).tolist()
    [-1.0]
    """
    x1, x2 = _autocast("cosine_similarity", x1, x2)
    least = eps * eps
    norm1 = (x1 * x1).sum(dim).clamp(min=least).sqrt()
    norm2 = (x2 * x2).sum(dim).clamp(min=least).sqrt()
    return (x1 * x2).sum(dim) / (norm1 * norm2)


def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """‖x₁ - x₂ + eps‖ₚ along the last axis."""
    x1, x2 = _autocast("pairwise_distance", x1, x2)
    gap = (x1 - x2 + eps).abs()
    if p == 2:
        return (gap * gap).sum(-1, keepdim=keepdim).sqrt()
    return gap.norm(p, -1, keepdim)


def hinge_embedding_loss(x: Tensor, target: Tensor, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """x where the target is 1, max(0, margin - x) where it is -1."""
    same_shape("hinge_embedding_loss", x, target)
    x, target = _autocast("hinge_embedding_loss", x, target)
    return reduced(where(target == 1, x, (margin - x).clamp(min=0.0)), reduction)


def margin_ranking_loss(
    x1: Tensor, x2: Tensor, target: Tensor, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """max(0, -target (x₁ - x₂) + margin): the target is 1 where x₁ should rank higher, else -1."""
    same_shape("margin_ranking_loss", x1, x2)
    same_shape("margin_ranking_loss", x1, target)
    x1, x2, target = _autocast("margin_ranking_loss", x1, x2, target)
    return reduced((margin - target * (x1 - x2)).clamp(min=0.0), reduction)


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
    return reduced(where(target == 1, 1.0 - similarity, (similarity - margin).clamp(min=0.0)), reduction)


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
    return reduced((margin + near - far).clamp(min=0.0), reduction)
