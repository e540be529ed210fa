"""Maps by a matrix: linear, bilinear, and the table look-ups that stand for a product with one-hot rows."""

from __future__ import annotations

from ..._core import ShapeError, einsum, linear
from ..._core import embedding as _embedding
from ..._core import one_hot as _one_hot

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


def embedding(indices: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """The rows of `weight` at `indices`.

    Args:
        indices: integers of any shape `(*)`.
        weight: `(num_embeddings, embedding_dim)`.
        padding_idx: the row that gets no gradient; negative counts from the end.

    Returns:
        `(*, embedding_dim)`.
    """
    if padding_idx is not None:
        rows = weight.shape[0]
        if not -rows <= padding_idx < rows:
            raise ValueError(f"embedding: padding_idx {padding_idx} lies outside the {rows} rows of weight")
        padding_idx %= rows
    return _embedding(indices, weight, padding_idx=padding_idx)


def one_hot(indices: Tensor, num_classes: int = -1) -> Tensor:
    """Integers `(*)` as rows of zeros with a one, `(*, num_classes)`, in int64.

    Args:
        num_classes: the length of a row; -1 takes one more than the largest index, which reads the data.
    """
    if num_classes == -1:
        num_classes = int(indices.max().item()) + 1
    return _one_hot(indices, num_classes)
