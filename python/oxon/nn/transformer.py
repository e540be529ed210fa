"""Transformer layers and stacks of them, around `MultiheadAttention`."""

from __future__ import annotations

from copy import deepcopy

from . import functional as F
from .attention import MultiheadAttention
from .container import ModuleList
from .dropout import Dropout
from .functional._check import positive
from .linear import Linear
from .module import Module
from .norm import LayerNorm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core import Tensor
    from .._core import dtype as DType

    Activation = str | Callable[[Tensor], Tensor]


def _activation(name: str, activation: Activation) -> Callable[[Tensor], Tensor]:
    if callable(activation):
        return activation
    if activation not in ("relu", "gelu"):
        raise ValueError(f"{name}: activation must be 'relu', 'gelu' or a function, not {activation!r}")
    return F.relu if activation == "relu" else F.gelu


def _copies(name: str, layer: Module, kind: type[Module], count: int) -> ModuleList:
    positive(name, num_layers=count)
    if not isinstance(layer, Module):
        raise TypeError(
            f"{name}: the layer must be a Module such as {kind.__name__}, not {type(layer).__name__}"
        )
    return ModuleList([deepcopy(layer) for _ in range(count)])


class TransformerEncoderLayer(Module):
    """Self-attention and a network of two linear layers, each beside a residual path and with a layer norm.

    (Vaswani et al., "Attention is all you need", 2017, https://arxiv.org/abs/1706.03762; `norm_first`: Xiong
    et al., 2020, https://arxiv.org/abs/2002.04745.)

    Args:
        d_model: the number E of features.
        nhead: the number of heads.
        dim_feedforward: the number of features between the two linear layers.
        dropout: with which probability weights of the attention, and elements of each branch, are dropped in
            training.
        activation: "relu", "gelu" or a function of tensors.
        layer_norm_eps: what the layer norms add to the variance.
        batch_first: whether sequences are `(N, L, E)` instead of `(L, N, E)`.
        norm_first: whether the layer norms stand before the branches instead of behind the sums.
        bias: whether linear layers and layer norms have biases.

    Shape:
        `(L, N, E)` or `(L, E)`, kept.

    >>> layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    >>> layer(ox.randn(2, 5, 16)).shape
    (2, 5, 16)
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        positive(name, d_model=d_model, nhead=nhead, dim_feedforward=dim_feedforward)
        self.activation = _activation(name, activation)
        self.norm_first = norm_first
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, device=device, dtype=dtype
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias, device=device, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, device=device, dtype=dtype)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Transform a sequence.

        Args:
            src_mask, src_key_padding_mask, is_causal: as `attn_mask`, `key_padding_mask` and `is_causal` of
                `MultiheadAttention`.
        """

        def attend(x: Tensor) -> Tensor:
            out, _ = self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)
            return self.dropout1(out)  # type: ignore[no-any-return]

        if self.norm_first:
            src = src + attend(self.norm1(src))
            return src + self._feed(self.norm2(src))
        src = self.norm1(src + attend(src))
        return self.norm2(src + self._feed(src))  # type: ignore[no-any-return]

    def _feed(self, x: Tensor) -> Tensor:
        hidden = self.dropout(self.activation(self.linear1(x)))
        return self.dropout2(self.linear2(hidden))  # type: ignore[no-any-return]


