"""Normalisation layers against plain NumPy in float64, their running statistics and gradients."""

import numpy as np
import oxon as ox
import pytest
from numeric import assert_close, check_gradients, draw, t64
from oxon import nn
from oxon.nn import functional as F

SHAPES = {nn.BatchNorm1d: [(6, 3), (4, 3, 5)], nn.BatchNorm2d: [(4, 3, 2, 5)]}
CASES = [(layer, shape) for layer, shapes in SHAPES.items() for shape in shapes]


def normalised(x, axes, eps):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def per_channel(v, x):
    return v.reshape(-1, *[1] * (x.ndim - 2))


@pytest.mark.parametrize(("layer", "shape"), CASES)
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm(layer, shape, affine):
    norm = layer(3, eps=1e-3, momentum=0.2, affine=affine).double()
    weight, bias = np.ones(3), np.zeros(3)
    if affine:
        weight, bias = draw(3), draw(3, seed=1)
        norm.load_state_dict({"weight": weight, "bias": bias}, strict=False)
    axes = (0, *range(2, len(shape)))
    mean, var = np.zeros(3), np.ones(3)
    for step in range(3):
        x = draw(*shape, seed=step) * 2 + 1
        y = normalised(x, axes, 1e-3) * per_channel(weight, x) + per_channel(bias, x)
        assert_close(norm(t64(x)), y)
        mean = 0.8 * mean + 0.2 * x.mean(axes)
        var = 0.8 * var + 0.2 * x.var(axes, ddof=1)
        assert_close(norm.running_mean, mean)
        assert_close(norm.running_var, var)
    assert norm.num_batches_tracked.item() == 3
    norm.eval()
    x = draw(*shape, seed=9)
    y = (x - per_channel(mean, x)) / np.sqrt(per_channel(var, x) + 1e-3)
    assert_close(norm(t64(x)), y * per_channel(weight, x) + per_channel(bias, x))
    assert norm.num_batches_tracked.item() == 3
    assert_close(norm.running_mean, mean)


def test_batch_norm_gradients():
    for shape in [(5, 3), (4, 2, 3), (2, 2, 2, 3)]:
        c = shape[1]
        check_gradients(
            lambda x, w, b: F.batch_norm(x, None, None, w, b, True), draw(*shape), draw(c), draw(c)
        )
        mean, var = t64(draw(c)), t64(draw(c) ** 2 + 0.5)
        check_gradients(
            lambda x, w, b, m=mean, v=var: F.batch_norm(x, m, v, w, b), draw(*shape), draw(c), draw(c)
        )
    check_gradients(lambda x: F.batch_norm(x, None, None, training=True), draw(5, 3))


def test_batch_norm_without_running_statistics():
    norm = nn.BatchNorm1d(3, track_running_stats=False).double().eval()
    x = draw(6, 3)
    assert_close(norm(t64(x)), normalised(x, 0, 1e-5))
    assert list(norm.state_dict()) == ["weight", "bias"]
    assert norm.running_mean is None


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(4, bias=False), nn.GroupNorm(2, 4, bias=False)])
def test_norm_without_bias(layer):
    x = draw(3, 4, 5)
    plain = (
        nn.BatchNorm1d(4, affine=False)
        if isinstance(layer, nn.BatchNorm1d)
        else nn.GroupNorm(2, 4, affine=False)
    )
    layer.double().load_state_dict({"weight": draw(4)}, strict=False)
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    assert_close(layer(t64(x)), plain.double()(t64(x)).numpy() * draw(4).reshape(4, 1))


def test_batch_norm_cumulative_mean():
    norm = nn.BatchNorm1d(3, momentum=None).double()
    batches = [draw(5, 3, seed=s) for s in range(4)]
    for x in batches:
        norm(t64(x))
    assert_close(norm.running_mean, np.mean([x.mean(0) for x in batches], 0))
    assert_close(norm.running_var, np.mean([x.var(0, ddof=1) for x in batches], 0))
    norm.reset_running_stats()
    assert norm.running_var.tolist() == [1.0] * 3
    assert norm.num_batches_tracked.item() == 0
    norm.reset_parameters()
    assert norm.weight.tolist() == [1.0] * 3
    assert norm.bias.tolist() == [0.0] * 3


def test_batch_norm_buffers_keep_their_identity_and_no_history():
    norm = nn.BatchNorm2d(3)
    mean = norm.running_mean
    x = ox.randn(2, 3, 4, 4).requires_grad_()
    norm(x)
    assert norm.running_mean is mean
    assert not mean.requires_grad
    assert mean.abs().sum().item() > 0


