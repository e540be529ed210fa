"""A decoder-only transformer for sequences of tokens, and how it writes on."""

from __future__ import annotations

from dataclasses import dataclass

from .. import nn
from .._core import ShapeError, Tensor, arange, cat, empty, float32, multinomial, where
from ..autograd import no_grad
from ..nn import functional as F
from ..nn.functional._check import positive, probability
from ..nn.functional._parts import unbind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._core import Generator
    from .._core import dtype as DType


@dataclass
class GPTConfig:
    """The sizes of a `GPT`.

    Args:
        vocab_size: how many tokens there are.
        block_size: how many tokens the model sees at most.
        num_layers: how many blocks follow each other.
        num_heads: how many heads the attention of each has.
        width: the number of features.
        dropout: with which probability embeddings, weights of the attention and elements of each branch are
            dropped in training.
        bias: whether linear layers and layer norms have biases.

    >>> ox.models.GPTConfig(vocab_size=65, block_size=64, num_layers=4, num_heads=4, width=128)
    GPTConfig(vocab_size=65, block_size=64, num_layers=4, num_heads=4, width=128, dropout=0.0, bias=True)
    """

    vocab_size: int
    block_size: int
    num_layers: int
    num_heads: int
    width: int
    dropout: float = 0.0
    bias: bool = True

    def __post_init__(self) -> None:
        positive(
            "GPTConfig",
            vocab_size=self.vocab_size,
            block_size=self.block_size,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            width=self.width,
        )
        probability("GPTConfig", self.dropout)
        if self.width % self.num_heads:
            raise ValueError(f"GPTConfig: width {self.width} does not split into {self.num_heads} heads")


class KVCache:
    """The keys and values of the tokens that a `GPT` has seen, so that it need not see them again.

    Each call of the model with it adds those of the tokens of the call. They are written into memory that the
    first call sets aside for as many tokens as the model sees at most, so that a token costs the same
    however many there are.

    Args:
        num_layers: the number of the model's blocks.

    Attributes:
        keys, values: `(N, heads, length, width / heads)` for each block, None before the first call.

    >>> model = ox.models.GPT(ox.models.GPTConfig(10, 8, num_layers=1, num_heads=2, width=4)).eval()
    >>> cache = ox.models.KVCache(num_layers=1)
    >>> tokens = ox.tensor([[1, 2, 3]])
    >>> _ = model(tokens[:, :2], cache)
    >>> last = model(tokens[:, 2:], cache)
    >>> cache.length, ox.allclose(last, model(tokens)[:, 2:], atol=1e-5)
    (3, True)
    """

    def __init__(self, num_layers: int) -> None:
        positive("KVCache", num_layers=num_layers)
        # Keys and values of each layer with room to spare, and how many tokens of it are there.
        self._memory: list[tuple[Tensor, Tensor] | None] = [None] * num_layers
        self._lengths = [0] * num_layers
        self._room = 0

    @property
    def keys(self) -> list[Tensor | None]:
        return self._known(0)

    @property
    def values(self) -> list[Tensor | None]:
        return self._known(1)

    def _known(self, which: int) -> list[Tensor | None]:
        both = zip(self._memory, self._lengths, strict=True)
        return [None if memory is None else memory[which][:, :, :length] for memory, length in both]

    @property
    def num_layers(self) -> int:
        """Of how many blocks."""
        return len(self._lengths)

    @property
    def length(self) -> int:
        """How many tokens it knows."""
        return self._lengths[-1]

    def reserve(self, length: int) -> None:
        """Have the next memory that is set aside hold so many tokens."""
        self._room = max(self._room, length)

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens.

        >>> model = ox.models.GPT(ox.models.GPTConfig(10, 8, num_layers=1, num_heads=2, width=4)).eval()
        >>> cache = ox.models.KVCache(num_layers=1)
        >>> _ = model(ox.tensor([[1, 2, 3]]), cache)
        >>> cache.truncate(1)
        >>> cache.length
        1
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"truncate: {length} is not between 0 and the {self.length} tokens there are")
        self._lengths = [length] * len(self._lengths)

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add keys and values `(N, heads, L, width / heads)` of a block; gives all that there are now."""
        start = self._lengths[layer]
        end = start + key.shape[2]
        memory = self._memory[layer]
        if memory is not None and start and memory[0].shape[0] != key.shape[0]:
            held = memory[0].shape[0]
            raise ShapeError(f"KVCache: it holds a batch of {held}, which cannot go on with {key.shape[0]}")
        if memory is None or not start or memory[0].shape[2] < end:
            memory = self._grown(memory, start, end, key, value)
            self._memory[layer] = memory
        for whole, part in zip(memory, (key, value), strict=True):
            whole[:, :, start:end] = part
        self._lengths[layer] = end
        return memory[0][:, :, :end], memory[1][:, :, :end]

    def _grown(
        self, memory: tuple[Tensor, Tensor] | None, start: int, end: int, key: Tensor, value: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Memory for `end` tokens or more with what the first `start` left."""
        room = max(self._room, end if memory is None or not start else 2 * start, end)

        def of(part: Tensor, old: Tensor | None) -> Tensor:
            batch, heads, _, features = part.shape
            new = empty((batch, heads, room, features), dtype=part.dtype, device=part.device)
            if old is not None and start:
                new[:, :, :start] = old[:, :, :start]
            return new

        keys, values = memory or (None, None)
        return of(key, keys), of(value, values)

    def __repr__(self) -> str:
        return f"KVCache({self.num_layers} layers, {self.length} tokens)"


