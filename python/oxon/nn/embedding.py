"""Embedding: a learned vector for each index."""

from __future__ import annotations

from .._core import empty
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from .._core import Tensor
    from .._core import dtype as DType


class Embedding(Module):
    """A table of vectors, looked up by index.

    Args:
        num_embeddings: the number of rows; indices lie in [0, num_embeddings).
        embedding_dim: the size of a row.
        padding_idx: a row that starts as zeros and gets no gradient; negative counts from the end.

    Shape:
        integers `(*)` to `(*, embedding_dim)`.

    Attributes:
        weight: `(num_embeddings, embedding_dim)`, starts normal with variance 1.

    >>> nn.Embedding(10, 3, padding_idx=0)(ox.tensor([[0, 2], [4, 5]])).shape
    (2, 2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        device: str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise ValueError(
                    f"Embedding: padding_idx {padding_idx} lies outside the {num_embeddings} rows"
                )
            padding_idx %= num_embeddings
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = padding_idx
        self.weight = Parameter(empty((num_embeddings, embedding_dim), device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new starting values."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            value = self.weight.detach()
            value[self.padding_idx] = 0.0
            self.weight.data = value

    @classmethod
    def from_pretrained(cls, embeddings: Tensor, freeze: bool = True, padding_idx: int | None = None) -> Self:
        """An embedding whose rows are those of a matrix.

        Args:
            embeddings: `(num_embeddings, embedding_dim)`.
            freeze: whether the rows stay as they are in training.
        """
        if embeddings.ndim != 2:
            raise ValueError(f"Embedding.from_pretrained: expected a matrix, not {tuple(embeddings.shape)}")
        rows, columns = embeddings.shape
        layer = cls(rows, columns, padding_idx)
        layer.weight = Parameter(embeddings, requires_grad=not freeze)
        return layer

    def forward(self, indices: Tensor) -> Tensor:
        return F.embedding(indices, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
