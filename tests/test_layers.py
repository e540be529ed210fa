"""Every layer, activation and functional against plain NumPy in float64, its gradient by finite differences,
its repr and its starting values."""

import itertools
import math

import numpy as np
import oxon as ox
import pytest
from numeric import assert_close, check_gradients, draw, t64
from oxon import nn
from oxon.nn import functional as F

erf = np.vectorize(math.erf, otypes=[np.float64])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def softplus(x):
    return np.logaddexp(x, 0)


def glu(x):
    a, b = np.split(x, 2, -1)
    return a * sigmoid(b)


ACTIVATIONS = {
    "Sigmoid": (nn.Sigmoid(), sigmoid),
    "LogSigmoid": (nn.LogSigmoid(), lambda x: np.log(sigmoid(x))),
    "Tanh": (nn.Tanh(), np.tanh),
    "Tanhshrink": (nn.Tanhshrink(), lambda x: x - np.tanh(x)),
    "Softsign": (nn.Softsign(), lambda x: x / (1 + abs(x))),
    "ReLU": (nn.ReLU(), lambda x: np.where(x > 0, x, 0)),
    "ReLU6": (nn.ReLU6(), lambda x: np.clip(x, 0, 6)),
    "LeakyReLU": (nn.LeakyReLU(0.2), lambda x: np.where(x > 0, x, 0.2 * x)),
    "ELU": (nn.ELU(1.5), lambda x: np.where(x > 0, x, 1.5 * (np.exp(x) - 1))),
    "SELU": (
        nn.SELU(),
        lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(x) - 1)),
    ),
    "CELU": (nn.CELU(0.7), lambda x: np.where(x > 0, x, 0.7 * (np.exp(x / 0.7) - 1))),
    "GELU": (nn.GELU(), lambda x: x * (1 + erf(x / np.sqrt(2))) / 2),
    "GELU tanh": (
        nn.GELU("tanh"),
        lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    ),
    "SiLU": (nn.SiLU(), lambda x: x * sigmoid(x)),
    "Mish": (nn.Mish(), lambda x: x * np.tanh(softplus(x))),
    "Softplus": (nn.Softplus(), softplus),
    "Softplus beta": (nn.Softplus(2.0, 5.0), lambda x: np.where(2 * x > 5, x, softplus(2 * x) / 2)),
    "Softshrink": (nn.Softshrink(0.4), lambda x: np.sign(x) * np.maximum(abs(x) - 0.4, 0)),
    "Hardshrink": (nn.Hardshrink(0.4), lambda x: np.where(abs(x) > 0.4, x, 0)),
    "Hardtanh": (nn.Hardtanh(-2.0, 3.0), lambda x: np.clip(x, -2, 3)),
    "Hardsigmoid": (nn.Hardsigmoid(), lambda x: np.clip(x + 3, 0, 6) / 6),
    "Hardswish": (nn.Hardswish(), lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "Threshold": (nn.Threshold(0.3, -7.0), lambda x: np.where(x > 0.3, x, -7)),
    "PReLU": (nn.PReLU().double(), lambda x: np.where(x > 0, x, 0.25 * x)),
    "Softmax": (nn.Softmax(dim=0), lambda x: softmax(x, 0)),
    "Softmin": (nn.Softmin(dim=-1), lambda x: softmax(-x, -1)),
    "LogSoftmax": (nn.LogSoftmax(dim=1), lambda x: np.log(softmax(x, 1))),
    "GLU": (nn.GLU(), glu),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name):
    module, reference = ACTIVATIONS[name]
    x = np.linspace(-7.31, 7.33, 30).reshape(5, 6)  # both sides of every kink, and on none
    assert_close(module(t64(x)), reference(x), rtol=1e-12, atol=1e-13)
    check_gradients(module, x)
    assert_close(module(t64(x.T).T.T.T), reference(x), rtol=1e-12, atol=1e-13)  # strided
    assert module(ox.zeros(0, 6)).shape[0] == 0


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_far_out(name):
    module, _ = ACTIVATIONS[name]
    module = nn.PReLU() if name == "PReLU" else module
    x = ox.tensor([[-1e18, -1000.0, -100.0, -90.0], [0.0, 90.0, 100.0, 1000.0]]).requires_grad_()
    y = module(x)
    y.sum().backward()
    assert bool(y.isfinite().all()), y
    assert bool(x.grad.isfinite().all()), x.grad


