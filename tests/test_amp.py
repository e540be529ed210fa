"""Mixed precision: what runs in which dtype, regions and their cache, gradients, and the scaler of the loss."""

from __future__ import annotations

import inspect
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import oxon as ox
import pytest
from oxon import _core, nn, optim
from oxon.nn import functional as F

HERE = ox.get_default_device
T = ox.Tensor


def kind() -> str:
    """The type of the device on which tests run."""
    return HERE().split(":")[0]


def region(dtype: Any = ox.bfloat16, **options: Any) -> ox.autocast:
    return ox.autocast(kind(), dtype=dtype, **options)


def positive(*shape: int) -> T:
    return ox.rand(*shape) * 0.5 + 0.25


#: For each operation of the table a call of floats.
CALLS: dict[str, Callable[[Callable[..., T]], T]] = {
    "attention": lambda x: F.scaled_dot_product_attention(x(1, 2, 4), x(1, 3, 4), x(1, 3, 4)),
    "conv1d": lambda x: F.conv1d(x(1, 2, 5), x(3, 2, 3), x(3)),
    "conv2d": lambda x: F.conv2d(x(1, 2, 5, 5), x(3, 2, 3, 3), x(3)),
    "conv_transpose1d": lambda x: ox.conv_transpose1d(x(1, 2, 5), x(2, 3, 3), x(3)),
    "conv_transpose2d": lambda x: ox.conv_transpose2d(x(1, 2, 5, 5), x(2, 3, 3, 3), x(3)),
    "einsum": lambda x: ox.einsum("ij,kj->ik", x(2, 3), x(4, 3)),
    "linear": lambda x: F.linear(x(2, 3), x(4, 3), x(4)),
    "matmul": lambda x: ox.matmul(x(2, 3), x(3, 4)),
    "recurrent": lambda x: F.recurrent.sequence(
        F.recurrent.CELLS["tanh"], False, x(3, 2, 4), x(4, 4), x(4), (x(2, 4),)
    )[0],
    "binary_cross_entropy": lambda x: F.binary_cross_entropy(x(3), x(3)),
    "binary_cross_entropy_with_logits": lambda x: F.binary_cross_entropy_with_logits(x(3), x(3)),
    "cdist": lambda x: ox.cdist(x(2, 3), x(4, 3)),
    "cosine_similarity": lambda x: F.cosine_similarity(x(2, 3), x(2, 3)),
    "cross_entropy": lambda x: F.cross_entropy(x(2, 3), ox.tensor([0, 2])),
    "cumprod": lambda x: x(3).cumprod(0),
    "cumsum": lambda x: x(3).cumsum(0),
    "gaussian_nll_loss": lambda x: F.gaussian_nll_loss(x(3), x(3), x(3)),
    "group_norm": lambda x: F.group_norm(x(2, 4, 3), 2, x(4), x(4)),
    "hinge_embedding_loss": lambda x: F.hinge_embedding_loss(x(3), x(3)),
    "huber_loss": lambda x: F.huber_loss(x(3), x(3)),
    "kl_div": lambda x: F.kl_div(x(3), x(3)),
    "l1_loss": lambda x: F.l1_loss(x(3), x(3)),
    "layer_norm": lambda x: F.layer_norm(x(2, 3), (3,), x(3), x(3)),
    "log_softmax": lambda x: F.log_softmax(x(2, 3), -1),
    "logsumexp": lambda x: x(2, 3).logsumexp(1),
    "margin_ranking_loss": lambda x: F.margin_ranking_loss(x(3), x(3), x(3)),
    "mean": lambda x: x(2, 3).mean(1),
    "mse_loss": lambda x: F.mse_loss(x(3), x(3)),
    "nll_loss": lambda x: F.nll_loss(x(2, 3), ox.tensor([0, 2])),
    "norm": lambda x: x(3).norm(),
    "pairwise_distance": lambda x: F.pairwise_distance(x(2, 3), x(2, 3)),
    "poisson_nll_loss": lambda x: F.poisson_nll_loss(x(3), x(3)),
    "pow": lambda x: x(3) ** x(3),
    "prod": lambda x: x(3).prod(),
    "rms_norm": lambda x: F.rms_norm(x(2, 3), (3,), x(3)),
    "smooth_l1_loss": lambda x: F.smooth_l1_loss(x(3), x(3)),
    "soft_margin_loss": lambda x: F.soft_margin_loss(x(3), x(3)),
    "softmax": lambda x: F.softmax(x(2, 3), -1),
    "sum": lambda x: x(2, 3).sum(1),
}
# What else the table names are functions of one tensor.
CALLS.update({n: lambda x, n=n: getattr(ox, n)(x(3)) for n in _core.AUTOCAST if n not in CALLS})  # type: ignore[misc]