class Block(nn.Module):
    """Causal self-attention and two linear layers, each behind a layer norm and beside a residual path."""

    def __init__(self, config: GPTConfig, device: str | None = None, dtype: DType | None = None) -> None:
        super().__init__()
        width, bias = config.width, config.bias
        self.num_heads = config.num_heads
        self.head_dim = width // config.num_heads
        self.p = config.dropout
        self.norm1 = nn.LayerNorm(width, bias=bias, device=device, dtype=dtype)
        self.qkv = nn.Linear(width, 3 * width, bias, device=device, dtype=dtype)
        self.out = nn.Linear(width, width, bias, device=device, dtype=dtype)
        self.norm2 = nn.LayerNorm(width, bias=bias, device=device, dtype=dtype)
        self.up = nn.Linear(width, 4 * width, bias, device=device, dtype=dtype)
        self.down = nn.Linear(4 * width, width, bias, device=device, dtype=dtype)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, layer: int, cache: KVCache | None = None) -> Tensor:
        x = x + self._attend(self.norm1(x), layer, cache)
        return x + self.dropout(self.down(F.gelu(self.up(self.norm2(x)))))  # type: ignore[no-any-return]

    def _attend(self, x: Tensor, layer: int, cache: KVCache | None) -> Tensor:
        parts = unbind(self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim)), 2)
        q, k, v = (part.transpose(1, 2) for part in parts)
        length = q.shape[2]
        mask = None
        if cache is not None:
            k, v = cache.extend(layer, k, v)
            past = k.shape[2] - length
            if past and length > 1:
                places = arange(past, past + length, device=x.device)
                mask = places.unsqueeze(1) >= arange(past + length, device=x.device)
        # One token sees everything there is.
        causal = length > 1 and mask is None
        p = self.p if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, mask, p, causal)
        return self.dropout(self.out(out.transpose(1, 2).flatten(2)))  # type: ignore[no-any-return]