@pytest.mark.parametrize("name", [n for n in ACTIVATIONS if n not in ("Threshold", "GLU")])
def test_activation_of_nan(name):
    module, _ = ACTIVATIONS[name]
    module = nn.PReLU() if name == "PReLU" else module
    assert bool(module(ox.tensor([[math.nan]])).isnan().all())


def test_gradients_at_kinks_are_pytorchs():
    def grad(function, at):
        x = ox.tensor(at).requires_grad_()
        function(x).sum().backward()
        return x.grad.tolist()

    assert grad(F.relu, [0.0]) == [0.0]
    assert grad(F.relu6, [0.0, 6.0]) == [0.0, 0.0]
    assert grad(F.hardtanh, [-1.0, 1.0]) == [0.0, 0.0]
    assert grad(lambda x: F.leaky_relu(x, 0.25), [0.0]) == [0.25]
    assert grad(lambda x: F.elu(x, 1.5), [0.0]) == [1.5]
    assert grad(lambda x: F.threshold(x, 0.5, 3.0), [0.5]) == [0.0]
    assert grad(F.hardsigmoid, [-3.0, 3.0]) == [0.0, 0.0]


def test_prelu_for_each_channel():
    weight = np.array([0.1, 0.2, 0.3])
    x = draw(2, 3, 4)
    assert_close(F.prelu(t64(x), t64(weight)), np.where(x > 0, x, x * weight[:, None]))
    check_gradients(F.prelu, x, weight)
    check_gradients(F.prelu, draw(5, 3), weight)
    with pytest.raises(ox.ShapeError, match=r"prelu: weight \(3,\) .* 2 channels of the input \(5, 2\)"):
        F.prelu(ox.ones(5, 2), ox.ones(3))


def test_activation_errors():
    with pytest.raises(ValueError, match="approximate must be 'none' or 'tanh', not 'exact'"):
        nn.GELU("exact")
    with pytest.raises(ValueError, match="approximate"):
        F.gelu(ox.ones(1), "exact")
    with pytest.raises(ValueError, match=r"min_val 1.0 must lie below max_val"):
        nn.Hardtanh(1.0, -1.0)
    with pytest.raises(ValueError, match="lambd must not be negative"):
        F.softshrink(ox.ones(1), -1.0)
    with pytest.raises(ox.ShapeError, match=r"glu: axis -1 of \(2, 3\) cannot be halved"):
        F.glu(ox.ones(2, 3))
    with pytest.raises(TypeError):
        nn.Softmax()


# -- linear maps and look-ups ----------------------------------------------------------------------


