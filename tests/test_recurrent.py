"""Recurrent layers and cells: values against loops in NumPy, gradients, options, errors, and that they learn."""

from __future__ import annotations

import copy
import gc
import itertools
from typing import Any

import numpy as np
import oxon as ox
import pytest
from numeric import assert_close, check_gradients, draw, t64
from oxon import nn, optim

KINDS = ["RNN", "LSTM", "GRU"]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def step(kind: str, x: np.ndarray, state: list[np.ndarray], weights: list[np.ndarray]) -> list[np.ndarray]:
    """One step by the formulas of the docstrings; weights are W, U and, where there are biases, b and d."""
    w, u, b, d = [*weights, 0.0, 0.0][:4]
    gi, gh = x @ w.T + b, state[0] @ u.T + d
    if kind == "relu":
        return [np.maximum(gi + gh, 0)]
    if kind == "tanh":
        return [np.tanh(gi + gh)]
    if kind == "LSTM":
        i, f, g, o = np.split(gi + gh, 4, -1)
        c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
        return [sigmoid(o) * np.tanh(c), c]
    (ir, iz, inew), (hr, hz, hnew) = np.split(gi, 3, -1), np.split(gh, 3, -1)
    r, z = sigmoid(ir + hr), sigmoid(iz + hz)
    n = np.tanh(inew + r * hnew)
    return [(1 - z) * n + z * state[0]]