@pytest.mark.parametrize("low", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", sorted(_core.AUTOCAST))
def test_the_table_is_what_runs(name: str, low: str) -> None:
    dtype = getattr(ox, low)
    want = dtype if _core.AUTOCAST[name] == "low" else ox.float32
    with region(dtype):
        assert CALLS[name](positive).dtype == want
        assert CALLS[name](lambda *shape: positive(*shape).to(dtype)).dtype == want
        if kind() == "cpu":
            assert CALLS[name](lambda *shape: positive(*shape).double()).dtype == ox.float64
    assert CALLS[name](positive).dtype == ox.float32


@pytest.mark.parametrize("name", sorted(_core.AUTOCAST))
def test_values_are_those_of_float32_rounded(name: str) -> None:
    shown: list[T] = []

    def given(*shape: int) -> T:
        shown.append(positive(*shape).bfloat16())
        return shown[-1].float()

    want = CALLS[name](given)
    again = iter(shown)
    with region(ox.bfloat16):
        got = CALLS[name](lambda *shape: next(again))
    np.testing.assert_allclose(got.float().numpy(), want.numpy(), rtol=2e-2, atol=1e-2)


def test_rms_norm_keeps_away_from_zero_as_far_as_its_dtype() -> None:
    x = ox.full((1, 4), 0.01).bfloat16()
    apart = F.rms_norm(x, (4,))
    with region(ox.bfloat16):
        assert F.rms_norm(x, (4,)).tolist() == F.rms_norm(x.float(), (4,)).tolist()
    assert apart.tolist()[0][0] < 0.2  # of bfloat16 1e-4 is little beside 2^-7


def test_other_operations_take_what_comes() -> None:
    x, h = ox.ones(2, 3), ox.ones(2, 3).bfloat16()
    with region():
        assert (h + 1).dtype == h.relu().dtype == h.amax().dtype == F.gelu(h).dtype == ox.bfloat16
        assert (x + 1).dtype == x.relu().dtype == ox.float32
        # Several operands promote to the widest.
        assert (x + h).dtype == ox.cat([x, h]).dtype == ox.stack([h, x]).dtype == ox.float32
        assert ox.where(h > 0, h, x).dtype == ox.float32
        images = ox.rand(2, 3, 4, 4)
        for dtype in (ox.float32, ox.bfloat16):
            assert nn.BatchNorm2d(3)(images.to(dtype)).dtype == dtype
        assert F.max_pool2d(images.bfloat16(), 2).dtype == ox.bfloat16
        # Integers are not cast.
        assert (ox.arange(4) @ ox.arange(4)).dtype == ox.int64
        assert ox.arange(4).sum().dtype == ox.int64


def test_regions_nest_and_end() -> None:
    x = ox.ones(2, 2)
    assert not ox.is_autocast_enabled()
    assert (ox.get_autocast_dtype("cpu"), ox.get_autocast_dtype("gpu")) == (ox.bfloat16, ox.float16)
    with region(ox.bfloat16):
        assert ox.is_autocast_enabled()
        assert ox.is_autocast_enabled(kind())
        with region(enabled=False):
            assert not ox.is_autocast_enabled()
            assert (x @ x).dtype == ox.float32
            with region(ox.float16) as inner:
                assert "float16" in repr(inner)
                assert ox.get_autocast_dtype(kind()) == (x @ x).dtype == ox.float16
        assert (x @ x).dtype == ox.bfloat16
        with pytest.raises(ox.ShapeError), region(ox.float16):
            x @ ox.ones(3, 3)
        assert (x @ x).dtype == ox.bfloat16
    assert not ox.is_autocast_enabled()
    assert (x @ x).dtype == ox.float32


def test_a_region_is_of_one_type_of_device() -> None:
    other = "gpu" if kind() == "cpu" else "cpu"
    with ox.autocast(other):
        assert (ox.ones(2, 2) @ ox.ones(2, 2)).dtype == ox.float32
        assert ox.is_autocast_enabled(other)
        assert not ox.is_autocast_enabled(kind())


def test_decorator() -> None:
    @region(ox.float16)
    def product(x: T, times: int) -> T:
        """Documented."""
        return product(x, times - 1) if times else x @ x

    assert product.__doc__ == "Documented."
    assert product(ox.ones(2, 2), 3).dtype == ox.float16
    assert not ox.is_autocast_enabled()


def test_regions_belong_to_a_thread() -> None:
    found: list[Any] = []

    def look() -> None:
        x = ox.ones(2, 2, device=device)
        found.append((ox.is_autocast_enabled(), (x @ x).dtype))

    device = HERE()
    with region():
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        assert ox.is_autocast_enabled()
    assert found == [(False, ox.float32)]


@pytest.mark.parametrize("arguments", [("tpu",), ("cpu", ox.float32), ("cpu", ox.int8), ("gpu", ox.float64)])
def test_regions_that_cannot_be(arguments: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="autocast"):
        ox.autocast(*arguments)
    with pytest.raises((TypeError, ValueError)):
        ox.autocast(None)  # type: ignore[arg-type]
    assert not ox.is_autocast_enabled()


def test_more_exits_than_entries() -> None:
    _core._autocast_exit()
    assert not ox.is_autocast_enabled()


# -- weights and gradients ---------------------------------------------------------------------------------


def test_a_weight_is_cast_once_in_a_region() -> None:
    w = nn.Parameter(ox.rand(8, 8))
    x = ox.rand(8, 8)

    def ran(**options: Any) -> int:
        """Casts of the weight that run: in a region, kept alive by their products."""
        with ox.profile() as report, region(**options):
            parts = [x.bfloat16() @ w for _ in range(4)]
            ox._core.flush(parts)
        return sum(row.calls for row in report.rows if "cast" in row.kernel and row.inputs == [(8, 8)])

    x = x.bfloat16()
    with ox.no_grad():
        once, often = ran(), ran(cache_enabled=False)
    assert often - once == 3
    with region():
        first = (w @ w).detach()
        w.data.copy_(w.data + 1)
        second = (w @ w).detach()
    assert not np.array_equal(first.float().numpy(), second.float().numpy())


def test_the_cache_knows_whether_gradients_are_recorded() -> None:
    w = nn.Parameter(ox.rand(3, 3))
    with region():
        with ox.no_grad():
            assert not (w @ w).requires_grad
        loss = (w @ w).sum()
    loss.backward()
    assert w.grad is not None
    assert w.grad.dtype == ox.float32


@pytest.mark.parametrize("low", ["float16", "bfloat16"])
def test_gradients_arrive_in_the_dtype_of_weights(low: str) -> None:
    ox.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    x, target = ox.rand(5, 2, 6, 6), ox.tensor([0, 1, 2, 1, 0])
    F.cross_entropy(model(x), target).backward()
    want = {name: p.grad.numpy() for name, p in model.named_parameters()}
    model.zero_grad()
    with region(getattr(ox, low)):
        loss = F.cross_entropy(model(x), target)
    loss.backward()
    for name, p in model.named_parameters():
        assert p.dtype == p.grad.dtype == ox.float32
        scale = np.abs(want[name]).max()
        if name != "0.bias":  # which the normalization takes away
            np.testing.assert_allclose(p.grad.numpy(), want[name], atol=0.05 * scale, err_msg=name)


def test_backward_within_a_region_is_as_outside() -> None:
    w, x = nn.Parameter(ox.rand(4, 4)), ox.rand(4, 4)
    found = []
    for inside in (False, True):
        w.grad = None
        with region():
            loss = (x @ w).exp().sum()
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        found.append(w.grad.numpy())
    np.testing.assert_array_equal(*found)


def test_checkpoints_compute_in_the_same_dtypes() -> None:
    ox.manual_seed(1)
    layer, x = nn.Linear(4, 4), ox.rand(4, 4)
    seen = []

    def run(x: T) -> T:
        y = layer(x)
        seen.append(y.dtype)
        return y

    with region():
        loss = ox.checkpoint(run, x).sum()
    loss.backward()
    again = layer.weight.grad.numpy()
    layer.zero_grad()
    with region():
        loss = run(x).sum()
    loss.backward()
    assert seen == [ox.bfloat16] * 3
    np.testing.assert_array_equal(layer.weight.grad.numpy(), again)
    assert not ox.is_autocast_enabled()


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers(layer: Any) -> None:
    ox.manual_seed(2)
    model, x = layer(3, 5), ox.rand(4, 2, 3)
    want, _ = model(x)
    want.sum().backward()
    want = want.detach()
    grad = model.weight_hh_l0.grad.numpy()
    model.zero_grad()
    with region():
        got, _ = model(x)
        loss = got.sum()
    assert got.dtype == ox.bfloat16
    loss.backward()
    np.testing.assert_allclose(got.detach().float().numpy(), want.numpy(), atol=2e-2)
    np.testing.assert_allclose(model.weight_hh_l0.grad.numpy(), grad, atol=0.05 * np.abs(grad).max())


# -- the scaler ----------------------------------------------------------------------------------------------


def test_signatures_are_those_of_pytorch() -> None:
    assert (
        str(inspect.signature(ox.autocast))
        .replace("'", "")
        .startswith(
            "(device_type: str, dtype: Any = None, enabled: bool = True, cache_enabled: bool | None = None)"
        )
    )
    names = list(inspect.signature(ox.amp.GradScaler).parameters)
    want = ["device", "init_scale", "growth_factor", "backoff_factor", "growth_interval", "enabled"]
    assert names == want
    assert ox.amp.autocast is ox.autocast


def scaled_step(scaler: Any, optimizer: Any, w: T, slope: float) -> None:
    """A step on `slope · w`, whose gradient is `slope`."""
    optimizer.zero_grad()
    scaler.scale((w * slope).sum()).backward()
    scaler.step(optimizer)
    scaler.update()


def test_scales_and_steps_of_a_sequence_with_infinities() -> None:
    w = nn.Parameter(ox.zeros(3))
    optimizer = optim.SGD([w], lr=1.0)
    scaler = ox.amp.GradScaler(init_scale=8.0, growth_factor=4.0, backoff_factor=0.25, growth_interval=2)
    inf, nan = math.inf, math.nan
    # slope, then the weight and the scale after the step, by hand
    sequence = [
        (1.0, -1.0, 8.0),
        (1.0, -2.0, 32.0),
        (inf, -2.0, 8.0),
        (2.0, -4.0, 8.0),
        (nan, -4.0, 2.0),
        (0.5, -4.5, 2.0),
        (0.5, -5.0, 8.0),
        (-inf, -5.0, 2.0),
        (1.0, -6.0, 2.0),
        (1.0, -7.0, 8.0),
    ]
    for slope, weight, scale in sequence:
        scaled_step(scaler, optimizer, w, slope)
        assert w.tolist() == [weight] * 3
        assert scaler.get_scale() == scale


def test_one_bad_element_of_many_stops_the_step() -> None:
    ox.manual_seed(3)
    shapes = [(3,), (70_000,), (), (5, 7), (300, 300)]
    for place in range(len(shapes)):
        ws = [nn.Parameter(ox.zeros(*shape)) for shape in shapes]
        optimizer = optim.SGD(ws, lr=1.0)
        scaler = ox.amp.GradScaler()
        for i, w in enumerate(ws):
            g = np.ones(w.shape, np.float32)
            if i == place:
                g.reshape(-1)[-1] = np.inf
            w.grad = ox.tensor(g)
        scaler.step(optimizer)
        scaler.update()
        assert all(w.abs().sum().item() == 0 for w in ws)
        assert scaler.get_scale() == 2.0**15


def test_clipping_behind_unscale() -> None:
    w = nn.Parameter(ox.tensor([0.0, 0.0]))
    optimizer = optim.SGD([w], lr=1.0)
    scaler = ox.amp.GradScaler(init_scale=1024.0)
    scaler.scale((w * ox.tensor([3.0, 4.0])).sum()).backward()
    assert w.grad.tolist() == [3072.0, 4096.0]
    scaler.unscale_(optimizer)
    assert w.grad.tolist() == [3.0, 4.0]
    assert optim.clip_grad_norm_([w], 1.0).item() == 5.0
    scaler.step(optimizer)
    np.testing.assert_allclose(w.tolist(), [-0.6, -0.8], rtol=1e-5)


def test_several_optimizers_share_a_scaler() -> None:
    a, b = nn.Parameter(ox.zeros(1)), nn.Parameter(ox.zeros(1))
    first, second = optim.SGD([a], lr=1.0), optim.SGD([b], lr=1.0)
    scaler = ox.amp.GradScaler(init_scale=4.0)
    scaler.scale((a * math.inf + b).sum()).backward()
    scaler.step(first)
    scaler.step(second)
    scaler.update()
    assert (a.item(), b.item(), scaler.get_scale()) == (0.0, -1.0, 2.0)


def test_small_gradients_survive_in_float16() -> None:
    """Without a scale they are below float16's smallest number."""
    for scale, survives in ((1.0, False), (65536.0, True)):
        w = nn.Parameter(ox.ones(1, 1))
        scaler = ox.amp.GradScaler(init_scale=scale)
        with region(ox.float16):
            y = ox.ones(1, 1) @ w
        scaler.scale((y.float() * 1e-8).sum()).backward()
        assert (w.grad.item() != 0) == survives
        if survives:
            scaler.unscale_(optim.SGD([w], lr=1.0))
            assert w.grad.item() == pytest.approx(1e-8, rel=1e-2)


def test_scale_takes_nests() -> None:
    scaler = ox.amp.GradScaler(init_scale=2.0)
    one = ox.ones(())
    first, second = scaler.scale((one, {"a": [one]}))
    assert (first.item(), second["a"][0].item()) == (2.0, 2.0)
    with pytest.raises(TypeError, match="scale"):
        scaler.scale(3)


def test_a_scaler_that_is_not_enabled() -> None:
    w = nn.Parameter(ox.zeros(2))
    optimizer = optim.SGD([w], lr=1.0)
    scaler = ox.amp.GradScaler(enabled=False)
    scaled_step(scaler, optimizer, w, 1.0)
    assert w.tolist() == [-1.0, -1.0]
    assert (scaler.is_enabled(), scaler.get_scale(), scaler.state_dict()) == (False, 1.0, {})
    scaler.unscale_(optimizer)
    scaler.load_state_dict({})


def test_state_moves_on() -> None:
    w = nn.Parameter(ox.zeros(1))
    optimizer = optim.SGD([w], lr=1.0)
    first = ox.amp.GradScaler(init_scale=2.0, growth_interval=2)
    scaled_step(first, optimizer, w, 1.0)
    second = ox.amp.GradScaler()
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict()
    scaled_step(second, optimizer, w, 1.0)
    assert second.get_scale() == 4.0
    with pytest.raises(RuntimeError, match="empty"):
        second.load_state_dict({})
    with pytest.raises(KeyError):
        second.load_state_dict({"scale": 1.0})


def test_calls_in_a_wrong_order() -> None:
    w = nn.Parameter(ox.zeros(1))
    optimizer = optim.SGD([w], lr=1.0)
    scaler = ox.amp.GradScaler()
    with pytest.raises(RuntimeError, match="no step"):
        scaler.update()
    with pytest.raises(RuntimeError, match="gradient"):
        scaler.step(optimizer)
    w.grad = ox.ones(1)
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="unscale_ has been called"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="step has been called"):
        scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="called"):
        scaler.step(optimizer)
    scaler.update(32.0)
    assert scaler.get_scale() == 32.0
    with pytest.raises(RuntimeError, match="closure"):
        scaler.step(optimizer, lambda: None)
    half = nn.Parameter(ox.zeros(1).half())
    half.grad = ox.ones(1).half()
    with pytest.raises(ValueError, match="float16"):
        scaler.unscale_(optim.SGD([half], lr=1.0))
    with pytest.raises(TypeError, match="optimizer"):
        scaler.unscale_(3)


