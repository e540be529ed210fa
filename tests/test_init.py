"""How parameters start, and how layers show themselves."""

import math

import numpy as np
import oxon as ox
import pytest
from oxon import nn
from oxon.nn import init

REPRS = {
    "Linear(in_features=20, out_features=30, bias=True)": nn.Linear(20, 30),
    "Bilinear(in1_features=3, in2_features=4, out_features=5, bias=True)": nn.Bilinear(3, 4, 5),
    "Conv1d(16, 33, kernel_size=(3,), stride=(2,))": nn.Conv1d(16, 33, 3, stride=2),
    "Conv2d(16, 33, kernel_size=(3, 5), stride=(2, 1), padding=(4, 2), dilation=(3, 1))": nn.Conv2d(
        16, 33, (3, 5), stride=(2, 1), padding=(4, 2), dilation=(3, 1)
    ),
    "Conv2d(4, 8, kernel_size=(3, 3), stride=(1, 1), padding=same, bias=False, padding_mode=reflect)": (
        nn.Conv2d(4, 8, 3, padding="same", bias=False, padding_mode="reflect")
    ),
    "Conv2d(4, 8, kernel_size=(1, 1), stride=(1, 1), groups=2)": nn.Conv2d(4, 8, 1, groups=2),
    "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)": nn.MaxPool2d(2),
    "MaxPool1d(kernel_size=3, stride=1, padding=1, dilation=1, ceil_mode=True)": nn.MaxPool1d(
        3, 1, 1, ceil_mode=True
    ),
    "AvgPool1d(kernel_size=(3,), stride=(2,), padding=(1,))": nn.AvgPool1d(3, 2, 1),
    "AvgPool2d(kernel_size=3, stride=2, padding=1)": nn.AvgPool2d(3, 2, 1),
    "AdaptiveAvgPool1d(output_size=5)": nn.AdaptiveAvgPool1d(5),
    "AdaptiveAvgPool2d(output_size=(1, None))": nn.AdaptiveAvgPool2d((1, None)),
    "AdaptiveMaxPool1d(output_size=2)": nn.AdaptiveMaxPool1d(2),
    "AdaptiveMaxPool2d(output_size=7)": nn.AdaptiveMaxPool2d(7),
    "BatchNorm1d(4, eps=1e-05, momentum=None, affine=True, bias=True, track_running_stats=True)": nn.BatchNorm1d(
        4, momentum=None
    ),
    "BatchNorm2d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)": nn.BatchNorm2d(
        3
    ),
    "InstanceNorm1d(3, eps=1e-05, momentum=0.1, affine=False, bias=False, track_running_stats=False)": nn.InstanceNorm1d(
        3
    ),
    "InstanceNorm2d(3, eps=1e-05, momentum=0.1, affine=False, bias=False, track_running_stats=False)": nn.InstanceNorm2d(
        3
    ),
    "GroupNorm(3, 6, eps=1e-05, affine=True, bias=True)": nn.GroupNorm(3, 6),
    "LayerNorm((64,), eps=1e-05, elementwise_affine=True, bias=True)": nn.LayerNorm(64),
    "RMSNorm((64,), eps=None, elementwise_affine=True)": nn.RMSNorm(64),
    "Dropout(p=0.5, inplace=False)": nn.Dropout(),
    "Dropout1d(p=0.2, inplace=False)": nn.Dropout1d(0.2),
    "Dropout2d(p=0.2, inplace=True)": nn.Dropout2d(0.2, inplace=True),
    "Embedding(10, 3)": nn.Embedding(10, 3),
    "Embedding(10, 3, padding_idx=9)": nn.Embedding(10, 3, padding_idx=-1),
    "Flatten(start_dim=1, end_dim=-1)": nn.Flatten(),
    "Unflatten(dim=1, unflattened_size=(3, 4))": nn.Unflatten(1, (3, 4)),
    "Identity()": nn.Identity(1, 2, three=3),
    "Sigmoid()": nn.Sigmoid(),
    "ReLU()": nn.ReLU(),
    "ReLU(inplace=True)": nn.ReLU(inplace=True),
    "ReLU6()": nn.ReLU6(),
    "LeakyReLU(negative_slope=0.01)": nn.LeakyReLU(),
    "LeakyReLU(negative_slope=0.2, inplace=True)": nn.LeakyReLU(0.2, True),
    "PReLU(num_parameters=1)": nn.PReLU(),
    "ELU(alpha=1.0)": nn.ELU(),
    "CELU(alpha=2.0, inplace=True)": nn.CELU(2.0, True),
    "SELU()": nn.SELU(),
    "GELU(approximate='none')": nn.GELU(),
    "SiLU()": nn.SiLU(),
    "Mish()": nn.Mish(),
    "Softplus(beta=1.0, threshold=20.0)": nn.Softplus(),
    "Softshrink(0.5)": nn.Softshrink(),
    "Hardshrink(0.5)": nn.Hardshrink(),
    "Hardtanh(min_val=-1.0, max_val=1.0)": nn.Hardtanh(),
    "Hardsigmoid()": nn.Hardsigmoid(),
    "Hardswish()": nn.Hardswish(True),
    "Threshold(threshold=0.5, value=20.0)": nn.Threshold(0.5, 20.0),
    "GLU(dim=-1)": nn.GLU(),
    "Softmax(dim=1)": nn.Softmax(dim=1),
    "LogSoftmax(dim=-1)": nn.LogSoftmax(-1),
    "Softmax2d()": nn.Softmax2d(),
    "MSELoss()": nn.MSELoss(),
    "CrossEntropyLoss()": nn.CrossEntropyLoss(label_smoothing=0.1),
}


