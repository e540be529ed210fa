"""Learning-rate schedules against their closed forms, resumed, chained, and at their corners."""

import itertools
import math

import oxon as ox
import pytest
from oxon import nn, optim

BASE = (0.5, 2.0)


def make_optimizer(**options):
    groups = [{"params": nn.Parameter(ox.ones(1)), "lr": lr} for lr in BASE]
    return optim.SGD(groups, momentum=0.9, **options)


def rates(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


def cosine(share):
    return (1 + math.cos(math.pi * share)) / 2


def warm(t, period, mult):
    while t >= period:
        t, period = t - period, period * mult
    return cosine(t / period)


# name: (a schedule of an optimizer, the rate at t for a base)
SCHEDULES = {
    "Lambda": (lambda o: optim.LambdaLR(o, lambda t: 0.9**t), lambda b, t: b * 0.9**t),
    "Multiplicative": (
        lambda o: optim.MultiplicativeLR(o, lambda t: 1 - 0.1 / t),
        lambda b, t: b * math.prod(1 - 0.1 / i for i in range(1, t + 1)),
    ),
    "Step": (lambda o: optim.StepLR(o, 4, gamma=0.3), lambda b, t: b * 0.3 ** (t // 4)),
    "MultiStep": (
        lambda o: optim.MultiStepLR(o, [7, 3, 3], gamma=0.5),
        lambda b, t: b * 0.5 ** (2 * (t >= 3) + (t >= 7)),
    ),
    "Constant": (lambda o: optim.ConstantLR(o, 0.25, 6), lambda b, t: b * (0.25 if t < 6 else 1)),
    "Linear": (
        lambda o: optim.LinearLR(o, 0.2, 0.8, 7),
        lambda b, t: b * (0.2 + 0.6 * min(t, 7) / 7),
    ),
    "Linear to 0": (lambda o: optim.LinearLR(o, 1.0, 0.0, 7), lambda b, t: b * (1 - min(t, 7) / 7)),
    "Exponential": (lambda o: optim.ExponentialLR(o, 0.8), lambda b, t: b * 0.8**t),
    "Polynomial": (
        lambda o: optim.PolynomialLR(o, 6, 2.0),
        lambda b, t: b * (1 - min(t, 6) / 6) ** 2,
    ),
    "Cosine": (
        lambda o: optim.CosineAnnealingLR(o, 5, eta_min=0.1),
        lambda b, t: 0.1 + (b - 0.1) * cosine(t / 5),
    ),
    "WarmRestarts": (
        lambda o: optim.CosineAnnealingWarmRestarts(o, 4, eta_min=0.1),
        lambda b, t: 0.1 + (b - 0.1) * warm(t, 4, 1),
    ),
    "WarmRestarts growing": (
        lambda o: optim.CosineAnnealingWarmRestarts(o, 3, 2),
        lambda b, t: b * warm(t, 3, 2),
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_closed_form(name):
    make, expected = SCHEDULES[name]
    optimizer = make_optimizer()
    scheduler = make(optimizer)
    for t in range(25):
        assert scheduler.last_epoch == t
        assert rates(optimizer) == pytest.approx([expected(b, t) for b in BASE], rel=1e-9, abs=1e-12)
        assert scheduler.get_last_lr() == rates(optimizer)
        scheduler.step()


@pytest.mark.parametrize("name", SCHEDULES)
def test_state_dict_resumes(name):
    make, expected = SCHEDULES[name]
    optimizer = make_optimizer()
    scheduler = make(optimizer)
    for _ in range(6):
        scheduler.step()
    state, groups = scheduler.state_dict(), optimizer.state_dict()
    assert "optimizer" not in state
    resumed_optimizer = make_optimizer()
    resumed = make(resumed_optimizer)
    resumed_optimizer.load_state_dict(groups)
    resumed.load_state_dict(state)
    for t in range(6, 20):
        assert rates(resumed_optimizer) == pytest.approx([expected(b, t) for b in BASE], rel=1e-9, abs=1e-12)
        resumed.step()


def test_resume_by_last_epoch():
    optimizer = make_optimizer()
    first = optim.ExponentialLR(optimizer, 0.5)
    first.step()
    second = optim.ExponentialLR(optimizer, 0.5, last_epoch=first.last_epoch)
    assert second.last_epoch == 2
    assert rates(optimizer) == [0.125, 0.5]
    assert second.base_lrs == list(BASE)
    with pytest.raises(KeyError, match="no 'initial_lr' to resume from"):
        optim.ExponentialLR(make_optimizer(), 0.5, last_epoch=3)


def test_functions_for_each_group():
    optimizer = make_optimizer()
    scheduler = optim.LambdaLR(optimizer, [lambda t: 1.0, lambda t: 2.0**t])
    scheduler.step()
    assert rates(optimizer) == [0.5, 4.0]
    with pytest.raises(ValueError, match="1 functions for 2 parameter groups"):
        optim.LambdaLR(optimizer, [lambda t: 1.0])


# -- one cycle -------------------------------------------------------------------------------------


def one_cycle(t, total, pct, shape, peak, div, final, three):
    """Rate and momentum at t, written as straight pieces between knots."""
    first, last = peak / div, peak / div / final
    rise = pct * total - 1
    knots = [(0.0, first, 0.95), (rise, peak, 0.85), (total - 1, last, 0.95)]
    if three:
        knots = [(0.0, first, 0.95), (rise, peak, 0.85), (2 * rise, first, 0.95), (total - 1, last, 0.95)]
    for (a, lr0, m0), (b, lr1, m1) in itertools.pairwise(knots):
        if t <= b or b == total - 1:
            share = (t - a) / (b - a)
            if shape == "cos":
                share = (1 - math.cos(math.pi * share)) / 2
            return lr0 + (lr1 - lr0) * share, m0 + (m1 - m0) * share
    raise AssertionError


@pytest.mark.parametrize("shape", ["cos", "linear"])
@pytest.mark.parametrize("three", [False, True])
@pytest.mark.parametrize("make", [optim.SGD, optim.Adam])
def test_one_cycle(shape, three, make):
    options = {"momentum": 0.5} if make is optim.SGD else {}
    optimizer = make([nn.Parameter(ox.ones(1))], lr=77.0, **options)
    scheduler = optim.OneCycleLR(
        optimizer,
        max_lr=2.0,
        epochs=4,
        steps_per_epoch=5,
        pct_start=0.4,
        anneal_strategy=shape,
        div_factor=10.0,
        final_div_factor=100.0,
        three_phase=three,
    )
    group = optimizer.param_groups[0]
    for t in range(20):
        lr, momentum = one_cycle(t, 20, 0.4, shape, 2.0, 10.0, 100.0, three)
        assert group["lr"] == pytest.approx(lr)
        assert (group["betas"][0] if make is optim.Adam else group["momentum"]) == pytest.approx(momentum)
        if make is optim.Adam:
            assert group["betas"][1] == 0.999
        scheduler.step()
    with pytest.raises(ValueError, match="step 21 of a cycle of 20 steps"):
        scheduler.step()


def test_one_cycle_for_each_group_and_errors():
    optimizer = make_optimizer()
    optim.OneCycleLR(optimizer, [1.0, 3.0], total_steps=10, cycle_momentum=False)
    assert rates(optimizer) == pytest.approx([1 / 25, 3 / 25])
    assert optimizer.param_groups[0]["momentum"] == 0.9
    with pytest.raises(ValueError, match="3 values of max_lr for 2 parameter groups"):
        optim.OneCycleLR(optimizer, [1.0, 2.0, 3.0], total_steps=10)
    with pytest.raises(ValueError, match="give total_steps, or epochs and steps_per_epoch"):
        optim.OneCycleLR(optimizer, 1.0, epochs=3)
    with pytest.raises(ValueError, match="at least one step"):
        optim.OneCycleLR(optimizer, 1.0, total_steps=0)
    with pytest.raises(ValueError, match="pct_start must lie between 0 and 1"):
        optim.OneCycleLR(optimizer, 1.0, total_steps=5, pct_start=1.5)
    with pytest.raises(ValueError, match="anneal_strategy must be 'cos' or 'linear'"):
        optim.OneCycleLR(optimizer, 1.0, total_steps=5, anneal_strategy="step")
    adagrad = optim.Adagrad([nn.Parameter(ox.ones(1))])
    with pytest.raises(ValueError, match="needs an optimizer with momentum or betas"):
        optim.OneCycleLR(adagrad, 1.0, total_steps=5)


# -- several schedules -----------------------------------------------------------------------------


def test_two_schedules_on_one_optimizer_multiply():
    optimizer = make_optimizer()
    schedulers = [optim.ConstantLR(optimizer, 0.5, 3), optim.ExponentialLR(optimizer, 0.9)]
    for t in range(8):
        expected = [b * (0.5 if t < 3 else 1) * 0.9**t for b in BASE]
        assert rates(optimizer) == pytest.approx(expected)
        for scheduler in schedulers:
            scheduler.step()


def test_chained():
    def make(optimizer):
        schedulers = [optim.ConstantLR(optimizer, 0.5, 3), optim.ExponentialLR(optimizer, 0.9)]
        return optim.ChainedScheduler(schedulers, optimizer)

    optimizer = make_optimizer()
    chained = make(optimizer)
    for t in range(4):
        assert rates(optimizer) == pytest.approx([b * (0.5 if t < 3 else 1) * 0.9**t for b in BASE])
        assert chained.get_last_lr() == rates(optimizer)
        chained.step()
    resumed_optimizer = make_optimizer()
    resumed = make(resumed_optimizer)
    resumed_optimizer.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(chained.state_dict())
    resumed.step()
    assert rates(resumed_optimizer) == pytest.approx([b * 0.9**5 for b in BASE])
    with pytest.raises(ValueError, match="at least one scheduler"):
        optim.ChainedScheduler([])
    with pytest.raises(ValueError, match="must belong to one optimizer"):
        optim.ChainedScheduler([chained, resumed])


def sequence(optimizer):
    return optim.SequentialLR(
        optimizer,
        [
            optim.LinearLR(optimizer, 0.1, 1.0, 4),
            optim.CosineAnnealingLR(optimizer, 6),
            optim.ConstantLR(optimizer, 0.5, 2),
        ],
        milestones=[5, 9],
    )


def sequence_at(b, t):
    if t < 5:
        return b * (0.1 + 0.9 * min(t, 4) / 4)
    if t < 9:
        return b * cosine((t - 5) / 6)
    return b * (0.5 if t - 9 < 2 else 1)


def test_sequential():
    optimizer = make_optimizer()
    scheduler = sequence(optimizer)
    for t in range(14):
        assert rates(optimizer) == pytest.approx([sequence_at(b, t) for b in BASE])
        assert scheduler.get_last_lr() == rates(optimizer)
        if t == 6:
            resumed_optimizer = make_optimizer()
            resumed = sequence(resumed_optimizer)
            resumed_optimizer.load_state_dict(optimizer.state_dict())
            resumed.load_state_dict(scheduler.state_dict())
        scheduler.step()
    for t in range(6, 14):
        assert rates(resumed_optimizer) == pytest.approx([sequence_at(b, t) for b in BASE])
        resumed.step()


def test_sequential_errors():
    optimizer, other = make_optimizer(), make_optimizer()
    parts = [optim.ExponentialLR(optimizer, 0.9), optim.ExponentialLR(other, 0.9)]
    with pytest.raises(ValueError, match="2 schedulers need 1 milestones"):
        optim.SequentialLR(optimizer, parts, [])
    with pytest.raises(ValueError, match="must belong to the given optimizer"):
        optim.SequentialLR(optimizer, parts, [3])


# -- plateau ---------------------------------------------------------------------------------------


def plateau(metrics, **options):
    optimizer = make_optimizer()
    scheduler = optim.ReduceLROnPlateau(optimizer, factor=0.5, **options)
    history = []
    for metric in metrics:
        scheduler.step(metric)
        history.append(rates(optimizer)[1] / BASE[1])
    return history


def test_plateau():
    assert plateau([3, 2, 2, 2, 1, 1, 1], patience=1) == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]
    assert plateau([3, 2, 2, 2], patience=0) == [1, 1, 0.5, 0.25]
    assert plateau([1, 2, 2, 3, 3], mode="max", patience=0) == [1, 1, 0.5, 0.5, 0.25]
    assert plateau([1.0, 0.95, 0.9], threshold=0.1, patience=0) == [1, 0.5, 0.25]
    assert plateau([1.0, 0.95, 0.89], threshold=0.1, patience=0) == [1, 0.5, 0.5]
    assert plateau([10.0, 9.95, 9.9], threshold=0.06, threshold_mode="abs", patience=0) == [1, 0.5, 0.5]
    assert plateau([10.0, 10.05, 10.2], mode="max", threshold=0.1, threshold_mode="abs", patience=0) == [
        1,
        0.5,
        0.5,
    ]
    assert plateau([1] * 7, patience=1, cooldown=2) == [1, 1, 0.5, 0.5, 0.5, 0.5, 0.25]
    assert plateau([1] * 5, patience=0, min_lr=0.6) == [1, 0.5, 0.3, 0.3, 0.3]
    assert plateau([1] * 3, patience=0, min_lr=[0.0, 1.0]) == [1, 0.5, 0.5]
    assert plateau([1] * 3, patience=0, eps=1.5) == [1, 1, 1]
    assert plateau([math.nan] * 3, patience=0) == [0.5, 0.25, 0.125]


def test_plateau_takes_tensors_and_resumes():
    optimizer = make_optimizer()
    scheduler = optim.ReduceLROnPlateau(optimizer, patience=1, factor=0.5)
    for _ in range(2):
        scheduler.step(ox.tensor(1.0))
    other_optimizer = make_optimizer()
    other = optim.ReduceLROnPlateau(other_optimizer, patience=1, factor=0.5)
    other.load_state_dict(scheduler.state_dict())
    other.step(1.0)
    assert rates(other_optimizer) == [0.25, 1.0] == other.get_last_lr()


def test_plateau_errors():
    optimizer = make_optimizer()
    with pytest.raises(ValueError, match="factor must be below 1"):
        optim.ReduceLROnPlateau(optimizer, factor=1.0)
    with pytest.raises(ValueError, match="mode must be 'min' or 'max', not 'low'"):
        optim.ReduceLROnPlateau(optimizer, "low")
    with pytest.raises(ValueError, match="threshold_mode must be 'rel' or 'abs'"):
        optim.ReduceLROnPlateau(optimizer, threshold_mode="x")
    with pytest.raises(ValueError, match="1 values of min_lr for 2 parameter groups"):
        optim.ReduceLROnPlateau(optimizer, min_lr=[0.0])


def test_options_out_of_range():
    optimizer = make_optimizer()
    with pytest.raises(ValueError, match="step_size must be at least 1"):
        optim.StepLR(optimizer, 0)
    with pytest.raises(ValueError, match=r"factor must lie in \(0, 1\]"):
        optim.ConstantLR(optimizer, 0.0)
    with pytest.raises(ValueError, match="start_factor must lie"):
        optim.LinearLR(optimizer, 0.0)
    with pytest.raises(ValueError, match="T_0 and T_mult must be at least 1"):
        optim.CosineAnnealingWarmRestarts(optimizer, 0)
    with pytest.raises(ValueError, match="T_0 and T_mult must be at least 1"):
        optim.CosineAnnealingWarmRestarts(optimizer, 1, 0)
    optim.CosineAnnealingWarmRestarts(make_optimizer(), 1, 1)
    with pytest.raises(TypeError, match="a schedule needs an optimizer, not float"):
        optim.ExponentialLR(0.1, 0.9)
    with pytest.raises(NotImplementedError, match="LRScheduler does not define get_lr"):
        optim.LRScheduler(optimizer)
