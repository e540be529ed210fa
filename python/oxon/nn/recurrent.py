"""Recurrent layers and their single steps. The arithmetic is in `functional/recurrent.py`."""

from __future__ import annotations

from .._core import DTypeError, ShapeError, Tensor, cat, empty, stack, zeros
from . import functional as F
from . import init
from .functional._check import positive, probability
from .functional.recurrent import CELLS, sequence
from .module import Module
from .parameter import Parameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._core import dtype as DType
    from .functional.recurrent import Cell


def _check_nonlinearity(name: str, nonlinearity: str) -> None:
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"{name}: nonlinearity must be 'tanh' or 'relu', not {nonlinearity!r}")


def _check_tensor(name: str, what: str, value: Tensor) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: {what} must be a tensor, not {type(value).__name__}")
    if not value.dtype.is_floating_point:
        raise DTypeError(f"{name}: {what} must be of a floating-point dtype, not {value.dtype}")


class _Recurrent(Module):
    """What the layers share: parameters for each layer and direction, and the walk through them."""

    _cell: Cell
    weight_hh_l0: Parameter

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        device: str | None,
        dtype: DType | None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        positive(name, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        probability(name, dropout)
        if dropout and num_layers == 1:
            import warnings

            warnings.warn(
                f"{name}: dropout stands between layers, so dropout={dropout} does nothing to one layer",
                stacklevel=3,
            )
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bool(bias)
        self.batch_first = bool(batch_first)
        self.dropout = dropout
        self.bidirectional = bool(bidirectional)
        self._suffixes = ("", "_reverse") if bidirectional else ("",)
        rows = self._cell.gates * hidden_size
        for layer in range(num_layers):
            columns = input_size if layer == 0 else hidden_size * len(self._suffixes)
            for suffix in self._suffixes:
                shapes: dict[str, tuple[int, ...]] = {
                    "weight_ih": (rows, columns),
                    "weight_hh": (rows, hidden_size),
                }
                if bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                for key, shape in shapes.items():
                    value = Parameter(empty(shape, device=device, dtype=dtype))
                    setattr(self, f"{key}_l{layer}{suffix}", value)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new starting values."""
        bound = self.hidden_size**-0.5
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def flatten_parameters(self) -> None:
        """Does nothing; it is here because scripts written for PyTorch call it."""

    def _run(self, x: Tensor, given: tuple[Tensor, ...] | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        name = type(self).__name__
        _check_tensor(name, "the input", x)
        if x.ndim not in (2, 3):
            layout = "(N, L, features)" if self.batch_first else "(L, N, features)"
            raise ShapeError(f"{name}: expected {layout} or (L, features), not {tuple(x.shape)}")
        if x.shape[-1] != self.input_size:
            raise ShapeError(
                f"{name}: expected {self.input_size} features, not the {x.shape[-1]} of {tuple(x.shape)}"
            )
        batched = x.ndim == 3
        if not batched:
            x = x.unsqueeze(1)
        elif self.batch_first:
            x = x.transpose(0, 1)
        if x.shape[0] == 0:
            raise ShapeError(f"{name}: the sequence has no steps")
        states = self._states(x, given, batched)
        finals: list[tuple[Tensor, ...]] = []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = F.dropout(x, self.dropout, self.training)
            outputs = []
            for suffix in self._suffixes:
                at = f"_l{layer}{suffix}"
                weight, bias = getattr(self, f"weight_hh{at}"), getattr(self, f"bias_hh{at}", None)
                own = getattr(self, f"bias_ih{at}", None)
                if self._cell.joint and own is not None:
                    bias, own = own + bias, None
                gi = F.linear(x, getattr(self, f"weight_ih{at}"), own)
                state = tuple(each[len(finals)] for each in states)
                output, final = sequence(self._cell, suffix != "", gi, weight, bias, state)
                outputs.append(output)
                finals.append(final)
            x = outputs[0] if len(outputs) == 1 else cat(outputs, -1)
        last = tuple(stack([final[i] for final in finals]) for i in range(self._cell.states))
        if not batched:
            return x.squeeze(1), tuple(each.squeeze(1) for each in last)
        return x.transpose(0, 1) if self.batch_first else x, last

    def _states(self, x: Tensor, given: tuple[Tensor, ...] | None, batched: bool) -> list[Tensor]:
        """The initial states `(layers × directions, N, H)`, zeros where none are given."""
        name = type(self).__name__
        shape = (self.num_layers * len(self._suffixes), x.shape[1], self.hidden_size)
        if given is None:
            dtype = self.weight_hh_l0.dtype
            return [zeros(shape, dtype=dtype, device=x.device) for _ in range(self._cell.states)]
        wanted = shape if batched else (shape[0], shape[2])
        axes = "(layers × directions, batch, hidden)" if batched else "(layers × directions, hidden)"
        for letter, state in zip("hc", given, strict=False):
            _check_tensor(name, f"{letter}_0", state)
            if tuple(state.shape) != wanted:
                raise ShapeError(
                    f"{name}: {letter}_0 must be {wanted}, which is {axes}, not {tuple(state.shape)}"
                )
        return [state if batched else state.unsqueeze(1) for state in given]

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        if self.num_layers != 1:
            parts.append(f"num_layers={self.num_layers}")
        if not self.bias:
            parts.append("bias=False")
        if self.batch_first:
            parts.append("batch_first=True")
        if self.dropout:
            parts.append(f"dropout={self.dropout}")
        if self.bidirectional:
            parts.append("bidirectional=True")
        return ", ".join(parts)


def _pair(name: str, hx: tuple[Tensor, Tensor] | None) -> tuple[Tensor, ...] | None:
    if hx is not None and (not isinstance(hx, (tuple, list)) or len(hx) != 2):
        raise TypeError(f"{name}: the state is a pair (h, c) of tensors, not {type(hx).__name__}")
    return hx if hx is None else tuple(hx)


class RNN(_Recurrent):
    """An Elman network: hₜ = tanh(W xₜ + b + U hₜ₋₁ + d) (Elman, "Finding structure in time", 1990).

    One matrix product for the inputs of all steps of a layer and direction, and one kernel for the steps.

    Args:
        input_size: the number I of features of a step.
        hidden_size: the number H of features of the hidden state.
        num_layers: how many layers, each of which reads the hidden states of the one below.
        nonlinearity: "tanh" or "relu".
        bias: whether b and d are added and learned.
        batch_first: whether sequences are `(N, L, I)` instead of `(L, N, I)`; states are not affected.
        dropout: the probability with which elements of each layer's output but the last's drop in training.
        bidirectional: whether a second network reads each layer's input from its end; D is then 2, else 1.

    Shape:
        floats `(L, N, I)`, or `(L, I)` without a batch; L is at least 1. The initial state h_0 is
        `(num_layers D, N, H)`, or `(num_layers D, H)`, and zeros if it is not given. Gives the last layer's
        hidden states `(L, N, D H)` or `(L, D H)`, the forward direction's first, and all layers' last states,
        shaped as h_0.

    Attributes:
        weight_ih_l0, weight_hh_l0: W `(H, I)` and U `(H, H)` of the first layer, start uniform in ±1/√H;
            `_l1` follow, which read D H features, and `_l0_reverse` is the other direction's.
        bias_ih_l0, bias_hh_l0: b and d, `(H,)`, likewise; absent without `bias`.

    Raises:
        ShapeError: names the sizes that were expected of the input or of the state.

    >>> layer = nn.RNN(10, 20, num_layers=2)
    >>> output, h = layer(ox.ones(5, 3, 10))
    >>> output.shape, h.shape
    ((5, 3, 20), (2, 3, 20))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: str | None = None,
        dtype: DType | None = None,
    ) -> None:
        _check_nonlinearity("RNN", nonlinearity)
        self.nonlinearity = nonlinearity
        self._cell = CELLS[nonlinearity]
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype
        )

    def forward(self, x: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        output, (h,) = self._run(x, None if hx is None else (hx,))
        return output, h

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.nonlinearity == "tanh" else ", nonlinearity='relu'")


