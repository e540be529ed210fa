"""Multi-head attention. Its arithmetic is in `functional/attention.py`, layers of it in `transformer.py`."""

from __future__ import annotations

from .._core import ShapeError, Tensor, cat, empty, zeros
from . import functional as F
from . import init
from .functional._check import positive, probability
from .functional._parts import unbind
from .functional.attention import attention_weights, both, causal, check_mask, is_bool
from .linear import Linear
from .module import Module
from .parameter import Parameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._core import dtype as DType


class MultiheadAttention(Module):
    """Attention of several heads, each with its own projections.

    (Vaswani et al., "Attention is all you need", 2017, https://arxiv.org/abs/1706.03762.) Composed of
    the core's operations, so the scores are in memory.

    Args:
        embed_dim: the number E of features, of which each of `num_heads` heads has an equal share.
        num_heads: the number H of heads.
        dropout: with which probability weights are dropped in training.
        bias: whether the projections add a bias.
        add_bias_kv: whether a learned key and value stand behind the others.
        add_zero_attn: whether a key and value of zeros stand behind the others.
        kdim, vdim: the numbers of features of key and value; E if None.
        batch_first: whether sequences are `(N, L, E)` instead of `(L, N, E)`.

    Attributes:
        in_proj_weight: `(3 E, E)`, the rows that make queries, keys and values; None where `kdim` or `vdim`
            differ from E, and then `q_proj_weight` `(E, E)`, `k_proj_weight` `(E, kdim)` and `v_proj_weight`
            `(E, vdim)` stand in its place. They start as `init.xavier_uniform_` says.
        in_proj_bias: `(3 E,)`, starts as zeros, or None.
        out_proj: the linear layer that mixes the heads.
        bias_k, bias_v: `(1, 1, E)`, or None.

    >>> attention = nn.MultiheadAttention(16, 4, batch_first=True)
    >>> x = ox.randn(2, 5, 16)
    >>> output, weights = attention(x, x, x)
    >>> output.shape, weights.shape
    ((2, 5, 16), (2, 5, 5))
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        positive(name, embed_dim=embed_dim, num_heads=num_heads)
        positive(
            name,
            kdim=embed_dim if kdim is None else kdim,
            vdim=embed_dim if vdim is None else vdim,
        )
        probability(name, dropout)
        if embed_dim % num_heads:
            raise ValueError(f"{name}: embed_dim {embed_dim} does not split into {num_heads} heads")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.add_zero_attn = add_zero_attn
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.batch_first = batch_first
        self.head_dim = embed_dim // num_heads

        def parameter(*shape: int) -> Parameter:
            return Parameter(empty(shape, device=device, dtype=dtype))

        together = self.kdim == self.vdim == embed_dim
        self.q_proj_weight = None if together else parameter(embed_dim, embed_dim)
        self.k_proj_weight = None if together else parameter(embed_dim, self.kdim)
        self.v_proj_weight = None if together else parameter(embed_dim, self.vdim)
        self.in_proj_weight = parameter(3 * embed_dim, embed_dim) if together else None
        self.in_proj_bias = parameter(3 * embed_dim) if bias else None
        self.bias_k = parameter(1, 1, embed_dim) if add_bias_kv else None
        self.bias_v = parameter(1, 1, embed_dim) if add_bias_kv else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new starting values."""
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        self.out_proj.reset_parameters()
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)
        for extra in (self.bias_k, self.bias_v):
            if extra is not None:
                init.xavier_normal_(extra)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            query, key, value: `(L, N, E)`, `(S, N, kdim)` and `(S, N, vdim)`, or all without N; see
                `batch_first`. Give the same tensor for all three and one product projects it.
            key_padding_mask: `(N, S)`, or `(S,)` without N; bool, True where a key is ignored, or floats that
                are added to the scores.
            need_weights: whether to return the weights, too.
            attn_mask: `(L, S)` or `(N H, L, S)`; bool, True where a query may *not* look at a key, or floats
                that are added to the scores.
            average_attn_weights: whether the weights are averaged over the heads.
            is_causal: query i sees the keys 0 to i, on top of what the masks say.

        Returns:
            the output, shaped as the query, and the weights `(N, L, S)` or, without averaging,
            `(N, H, L, S)`, or None. A query that sees no key gives NaN with `need_weights` and the output's
            bias without, as in PyTorch.

        Raises:
            ShapeError, DTypeError: name the argument that does not fit.
        """
        self._check(query, key, value)
        batched = query.ndim == 3
        q, k, v = self._project(query, key, value, batched)
        length, keys = q.shape[2], k.shape[2]
        mask = both(
            self._padding(key_padding_mask, batched, q.shape[0], keys),
            self._pairs(attn_mask, q.shape[0], length, keys),
        )
        extra = (self.bias_k is not None) + self.add_zero_attn
        if is_causal and (mask is not None or extra):
            mask, is_causal = both(mask, causal(length, keys, q.device)), False
        if extra:
            k, v = self._extended(k, self.bias_k), self._extended(v, self.bias_v)
            if mask is not None:
                seen = zeros((*mask.shape[:-1], extra), dtype=mask.dtype, device=mask.device)
                mask = cat([mask, seen.logical_not() if is_bool(mask) else seen], -1)
        p = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            weights = attention_weights(q, k, mask, is_causal)
            if p:
                weights = F.dropout(weights, p)
            out = weights @ v
            if average_attn_weights:
                weights = weights.mean(1)
            if not batched:
                weights = weights.squeeze(0)
        else:
            out = F.scaled_dot_product_attention(q, k, v, mask, p, is_causal)
        out = self.out_proj(out.transpose(1, 2).flatten(2))
        if not batched:
            return out.squeeze(0), weights
        return out if self.batch_first else out.transpose(0, 1), weights

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        name = type(self).__name__
        given = (("query", query, self.embed_dim), ("key", key, self.kdim), ("value", value, self.vdim))
        for what, x, features in given:
            if not isinstance(x, Tensor):
                raise TypeError(f"{name}: {what} must be a tensor, not {type(x).__name__}")
            if x.ndim not in (2, 3) or x.ndim != query.ndim:
                layout = "(N, L, features)" if self.batch_first else "(L, N, features)"
                raise ShapeError(
                    f"{name}: query, key and value must all be {layout} or all (L, features), "
                    f"and {what} is {tuple(x.shape)}"
                )
            if x.shape[-1] != features:
                raise ShapeError(
                    f"{name}: {what} must have {features} features, not the {x.shape[-1]} of {tuple(x.shape)}"
                )
        if key.shape[:-1] != value.shape[:-1]:
            raise ShapeError(
                f"{name}: key {tuple(key.shape)} and value {tuple(value.shape)} must be equally long"
            )
        batch = 0 if self.batch_first else 1
        if query.ndim == 3 and query.shape[batch] != key.shape[batch]:
            raise ShapeError(
                f"{name}: query {tuple(query.shape)} and key {tuple(key.shape)} must be of one batch"
            )

    def _project(
        self, query: Tensor, key: Tensor, value: Tensor, batched: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the heads, `(N, H, L, E / H)`; equal inputs share a product."""
        same_key, same_value = query is key, key is value

        def first(x: Tensor) -> Tensor:
            return x.unsqueeze(0) if not batched else x if self.batch_first else x.transpose(0, 1)

        def heads(x: Tensor, count: int, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, ...]:
            sizes = (count, self.num_heads, self.head_dim)
            parts = F.linear(first(x), weight, bias).unflatten(-1, sizes)
            return tuple(part.transpose(1, 2) for part in unbind(parts, 2))

        weight, bias, size = self.in_proj_weight, self.in_proj_bias, self.embed_dim
        if weight is not None and same_key and same_value:
            q, k, v = heads(query, 3, weight, bias)
            return q, k, v
        if weight is not None and same_value:
            (q,) = heads(query, 1, weight[:size], None if bias is None else bias[:size])
            k, v = heads(key, 2, weight[size:], None if bias is None else bias[size:])
            return q, k, v
        if weight is not None:
            weights = weight.split(size)
        else:
            weights = [
                w for w in (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight) if w is not None
            ]
        biases = [None] * 3 if bias is None else bias.split(size)
        (q,), (k,), (v,) = (
            heads(x, 1, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True)
        )
        return q, k, v

    def _extended(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Keys or values with what stands behind them: the learned one, then zeros."""
        parts = [x]
        shape = (x.shape[0], self.num_heads, 1, self.head_dim)
        if bias is not None:
            parts.append(bias.reshape(1, self.num_heads, 1, self.head_dim).expand(shape))
        if self.add_zero_attn:
            parts.append(zeros(shape, dtype=x.dtype, device=x.device))
        return cat(parts, 2)

    def _padding(self, mask: Tensor | None, batched: bool, count: int, keys: int) -> Tensor | None:
        """`key_padding_mask` as what allows, `(N, 1, 1, S)`."""
        if mask is None:
            return None
        check_mask(type(self).__name__, "key_padding_mask", mask)
        wanted = (count, keys) if batched else (keys,)
        if tuple(mask.shape) != wanted:
            raise ShapeError(
                f"{type(self).__name__}: key_padding_mask must be {wanted}, not {tuple(mask.shape)}"
            )
        mask = mask.reshape(count, 1, 1, keys)
        return mask.logical_not() if is_bool(mask) else mask

    def _pairs(self, mask: Tensor | None, count: int, length: int, keys: int) -> Tensor | None:
        """`attn_mask` as what allows, `(L, S)` or `(N, H, L, S)`."""
        if mask is None:
            return None
        name = type(self).__name__
        check_mask(name, "attn_mask", mask)
        each = (count * self.num_heads, length, keys)
        if tuple(mask.shape) not in ((length, keys), each):
            raise ShapeError(f"{name}: attn_mask must be {(length, keys)} or {each}, not {tuple(mask.shape)}")
        if mask.ndim == 3:
            mask = mask.reshape(count, self.num_heads, length, keys)
        return mask.logical_not() if is_bool(mask) else mask

    def extra_repr(self) -> str:
        parts = [f"{self.embed_dim}, {self.num_heads}"]
        if self.dropout:
            parts.append(f"dropout={self.dropout}")
        if self.batch_first:
            parts.append("batch_first=True")
        return ", ".join(parts)
