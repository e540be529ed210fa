"""Every loss against plain NumPy in float64, its gradient by finite differences, its limits and errors."""

import math

import numpy as np
import oxon as ox
import pytest
from numeric import assert_close, check_gradients, draw, t64
from oxon import nn
from oxon.nn import functional as F


def log_softmax(x, axis=1):
    x = x - x.max(axis, keepdims=True)
    return x - np.log(np.exp(x).sum(axis, keepdims=True))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def huber(e, d):
    e = abs(e)
    return np.where(e < d, e**2 / 2, d * (e - d / 2))


X, Y = draw(4, 5), draw(4, 5, seed=1)
P, Q = sigmoid(draw(4, 5, seed=2)), sigmoid(draw(4, 5, seed=3))  # probabilities
W = draw(5, seed=4) ** 2
SIGN = np.where(draw(4, 5, seed=5) > 0, 1.0, -1.0)
COUNTS = np.floor(draw(4, 5, seed=6) ** 2 * 4)

# loss, arguments (the first is differentiated), its elements as NumPy has them
ELEMENTWISE = {
    "mse": (nn.MSELoss, {}, (X, Y), (X - Y) ** 2),
    "l1": (nn.L1Loss, {}, (X, Y), abs(X - Y)),
    "smooth_l1": (nn.SmoothL1Loss, {}, (X, Y), huber(X - Y, 1.0)),
    "smooth_l1 beta": (nn.SmoothL1Loss, {"beta": 0.5}, (X, Y), huber(X - Y, 0.5) / 0.5),
    "smooth_l1 beta 0": (nn.SmoothL1Loss, {"beta": 0.0}, (X, Y), abs(X - Y)),
    "huber": (nn.HuberLoss, {"delta": 0.7}, (X, Y), huber(X - Y, 0.7)),
    "poisson log": (nn.PoissonNLLLoss, {}, (X, COUNTS), np.exp(X) - COUNTS * X),
    "poisson": (
        nn.PoissonNLLLoss,
        {"log_input": False, "eps": 1e-3},
        (P, COUNTS),
        P - COUNTS * np.log(P + 1e-3),
    ),
    "poisson full": (
        nn.PoissonNLLLoss,
        {"full": True},
        (X, COUNTS),
        np.exp(X)
        - COUNTS * X
        + np.where(
            COUNTS > 1,
            COUNTS * np.log(np.maximum(COUNTS, 1)) - COUNTS + np.log(2 * np.pi * np.maximum(COUNTS, 1)) / 2,
            0,
        ),
    ),
    "bce": (nn.BCELoss, {}, (P, Q), -(Q * np.log(P) + (1 - Q) * np.log(1 - P))),
    "bce weight": (nn.BCELoss, {"weight": W}, (P, Q), -W * (Q * np.log(P) + (1 - Q) * np.log(1 - P))),
    "bce logits": (
        nn.BCEWithLogitsLoss,
        {},
        (X, Q),
        -(Q * np.log(sigmoid(X)) + (1 - Q) * np.log(sigmoid(-X))),
    ),
    "bce logits weights": (
        nn.BCEWithLogitsLoss,
        {"weight": W, "pos_weight": W[::-1]},
        (X, Q),
        -W * (W[::-1] * Q * np.log(sigmoid(X)) + (1 - Q) * np.log(sigmoid(-X))),
    ),
    "kl": (nn.KLDivLoss, {}, (X, Q), Q * (np.log(Q) - X)),
    "kl log": (nn.KLDivLoss, {"log_target": True}, (X, Y), np.exp(Y) * (Y - X)),
    "soft margin": (nn.SoftMarginLoss, {}, (X, SIGN), np.log(1 + np.exp(-SIGN * X))),
    "hinge": (
        nn.HingeEmbeddingLoss,
        {"margin": 0.8},
        (X, SIGN),
        np.where(SIGN == 1, X, np.maximum(0.8 - X, 0)),
    ),
    "ranking": (nn.MarginRankingLoss, {"margin": 0.3}, (X, Y, SIGN), np.maximum(0, 0.3 - SIGN * (X - Y))),
    "gaussian": (nn.GaussianNLLLoss, {}, (X, Y, P), (np.log(P) + (X - Y) ** 2 / P) / 2),
    "gaussian full": (
        nn.GaussianNLLLoss,
        {"full": True, "eps": 0.4},
        (X, Y, P),
        (np.log(np.maximum(P, 0.4)) + (X - Y) ** 2 / np.maximum(P, 0.4) + np.log(2 * np.pi)) / 2,
    ),
}