class GPT(nn.Module):
    """A decoder-only transformer.

    (Radford et al., "Language models are unsupervised multitask learners", 2019.)
    Embeddings of token and place, blocks with the layer norms in front (see `nn.TransformerEncoderLayer`'s
    `norm_first`) and GELU, a last layer norm, and the embedding of the tokens once more as the output layer.

    Args:
        config: the sizes.

    Attributes:
        tokens.weight: `(vocab_size, width)`, and like all weights normal with standard deviation 0.02 at the
            start; those that write to the residual path have 0.02 / √(2 num_layers).
        places.weight: `(block_size, width)`.

    >>> model = ox.models.GPT(ox.models.GPTConfig(65, block_size=64, num_layers=2, num_heads=4, width=32))
    >>> tokens = ox.randint(0, 65, (8, 64))
    >>> logits = model(tokens)
    >>> logits.shape
    (8, 64, 65)
    >>> loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    >>> model.generate(tokens[:, :10], 5, top_k=10).shape
    (8, 15)
    """

    def __init__(self, config: GPTConfig, *, device: str | None = None, dtype: DType | None = None) -> None:
        super().__init__()
        if not isinstance(config, GPTConfig):
            raise TypeError(f"GPT: config must be a GPTConfig, not {type(config).__name__}")
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.width, device=device, dtype=dtype)
        self.places = nn.Embedding(config.block_size, config.width, device=device, dtype=dtype)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList([Block(config, device, dtype) for _ in range(config.num_layers)])
        self.norm = nn.LayerNorm(config.width, bias=config.bias, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new starting values."""
        narrow = 0.02 / (2 * self.config.num_layers) ** 0.5
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim == 1:
                nn.init.ones_(parameter)
            else:
                writes = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, 0.0, narrow if writes else 0.02)

    def forward(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """The logits of the next token at each place.

        Args:
            tokens: integers `(N, L)`; with those in the cache at most `block_size` of them.
            cache: what an earlier call has left, for `tokens` that go on from there; it is added to.

        Returns:
            `(N, L, vocab_size)`.

        Raises:
            ShapeError: when `tokens` has other axes or is too long.
        """
        if not isinstance(tokens, Tensor):
            raise TypeError(f"GPT: tokens must be a tensor, not {type(tokens).__name__}")
        if cache is not None and not isinstance(cache, KVCache):
            raise TypeError(f"GPT: cache must be a KVCache, not {type(cache).__name__}")
        if tokens.ndim != 2 or not tokens.shape[1]:
            raise ShapeError(
                f"GPT: expected tokens (N, L) with at least one place, not {tuple(tokens.shape)}"
            )
        if cache is not None and cache.num_layers != len(self.blocks):
            raise ValueError(f"GPT: a cache of {cache.num_layers} layers, and {len(self.blocks)} blocks")
        past = 0 if cache is None else cache.length
        end = past + tokens.shape[1]
        if end > self.config.block_size:
            raise ShapeError(f"GPT: {end} tokens are more than the block size {self.config.block_size}")
        if cache is not None:
            cache.reserve(self.config.block_size)
        x = self.dropout(self.tokens(tokens) + self.places.weight[past:end])
        for layer, block in enumerate(self.blocks):
            x = block(x, layer, cache)
        return F.linear(self.norm(x), self.tokens.weight)

    def generate(
        self,
        tokens: Tensor,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Write on, one token at a time, without dropout and without gradients.

        Up to `block_size` tokens each one is computed beside the keys and values of those before; from then
        on the last `block_size` are seen afresh for each.

        Args:
            tokens: integers `(N, L)` to begin with, at least one.
            max_new_tokens: how many are added.
            temperature: what logits are divided by; the lower, the surer. 0 takes the likeliest token.
            top_k: draw from this many likeliest only.
            generator: the random numbers' source, the default one if None.

        Returns:
            `(N, L + max_new_tokens)`.

        Raises:
            ValueError: when `max_new_tokens` or `temperature` is negative, or `top_k` not positive.
        """
        if not isinstance(max_new_tokens, int):
            raise TypeError(
                f"generate: max_new_tokens must be an integer, not {type(max_new_tokens).__name__}"
            )
        if max_new_tokens < 0:
            raise ValueError(f"generate: max_new_tokens must not be negative, but is {max_new_tokens}")
        if not 0.0 <= temperature < float("inf"):
            raise ValueError(f"generate: temperature must be 0 or more, not {temperature}")
        if top_k is not None:
            positive("generate", top_k=top_k)
        block = self.config.block_size
        cache = KVCache(len(self.blocks))
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            with no_grad():
                for _ in range(max_new_tokens):
                    past = cache.length
                    if 0 < past < block:
                        logits = self(tokens[:, -1:], cache)
                    else:
                        cache = KVCache(len(self.blocks))
                        logits = self(tokens[:, -block:], cache)
                    choice = _choose(logits[:, -1], temperature, top_k, generator)
                    tokens = cat([tokens, choice.to(tokens.dtype)], 1)
        finally:
            for module, training in modes:
                module.training = training
        return tokens


def _choose(logits: Tensor, temperature: float, top_k: int | None, generator: Generator | None) -> Tensor:
    """A token `(N, 1)` for each row of logits `(N, vocab_size)`."""
    if temperature == 0.0:
        return logits.argmax(-1, keepdim=True)
    logits = logits.to(float32) / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        least = logits.topk(top_k).values[:, -1:]
        logits = where(logits < least, -float("inf"), logits)
    return multinomial(logits.softmax(-1), 1, generator=generator)
