"""Maps by a matrix: linear, bilinear, and the table look-ups that stand for a product with one-hot rows."""

from __future__ import annotations

from ..._core import ShapeError, einsum, embedding, linear, one_hot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..._core import Tensor

__all__ = ["bilinear", "embedding", "linear", "one_hot"]


def bilinear(x1: Tensor, x2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """yₖ = x₁ᵀ Wₖ x₂ + bₖ.

    Args:
        x1: `(*, I)`.
        x2: `(*, J)`.
        weight: `(K, I, J)`.
        bias: `(K,)` or None.

    Returns:
        `(*, K)`.
    """
    if weight.ndim != 3 or (x1.shape[-1], x2.shape[-1]) != tuple(weight.shape[1:]):
        raise ShapeError(
            f"bilinear: {tuple(x1.shape)} and {tuple(x2.shape)} do not fit the weight {tuple(weight.shape)}"
        )
    y = einsum("...i,kij,...j->...k", x1, weight, x2)
    return y if bias is None else y + bias