class TransformerDecoderLayer(Module):
    """Self-attention, attention to an encoder's output, and a network of two linear layers.

    Each stands beside a residual path and has a layer norm. (Vaswani et al., 2017,
    https://arxiv.org/abs/1706.03762.)

    Args:
        d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias:
            as `TransformerEncoderLayer`'s.

    Shape:
        `(L, N, E)` and the memory `(S, N, E)`, or both without N, to `(L, N, E)`.

    >>> layer = nn.TransformerDecoderLayer(16, 4, 32)
    >>> layer(ox.randn(5, 2, 16), ox.randn(7, 2, 16), tgt_is_causal=True).shape
    (5, 2, 16)
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        positive(name, d_model=d_model, nhead=nhead, dim_feedforward=dim_feedforward)
        self.activation = _activation(name, activation)
        self.norm_first = norm_first
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, device=device, dtype=dtype
        )
        self.multihead_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, device=device, dtype=dtype
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias, device=device, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, device=device, dtype=dtype)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)
        self.norm3 = LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        self.dropout3 = Dropout(dropout)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Transform a sequence beside a memory.

        Args:
            tgt_mask, tgt_key_padding_mask, tgt_is_causal: of the attention to the sequence itself, as
                `attn_mask`, `key_padding_mask` and `is_causal` of `MultiheadAttention`.
            memory_mask, memory_key_padding_mask, memory_is_causal: likewise, of the attention to the memory.
        """

        def attend(x: Tensor) -> Tensor:
            out, _ = self.self_attn(x, x, x, tgt_key_padding_mask, False, tgt_mask, is_causal=tgt_is_causal)
            return self.dropout1(out)  # type: ignore[no-any-return]

        def remember(x: Tensor) -> Tensor:
            out, _ = self.multihead_attn(
                x, memory, memory, memory_key_padding_mask, False, memory_mask, is_causal=memory_is_causal
            )
            return self.dropout2(out)  # type: ignore[no-any-return]

        if self.norm_first:
            tgt = tgt + attend(self.norm1(tgt))
            tgt = tgt + remember(self.norm2(tgt))
            return tgt + self._feed(self.norm3(tgt))
        tgt = self.norm1(tgt + attend(tgt))
        tgt = self.norm2(tgt + remember(tgt))
        return self.norm3(tgt + self._feed(tgt))  # type: ignore[no-any-return]

    def _feed(self, x: Tensor) -> Tensor:
        hidden = self.dropout(self.activation(self.linear1(x)))
        return self.dropout3(self.linear2(hidden))  # type: ignore[no-any-return]


class TransformerEncoder(Module):
    """A stack of copies of an encoder layer.

    Args:
        encoder_layer: a `TransformerEncoderLayer`; all copies start with its values.
        num_layers: how many.
        norm: a module that follows the last, or None.
        enable_nested_tensor, mask_check: accepted for PyTorch's sake; there are no nested tensors here.

    Shape:
        as the layer's.

    >>> encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32), num_layers=2)
    >>> encoder(ox.randn(5, 2, 16)).shape
    (5, 2, 16)
    """

    def __init__(
        self,
        encoder_layer: TransformerEncoderLayer,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        self.layers = _copies("TransformerEncoder", encoder_layer, TransformerEncoderLayer, num_layers)
        self.num_layers = num_layers
        self.norm = norm

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """Transform a sequence; the arguments are those of `TransformerEncoderLayer`."""
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, bool(is_causal))
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(Module):
    """A stack of copies of a decoder layer.

    Args:
        decoder_layer: a `TransformerDecoderLayer`; all copies start with its values.
        num_layers: how many.
        norm: a module that follows the last, or None.

    Shape:
        as the layer's.

    >>> decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 4, 32), num_layers=2)
    >>> decoder(ox.randn(5, 2, 16), ox.randn(7, 2, 16)).shape
    (5, 2, 16)
    """

    def __init__(
        self, decoder_layer: TransformerDecoderLayer, num_layers: int, norm: Module | None = None
    ) -> None:
        super().__init__()
        self.layers = _copies("TransformerDecoder", decoder_layer, TransformerDecoderLayer, num_layers)
        self.num_layers = num_layers
        self.norm = norm

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Transform a sequence beside a memory; the arguments are those of `TransformerDecoderLayer`."""
        for layer in self.layers:
            tgt = layer(
                tgt,
                memory,
                tgt_mask,
                memory_mask,
                tgt_key_padding_mask,
                memory_key_padding_mask,
                bool(tgt_is_causal),
                memory_is_causal,
            )
        return tgt if self.norm is None else self.norm(tgt)