def options64(options):
    return {k: t64(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_loss(name):
    make, options, arguments, expected = ELEMENTWISE[name]
    options = options64(options)
    inputs = [t64(a) for a in arguments]
    assert_close(make(**options, reduction="none")(*inputs), expected)
    assert_close(make(**options)(*inputs), expected.mean())
    assert_close(make(**options, reduction="sum")(*inputs), expected.sum())
    loss = make(**options, reduction="none")
    check_gradients(lambda x: loss(x, *inputs[1:]), arguments[0])
    with pytest.raises(ValueError, match=r"reduction must be 'none', .*'mean' or 'sum', not 'avg'"):
        make(**options, reduction="avg")


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_losses_do_not_broadcast(name):
    make, options, arguments, _ = ELEMENTWISE[name]
    column = [t64(arguments[0][:, :1]), *[t64(a) for a in arguments[1:]]]
    with pytest.raises(ox.ShapeError, match=r"input \(4, 1\) and target \(4, 5\) must have one shape"):
        make(**options64(options))(*column)


@pytest.mark.parametrize("name", ["mse", "l1", "huber", "bce", "bce logits", "soft margin", "kl"])
def test_gradient_of_the_target(name):
    make, options, arguments, _ = ELEMENTWISE[name]
    loss = make(**options, reduction="sum")
    check_gradients(loss, *arguments)


def test_parameters_out_of_range():
    x = ox.ones(2)
    with pytest.raises(ValueError, match="delta must be positive"):
        F.huber_loss(x, x, delta=0.0)
    with pytest.raises(ValueError, match="beta must not be negative"):
        F.smooth_l1_loss(x, x, beta=-1.0)
    with pytest.raises(ValueError, match="label_smoothing must be between 0 and 1"):
        F.cross_entropy(ox.ones(2, 3), ox.tensor([0, 1]), label_smoothing=1.5)
    with pytest.raises(ValueError, match="reduction"):
        F.mse_loss(x, x, "avg")


# -- binary cross-entropy where probabilities saturate ---------------------------------------------


def test_bce_is_at_most_100_and_its_gradient_finite():
    x = ox.tensor([0.0, 1.0, 0.0, 1.0, 1e-42, 1e-39, 1e-30, 1.0 - 2.0**-24]).requires_grad_()
    t = ox.tensor([1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    loss = F.binary_cross_entropy(x, t, reduction="none")
    expected = [100, 100, 0, 0, 0, -math.log(1e-39), -math.log(1e-30), 24 * math.log(2)]
    np.testing.assert_allclose(loss.detach().numpy(), expected, rtol=1e-3, atol=1e-7)
    loss.sum().backward()
    assert bool(x.grad.isfinite().all()), x.grad
    assert x.grad.tolist()[7] == pytest.approx(2.0**24)
    assert x.grad.tolist()[6] == pytest.approx(-1e12)  # bounded, as PyTorch's
    assert bool(F.binary_cross_entropy(ox.tensor([1.5]), ox.tensor([1.0])).isnan())


def test_bce_with_logits_far_out():
    x = ox.tensor([1e4, -1e4, 1e4, -1e4]).requires_grad_()
    loss = F.binary_cross_entropy_with_logits(x, ox.tensor([0.0, 1.0, 1.0, 0.0]), reduction="none")
    assert loss.tolist() == [1e4, 1e4, 0.0, 0.0]
    loss.sum().backward()
    assert x.grad.tolist() == [1.0, -1.0, 0.0, 0.0]


def test_kl_div():
    target = ox.tensor([[0.5, 0.5, 0.0]])
    x = ox.tensor([[-1.0, -2.0, -3.0]]).requires_grad_()
    loss = F.kl_div(x, target, "batchmean")
    assert loss.item() == pytest.approx(math.log(0.5) + 1.5)
    loss.backward()
    assert x.grad.tolist() == [[-0.5, -0.5, 0.0]]
    assert_close(F.kl_div(t64(X), t64(Q), "batchmean"), (Q * (np.log(Q) - X)).sum() / 4)


# -- cross-entropy ---------------------------------------------------------------------------------


def cross_entropy(x, target, weight, ignore, smoothing, reduction):
    """The definition over the class axis 1, one example at a time."""
    classes = x.shape[1]
    weight = np.ones(classes) if weight is None else weight
    logs = np.moveaxis(log_softmax(x), 1, -1).reshape(-1, classes)
    losses, weights = [], []
    for log, t in zip(logs, target.reshape(-1), strict=True):
        if t == ignore:
            losses.append(0.0)
            weights.append(0.0)
            continue
        p = np.full(classes, smoothing / classes)
        p[t] += 1 - smoothing
        losses.append(-(weight * p * log).sum())
        weights.append(weight[t])
    if reduction == "mean":
        return sum(losses) / sum(weights)
    return sum(losses) if reduction == "sum" else np.reshape(losses, target.shape)


@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 4), (2, 3, 2, 2)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    ("weighted", "ignore", "smoothing"),
    [(False, -100, 0.0), (True, -100, 0.0), (True, 1, 0.0), (False, -100, 0.2), (True, 2, 0.1)],
)
def test_cross_entropy(shape, reduction, weighted, ignore, smoothing):
    x = draw(*shape) * 3
    target = np.random.default_rng(1).integers(0, 3, (shape[0], *shape[2:]))
    target.flat[0] = ignore if ignore != -100 else target.flat[0]
    weight = np.array([0.5, 1.0, 2.5]) if weighted else None
    loss = nn.CrossEntropyLoss(
        None if weight is None else t64(weight),
        ignore_index=ignore,
        reduction=reduction,
        label_smoothing=smoothing,
    )
    expected = cross_entropy(x, target, weight, ignore, smoothing, reduction)
    assert_close(loss(t64(x), ox.tensor(target)), expected)
    check_gradients(lambda x: loss(x, ox.tensor(target)), x)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_of_one_example(reduction):
    x = draw(5)
    loss = F.cross_entropy(t64(x), ox.tensor(3), reduction=reduction)
    assert_close(loss, -log_softmax(x, 0)[3])
    p = np.array([0.1, 0.2, 0.3, 0.4, 0.0])
    assert_close(F.cross_entropy(t64(x), t64(p), reduction=reduction), -(p * log_softmax(x, 0)).sum())


@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 4)])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_of_probabilities(shape, smoothing, weighted):
    x = draw(*shape)
    p = np.exp(log_softmax(draw(*shape, seed=1)))
    weight = np.array([0.5, 1.0, 2.5]) if weighted else None
    smooth = p * (1 - smoothing) + smoothing / 3
    w = (np.ones(3) if weight is None else weight).reshape(1, 3, *[1] * (len(shape) - 2))
    expected = -(w * smooth * log_softmax(x)).sum(1)

    def loss(x, p, reduction):
        return F.cross_entropy(
            x,
            p,
            weight=None if weight is None else t64(weight),
            reduction=reduction,
            label_smoothing=smoothing,
        )

    assert_close(loss(t64(x), t64(p), "none"), expected)
    assert_close(loss(t64(x), t64(p), "mean"), expected.mean())
    assert_close(loss(t64(x), t64(p), "sum"), expected.sum())
    check_gradients(lambda x, p: loss(x, p, "mean"), x, p)