@pytest.mark.parametrize("lead", [(), (4,), (2, 3), (0,)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear(lead, bias):
    layer = nn.Linear(5, 3, bias=bias).double()
    x = draw(*lead, 5)
    expected = x @ layer.weight.detach().numpy().T + (layer.bias.detach().numpy() if bias else 0)
    assert_close(layer(t64(x)), expected)


def test_linear_gradients():
    check_gradients(F.linear, draw(4, 5), draw(3, 5), draw(3))
    check_gradients(F.linear, draw(2, 2, 5), draw(3, 5))
    check_gradients(F.linear, draw(5), draw(3, 5), draw(3))


def test_bilinear():
    layer = nn.Bilinear(3, 4, 2).double()
    x, y = draw(5, 3), draw(5, 4)
    w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    assert_close(layer(t64(x), t64(y)), np.einsum("ni,kij,nj->nk", x, w, y) + b)
    check_gradients(F.bilinear, x, y, w, b)
    with pytest.raises(
        ox.ShapeError, match=r"bilinear: \(5, 4\) and \(5, 3\) do not fit the weight \(2, 3, 4\)"
    ):
        layer(t64(y), t64(x))


def test_embedding():
    layer = nn.Embedding(6, 3, padding_idx=-2).double()
    assert layer.padding_idx == 4
    assert layer.weight.tolist()[4] == [0.0, 0.0, 0.0]
    indices = np.array([[0, 4, 5], [5, 1, 0]])
    out = layer(ox.tensor(indices))
    assert_close(out, layer.weight.detach().numpy()[indices])
    weights = draw(2, 3, 3)
    (out * t64(weights)).sum().backward()
    expected = np.zeros((6, 3))
    np.add.at(expected, indices, weights)
    expected[4] = 0
    assert_close(layer.weight.grad, expected)
    pretrained = nn.Embedding.from_pretrained(t64(draw(4, 2)))
    assert not pretrained.weight.requires_grad
    assert pretrained.num_embeddings == 4
    assert_close(pretrained(ox.tensor(3)), draw(4, 2)[3])
    with pytest.raises(ValueError, match="Embedding: padding_idx 3 lies outside the 3 rows"):
        nn.Embedding(3, 2, padding_idx=3)
    for index in (-4, 3):
        with pytest.raises(ValueError, match=f"embedding: padding_idx {index} is not among 3 rows"):
            F.embedding(ox.tensor(0), ox.ones(3, 2), index)
    with pytest.raises(IndexError):
        layer(ox.tensor([6])).detach().numpy()


def test_one_hot():
    assert F.one_hot(ox.tensor([2, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert F.one_hot(ox.tensor([[1]]), 2).tolist() == [[[0, 1]]]
    assert F.one_hot(ox.tensor([1])).dtype == ox.int64


# -- convolution -----------------------------------------------------------------------------------


def windows(x, kernel, stride, dilation):
    """Every window of x (N, C, *) as ((output position), (N, C, *kernel))."""
    sizes = [
        (n - d * (k - 1) - 1) // s + 1
        for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True)
    ]
    for position in itertools.product(*map(range, sizes)):
        cut = tuple(
            slice(p * s, p * s + d * (k - 1) + 1, d)
            for p, k, s, d in zip(position, kernel, stride, dilation, strict=True)
        )
        yield position, sizes, x[(slice(None), slice(None), *cut)]


def conv(x, w, b, stride, padding, dilation, groups):
    """The definition, one output at a time; padding is (before, after) for each axis."""
    x = np.pad(x, [(0, 0), (0, 0), *padding])
    (n, c), k = x.shape[:2], w.shape[0]
    out = None
    for position, sizes, window in windows(x, w.shape[2:], stride, dilation):
        if out is None:
            out = np.zeros((n, k, *sizes))
        for channel in range(k):
            group = channel // (k // groups)
            part = window[:, group * (c // groups) : (group + 1) * (c // groups)]
            out[(slice(None), channel, *position)] = (part * w[channel]).reshape(n, -1).sum(1)
    return out + (0 if b is None else b.reshape(-1, *[1] * (x.ndim - 2)))


CONV2D = [
    {},
    {"stride": 2},
    {"padding": 1},
    {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)},
    {"groups": 2},
    {"groups": 4, "padding": 1, "stride": 2, "bias": False},
    {"padding": "same"},
    {"padding": "valid"},
    {"kernel_size": (2, 4), "padding": "same"},
    {"kernel_size": 1},
    {"kernel_size": (2, 4), "padding": "same", "dilation": (1, 2)},
]


def pairs(value, rank):
    return (value,) * rank if isinstance(value, int) else tuple(value)


def padding_pairs(padding, kernel, dilation):
    if padding == "valid":
        return [(0, 0)] * len(kernel)
    if padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [(t // 2, t - t // 2) for t in totals]
    return [(p, p) for p in pairs(padding, len(kernel))]


@pytest.mark.parametrize("options", CONV2D, ids=str)
def test_conv2d(options):
    options = {"kernel_size": 3, **options}
    layer = nn.Conv2d(4, 8, **options).double()
    kernel, dilation = pairs(options["kernel_size"], 2), pairs(options.get("dilation", 1), 2)
    stride, groups = pairs(options.get("stride", 1), 2), options.get("groups", 1)
    padding = padding_pairs(options.get("padding", 0), kernel, dilation)
    x = draw(2, 4, 7, 8)
    weight = layer.weight.detach().numpy()
    assert weight.shape == (8, 4 // groups, *kernel)
    bias = None if layer.bias is None else layer.bias.detach().numpy()
    expected = conv(x, weight, bias, stride, padding, dilation, groups)
    assert_close(layer(t64(x)), expected)
    assert_close(layer(t64(x[0])), expected[0])
    small = [draw(1, 4, 5, 6), draw(4, 4 // groups, *kernel)] + ([] if bias is None else [draw(4)])
    functional = {k: v for k, v in options.items() if k not in ("kernel_size", "bias")}
    check_gradients(lambda *a: F.conv2d(*a, **functional), *small)


@pytest.mark.parametrize(
    "options",
    [{}, {"stride": 3}, {"padding": 2, "dilation": 2}, {"groups": 2}, {"padding": "same"}],
    ids=str,
)
def test_conv1d(options):
    layer = nn.Conv1d(4, 6, 3, **options).double()
    stride, dilation = (options.get("stride", 1),), (options.get("dilation", 1),)
    padding = padding_pairs(options.get("padding", 0), (3,), dilation)
    x = draw(2, 4, 9)
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    expected = conv(x, weight, bias, stride, padding, dilation, options.get("groups", 1))
    assert_close(layer(t64(x)), expected)
    assert_close(layer(t64(x[1])), expected[1])
    check_gradients(lambda *a: F.conv1d(*a, **options), draw(1, 4, 7), weight, bias)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_pad_modes(mode):
    numpy_mode = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode]
    x = draw(2, 3, 4, 5)
    assert_close(F.pad(t64(x), (4, 1, 0, 2), mode), np.pad(x, [(0, 0), (0, 0), (0, 2), (4, 1)], numpy_mode))
    check_gradients(lambda x: F.pad(x, (1, 2), mode), draw(2, 4))
    layer = nn.Conv2d(3, 2, 3, padding=(1, 2), padding_mode=mode).double()
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (2, 2)], numpy_mode)
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    assert_close(layer(t64(x)), conv(padded, weight, bias, (1, 1), [(0, 0)] * 2, (1, 1), 1))
    with pytest.raises(ValueError, match=r"pad: \(7, 0\) is more than"):
        F.pad(ox.ones(2, 0) if mode == "replicate" else ox.ones(2, 3), (7, 0), mode)


def test_pad_constant():
    x = draw(2, 3)
    assert_close(F.pad(t64(x), (1, 2, 0, 1), value=9.0), np.pad(x, [(0, 1), (1, 2)], constant_values=9))
    assert_close(F.pad(t64(x), (-1, 0)), x[:, 1:])
    check_gradients(lambda x: F.pad(x, (1, -1, 2, 0)), x)
    with pytest.raises(ValueError, match="pad: 1 numbers for 2 axes; give two for each axis"):
        F.pad(t64(x), (1,))
    with pytest.raises(ValueError, match='pad: mode "odd" is unknown'):
        F.pad(t64(x), (1, 1), "odd")


def test_conv_errors():
    with pytest.raises(ValueError, match="Conv2d: 3 and 8 channels do not split into 2 groups"):
        nn.Conv2d(3, 8, 3, groups=2)
    with pytest.raises(ValueError, match="padding='same' needs stride 1"):
        nn.Conv2d(3, 8, 3, stride=2, padding="same")
    with pytest.raises(ValueError, match="padding must be a number, 'same' or 'valid', not 'full'"):
        nn.Conv1d(3, 8, 3, padding="full")
    with pytest.raises(ValueError, match="padding_mode must be one of zeros"):
        nn.Conv1d(3, 8, 3, padding_mode="odd")
    with pytest.raises(
        ValueError, match=r"Conv2d: kernel_size must be an integer or 2 integers, not \(1, 2, 3\)"
    ):
        nn.Conv2d(3, 8, (1, 2, 3))
    with pytest.raises(
        ox.ShapeError, match=r"conv2d: expected an input \(N, C, H, W\) or \(C, H, W\), got \(3, 4\)"
    ):
        nn.Conv2d(3, 8, 3)(ox.ones(3, 4))
    with pytest.raises(ox.ShapeError, match="conv2d"):
        nn.Conv2d(3, 8, 3)(ox.ones(1, 4, 9, 9))
    with pytest.raises(ox.ShapeError, match="conv2d"):
        nn.Conv2d(3, 8, 5)(ox.ones(1, 3, 4, 9))


# -- pooling ---------------------------------------------------------------------------------------


def pool_reference(x, kernel, stride, padding, dilation=1, ceil=False, average=False, count_pad=True):
    """One window at a time: values and, for the maximum, flat positions in the plane."""
    rank = x.ndim - 2
    kernel, padding, dilation = (pairs(v, rank) for v in (kernel, padding, dilation))
    stride = kernel if stride is None else pairs(stride, rank)
    sizes = []
    for n, k, s, p, d in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True):
        span = n + 2 * p - d * (k - 1) - 1
        size = (-(-span // s) if ceil else span // s) + 1
        sizes.append(size - 1 if ceil and (size - 1) * s >= n + p else size)
    out = np.zeros((*x.shape[:2], *sizes))
    where = np.zeros(out.shape, np.int64)
    for index in np.ndindex(*out.shape):
        plane, position = x[index[:2]], index[2:]
        starts = [i * s - p for i, s, p in zip(position, stride, padding, strict=True)]
        offsets = [range(0, k * d, d) for k, d in zip(kernel, dilation, strict=True)]
        inside = [
            place
            for place in itertools.product(
                *[[a + o for o in axis] for a, axis in zip(starts, offsets, strict=True)]
            )
            if all(0 <= i < n for i, n in zip(place, plane.shape, strict=True))
        ]
        if average:
            ends = [
                min(a + k, n + p) for a, k, n, p in zip(starts, kernel, plane.shape, padding, strict=True)
            ]
            count = math.prod(e - a for a, e in zip(starts, ends, strict=True)) if count_pad else len(inside)
            out[index] = sum(plane[place] for place in inside) / count
        else:
            best = max(inside, key=lambda place: plane[place])
            out[index] = plane[best]
            where[index] = np.ravel_multi_index(best, plane.shape)
    return out, where


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": (2, 3), "stride": (1, 2), "padding": (0, 1)},
        {"kernel_size": 2, "dilation": 2, "stride": 1},
        {"kernel_size": 3, "stride": 2, "ceil_mode": True},
        {"kernel_size": 3, "stride": 3, "padding": 1, "ceil_mode": True},
    ],
    ids=str,
)
def test_max_pool2d(options):
    x = draw(2, 3, 6, 8)
    expected, where = pool_reference(
        x, options["kernel_size"], options.get("stride"), options.get("padding", 0),
        options.get("dilation", 1), options.get("ceil_mode", False),
    )  # fmt: skip
    assert_close(nn.MaxPool2d(**options)(t64(x)), expected)
    assert_close(nn.MaxPool2d(**options)(t64(x[0])), expected[0])
    values, indices = nn.MaxPool2d(**options, return_indices=True)(t64(x))
    assert_close(values, expected)
    assert indices.tolist() == where.tolist()
    check_gradients(nn.MaxPool2d(**options), draw(1, 2, 6, 5))


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
        {"kernel_size": (2, 3), "stride": (1, 2), "padding": (1, 0)},
        {"kernel_size": 3, "stride": 2, "ceil_mode": True},
        {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False},
    ],
    ids=str,
)
def test_avg_pool2d(options):
    x = draw(2, 3, 6, 8)
    expected, _ = pool_reference(
        x, options["kernel_size"], options.get("stride"), options.get("padding", 0), 1,
        options.get("ceil_mode", False), True, options.get("count_include_pad", True),
    )  # fmt: skip
    assert_close(nn.AvgPool2d(**options)(t64(x)), expected)
    assert_close(nn.AvgPool2d(**options)(t64(x[0])), expected[0])
    check_gradients(nn.AvgPool2d(**options), draw(1, 2, 6, 5))


@pytest.mark.parametrize(
    "options", [{}, {"stride": 1}, {"stride": 2, "padding": 1, "ceil_mode": True}], ids=str
)
def test_pool1d(options):
    x = draw(2, 3, 8)
    arguments = (x, 3, options.get("stride"), options.get("padding", 0), 1, options.get("ceil_mode", False))
    assert_close(nn.MaxPool1d(3, **options)(t64(x)), pool_reference(*arguments)[0])
    assert_close(nn.AvgPool1d(3, **options)(t64(x)), pool_reference(*arguments, average=True)[0])
    assert_close(nn.AvgPool1d(3, **options)(t64(x[0])), pool_reference(*arguments, average=True)[0][0])
    check_gradients(nn.MaxPool1d(3, **options), x)
    check_gradients(nn.AvgPool1d(3, **options), x)


def adaptive(x, sizes, function):
    for axis, size in enumerate(sizes, start=2):
        n = x.shape[axis]
        bounds = [(i * n // size, -(-(i + 1) * n // size)) for i in range(size)]
        x = np.stack([function(np.take(x, range(*b), axis), axis) for b in bounds], axis)
    return x


@pytest.mark.parametrize("size", [1, 3, (2, 5), (None, 4), 9])
def test_adaptive_pool2d(size):
    x = draw(2, 3, 6, 7)
    wanted = (size, size) if isinstance(size, int) else size
    wanted = [have if want is None else want for want, have in zip(wanted, x.shape[2:], strict=True)]
    for layer, function in ((nn.AdaptiveAvgPool2d, np.mean), (nn.AdaptiveMaxPool2d, np.max)):
        assert_close(layer(size)(t64(x)), adaptive(x, wanted, function))
        assert_close(layer(size)(t64(x[0])), adaptive(x, wanted, function)[0])
        check_gradients(layer(size), draw(1, 2, 4, 5))


def test_adaptive_max_pool_indices():
    x = draw(2, 3, 4, 6)
    values, places = nn.AdaptiveMaxPool2d((2, 3), return_indices=True)(t64(x))
    flat = x.reshape(2, 3, -1)
    assert_close(values, np.take_along_axis(flat, places.numpy().reshape(2, 3, -1), 2).reshape(2, 3, 2, 3))
    values, places = nn.AdaptiveMaxPool1d(2, True)(t64(flat))
    assert_close(values, np.take_along_axis(flat, places.numpy(), 2))
    assert places.dtype == ox.int64


def test_adaptive_pool1d():
    x = draw(2, 3, 7)
    assert_close(nn.AdaptiveAvgPool1d(3)(t64(x)), adaptive(x, [3], np.mean))
    assert_close(nn.AdaptiveMaxPool1d(3)(t64(x)), adaptive(x, [3], np.max))
    check_gradients(nn.AdaptiveAvgPool1d(3), x)
    check_gradients(nn.AdaptiveMaxPool1d(3), x)


def test_pool_errors():
    with pytest.raises(
        ox.ShapeError, match=r"max_pool2d: expected an input \(N, C, H, W\) or \(C, H, W\), got \(2, 2\)"
    ):
        nn.MaxPool2d(2)(ox.ones(2, 2))
    with pytest.raises(
        ox.ShapeError, match=r"avg_pool1d: expected an input \(N, C, L\) or \(C, L\), got \(2,\)"
    ):
        nn.AvgPool1d(2)(ox.ones(2))
    with pytest.raises(ValueError, match="MaxPool2d: stride must be an integer or 2 integers, not"):
        nn.MaxPool2d(2, (1, 2, 3))(ox.ones(1, 4, 4))
    with pytest.raises(ValueError):
        nn.MaxPool2d(2, padding=2)(ox.ones(1, 4, 4))  # more than half of the window
    with pytest.raises(ValueError):
        nn.AvgPool2d(9)(ox.ones(1, 4, 4))


# -- shape and dropout -----------------------------------------------------------------------------


def test_flatten_unflatten():
    x = draw(2, 3, 4, 5)
    assert_close(nn.Flatten()(t64(x)), x.reshape(2, 60))
    assert_close(nn.Flatten(2, 3)(t64(x)), x.reshape(2, 3, 20))
    assert_close(nn.Flatten(0)(t64(x)), x.reshape(-1))
    assert_close(nn.Unflatten(-1, (5, -1))(t64(x.reshape(2, 3, 20))), x.reshape(2, 3, 5, 4))
    assert nn.Unflatten(1, (3, -1))(ox.ones(0, 6)).shape == (0, 3, 2)
    with pytest.raises(IndexError, match=r"dim 2 is out of range for \(2, 3\)"):
        nn.Unflatten(2, (1, 1))(ox.ones(2, 3))
    with pytest.raises(ValueError):
        nn.Unflatten(1, (2, -1))(ox.ones(2, 3))


def test_dropout():
    ox.manual_seed(0)
    layer = nn.Dropout(0.3)
    x = ox.ones(200, 100).requires_grad_()
    y = layer(x)
    values = y.detach().numpy()
    np.testing.assert_allclose(np.unique(values), [0, 1 / 0.7], rtol=1e-6)
    assert abs((values == 0).mean() - 0.3) < 0.01
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), values)
    assert not np.array_equal(layer(x).detach().numpy(), values)
    assert layer.eval()(x).tolist() == x.tolist()
    assert float(nn.Dropout(1.0)(x).abs().sum().item()) == 0.0
    for p in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="p must lie between 0 and 1"):
            nn.Dropout(p)


def test_dropout_of_channels():
    for layer, shape in ((nn.Dropout1d(0.5), (40, 50, 3)), (nn.Dropout2d(0.5), (40, 50, 3, 2))):
        values = layer(ox.ones(*shape)).numpy().reshape(40, 50, -1)
        assert (values == values[:, :, :1]).all()
        assert abs((values == 0).mean() - 0.5) < 0.05
        assert set(np.unique(values)) == {0.0, 2.0}
        assert layer(ox.ones(*shape[1:])).shape == shape[1:]
        assert float(layer.eval()(ox.ones(*shape)).amin().item()) == 1.0
        with pytest.raises(ox.ShapeError):
            layer.train()(ox.ones(3))