@pytest.mark.parametrize(
    "options",
    [
        {"init_scale": 0.0},
        {"init_scale": math.inf},
        {"growth_factor": 1.0},
        {"backoff_factor": 1.0},
        {"growth_interval": 0},
        {"growth_interval": 1.5},
        {"device": "tpu"},
    ],
)
def test_scalers_that_cannot_be(options: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        ox.amp.GradScaler(**options)


@pytest.mark.parametrize("low", ["float16", "bfloat16", None])
def test_the_trainer_trains_in_mixed_precision(low: str | None) -> None:
    ox.manual_seed(4)
    X = ox.arange(64).float().reshape(64, 1) / 32 - 1
    model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
    seen = []
    model.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    optimizer = optim.Adam(model.parameters(), lr=0.03)
    dtype = None if low is None else getattr(ox, low)
    trainer = ox.Trainer(model, optimizer, nn.MSELoss(), clip_grad_norm=5.0, mixed_precision=dtype)
    history = trainer.fit((X, X * X), epochs=40, batch_size=16, verbose=False, seed=0)
    assert set(seen) == {dtype or ox.float32}
    assert history["loss"][-1] < 0.2 * history["loss"][0]
    assert ("scaler" in trainer.state_dict()) == (low == "float16")
    trainer.load_state_dict(trainer.state_dict())
    assert trainer.predict(X).dtype == (dtype or ox.float32)
    assert all(p.dtype == ox.float32 for p in model.parameters())