def test_batch_norm_errors():
    with pytest.raises(
        ox.ShapeError, match=r"training needs more than one value for each channel, not \(1, 3\)"
    ):
        nn.BatchNorm1d(3)(ox.ones(1, 3))
    nn.BatchNorm1d(3).eval()(ox.ones(1, 3))
    nn.BatchNorm1d(3)(ox.ones(1, 3, 2))
    with pytest.raises(ox.ShapeError, match=r"BatchNorm2d: expected \(N, C, H, W\), not \(2, 3\)"):
        nn.BatchNorm2d(3)(ox.ones(2, 3))
    with pytest.raises(ox.ShapeError, match=r"BatchNorm1d: expected 3 channels, not the 4 of \(2, 4\)"):
        nn.BatchNorm1d(3)(ox.ones(2, 4))
    with pytest.raises(ValueError, match="evaluation needs running_mean and running_var"):
        F.batch_norm(ox.ones(2, 3), None, None)


@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm(affine):
    for size, shape in ((4, (3, 4)), ((3, 4), (2, 3, 4)), ((4,), (2, 3, 4)), (4, (4,))):
        norm = nn.LayerNorm(size, eps=1e-3, elementwise_affine=affine).double()
        x = draw(*shape)
        dims = norm.normalized_shape
        weight, bias = (draw(*dims), draw(*dims, seed=1)) if affine else (np.ones(dims), np.zeros(dims))
        if affine:
            norm.load_state_dict({"weight": weight, "bias": bias})
        expected = normalised(x, tuple(range(-len(dims), 0)), 1e-3) * weight + bias
        assert_close(norm(t64(x)), expected)
    check_gradients(lambda x, w, b: F.layer_norm(x, (4,), w, b), draw(3, 4), draw(4), draw(4))
    check_gradients(lambda x: F.layer_norm(x, (2, 3)), draw(2, 2, 3))
    assert list(nn.LayerNorm(4, bias=False).state_dict()) == ["weight"]
    with pytest.raises(ox.ShapeError, match="layer_norm"):
        nn.LayerNorm(5)(ox.ones(2, 4))


def test_layer_norm_of_large_means():
    x = draw(4, 64) + 1e4
    y = nn.LayerNorm(64)(ox.tensor(x, dtype=ox.float32))
    expected = normalised(x.astype(np.float32).astype(np.float64), -1, 1e-5)
    assert_close(y, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_norm(groups):
    norm = nn.GroupNorm(groups, 6).double()
    weight, bias = draw(6), draw(6, seed=1)
    norm.load_state_dict({"weight": weight, "bias": bias})
    x = draw(3, 6, 2, 4)
    y = normalised(x.reshape(3, groups, -1), 2, 1e-5).reshape(x.shape)
    assert_close(norm(t64(x)), y * per_channel(weight, x) + per_channel(bias, x))
    check_gradients(lambda x, w, b: F.group_norm(x, groups, w, b), draw(2, 6, 3), weight, bias)


def test_group_norm_errors():
    with pytest.raises(ValueError, match="6 channels do not split into 4 groups"):
        nn.GroupNorm(4, 6)
    with pytest.raises(ValueError, match="group_norm: 5 channels do not divide into 2 groups"):
        nn.GroupNorm(2, 6)(ox.ones(2, 5))


def test_instance_norm():
    x = draw(4, 3, 2, 5)
    y = normalised(x, (2, 3), 1e-5)
    assert_close(nn.InstanceNorm2d(3)(t64(x)), y)
    assert_close(nn.InstanceNorm2d(3).eval()(t64(x)), y)
    assert_close(nn.InstanceNorm2d(3)(t64(x[0])), y[0])
    assert_close(nn.InstanceNorm1d(3)(t64(x[..., 0, :])), normalised(x[..., 0, :], 2, 1e-5))
    norm = nn.InstanceNorm2d(3, momentum=0.5, affine=True, track_running_stats=True).double()
    weight, bias = draw(3), draw(3, seed=1)
    norm.load_state_dict({"weight": weight, "bias": bias}, strict=False)
    assert_close(norm(t64(x)), y * per_channel(weight, x) + per_channel(bias, x))
    mean = 0.5 * x.mean((2, 3)).mean(0)
    var = 0.5 + 0.5 * x.var((2, 3), ddof=1).mean(0)
    assert_close(norm.running_mean, mean)
    assert_close(norm.running_var, var)
    out = norm.eval()(t64(x))
    scaled = (x - per_channel(mean, x)) / np.sqrt(per_channel(var, x) + 1e-5)
    assert_close(out, scaled * per_channel(weight, x) + per_channel(bias, x))
    check_gradients(lambda x, w, b: F.instance_norm(x, None, None, w, b), draw(2, 3, 4), weight, bias)
    with pytest.raises(ox.ShapeError, match=r"InstanceNorm1d: expected \(N, C, L\) or \(C, L\)"):
        nn.InstanceNorm1d(3)(ox.ones(3))
    with pytest.raises(ox.ShapeError, match="more than one value"):
        nn.InstanceNorm1d(3)(ox.ones(2, 3, 1))


def test_rms_norm():
    x = draw(3, 4)
    norm = nn.RMSNorm(4, eps=1e-3).double()
    weight = draw(4)
    norm.load_state_dict({"weight": weight})
    assert_close(norm(t64(x)), x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-3) * weight)
    check_gradients(lambda x, w: F.rms_norm(x, (2, 3), w), draw(2, 2, 3), draw(2, 3))
    tiny = nn.RMSNorm(4)(ox.full((4,), 1e-4)).detach().numpy()
    np.testing.assert_allclose(tiny, 1e-4 / np.sqrt(1e-8 + 2.0**-23), rtol=1e-5)
    with pytest.raises(
        ox.ShapeError, match=r"rms_norm: input \(2, 4\) does not end with the normalized shape \(5,\)"
    ):
        nn.RMSNorm(5)(ox.ones(2, 4))


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, float("inf")])
def test_normalize(p):
    x = draw(3, 4)
    assert_close(F.normalize(t64(x), p, dim=-1), x / np.linalg.norm(x, p, axis=-1, keepdims=True))
    check_gradients(lambda x: F.normalize(x, p, dim=0), x)
    zero = ox.zeros(2, 3).requires_grad_()
    y = F.normalize(zero, p)
    y.sum().backward()
    assert y.tolist() == [[0.0] * 3] * 2
    assert bool(zero.grad.isfinite().all())


