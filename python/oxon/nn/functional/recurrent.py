"""Recurrent arithmetic: one step of each cell, its gradient, and a whole sequence as one recorded call.

A sequence is a `Function` of its own because the gradients of its steps belong together: those of the
recurrent weights are one matrix product over all steps instead of a sum of one for each. On the CPU the steps
are one kernel, forward and backward; elsewhere, and where gradients are differentiated again, they are
composed of the core's operations by `run`. The layers that keep the parameters are in `nn/recurrent.py`.
"""

from __future__ import annotations

from ..._core import Tensor, _autocast, _sequence, _sequence_back, cat, is_grad_enabled, linear, stack, where
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

    def step(self, gi: Tensor, gh: Tensor, state: State) -> tuple[State, State]:
        """The next state, and what `back` wants to know beside it."""
        raise NotImplementedError

    def back(self, kept: State, before: State, after: State, d: State) -> tuple[Tensor, Tensor, State]:
        """The gradients of `gi`, of `gh` and of the state before, but for what reaches that through `gh`.

        The hidden state is left out of the last where only `gh` depends on it.
        """
        raise NotImplementedError


class TanhCell(Cell):
    """h' = tanh(gi + gh)."""

    name = "tanh"
    gates = 1

    def step(self, gi: Tensor, gh: Tensor, state: State) -> tuple[State, State]:
        return ((gi + gh).tanh(),), ()

    def back(self, kept: State, before: State, after: State, d: State) -> tuple[Tensor, Tensor, State]:
        dz = d[0] * (1.0 - after[0] * after[0])
        return dz, dz, ()


class ReluCell(Cell):
    """h' = max(gi + gh, 0)."""

    name = "relu"
    gates = 1

    def step(self, gi: Tensor, gh: Tensor, state: State) -> tuple[State, State]:
        return ((gi + gh).relu(),), ()

    def back(self, kept: State, before: State, after: State, d: State) -> tuple[Tensor, Tensor, State]:
        dz = where(after[0] > 0, d[0], 0.0)
        return dz, dz, ()


class LstmCell(Cell):
    """i, f, g, o = gi + gh; c' = σ(f) c + σ(i) tanh(g); h' = σ(o) tanh(c')."""

    name = "lstm"
    gates = 4
    states = 2

    def step(self, gi: Tensor, gh: Tensor, state: State) -> tuple[State, State]:
        z = gi + gh
        i, f, g, o = z.chunk(4, -1)
        c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
        return (o.sigmoid() * c.tanh(), c), (z,)

    def back(self, kept: State, before: State, after: State, d: State) -> tuple[Tensor, Tensor, State]:
        zi, zf, zg, zo = kept[0].chunk(4, -1)
        i, f, g, o = zi.sigmoid(), zf.sigmoid(), zg.tanh(), zo.sigmoid()
        dh, dc = d
        y = after[1].tanh()
        dc = dc + dh * o * (1.0 - y * y)
        di = dc * g * i * (1.0 - i)
        df = dc * before[1] * f * (1.0 - f)
        dg = dc * i * (1.0 - g * g)
        do = dh * y * o * (1.0 - o)
        dz = cat([di, df, dg, do], -1)
        return dz, dz, (dc * f,)


