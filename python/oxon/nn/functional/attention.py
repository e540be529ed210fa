"""Attention: the core's kernel, or where that cannot be matrix products, masks and softmax."""

from __future__ import annotations

from ... import _core
from ..._core import (
    DTypeError,
    ShapeError,
    Tensor,
    _attention,
    _autocast,
    arange,
    dropout,
    is_grad_enabled,
    matmul,
    softmax,
    where,
)
from ._check import probability

NAME = "scaled_dot_product_attention"
INFINITY = float("inf")


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(scale Q Kᵀ + mask) V (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762).

    The scores are never all in memory, which grows with L + S only, forward and backward, and half floats are
    computed in float32. With dropout, and where the mask requires a gradient, it is composed of other
    operations, and the scores are `(*, L, S)` in memory.

    Args:
        query, key, value: floats `(*, L, E)`, `(*, S, E)` and `(*, S, V)`; the leading axes broadcast.
        attn_mask: broadcasts to `(*, L, S)`; bool, True where a query may look at a key, or floats that are
            added to the scores. A query that may look at no key gives zeros.
        dropout_p: with which probability weights are dropped, whether or not there is training.
        is_causal: query i sees the keys 0 to i; not together with `attn_mask`.
        scale: 1/√E if None.
        enable_gqa: whether the heads of queries `(*, H, L, E)` share the fewer heads of keys and values, as
            many neighbours each (Ainslie et al., 2023, https://arxiv.org/abs/2305.13245).

    Returns:
        `(*, L, V)`.

    Raises:
        ShapeError: when the sizes do not fit.
        DTypeError: when the three are not of one floating-point dtype, or the mask not bool or float.
        ValueError: when there are both a mask and `is_causal`.

    >>> q, k, v = ox.randn(2, 8, 5, 16), ox.randn(2, 8, 7, 16), ox.randn(2, 8, 7, 4)
    >>> nn.functional.scaled_dot_product_attention(q, k, v).shape
    (2, 8, 5, 4)
    """
    query, key, value = _autocast("attention", query, key, value)
    check(query, key, value)
    probability(NAME, dropout_p)
    if is_causal and attn_mask is not None:
        raise ValueError(
            f"{NAME}: a mask and is_causal exclude each other; put the causal part into the mask"
        )
    if enable_gqa:
        key, value = (shared(NAME, query, x) for x in (key, value))
    mask, dead = attn_mask, None
    if mask is not None:
        check_mask(NAME, "attn_mask", mask)
    learned = mask is not None and mask.requires_grad and is_grad_enabled()
    if not dropout_p and not learned:
        factor = query.shape[-1] ** -0.5 if scale is None else scale
        return _attention(query, key, value, mask, is_causal, factor)
    if mask is not None:
        # A row of -inf has no softmax: such queries look everywhere, and their outcome is dropped.
        if is_bool(mask):
            dead = mask.any(-1, keepdim=True).logical_not()
            mask = mask.logical_or(dead)
        else:
            dead = (mask == -INFINITY).all(-1, keepdim=True)
            mask = where(dead, 0.0, mask)
    weights = attention_weights(query, key, mask, is_causal, scale)
    if dropout_p:
        weights = dropout(weights, dropout_p)
    out = weights @ value
    return out if dead is None else where(dead, 0.0, out)


def attention_weights(
    query: Tensor, key: Tensor, mask: Tensor | None, is_causal: bool = False, scale: float | None = None
) -> Tensor:
    """The softmax of scaled and masked scores, `(*, L, S)`; a row without any key is NaN."""
    scores = matmul(query, key.mT) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        try:
            scores = where(mask, scores, -INFINITY) if is_bool(mask) else scores + mask.to(scores.dtype)
        except ShapeError:
            raise ShapeError(
                f"{NAME}: the mask {tuple(mask.shape)} does not fit the scores {tuple(scores.shape)}"
            ) from None
    if is_causal:
        scores = where(causal(scores.shape[-2], scores.shape[-1], scores.device), scores, -INFINITY)
    return softmax(scores, -1)


def causal(rows: int, columns: int, device: str) -> Tensor:
    """True where the key's place is not behind the query's, `(rows, columns)`."""
    return arange(rows, device=device).unsqueeze(1) >= arange(columns, device=device)


def both(mask: Tensor | None, other: Tensor | None) -> Tensor | None:
    """What two masks allow; bools, True where a query may look, and floats to be added may be mixed."""
    if mask is None or other is None:
        return other if mask is None else mask
    if is_bool(mask) and is_bool(other):
        return mask.logical_and(other)
    first, second = (where(m, 0.0, -INFINITY) if is_bool(m) else m for m in (mask, other))
    return first + second


def check(query: Tensor, key: Tensor, value: Tensor) -> None:
    """Raise unless the three fit together."""
    for what, x in (("query", query), ("key", key), ("value", value)):
        if not isinstance(x, Tensor):
            raise TypeError(f"{NAME}: {what} must be a tensor, not {type(x).__name__}")
        if not x.dtype.is_floating_point or x.dtype != query.dtype:
            raise DTypeError(
                f"{NAME}: query, key and value must be of one floating-point dtype, "
                f"and {what} is {x.dtype} beside {query.dtype}"
            )
        if x.ndim < 2:
            raise ShapeError(f"{NAME}: {what} needs at least two axes, not {tuple(x.shape)}")
    if query.shape[-1] != key.shape[-1] or not query.shape[-1]:
        raise ShapeError(
            f"{NAME}: query {tuple(query.shape)} and key {tuple(key.shape)} must have the same last size"
        )
    if key.shape[-2] != value.shape[-2] or not key.shape[-2]:
        raise ShapeError(
            f"{NAME}: key {tuple(key.shape)} and value {tuple(value.shape)} must be equally long, "
            "and at least 1"
        )


def is_bool(mask: Tensor) -> bool:
    """Whether the mask says where to look, and not what to add."""
    return mask.dtype == _core.bool


def check_mask(function: str, what: str, mask: Tensor) -> None:
    """Raise unless `mask` is a tensor of bools or floats."""
    if not isinstance(mask, Tensor):
        raise TypeError(f"{function}: {what} must be a tensor, not {type(mask).__name__}")
    if not is_bool(mask) and not mask.dtype.is_floating_point:
        raise DTypeError(f"{function}: {what} must be bool or of a floating-point dtype, not {mask.dtype}")


def shared(function: str, query: Tensor, x: Tensor) -> Tensor:
    """`x` with each of its heads repeated, so that there are as many as those of `query`."""
    if query.ndim < 3 or x.ndim < 3 or not x.shape[-3] or query.shape[-3] % x.shape[-3]:
        raise ShapeError(
            f"{function}: the heads of the query {tuple(query.shape)} must be a multiple of those of "
            f"{tuple(x.shape)}"
        )
    return x.repeat_interleave(query.shape[-3] // x.shape[-3], -3)