@pytest.mark.parametrize("text", REPRS)
def test_repr(text):
    assert repr(REPRS[text]) == text


# The keys and shapes of PyTorch's state dicts, by which checkpoints move.
STATES = {
    "Linear": (nn.Linear(2, 3), {"weight": (3, 2), "bias": (3,)}),
    "Bilinear": (nn.Bilinear(2, 3, 4), {"weight": (4, 2, 3), "bias": (4,)}),
    "Conv1d": (nn.Conv1d(4, 6, 5, groups=2), {"weight": (6, 2, 5), "bias": (6,)}),
    "Conv2d": (nn.Conv2d(1, 2, (3, 4), bias=False), {"weight": (2, 1, 3, 4)}),
    "BatchNorm2d": (
        nn.BatchNorm2d(3),
        {"weight": (3,), "bias": (3,), "running_mean": (3,), "running_var": (3,), "num_batches_tracked": ()},
    ),
    "InstanceNorm2d": (nn.InstanceNorm2d(3), {}),
    "GroupNorm": (nn.GroupNorm(1, 3), {"weight": (3,), "bias": (3,)}),
    "LayerNorm": (nn.LayerNorm((2, 3)), {"weight": (2, 3), "bias": (2, 3)}),
    "RMSNorm": (nn.RMSNorm(3), {"weight": (3,)}),
    "Embedding": (nn.Embedding(4, 3), {"weight": (4, 3)}),
    "PReLU": (nn.PReLU(2), {"weight": (2,)}),
    "CrossEntropyLoss": (nn.CrossEntropyLoss(ox.ones(3)), {"weight": (3,)}),
    "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss(pos_weight=ox.ones(3)), {"pos_weight": (3,)}),
}


@pytest.mark.parametrize("name", STATES)
def test_state_dict_keys_and_shapes(name):
    layer, expected = STATES[name]
    assert {key: tuple(value.shape) for key, value in layer.state_dict().items()} == expected


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (nn.Linear(25, 400), 25),
        (nn.Conv1d(8, 300, 5, groups=2), 20),
        (nn.Conv2d(4, 200, (3, 2)), 24),
        (nn.Bilinear(16, 9, 50), 16),
    ],
    ids=["Linear", "Conv1d", "Conv2d", "Bilinear"],
)
def test_default_weights_are_uniform_by_fan_in(layer, fan_in):
    bound = 1 / math.sqrt(fan_in)
    for values in (layer.weight.detach().numpy(), layer.bias.detach().numpy()):
        assert np.abs(values).max() <= bound
        assert np.abs(values).max() > 0.9 * bound
        assert abs(values.mean()) < 4 * bound / math.sqrt(3 * values.size)
    assert abs(layer.weight.detach().numpy().std() / (bound / math.sqrt(3)) - 1) < 0.05
    assert layer.weight.requires_grad
    assert layer.weight.is_leaf