def test_probabilities_of_one_agree_with_indices():
    x, target = t64(draw(6, 4)), ox.tensor([0, 3, 2, 1, 1, 0])
    by_index = F.cross_entropy(x, target, label_smoothing=0.1)
    by_probability = F.cross_entropy(x, F.one_hot(target, 4).double(), label_smoothing=0.1)
    assert_close(by_index, by_probability.numpy())


def test_cross_entropy_of_large_logits():
    x = ox.tensor([[1000.0, 0.0], [-1e30, 1e30]]).requires_grad_()
    loss = F.cross_entropy(x, ox.tensor([1, 1]), reduction="none")
    assert loss.tolist() == [1000.0, 0.0]
    loss.sum().backward()
    assert x.grad.tolist() == [[1.0, -1.0], [0.0, 0.0]]


def test_cross_entropy_where_everything_is_ignored():
    loss = F.cross_entropy(ox.ones(2, 3), ox.tensor([-100, -100]))
    assert math.isnan(loss.item())  # 0 / 0, as in PyTorch
    assert F.cross_entropy(ox.ones(2, 3), ox.tensor([-100, -100]), reduction="sum").item() == 0.0


def test_what_is_ignored_needs_no_second_class():
    loss = F.nll_loss(ox.tensor([[-1.0], [-2.0]]), ox.tensor([0, -100]), reduction="none")
    assert loss.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 4)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_nll_loss(shape, reduction):
    x = log_softmax(draw(*shape))
    target = np.random.default_rng(2).integers(0, 3, (shape[0], *shape[2:]))
    target.flat[0] = 7
    weight = np.array([0.5, 1.0, 2.5])
    loss = nn.NLLLoss(t64(weight), ignore_index=7, reduction=reduction)
    assert_close(loss(t64(x), ox.tensor(target)), cross_entropy(x, target, weight, 7, 0.0, reduction))
    check_gradients(lambda x: loss(x, ox.tensor(target)), x)


def test_nll_loss_of_one_example():
    assert F.nll_loss(ox.tensor([-1.0, -2.0]), ox.tensor(1)).item() == 2.0
    assert F.nll_loss(ox.tensor([-1.0, -2.0]), ox.tensor(1), reduction="none").shape == ()