class GruCell(Cell):
    """r = σ(gi₁ + gh₁); z = σ(gi₂ + gh₂); n = tanh(gi₃ + r gh₃); h' = (1 - z) n + z h."""

    name = "gru"
    gates = 3
    joint = False

    def step(self, gi: Tensor, gh: Tensor, state: State) -> tuple[State, State]:
        _, z, n, _ = self.parts(gi, gh)
        return (n + z * (state[0] - n),), (gi, gh)

    def back(self, kept: State, before: State, after: State, d: State) -> tuple[Tensor, Tensor, State]:
        r, z, n, hn = self.parts(*kept)
        dz = d[0] * (before[0] - n) * z * (1.0 - z)
        dn = d[0] * (1.0 - z) * (1.0 - n * n)
        dr = dn * hn * r * (1.0 - r)
        return cat([dr, dz, dn], -1), cat([dr, dz, dn * r], -1), (d[0] * z,)

    def parts(self, gi: Tensor, gh: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """r, z, n, and the hidden state's share of n."""
        (ir, iz, inew), (hr, hz, hnew) = gi.chunk(3, -1), gh.chunk(3, -1)
        r = (ir + hr).sigmoid()
        return r, (iz + hz).sigmoid(), (inew + r * hnew).tanh(), hnew


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
    elif has_kernel(gi):
        result = tuple(_sequence(cell.name, reverse, gi, weight, bias, state, False)[0])
    else:
        result = run(cell, reverse, gi, weight, bias, state)
    return result[0], result[1:]


def has_kernel(gi: Tensor) -> bool:
    """Whether a whole sequence is one kernel where `gi` is."""
    return gi.device == "cpu"


def run(
    cell: Cell,
    reverse: bool,
    gi: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    state: State,
    kept: list[tuple[State, State, State]] | None = None,
) -> State:
    """The loop over the steps; `kept` collects the states around each and what else its gradient needs."""
    steps = gi.unbind(0)
    outputs = []
    for i in reversed(range(len(steps))) if reverse else range(len(steps)):
        before = state
        state, more = cell.step(steps[i], linear(before[0], weight, bias), before)
        outputs.append(state[0])
        if kept is not None:
            kept.append((before, state, more))
    return stack(outputs[::-1] if reverse else outputs), *state


class Sequence(Function):
    """`run` or its kernel, whose gradient walks the steps back and leaves the weights' for one product."""

    @staticmethod
    def forward(
        ctx: Any, cell: Cell, reverse: bool, gi: Tensor, weight: Tensor, bias: Tensor | None, *state: Tensor
    ) -> State:
        ctx.cell, ctx.reverse = cell, reverse
        ctx.save_for_backward(gi, weight, bias, *state)
        ctx.fused = has_kernel(gi)
        if ctx.fused:
            keep = any(ctx.needs_input_grad)
            outputs, ctx.around, ctx.kept = _sequence(cell.name, reverse, gi, weight, bias, state, keep)
            return tuple(outputs)
        ctx.kept = [] if any(ctx.needs_input_grad) else None
        return run(cell, reverse, gi, weight, bias, state, ctx.kept)

    @staticmethod
    def backward(ctx: Any, *d: Tensor) -> tuple[Tensor | None, ...]:
        if is_grad_enabled():
            return None, None, *Sequence.recorded(ctx, d)
        if ctx.fused:
            return None, None, *Sequence.fused(ctx, d)
        weight, bias = ctx.saved_tensors[1:3]
        _, _, need_gi, need_weight, need_bias, *_ = ctx.needs_input_grad
        outputs, dstate = d[0].unbind(0), d[1:]
        order = range(len(outputs)) if ctx.reverse else reversed(range(len(outputs)))
        dgi: list[Tensor] = []
        dgh: list[Tensor] = []
        for i, (before, after, more) in zip(order, reversed(ctx.kept), strict=True):
            dstate = (dstate[0] + outputs[i], *dstate[1:])
            gi, gh, direct = ctx.cell.back(more, before, after, dstate)
            dgi.append(gi)
            dgh.append(gh)
            dh = gh @ weight
            whole = len(direct) == ctx.cell.states
            dstate = (dh + direct[0], *direct[1:]) if whole else (dh, *direct)
        kept = ctx.kept
        if ctx.reverse:
            kept = kept[::-1]
        else:
            dgi.reverse()
            dgh.reverse()
        shares = stack(dgh)
        inputs = None
        if need_gi:
            inputs = shares if dgi[0] is dgh[0] else stack(dgi)
        dweight = None
        if need_weight:
            hidden = stack([before[0] for before, _, _ in kept])
            dweight = shares.flatten(0, 1).mT @ hidden.flatten(0, 1)
        dbias = shares.sum((0, 1)) if bias is not None and need_bias else None
        return None, None, inputs, dweight, dbias, *dstate

    @staticmethod
    def fused(ctx: Any, d: State) -> list[Tensor | None]:
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
