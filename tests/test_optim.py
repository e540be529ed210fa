"""Every optimizer against a plain NumPy transcription of its algorithm, and what optimizers share."""

import math
import pickle

import numpy as np
import oxon as ox
import pytest
from numeric import assert_close, draw, t64
from oxon import nn, optim

SHAPES = [(3, 4), (5,), ()]
STEPS = 6


def gradients(step):
    return [draw(*shape, seed=100 * step + i) for i, shape in enumerate(SHAPES)]


def sgd(p, g, s, t, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
    g = g + weight_decay * p
    if momentum:
        s["b"] = g if t == 1 else momentum * s["b"] + (1 - dampening) * g
        g = g + momentum * s["b"] if nesterov else s["b"]
    return p - lr * g


def rmsprop(p, g, s, t, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False):
    g = g + weight_decay * p
    s["v"] = alpha * s.get("v", 0) + (1 - alpha) * g**2
    v = s["v"]
    if centered:
        s["m"] = alpha * s.get("m", 0) + (1 - alpha) * g
        v = v - s["m"] ** 2
    step = g / (np.sqrt(v) + eps)
    if momentum:
        s["b"] = step = momentum * s.get("b", 0) + step
    return p - lr * step


def adam(p, g, s, t, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False, decoupled=False):
    if decoupled:
        p = p - lr * weight_decay * p
    else:
        g = g + weight_decay * p
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g**2
    v = s["v"]
    if amsgrad:
        s["max"] = v = np.maximum(s.get("max", 0), v)
    return p - lr * (s["m"] / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)


def adamw(p, g, s, t, weight_decay=1e-2, **options):
    return adam(p, g, s, t, weight_decay=weight_decay, decoupled=True, **options)


def adagrad(p, g, s, t, lr=1e-2, lr_decay=0.0, weight_decay=0.0, initial_accumulator_value=0.0, eps=1e-10):
    g = g + weight_decay * p
    s["sum"] = s.get("sum", initial_accumulator_value) + g**2
    return p - lr / (1 + (t - 1) * lr_decay) * g / (np.sqrt(s["sum"]) + eps)


def adadelta(p, g, s, t, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0.0):
    g = g + weight_decay * p
    s["v"] = rho * s.get("v", 0) + (1 - rho) * g**2
    step = np.sqrt(s.get("u", 0) + eps) / np.sqrt(s["v"] + eps) * g
    s["u"] = rho * s.get("u", 0) + (1 - rho) * step**2
    return p - lr * step


CASES = [
    (optim.SGD, sgd, {}),
    (optim.SGD, sgd, {"lr": 0.1, "momentum": 0.9}),
    (optim.SGD, sgd, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    (optim.SGD, sgd, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (optim.RMSprop, rmsprop, {}),
    (optim.RMSprop, rmsprop, {"lr": 0.1, "alpha": 0.8, "eps": 1e-3, "weight_decay": 0.1}),
    (optim.RMSprop, rmsprop, {"momentum": 0.9, "centered": True}),
    (optim.Adam, adam, {}),
    (optim.Adam, adam, {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-2, "weight_decay": 0.1}),
    (optim.Adam, adam, {"lr": 0.1, "amsgrad": True}),
    (optim.AdamW, adamw, {}),
    (optim.AdamW, adamw, {"lr": 0.1, "weight_decay": 0.3, "amsgrad": True, "betas": (0.5, 0.7)}),
    (optim.Adagrad, adagrad, {}),
    (
        optim.Adagrad,
        adagrad,
        {"lr": 0.1, "lr_decay": 0.2, "weight_decay": 0.1, "initial_accumulator_value": 0.5},
    ),
    (optim.Adadelta, adadelta, {}),
    (optim.Adadelta, adadelta, {"lr": 0.5, "rho": 0.7, "eps": 1e-3, "weight_decay": 0.1}),
]
IDS = [f"{case[0].__name__} {case[2] or ''}" for case in CASES]


def start():
    values = [draw(*shape, seed=7) for shape in SHAPES]
    return values, [nn.Parameter(t64(value)) for value in values]


def run(optimizer, parameters, steps):
    for step in steps:
        for p, g in zip(parameters, gradients(step), strict=True):
            p.grad = t64(g)
        optimizer.step()


@pytest.mark.parametrize(("make", "reference", "options"), CASES, ids=IDS)
@pytest.mark.parametrize("maximize", [False, True])
def test_against_numpy(make, reference, options, maximize):
    values, parameters = start()
    optimizer = make(parameters, **options, maximize=maximize)
    states = [{} for _ in SHAPES]
    for t in range(1, STEPS + 1):
        run(optimizer, parameters, [t])
        for i, g in enumerate(gradients(t)):
            values[i] = reference(values[i], -g if maximize else g, states[i], t, **options)
            assert_close(parameters[i], values[i], rtol=1e-11)


@pytest.mark.parametrize(("make", "reference", "options"), CASES, ids=IDS)
def test_state_dict_resumes(make, reference, options):
    _values, through = start()
    run(make(through, **options), through, range(8))

    _, first = start()
    optimizer = make(first, **options)
    run(optimizer, first, range(4))
    saved = pickle.loads(pickle.dumps(optimizer.state_dict()))
    run(optimizer, first, [55])  # the state dict is a snapshot
    _, second = start()
    _, halfway = start()
    run(make(halfway, **options), halfway, range(4))
    for p, value in zip(second, halfway, strict=True):
        p.data = value.detach()
    resumed = make(second, lr=123.0)
    resumed.load_state_dict(saved)
    run(resumed, second, range(4, 8))
    for p, expected in zip(second, through, strict=True):
        assert p.tolist() == expected.tolist()


@pytest.mark.parametrize(("make", "reference", "options"), CASES, ids=IDS)
def test_first_step_descends_and_keeps_identity(make, reference, options):
    p = nn.Parameter(ox.tensor([3.0, -4.0]))
    before = p.detach()
    (p * p).sum().backward()
    optimizer = make([p], **options)
    assert optimizer.step() is None
    assert (p * p).sum().item() < 25.0
    assert p.requires_grad
    assert p.is_leaf
    assert p.dtype == ox.float32
    assert before.tolist() == [3.0, -4.0]
    optimizer.zero_grad()
    assert p.grad is None
    value = p.tolist()
    optimizer.step()  # without gradients nothing moves
    assert p.tolist() == value


def test_state_dict_has_pytorchs_form():
    p, q = nn.Parameter(ox.ones(2)), nn.Parameter(ox.ones(3))
    optimizer = optim.Adam([{"params": [p]}, {"params": q, "lr": 0.5}], lr=0.1)
    p.grad, q.grad = ox.ones(2), ox.ones(3)
    optimizer.step()
    saved = optimizer.state_dict()
    assert list(saved) == ["state", "param_groups"]
    assert list(saved["state"]) == [0, 1]
    assert set(saved["state"][0]) == {"step", "exp_avg", "exp_avg_sq"}
    assert [group["params"] for group in saved["param_groups"]] == [[0], [1]]
    assert [group["lr"] for group in saved["param_groups"]] == [0.1, 0.5]
    # PyTorch's own have the step as a tensor and may come as arrays of another dtype.
    saved["state"][0] = {"step": ox.tensor(5.0), "exp_avg": np.ones(2), "exp_avg_sq": t64([1.0, 1.0])}
    optimizer.load_state_dict(saved)
    assert optimizer.state[p]["step"] == 5
    assert optimizer.state[p]["exp_avg"].dtype == ox.float32
    names = {
        optim.SGD: {"momentum_buffer"},
        optim.RMSprop: {"step", "square_avg", "grad_avg", "momentum_buffer"},
        optim.Adagrad: {"step", "sum"},
        optim.Adadelta: {"step", "square_avg", "acc_delta"},
    }
    options = {optim.SGD: {"momentum": 0.9}, optim.RMSprop: {"momentum": 0.9, "centered": True}}
    for make, expected in names.items():
        optimizer = make([p], **options.get(make, {}))
        optimizer.step()
        saved = optimizer.state_dict()["state"][0]
        assert set(saved) == expected
        assert saved.get("step", 1) == 1


def test_load_errors():
    p, q = nn.Parameter(ox.ones(2)), nn.Parameter(ox.ones(3))
    optimizer = optim.Adam([p])
    p.grad = ox.ones(2)
    optimizer.step()
    saved = optimizer.state_dict()
    with pytest.raises(ValueError, match=r"groups of \[1\] tensors, the optimizer of \[2\]"):
        optim.Adam([p, q]).load_state_dict(saved)
    with pytest.raises(ValueError, match=r"'exp_avg' is \(2,\) for a parameter \(3,\)"):
        optim.Adam([q]).load_state_dict(saved)


def test_groups_have_options_of_their_own():
    p, q = nn.Parameter(ox.ones(1)), nn.Parameter(ox.ones(1))
    optimizer = optim.SGD([{"params": [p], "lr": 0.5}, {"params": [q], "maximize": True}], lr=0.25)
    r = nn.Parameter(ox.ones(1))
    optimizer.add_param_group({"params": r, "weight_decay": 2.0})
    for parameter in (p, q, r):
        parameter.grad = ox.ones(1)
    optimizer.step()
    assert (p.item(), q.item(), r.item()) == (0.5, 1.25, 0.25)
    optimizer.param_groups[0]["lr"] = 1.0
    optimizer.step()
    assert p.item() == -0.5


def test_repr_is_pytorchs():
    assert repr(optim.SGD([nn.Parameter(ox.ones(1))], lr=0.1)) == "\n".join(
        [
            "SGD (",
            "Parameter Group 0",
            "    dampening: 0.0",
            "    lr: 0.1",
            "    maximize: False",
            "    momentum: 0.0",
            "    nesterov: False",
            "    weight_decay: 0.0",
            ")",
        ]
    )


def test_closure():
    p = nn.Parameter(ox.tensor([2.0]))
    optimizer = optim.SGD([p], lr=0.25)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with ox.no_grad():
        assert optimizer.step(closure).item() == 4.0
    assert p.item() == 1.0


def test_momentum_does_not_share_the_gradient():
    p = nn.Parameter(ox.tensor([0.0]))
    optimizer = optim.SGD([p], lr=1.0, momentum=0.5)
    (p * 1.0).sum().backward()
    optimizer.step()
    (p * 1.0).sum().backward()  # accumulates into p.grad: 2
    optimizer.step()
    assert p.item() == -1.0 - (0.5 * 1.0 + 2.0)


def test_parameter_errors():
    p = nn.Parameter(ox.ones(2))
    cases = [
        (TypeError, "put it into a list", p),
        (ValueError, "got no parameters", []),
        (TypeError, "changes tensors, not str", ["weight"]),
        (TypeError, "changes tensors, not tuple", [("weight", p)]),
        (ValueError, "given to the optimizer twice", [p, p]),
        (ValueError, "computed from others", [p * 2]),
        (TypeError, "a set has not", [{"params": {p}}]),
        (TypeError, "must be a dict with 'params'", [{"lr": 0.1}]),
    ]
    for error, text, params in cases:
        with pytest.raises(error, match=text):
            optim.SGD(params)
    with pytest.raises(ValueError, match="twice"):
        optim.SGD([p]).add_param_group({"params": [p]})


@pytest.mark.parametrize(
    ("make", "options", "text"),
    [
        (optim.SGD, {"lr": -1.0}, "SGD: lr must not be negative, not -1.0"),
        (optim.SGD, {"lr": math.nan}, "lr must not be negative"),
        (optim.SGD, {"momentum": -0.1}, "momentum must not be negative"),
        (optim.SGD, {"weight_decay": -0.1}, "weight_decay must not be negative"),
        (optim.SGD, {"nesterov": True}, "nesterov needs a momentum and no dampening"),
        (optim.SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "nesterov needs"),
        (optim.Adam, {"betas": (1.0, 0.9)}, r"betas must lie in \[0, 1\)"),
        (optim.AdamW, {"betas": (0.9, -0.1)}, "AdamW: betas"),
        (optim.Adam, {"eps": -1e-8}, "eps must not be negative"),
        (optim.RMSprop, {"alpha": -0.1}, "alpha must not be negative"),
        (optim.Adagrad, {"lr_decay": -0.1}, "lr_decay must not be negative"),
        (
            optim.Adagrad,
            {"initial_accumulator_value": -0.1},
            "initial_accumulator_value must not be negative",
        ),
        (optim.Adadelta, {"rho": 1.5}, r"rho must lie in \[0, 1\]"),
    ],
)
def test_options_out_of_range(make, options, text):
    with pytest.raises(ValueError, match=text):
        make([nn.Parameter(ox.ones(1))], **options)


def test_a_subclass_defines_update():
    class Half(optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {})

        def update(self, p, g, state, group):
            state["calls"] = state.get("calls", 0) + 1
            p.copy_(p / 2)

    p = nn.Parameter(ox.tensor([8.0]))
    p.grad = ox.ones(1)
    optimizer = Half([p])
    optimizer.step()
    optimizer.step()
    assert p.item() == 2.0
    assert optimizer.state[p] == {"calls": 2}
    with pytest.raises(NotImplementedError, match="Optimizer does not define update"):
        optim.Optimizer([p], {}).step()


# -- clipping --------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, math.inf])
def test_clip_grad_norm(p):
    parameters = [nn.Parameter(t64(draw(*shape))) for shape in SHAPES] + [nn.Parameter(ox.ones(2))]
    grads = gradients(3)
    for parameter, g in zip(parameters, grads, strict=False):
        parameter.grad = t64(g)
    total = np.linalg.norm(np.concatenate([g.reshape(-1) for g in grads]), p)
    assert_close(nn.utils.clip_grad_norm_(parameters, 0.5, p), total)
    for parameter, g in zip(parameters, grads, strict=False):
        assert_close(parameter.grad, g * 0.5 / (total + 1e-6))
    before = [parameter.grad.tolist() for parameter in parameters[:3]]
    assert_close(optim.clip_grad_norm_(iter(parameters), 0.6, p), 0.5, rtol=1e-5)
    assert [parameter.grad.tolist() for parameter in parameters[:3]] == before
    assert parameters[3].grad is None


def test_clip_grad_norm_corners():
    p = nn.Parameter(ox.ones(2))
    assert optim.clip_grad_norm_([p], 1.0).item() == 0.0
    p.grad = ox.tensor([math.inf, 1.0])
    with pytest.raises(RuntimeError, match="the norm of the gradients is inf"):
        optim.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
    assert p.grad.tolist() == [math.inf, 1.0]
    p.grad = ox.zeros(2)
    assert optim.clip_grad_norm_(p, 1.0).item() == 0.0
    assert p.grad.tolist() == [0.0, 0.0]


def test_clip_grad_value():
    p = nn.Parameter(ox.ones(3))
    p.grad = ox.tensor([3.0, -3.0, 0.25])
    nn.utils.clip_grad_value_([p, nn.Parameter(ox.ones(1))], 0.5)
    assert p.grad.tolist() == [0.5, -0.5, 0.25]