def test_classification_errors():
    logits = ox.ones(4, 3)
    with pytest.raises(ox.ShapeError, match="cross_entropy"):
        F.cross_entropy(logits, ox.tensor([0, 1]))
    with pytest.raises(ox.ShapeError, match=r"for scores \(3,\) targets are integers \(\), or probabilities"):
        F.cross_entropy(ox.ones(3), ox.tensor([0, 1, 2]))
    with pytest.raises(ox.ShapeError, match="not float32"):
        F.cross_entropy(logits, ox.ones(4))
    with pytest.raises(ox.ShapeError, match=r"weight \(2,\) for 3 classes"):
        F.cross_entropy(logits, ox.ones(4, 3), weight=ox.ones(2))
    with pytest.raises(ox.ShapeError, match="at least one axis"):
        F.cross_entropy(ox.tensor(1.0), ox.tensor(0))
    with pytest.raises(IndexError):
        F.cross_entropy(logits, ox.tensor([0, 1, 2, 3])).item()
    with pytest.raises(ValueError):
        F.cross_entropy(logits, ox.tensor([0, 1, 2, 1]), reduction="avg")


# -- distances -------------------------------------------------------------------------------------


def test_cosine_similarity():
    expected = (X * Y).sum(1) / np.linalg.norm(X, axis=1) / np.linalg.norm(Y, axis=1)
    assert_close(F.cosine_similarity(t64(X), t64(Y)), expected)
    check_gradients(F.cosine_similarity, X, Y)
    zero = ox.zeros(1, 3).requires_grad_()
    F.cosine_similarity(zero, ox.ones(1, 3)).sum().backward()
    assert bool(zero.grad.isfinite().all())


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, math.inf])
def test_pairwise_distance(p):
    expected = np.linalg.norm(X - Y + 1e-6, p, axis=-1)
    assert_close(F.pairwise_distance(t64(X), t64(Y), p), expected)
    assert_close(F.pairwise_distance(t64(X), t64(Y), p, keepdim=True), expected[:, None])
    check_gradients(lambda x, y: F.pairwise_distance(x, y, p), X, Y)


def test_cosine_embedding_loss():
    target = np.array([1, -1, -1, 1])
    cos = (X * Y).sum(1) / np.linalg.norm(X, axis=1) / np.linalg.norm(Y, axis=1)
    expected = np.where(target == 1, 1 - cos, np.maximum(0, cos + 0.1))
    loss = nn.CosineEmbeddingLoss(margin=-0.1, reduction="none")
    assert_close(loss(t64(X), t64(Y), ox.tensor(target)), expected)
    assert_close(nn.CosineEmbeddingLoss(-0.1)(t64(X), t64(Y), ox.tensor(target)), expected.mean())
    check_gradients(lambda x, y: loss(x, y, ox.tensor(target)), X, Y)
    with pytest.raises(ox.ShapeError):
        loss(t64(X), t64(Y), ox.tensor([1, -1]))


@pytest.mark.parametrize("swap", [False, True])
def test_triplet_margin_loss(swap):
    z = draw(4, 5, seed=7)
    near, far = (np.linalg.norm(X - other + 1e-6, axis=1) for other in (Y, z))
    if swap:
        far = np.minimum(far, np.linalg.norm(Y - z + 1e-6, axis=1))
    expected = np.maximum(0, 1.5 + near - far)
    loss = nn.TripletMarginLoss(1.5, swap=swap, reduction="none")
    assert_close(loss(t64(X), t64(Y), t64(z)), expected)
    assert_close(nn.TripletMarginLoss(1.5, swap=swap)(t64(X), t64(Y), t64(z)), expected.mean())
    check_gradients(loss, X, Y, z)


def test_only_the_divergence_is_averaged_over_the_batch():
    x, y = ox.ones(2, 3), ox.ones(2, 3)
    for loss in (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss, F.binary_cross_entropy):
        with pytest.raises(ValueError, match='reduction "batchmean" is unknown'):
            loss(x, y, reduction="batchmean")
    with pytest.raises(ValueError, match='cross_entropy: reduction "batchmean" is unknown'):
        F.cross_entropy(x, ox.tensor([0, 1]), reduction="batchmean")
    for layer in (nn.MSELoss, nn.CrossEntropyLoss, nn.BCELoss, nn.TripletMarginLoss):
        with pytest.raises(ValueError, match="must be 'none', 'mean' or 'sum', not 'batchmean'"):
            layer(reduction="batchmean")
    assert nn.KLDivLoss("batchmean")(x, y).item() == -3.0
    with pytest.raises(ValueError, match="'batchmean'"):
        nn.KLDivLoss("avg")