def test_default_weights_follow_the_seed():
    def weights(seed):
        ox.manual_seed(seed)
        return nn.Linear(3, 4).weight.tolist()

    assert weights(1) == weights(1) != weights(2)


def test_layers_take_dtype_and_device():
    for layer in (
        nn.Linear(2, 3, dtype=ox.float64, device="cpu"),
        nn.Conv2d(1, 1, 1, dtype=ox.float64),
        nn.BatchNorm1d(2, dtype=ox.float64),
        nn.LayerNorm(2, dtype=ox.float64),
        nn.Embedding(2, 2, dtype=ox.float64),
        nn.PReLU(dtype=ox.float64),
    ):
        assert all(p.dtype == ox.float64 for p in layer.parameters())


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(4), nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.RMSNorm(4)])
def test_norms_start_and_reset(layer):
    start = {key: value.tolist() for key, value in layer.state_dict().items()}
    assert start["weight"] == [1.0] * 4
    assert start.get("bias", [0.0] * 4) == [0.0] * 4
    for p in layer.parameters():
        init.normal_(p)
    assert {key: value.tolist() for key, value in layer.state_dict().items()} != start
    layer.reset_parameters()
    assert {key: value.tolist() for key, value in layer.state_dict().items()} == start


def test_learned_layers_reset():
    ox.manual_seed(0)
    for layer in (nn.Linear(3, 2), nn.Bilinear(3, 2, 2), nn.Conv2d(1, 2, 3), nn.Embedding(4, 2)):
        before = layer.weight.tolist()
        layer.reset_parameters()
        assert layer.weight.tolist() != before
    prelu = nn.PReLU(2, init=0.5)
    init.zeros_(prelu.weight)
    prelu.reset_parameters()
    assert prelu.weight.tolist() == [0.5, 0.5]


def test_empty_layers():
    assert nn.Linear(0, 3)(ox.ones(2, 0)).shape == (2, 3)
    assert nn.Linear(3, 0)(ox.ones(2, 3)).shape == (2, 0)


# -- the initialisers ------------------------------------------------------------------------------


def big(*shape):
    return nn.Parameter(ox.zeros(*(shape or (200, 300))))


@pytest.mark.parametrize(
    ("fill", "mean", "std", "bound"),
    [
        (lambda w: init.uniform_(w, -2, 4), 1, 6 / math.sqrt(12), None),
        (lambda w: init.normal_(w, 3.0, 0.5), 3, 0.5, None),
        (lambda w: init.xavier_uniform_(w, 2.0), 0, 2 * math.sqrt(2 / 500), 2 * math.sqrt(6 / 500)),
        (lambda w: init.xavier_normal_(w), 0, math.sqrt(2 / 500), None),
        (lambda w: init.kaiming_uniform_(w, nonlinearity="relu"), 0, math.sqrt(2 / 300), math.sqrt(6 / 300)),
        (lambda w: init.kaiming_uniform_(w, a=math.sqrt(5)), 0, math.sqrt(1 / 900), math.sqrt(1 / 300)),
        (
            lambda w: init.kaiming_normal_(w, mode="fan_out", nonlinearity="tanh"),
            0,
            5 / 3 / math.sqrt(200),
            None,
        ),
    ],
    ids=[
        "uniform",
        "normal",
        "xavier_uniform",
        "xavier_normal",
        "kaiming relu",
        "kaiming a",
        "kaiming fan_out",
    ],
)
def test_distributions(fill, mean, std, bound):
    ox.manual_seed(3)
    w = big()
    assert fill(w) is w
    assert w.requires_grad
    assert w.is_leaf
    values = w.detach().numpy()
    assert abs(values.mean() - mean) < 5 * std / math.sqrt(values.size)
    assert abs(values.std() / std - 1) < 0.02
    if bound is not None:
        assert 0.999 * bound < np.abs(values).max() <= bound * (1 + 1e-6)