class LSTM(_Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997; with forget gates, Gers et al., 2000).

    i, f, g, o = W xₜ + b + U hₜ₋₁ + d;  cₜ = σ(f) cₜ₋₁ + σ(i) tanh(g);  hₜ = σ(o) tanh(cₜ)

    As in `RNN`, the steps of a layer and direction are one kernel.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional: as `RNN`'s.
        proj_size: only 0; projections of the hidden state are not supported.

    Shape:
        as `RNN`'s, but that the state is a pair (h, c) of equal shapes, given and returned.

    Attributes:
        weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0: as `RNN`'s, with 4 H rows: i, f, g and o.

    Raises:
        ShapeError: names the sizes that were expected of the input or of the states.
        NotImplementedError: when `proj_size` is not 0.

    >>> layer = nn.LSTM(10, 20, batch_first=True, bidirectional=True)
    >>> output, (h, c) = layer(ox.ones(3, 5, 10))
    >>> output.shape, h.shape, c.shape
    ((3, 5, 40), (2, 3, 20), (2, 3, 20))
    """

    _cell = CELLS["lstm"]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: str | None = None,
        dtype: DType | None = None,
    ) -> None:
        if proj_size != 0:
            raise NotImplementedError(
                f"LSTM: proj_size={proj_size!r} is not supported; put a Linear layer behind it instead"
            )
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype
        )

    def forward(
        self, x: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        output, (h, c) = self._run(x, _pair("LSTM", hx))
        return output, (h, c)


class GRU(_Recurrent):
    """Gated recurrent units (Cho et al., 2014, https://arxiv.org/abs/1406.1078).

    r = σ(Wᵣ xₜ + bᵣ + Uᵣ hₜ₋₁ + dᵣ), z likewise;  n = tanh(Wₙ xₜ + bₙ + r (Uₙ hₜ₋₁ + dₙ));
    hₜ = (1 - z) n + z hₜ₋₁

    As in `RNN`, the steps of a layer and direction are one kernel.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional: as `RNN`'s.

    Shape:
        as `RNN`'s.

    Attributes:
        weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0: as `RNN`'s, with 3 H rows: r, z and n.

    Raises:
        ShapeError: names the sizes that were expected of the input or of the state.

    >>> output, h = nn.GRU(10, 20)(ox.ones(5, 10))
    >>> output.shape, h.shape
    ((5, 20), (1, 20))
    """

    _cell = CELLS["gru"]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype
        )

    def forward(self, x: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        output, (h,) = self._run(x, None if hx is None else (hx,))
        return output, h


class _Step(Module):
    """What the single steps share."""

    _cell: Cell

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool, device: str | None, dtype: DType | None
    ) -> None:
        super().__init__()
        positive(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bool(bias)
        rows = self._cell.gates * hidden_size
        self.weight_ih = Parameter(empty((rows, input_size), device=device, dtype=dtype))
        self.weight_hh = Parameter(empty((rows, hidden_size), device=device, dtype=dtype))
        self.bias_ih = Parameter(empty((rows,), device=device, dtype=dtype)) if bias else None
        self.bias_hh = Parameter(empty((rows,), device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new starting values."""
        bound = self.hidden_size**-0.5
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def _run(self, x: Tensor, given: tuple[Tensor, ...] | None) -> tuple[Tensor, ...]:
        name = type(self).__name__
        _check_tensor(name, "the input", x)
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            size = self.input_size
            raise ShapeError(f"{name}: expected (N, {size}) or ({size},), not {tuple(x.shape)}")
        shape = (*x.shape[:-1], self.hidden_size)
        if given is None:
            dtype = self.weight_hh.dtype
            given = tuple(zeros(shape, dtype=dtype, device=x.device) for _ in range(self._cell.states))
        for letter, state in zip("hc", given, strict=False):
            _check_tensor(name, letter, state)
            if tuple(state.shape) != shape:
                raise ShapeError(f"{name}: {letter} must be {shape}, not {tuple(state.shape)}")
        gi = F.linear(x, self.weight_ih, self.bias_ih)
        return self._cell.step(gi, F.linear(given[0], self.weight_hh, self.bias_hh), given)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(_Step):
    """One step of `RNN`: h' = tanh(W x + b + U h + d).

    Args:
        input_size, hidden_size, bias, nonlinearity: as `RNN`'s.

    Shape:
        `(N, input_size)` and h `(N, hidden_size)`, or both without N, to h'. Without h it is zeros.

    Attributes:
        weight_ih, weight_hh, bias_ih, bias_hh: as `RNN`'s; the biases are None without `bias`.

    >>> nn.RNNCell(10, 20)(ox.ones(3, 10)).shape
    (3, 20)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: str | None = None,
        dtype: DType | None = None,
    ) -> None:
        _check_nonlinearity("RNNCell", nonlinearity)
        self.nonlinearity = nonlinearity
        self._cell = CELLS[nonlinearity]
        super().__init__(input_size, hidden_size, bias, device, dtype)

    def forward(self, x: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._run(x, None if hx is None else (hx,))[0]


class LSTMCell(_Step):
    """One step of `LSTM`.

    Args:
        input_size, hidden_size, bias: as `LSTM`'s.

    Shape:
        `(N, input_size)` and a pair (h, c) of `(N, hidden_size)`, or all without N, to the next (h, c).
        Without a pair both are zeros.

    Attributes:
        weight_ih, weight_hh, bias_ih, bias_hh: as `LSTM`'s; the biases are None without `bias`.

    >>> h, c = nn.LSTMCell(10, 20)(ox.ones(3, 10))
    >>> h.shape, c.shape
    ((3, 20), (3, 20))
    """

    _cell = CELLS["lstm"]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)

    def forward(self, x: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        h, c = self._run(x, _pair("LSTMCell", hx))
        return h, c


class GRUCell(_Step):
    """One step of `GRU`.

    Args:
        input_size, hidden_size, bias: as `GRU`'s.

    Shape:
        `(N, input_size)` and h `(N, hidden_size)`, or both without N, to h'. Without h it is zeros.

    Attributes:
        weight_ih, weight_hh, bias_ih, bias_hh: as `GRU`'s; the biases are None without `bias`.

    >>> nn.GRUCell(10, 20)(ox.ones(3, 10)).shape
    (3, 20)
    """

    _cell = CELLS["gru"]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)

    def forward(self, x: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._run(x, None if hx is None else (hx,))[0]
