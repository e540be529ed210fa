"""Recurrent arithmetic: one step of each cell, and a whole sequence as one recorded call.

A sequence is a `Function` of its own because the gradients of its steps belong together: those of the
recurrent weights are one matrix product over all steps instead of a sum of one for each. The steps are one
kernel, forward and backward; where gradients are differentiated again, they are composed of the core's
operations by `run`. The layers that keep the parameters are in `nn/recurrent.py`.
"""

from __future__ import annotations

from ..._core import Tensor, _autocast, _sequence, _sequence_back, is_grad_enabled, linear, stack
from ...autograd import Function, grad

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    State = tuple[Tensor, ...]


class Cell:
    """One step. `gi` is the input's and `gh` the last hidden state's share of the gates, side by side."""

    name: str
    gates: int
    states: int = 1
    #: Whether only the sum of `gi` and `gh` counts, so that their biases may be added up first.
    joint: bool = True

    def step(self, gi: Tensor, gh: Tensor, state: State) -> State:
        """The next state."""
        raise NotImplementedError


class TanhCell(Cell):
    """h' = tanh(gi + gh)."""

    name = "tanh"
    gates = 1

    def step(self, gi: Tensor, gh: Tensor, state: State) -> State:
        return ((gi + gh).tanh(),)


class ReluCell(Cell):
    """h' = max(gi + gh, 0)."""

    name = "relu"
    gates = 1

    def step(self, gi: Tensor, gh: Tensor, state: State) -> State:
        return ((gi + gh).relu(),)


class LstmCell(Cell):
    """i, f, g, o = gi + gh; c' = σ(f) c + σ(i) tanh(g); h' = σ(o) tanh(c')."""

    name = "lstm"
    gates = 4
    states = 2

    def step(self, gi: Tensor, gh: Tensor, state: State) -> State:
        i, f, g, o = (gi + gh).chunk(4, -1)
        c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
        return (o.sigmoid() * c.tanh(), c)


class GruCell(Cell):
    """r = σ(gi₁ + gh₁); z = σ(gi₂ + gh₂); n = tanh(gi₃ + r gh₃); h' = (1 - z) n + z h."""

    name = "gru"
    gates = 3
    joint = False

    def step(self, gi: Tensor, gh: Tensor, state: State) -> State:
        (ir, iz, inew), (hr, hz, hnew) = gi.chunk(3, -1), gh.chunk(3, -1)
        z = (iz + hz).sigmoid()
        n = (inew + (ir + hr).sigmoid() * hnew).tanh()
        return (n + z * (state[0] - n),)


CELLS: dict[str, Cell] = {cell.name: cell for cell in (TanhCell(), ReluCell(), LstmCell(), GruCell())}


def sequence(
    cell: Cell, reverse: bool, gi: Tensor, weight: Tensor, bias: Tensor | None, state: State
) -> tuple[Tensor, State]:
    """All hidden states `(L, N, H)` and the last state.

    Args:
        gi: the input's share of the gates, `(L, N, gates H)`.
        reverse: whether the steps are taken from the last to the first; the output's order is the input's.
        weight, bias: `(gates H, H)` and `(gates H,)`, of the hidden state's share.
        state: what each step hands on, `(N, H)` each.
    """
    gi, weight, bias, *given = _autocast("recurrent", gi, weight, bias, *state)
    state = tuple(given)
    result: State
    if is_grad_enabled():
        result = Sequence.apply(cell, reverse, gi, weight, bias, *state)
    else:
        result = tuple(_sequence(cell.name, reverse, gi, weight, bias, state, False)[0])
    return result[0], result[1:]


def run(cell: Cell, reverse: bool, gi: Tensor, weight: Tensor, bias: Tensor | None, state: State) -> State:
    """The same, composed: a loop over the steps, whose gradients can be differentiated again."""
    steps = gi.unbind(0)
    outputs = []
    for i in reversed(range(len(steps))) if reverse else range(len(steps)):
        state = cell.step(steps[i], linear(state[0], weight, bias), state)
        outputs.append(state[0])
    return stack(outputs[::-1] if reverse else outputs), *state


class Sequence(Function):
    """The kernel, whose gradient walks the steps back and leaves the weights' for one product."""

    @staticmethod
    def forward(
        ctx: Any, cell: Cell, reverse: bool, gi: Tensor, weight: Tensor, bias: Tensor | None, *state: Tensor
    ) -> State:
        ctx.cell, ctx.reverse = cell, reverse
        ctx.save_for_backward(gi, weight, bias, *state)
        keep = any(ctx.needs_input_grad)
        outputs, ctx.around, ctx.kept = _sequence(cell.name, reverse, gi, weight, bias, state, keep)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *d: Tensor) -> tuple[Tensor | None, ...]:
        if is_grad_enabled():
            return None, None, *Sequence.recorded(ctx, d)
        return None, None, *Sequence.walked(ctx, d)

    @staticmethod
    def walked(ctx: Any, d: State) -> list[Tensor | None]:
        """The gradients by the kernel, from the states around all steps and what else it kept."""
        weight = ctx.saved_tensors[1]
        _, _, _, need_weight, need_bias, *_ = ctx.needs_input_grad
        found = _sequence_back(ctx.cell.name, ctx.reverse, weight, ctx.around, ctx.kept, d)
        inputs, shares, dstate = found
        dweight = None
        if need_weight:
            hidden = ctx.around[0]
            before = hidden[1:] if ctx.reverse else hidden[:-1]
            dweight = shares.flatten(0, 1).mT @ before.flatten(0, 1)
        dbias = shares.sum((0, 1)) if need_bias else None
        return [inputs, dweight, dbias, *dstate]

    @staticmethod
    def recorded(ctx: Any, d: State) -> list[Tensor | None]:
        """The gradients once more, from steps that are recorded, so that they can be differentiated again."""
        gi, weight, bias, *state = given = ctx.saved_tensors
        places = [i for i, need in enumerate(ctx.needs_input_grad[2:]) if need]
        outputs = run(ctx.cell, ctx.reverse, gi, weight, bias, tuple(state))
        found = grad(outputs, [given[i] for i in places], d, create_graph=True, allow_unused=True)
        result: list[Tensor | None] = [None] * len(given)
        for i, g in zip(places, found, strict=True):
            result[i] = g
        return result