def test_fans_count_the_window():
    w = big(40, 30, 5, 4)
    init.kaiming_normal_(w, nonlinearity="linear")
    assert abs(w.detach().numpy().std() * math.sqrt(30 * 20) - 1) < 0.05
    with pytest.raises(ValueError, match=r"at least two axes, not \(3,\)"):
        init.xavier_normal_(big(3))
    with pytest.raises(ValueError, match="mode must be 'fan_in' or 'fan_out'"):
        init.kaiming_normal_(big(), mode="fan")
    with pytest.raises(ValueError, match="unknown nonlinearity 'swish'"):
        init.kaiming_normal_(big(), nonlinearity="swish")


def test_trunc_normal():
    ox.manual_seed(5)
    values = init.trunc_normal_(big(), 1.0, 2.0, 0.0, 3.0).detach().numpy()
    assert values.min() >= 0
    assert values.max() <= 3
    # Of the standard normal between -1/2 and 1, moved back: mean 1 + 2 (φ(-1/2) - φ(1)) / (Φ(1) - Φ(-1/2)).
    phi = [math.exp(-z * z / 2) / math.sqrt(2 * math.pi) for z in (-0.5, 1.0)]
    mass = (math.erf(1 / math.sqrt(2)) - math.erf(-0.5 / math.sqrt(2))) / 2
    assert abs(values.mean() - (1 + 2 * (phi[0] - phi[1]) / mass)) < 0.02
    assert abs(init.trunc_normal_(big(), std=0.02).detach().numpy().std() / 0.02 - 1) < 0.02


def test_constants():
    assert init.constant_(big(2, 2), 3.5).tolist() == [[3.5, 3.5]] * 2
    assert init.ones_(big(2)).tolist() == [1.0, 1.0]
    assert init.zeros_(init.ones_(big(2))).tolist() == [0.0, 0.0]
    assert init.eye_(big(2, 3)).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    with pytest.raises(ValueError, match=r"expected a matrix, not \(2, 2, 2\)"):
        init.eye_(big(2, 2, 2))


@pytest.mark.parametrize("groups", [1, 2])
def test_dirac_passes_channels_on(groups):
    layer = nn.Conv2d(4, 4, 3, padding=1, groups=groups, bias=False)
    init.dirac_(layer.weight, groups)
    x = ox.randn(2, 4, 5, 5)
    np.testing.assert_array_equal(layer(x).detach().numpy(), x.numpy())
    line = nn.Conv1d(4, 4, 3, padding=1, groups=groups, bias=False)
    init.dirac_(line.weight, groups)
    x = ox.randn(2, 4, 5)
    np.testing.assert_array_equal(line(x).detach().numpy(), x.numpy())
    with pytest.raises(ValueError, match="not a convolution's weight"):
        init.dirac_(big(2, 2))


@pytest.mark.parametrize("shape", [(20, 20), (30, 10), (10, 30), (8, 3, 2, 2), (1, 5)])
def test_orthogonal(shape):
    ox.manual_seed(1)
    w = init.orthogonal_(big(*shape), gain=2.0).detach().numpy().reshape(shape[0], -1) / 2
    gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-6)
    other = init.orthogonal_(big(*shape)).detach().numpy().reshape(shape[0], -1)
    assert not np.allclose(w, other)
    with pytest.raises(ValueError, match="at least two axes"):
        init.orthogonal_(big(3))


def test_gains():
    expected = {"linear": 1, "sigmoid": 1, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75}
    for name, gain in expected.items():
        assert init.calculate_gain(name) == pytest.approx(gain)
    assert init.calculate_gain("leaky_relu") == pytest.approx(math.sqrt(2 / (1 + 0.01**2)))
    assert init.calculate_gain("leaky_relu", 0.2) == pytest.approx(math.sqrt(2 / 1.04))


def test_generators_have_a_stream_of_their_own():
    def fill(function):
        return function(big(4, 4), generator=ox.Generator(7)).tolist()

    for function in (
        init.uniform_,
        init.normal_,
        init.trunc_normal_,
        init.xavier_uniform_,
        init.xavier_normal_,
        init.kaiming_uniform_,
        init.kaiming_normal_,
        init.orthogonal_,
    ):
        ox.manual_seed(0)
        first = fill(function)
        assert fill(function) == first
        state = ox.rand(1).item()
        ox.manual_seed(0)
        assert ox.rand(1).item() == state  # the global stream did not move