def rows_by_hand(x, w, b, g, centred):
    """Layer or RMS norm of rows and its gradients, in float64."""
    mean = x.mean(-1, keepdims=True) * centred
    r = 1 / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-5)
    hat = (x - mean) * r
    h = g if w is None else g * w
    dx = r * (h - centred * h.mean(-1, keepdims=True) - hat * (h * hat).mean(-1, keepdims=True))
    y = hat * (1 if w is None else w) + (0 if b is None else b)
    return y, dx, (g * hat).sum(0), g.sum(0)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("affine", ["", "w", "b", "wb"])
@pytest.mark.parametrize(
    ("rows", "n"), [(1, 1), (3, 7), (70, 16), (33, 50), (5, 1024), (2, 2500), (300, 130)]
)
def test_rows_of_any_length(rows, n, affine, centred):
    if "b" in affine and not centred:
        pytest.skip("rms_norm has no bias")
    x, g = draw(rows, n) + 0.5, draw(rows, n, seed=1)
    w, b = draw(n, seed=2) if "w" in affine else None, draw(n, seed=3) if "b" in affine else None
    want = rows_by_hand(x, w, b, g, centred)
    for dtype, tolerance in ((ox.float32, 2e-5), (ox.float64, 1e-11)):
        tx, tw, tb = (None if v is None else ox.tensor(v, dtype=dtype, requires_grad=True) for v in (x, w, b))
        y = ox.layer_norm(tx, n, tw, tb) if centred else ox.rms_norm(tx, n, tw, 1e-5)
        y.backward(ox.tensor(g, dtype=dtype))
        leaves = zip((tx, tw, tb), want[1:], strict=True)
        found = [(y, want[0]), *((leaf.grad, expected) for leaf, expected in leaves if leaf is not None)]
        for got, expected in found:
            scale = max(1.0, np.abs(expected).max())
            np.testing.assert_allclose(got.detach().numpy(), expected, rtol=0, atol=tolerance * scale)


def test_rows_that_are_views():
    x = draw(6, 5, 8)
    for view in (lambda t: t[:, ::2], lambda t: t[..., ::2], lambda t: t.transpose(0, 2), lambda t: t[:1]):
        a = view(t64(x))
        n = a.shape[-1]
        assert_close(ox.layer_norm(a, n), normalised(a.numpy(), -1, 1e-5))
        # The gradient of a sum is one number everywhere, that of a mean over rows repeats a row.
        check_gradients(lambda t, view=view, n=n: ox.layer_norm(view(t), n).sum(0), x)


def test_rows_have_second_derivatives():
    def slope(x, w):
        x = x if x.requires_grad else x.detach().requires_grad_()
        with ox.enable_grad():
            x = x if x.requires_grad else x.requires_grad_()
            found = ox.grad(ox.layer_norm(x, 5, w).square().sum(), [x], create_graph=True)[0]
        return found if ox.is_grad_enabled() else found.detach()

    check_gradients(slope, draw(3, 5), draw(5, seed=1))


def test_rows_do_not_depend_on_threads():
    x, w, b = ox.randn(777, 130), ox.randn(130), ox.randn(130)
    results = []
    for threads in (1, 2, 4):
        ox.set_num_threads(threads)
        leaves = [t.detach().requires_grad_() for t in (x, w, b)]
        y = ox.layer_norm(leaves[0], 130, leaves[1], leaves[2])
        (y * y * x).sum().backward()
        results.append([y.detach().numpy().tobytes(), *(t.grad.numpy().tobytes() for t in leaves)])
    assert results[0] == results[1] == results[2]