def reference(
    kind: str, x: np.ndarray, states: list[np.ndarray], weights: list[list[np.ndarray]], directions: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """`(L, N, I)` through all layers and directions, one step after the other."""
    finals: list[list[np.ndarray]] = []
    for layer in range(len(weights) // directions):
        outputs = []
        for direction in range(directions):
            place = layer * directions + direction
            state = [s[place] for s in states]
            hidden = []
            for frame in x[::-1] if direction else x:
                state = step(kind, frame, state, weights[place])
                hidden.append(state[0])
            finals.append(state)
            outputs.append(np.stack(hidden[::-1] if direction else hidden))
        x = np.concatenate(outputs, -1)
    return x, [np.stack(parts) for parts in zip(*finals, strict=True)]


def weights_of(layer: Any) -> list[list[np.ndarray]]:
    """The layer's parameters, grouped by layer and direction."""
    values = [p.detach().numpy() for p in layer.parameters()]
    each = 4 if layer.bias else 2
    return [values[i : i + each] for i in range(0, len(values), each)]


def flat(result: Any) -> list[ox.Tensor]:
    output, state = result
    return [output, *(state if isinstance(state, tuple) else [state])]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize(("layers", "bidirectional"), list(itertools.product([1, 3], [False, True])))
@pytest.mark.parametrize("bias", [True, False])
def test_layers_are_loops_over_steps(
    kind: str, nonlinearity: str, layers: int, bidirectional: bool, bias: bool
) -> None:
    options: dict[str, Any] = {"nonlinearity": nonlinearity} if kind == "RNN" else {}
    if kind != "RNN" and nonlinearity == "relu":
        with pytest.raises(TypeError, match="nonlinearity"):
            getattr(nn, kind)(3, 4, nonlinearity="relu")
        return
    ox.manual_seed(1)
    layer = getattr(nn, kind)(
        3, 4, layers, bias=bias, bidirectional=bidirectional, dtype=ox.float64, **options
    )
    directions = 1 + bidirectional
    x = draw(5, 2, 3)
    states = [draw(layers * directions, 2, 4, seed=s) for s in range(1 + (kind == "LSTM"))]
    name = nonlinearity if kind == "RNN" else kind
    given: Any = tuple(t64(s) for s in states) if kind == "LSTM" else t64(states[0])
    expected, finals = reference(name, x, states, weights_of(layer), directions)
    for actual, value in zip(flat(layer(t64(x), given)), [expected, *finals], strict=True):
        assert_close(actual, value)
    with ox.no_grad():
        assert_close(layer(t64(x), given)[0], expected)
    # Without a state, from zeros.
    expected, finals = reference(name, x, [np.zeros_like(s) for s in states], weights_of(layer), directions)
    for actual, value in zip(flat(layer(t64(x))), [expected, *finals], strict=True):
        assert_close(actual, value)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_first_and_no_batch(kind: str) -> None:
    ox.manual_seed(2)
    layer = getattr(nn, kind)(3, 4, 2, bidirectional=True, dtype=ox.float64)
    first = getattr(nn, kind)(3, 4, 2, bidirectional=True, batch_first=True, dtype=ox.float64)
    first.load_state_dict(layer.state_dict())
    x = draw(5, 2, 3)
    expected = [v.detach().numpy() for v in flat(layer(t64(x)))]
    output, *states = flat(first(t64(x.transpose(1, 0, 2))))
    assert_close(output, expected[0].transpose(1, 0, 2))
    for actual, value in zip(states, expected[1:], strict=True):
        assert_close(actual, value)
    for either in (layer, first):
        output, *states = flat(either(t64(x[:, 1])))
        assert_close(output, expected[0][:, 1])
        for actual, value in zip(states, expected[1:], strict=True):
            assert_close(actual, value[:, 1])
        given = states[0] if kind != "LSTM" else tuple(states)
        assert flat(either(t64(x[:, 1]), given))[0].shape == (5, 8)


@pytest.mark.parametrize("kind", ["tanh", "relu", "LSTM", "GRU"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradients(kind: str, bidirectional: bool) -> None:
    ox.manual_seed(3)
    if kind in ("tanh", "relu"):
        layer: Any = nn.RNN(2, 3, nonlinearity=kind, bidirectional=bidirectional, dtype=ox.float64)
    else:
        layer = getattr(nn, kind)(2, 3, bidirectional=bidirectional, dtype=ox.float64)
    keys = list(layer.state_dict())
    states = [draw(1 + bidirectional, 2, 3, seed=s) for s in range(1 + (kind == "LSTM"))]

    def call(x: ox.Tensor, *rest: ox.Tensor) -> ox.Tensor:
        given: Any = rest[: len(states)]
        for key, value in zip(keys, rest[len(states) :], strict=True):
            layer.__dict__[key] = value
        result = flat(layer(x, given if kind == "LSTM" else given[0]))
        return ox.cat([part.reshape(-1) for part in result])

    weights = [p.detach().numpy().copy() for p in layer.parameters()]
    check_gradients(call, draw(3, 2, 2), *states, *weights)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_gradients(kind: str) -> None:
    layer = getattr(nn, kind)(2, 2, dtype=ox.float64)
    assert ox.gradcheck(lambda x: layer(x)[0], t64(draw(3, 1, 2)), order=2)


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_parts_get_no_gradient(kind: str) -> None:
    layer = getattr(nn, kind)(2, 3)
    layer.weight_hh_l0.requires_grad_(False)
    layer.bias_hh_l0.requires_grad_(False)
    x = ox.randn(4, 2, 2, requires_grad=True)
    layer(x)[0].sum().backward()
    assert layer.weight_hh_l0.grad is None
    assert layer.bias_hh_l0.grad is None
    assert x.grad is not None
    assert layer.weight_ih_l0.grad is not None
    layer.requires_grad_(False)
    assert not layer(x.detach())[0].requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_cells_are_single_steps(kind: str) -> None:
    ox.manual_seed(4)
    for bias in (True, False):
        cell = getattr(nn, kind + "Cell")(3, 4, bias=bias, dtype=ox.float64)
        weights = [p.detach().numpy() for p in cell.parameters()]
        states = [draw(2, 4, seed=s) for s in range(1 + (kind == "LSTM"))]
        x = draw(2, 3)
        name = "tanh" if kind == "RNN" else kind

        def run(x: np.ndarray, states: list[np.ndarray] | None, cell: Any = cell) -> list[ox.Tensor]:
            if kind == "LSTM":
                return list(cell(t64(x), None if states is None else tuple(map(t64, states))))
            return [cell(t64(x), None if states is None else t64(states[0]))]

        for actual, expected in zip(run(x, states), step(name, x, states, weights), strict=True):
            assert_close(actual, expected)
        zeros = [np.zeros((2, 4)) for _ in states]
        for actual, expected in zip(run(x, None), step(name, x, zeros, weights), strict=True):
            assert_close(actual, expected)
        single = run(x[0], [s[0] for s in states])
        for actual, expected in zip(single, step(name, x, states, weights), strict=True):
            assert_close(actual, expected[0])
    cell = nn.RNNCell(3, 4, nonlinearity="relu", dtype=ox.float64)
    weights = [p.detach().numpy() for p in cell.parameters()]
    assert_close(cell(t64(x)), step("relu", x, [np.zeros((2, 4))], weights)[0])


def test_keys_and_shapes_are_pytorchs() -> None:
    layer = nn.LSTM(3, 4, 2, bidirectional=True)
    shapes = {key: tuple(value.shape) for key, value in layer.state_dict().items()}
    expected = {}
    for suffix, columns in (("l0", 3), ("l0_reverse", 3), ("l1", 8), ("l1_reverse", 8)):
        expected |= {f"weight_ih_{suffix}": (16, columns), f"weight_hh_{suffix}": (16, 4)}
        expected |= {f"bias_ih_{suffix}": (16,), f"bias_hh_{suffix}": (16,)}
    assert shapes == expected
    assert list(shapes) == list(expected)
    assert list(nn.GRU(3, 4, bias=False).state_dict()) == ["weight_ih_l0", "weight_hh_l0"]
    assert nn.GRU(3, 4).weight_hh_l0.shape == (12, 4)
    assert nn.RNN(3, 4).weight_ih_l0.shape == (4, 3)
    assert list(nn.GRUCell(3, 4).state_dict()) == ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]


@pytest.mark.parametrize("kind", [*KINDS, "RNNCell", "LSTMCell", "GRUCell"])
def test_parameters_start_within_the_bound(kind: str) -> None:
    layer = getattr(nn, kind)(5, 64)
    for parameter in layer.parameters():
        values = parameter.detach().numpy()
        assert np.abs(values).max() <= 64**-0.5
        assert values.std() == pytest.approx(64**-0.5 / 3**0.5, rel=0.2)


def test_dropout_stands_between_layers() -> None:
    layer = nn.GRU(3, 4, 2, dropout=0.9)
    x = ox.randn(6, 2, 3)
    assert layer(x)[0].tolist() != layer(x)[0].tolist()
    assert layer(x)[1][0].tolist() == layer(x)[1][0].tolist()  # the first layer's own state is whole
    layer.eval()
    assert layer(x)[0].tolist() == layer(x)[0].tolist()
    with pytest.warns(UserWarning, match=r"GRU: dropout stands between layers, so dropout=0\.5 does nothing"):
        nn.GRU(3, 4, dropout=0.5)


def test_errors_name_what_is_wrong() -> None:
    layer = nn.LSTM(3, 4, 2, bidirectional=True)
    x = ox.ones(5, 2, 3)
    h = ox.ones(4, 2, 4)
    for call, error, text in (
        (lambda: layer(ox.ones(5, 2, 7)), ox.ShapeError, r"LSTM: expected 3 features, not the 7 of \(5, 2, 7\)"),
        (lambda: layer(ox.ones(3)), ox.ShapeError, r"LSTM: expected \(L, N, features\) or"),
        (lambda: layer(ox.ones(0, 2, 3)), ox.ShapeError, "LSTM: the sequence has no steps"),
        (lambda: layer(ox.ones(5, 2, 3, dtype=ox.int64)), ox.DTypeError, "LSTM: the input must be of a float"),
        (lambda: layer([1.0]), TypeError, "LSTM: the input must be a tensor, not list"),
        (lambda: layer(x, h), TypeError, r"LSTM: the state is a pair \(h, c\) of tensors, not Tensor"),
        (lambda: layer(x, (h, None)), TypeError, "LSTM: c_0 must be a tensor, not NoneType"),
        (
            lambda: layer(x, (h, ox.ones(2, 2, 4))),
            ox.ShapeError,
            r"LSTM: c_0 must be \(4, 2, 4\), which is \(layers × directions, batch, hidden\), not \(2, 2, 4\)",
        ),
        (lambda: layer(x[:, 0], (h, h)), ox.ShapeError, r"LSTM: h_0 must be \(4, 4\), which is \(layers"),
        (lambda: nn.LSTM(3, 4, proj_size=2), NotImplementedError, "LSTM: proj_size=2 is not supported"),
        (lambda: nn.GRU(3, 0), ValueError, "GRU: hidden_size must be positive, not 0"),
        (lambda: nn.GRU(3.0, 4), TypeError, "GRU: input_size must be an integer, not float"),
        (lambda: nn.GRU(3, 4, 2, dropout=2.0), ValueError, "GRU: p must lie between 0 and 1"),
        (lambda: nn.RNN(3, 4, nonlinearity="gelu"), ValueError, "RNN: nonlinearity must be 'tanh' or 'relu'"),
        (lambda: nn.RNNCell(3, 4)(ox.ones(2, 5)), ox.ShapeError, r"RNNCell: expected \(N, 3\) or \(3,\)"),
        (
            lambda: nn.GRUCell(3, 4)(ox.ones(2, 3), ox.ones(3, 4)),
            ox.ShapeError,
            r"GRUCell: h must be \(2, 4\), not \(3, 4\)",
        ),
        (lambda: nn.LSTMCell(3, 4)(ox.ones(2, 3), ox.ones(2, 4)), TypeError, r"LSTMCell: the state is a pair"),
    ):  # fmt: skip
        with pytest.raises(error, match=text):
            call()


def test_layers_are_shown_copied_and_cast() -> None:
    layer = nn.LSTM(3, 4, num_layers=2, batch_first=True, dropout=0.5, bidirectional=True, bias=False)
    assert repr(layer) == (
        "LSTM(3, 4, num_layers=2, bias=False, batch_first=True, dropout=0.5, bidirectional=True)"
    )
    assert repr(nn.RNN(3, 4, nonlinearity="relu")) == "RNN(3, 4, nonlinearity='relu')"
    assert repr(nn.GRUCell(3, 4, bias=False)) == "GRUCell(3, 4, bias=False)"
    rnn = nn.RNN(3, 4, nonlinearity="relu")
    again = copy.deepcopy(rnn)
    x = ox.randn(2, 1, 3)
    assert again(x)[0].tolist() == rnn(x)[0].tolist()
    half = nn.GRU(3, 4).half()
    output, h = half(x.half())
    assert output.dtype == h.dtype == ox.float16
    rnn.flatten_parameters()


def test_an_empty_batch_goes_through() -> None:
    layer = nn.GRU(3, 4)
    output, h = layer(ox.ones(5, 0, 3))
    assert (output.shape, h.shape) == ((5, 0, 4), (1, 0, 4))
    output.sum().backward()
    assert layer.weight_hh_l0.grad.tolist() == np.zeros((12, 4)).tolist()


def test_memory_is_given_back_without_the_garbage_collector() -> None:
    layer = nn.LSTM(16, 32)
    x = ox.randn(20, 8, 16)
    gc.collect()
    gc.disable()
    try:
        used = []
        for _ in range(6):
            layer(x)[0].sum().backward()
            layer.zero_grad()
            ox.synchronize()
            used.append(ox.memory_summary()["used"])
    finally:
        gc.enable()
    assert used[-1] <= used[1]


@pytest.mark.parametrize("kind", KINDS)
def test_they_learn_to_remember(kind: str) -> None:
    """The sign of the first step of ten, with noise behind it."""
    ox.manual_seed(5)
    rnn = getattr(nn, kind)(2, 16, batch_first=True)
    head = nn.Linear(16, 1)
    optimizer = optim.Adam([*rnn.parameters(), *head.parameters()], lr=2e-2)
    values = draw(64, 10, 2).astype(np.float32)
    x, y = ox.tensor(values), ox.tensor((values[:, :1, 0] > 0).astype(np.float32))
    for _ in range(120):
        loss = nn.functional.binary_cross_entropy_with_logits(head(rnn(x)[0][:, -1]), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


# The kernel of a whole sequence beside the composition of its steps.


def both_ways(monkeypatch: pytest.MonkeyPatch, run: Any) -> list[Any]:
    """What `run` gives with the kernel and without."""
    from oxon.nn.functional import recurrent

    def composed(*args: Any) -> Any:
        output, *state = recurrent.run(*args)
        return output, tuple(state)

    found = [run()]
    monkeypatch.setattr("oxon.nn.recurrent.sequence", composed)
    found.append(run())
    return found


@pytest.mark.parametrize("kind", ["tanh", "relu", "LSTM", "GRU"])
@pytest.mark.parametrize(
    "sizes", [(1, 1, 2, 3), (7, 1, 5, 40), (4, 3, 2, 33), (5, 33, 3, 70), (2, 5, 2, 130)]
)
def test_the_kernel_is_the_composition(
    monkeypatch: pytest.MonkeyPatch, kind: str, sizes: tuple[int, ...]
) -> None:
    steps, batch, inputs, hidden = sizes
    options = {"nonlinearity": kind} if kind in ("tanh", "relu") else {}
    layer = getattr(nn, "RNN" if options else kind)(
        inputs, hidden, bidirectional=True, dtype=ox.float64, **options
    )
    x = draw(steps, batch, inputs)
    states = [draw(2, batch, hidden, seed=s) for s in range(1 + (kind == "LSTM"))]

    def run() -> list[ox.Tensor]:
        layer.zero_grad()
        leaves = [t64(value).requires_grad_() for value in (x, *states)]
        given: Any = tuple(leaves[1:]) if kind == "LSTM" else leaves[1]
        outputs = flat(layer(leaves[0], given))
        sum((out * t64(draw(*out.shape, seed=5))).sum() for out in outputs).backward()
        grads = [p.grad for p in [*leaves, *layer.parameters()]]
        return [part.detach() for part in (*outputs, *grads)]

    for actual, expected in zip(*both_ways(monkeypatch, run), strict=True):
        assert_close(actual, expected.numpy(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [ox.float16, ox.bfloat16])
def test_half_floats_are_computed_in_float32(kind: str, dtype: Any) -> None:
    layer = getattr(nn, kind)(3, 20).to(dtype)
    exact = getattr(nn, kind)(3, 20, dtype=ox.float64)
    exact.load_state_dict({key: value.double() for key, value in layer.state_dict().items()})
    x = t64(draw(6, 4, 3)).to(dtype)
    outputs, expected = flat(layer(x)), flat(exact(x.double()))
    for actual, value in zip(outputs, expected, strict=True):
        assert actual.dtype == dtype
        assert_close(actual.double(), value.detach().numpy(), atol=2e-2)
    outputs[0].sum().backward()
    expected[0].sum().backward()
    for single, double in zip(layer.parameters(), exact.parameters(), strict=True):
        assert single.grad.dtype == dtype
        assert_close(single.grad.double(), double.grad.numpy(), rtol=5e-2, atol=5e-1)


def test_outputs_are_tensors_of_their_own() -> None:
    layer = nn.LSTM(2, 3)
    with ox.no_grad():
        output, (h, c) = layer(ox.ones(4, 1, 2))
        kept = output.tolist()
        h += 1
        c *= 0
    assert output.tolist() == kept


def test_the_kernel_refuses_what_does_not_fit() -> None:
    from oxon import _core

    gi, weight, bias, state = ox.ones(5, 2, 12), ox.ones(12, 3), ox.ones(12), ox.ones(2, 3)
    both = [state, state]
    for given, error in (
        (("lstm", False, gi[0], weight, bias, both, True), ox.ShapeError),
        (("lstm", False, gi, weight[:6], bias, both, True), ox.ShapeError),
        (("lstm", False, gi, weight[:, :0], bias, both, True), ox.ShapeError),
        (("lstm", False, gi, weight, bias[:5], both, True), ox.ShapeError),
        (("lstm", False, gi[:0], weight, bias, both, True), ox.ShapeError),
        (("lstm", False, gi, weight, bias, [state, state[:1]], True), ox.ShapeError),
        (("lstm", False, gi, weight, bias, [state], True), ValueError),
        (("gru", False, gi, weight, bias, [state], True), ox.ShapeError),
        (("cell", False, gi, weight, bias, both, True), ValueError),
        (("lstm", False, gi, weight.long(), bias, both, True), ox.DTypeError),
    ):
        with pytest.raises(error, match="recurrent: "):
            _core._sequence(*given)
    _, around, kept = _core._sequence("lstm", False, gi, weight, bias, both, True)
    grads = [ox.ones(5, 2, 3), state, state]
    assert kept is not None
    assert len(_core._sequence_back("lstm", False, weight, around, kept, grads)[2]) == 2
    for back, error in (
        (("lstm", False, weight, around, None, grads), ValueError),
        (("lstm", False, weight, around[:1], kept, grads), ValueError),
        (("lstm", False, weight, around, kept, grads[:2]), ValueError),
        (("lstm", False, weight, [around[0][:1]] * 2, kept, grads), ValueError),
        (("lstm", False, weight, around, kept[:2], grads), ox.ShapeError),
        (("lstm", False, weight, around, kept, [state, state, state]), ox.ShapeError),
        (("lstm", False, weight, [a.half() for a in around], kept, grads), ox.DTypeError),
        (("tanh", False, weight, around[:1], kept, grads[:2]), ValueError),
    ):
        with pytest.raises(error, match="recurrent: "):
            _core._sequence_back(*back)
