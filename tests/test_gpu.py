"""The GPU through the whole house: Python, graph, planner, wgpu; transfers, faults and results beside the CPU's. Runs on
Mesa's software Vulkan; `OXON_REQUIRE_GPU=1` makes a missing adapter a failure. Kernels have their own tests in Rust,
and `--device gpu` runs the tests' table there (`on_gpu.py`)."""

from __future__ import annotations

import copy
import inspect
import os
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import oxon as ox
import pytest
from oxon import _core, nn, optim
from table import ROWS

pytestmark = [pytest.mark.gpu, pytest.mark.cpu("these tests name their devices")]
os.environ.setdefault("OXON_GPU_ADAPTER", "llvmpipe")
os.environ.setdefault("XDG_RUNTIME_DIR", os.environ.get("TMPDIR", "/tmp"))


@pytest.fixture(scope="module", autouse=True)
def adapter() -> None:
    """Skips, with the reason, where there is no adapter."""
    try:
        ox.ones(1, device="gpu").cpu().numpy()
    except ox.DeviceError as error:
        if os.environ.get("OXON_REQUIRE_GPU") == "1":
            raise
        pytest.skip(str(error))


FLOAT = [name for name, row in _core.ELEMENTWISE.items() if row[2] in ("number", "float", "test", "compare")]


@pytest.mark.parametrize("name", FLOAT)
def test_elementwise_as_on_the_cpu(name: str) -> None:
    rng = np.random.default_rng(0)
    low, high = ROWS[name].domain
    arrays = [rng.uniform(low, high, (5, 33)).astype(np.float32) for _ in range(_core.ELEMENTWISE[name][1])]
    call = getattr(ox, name)
    want = call(*(ox.tensor(a) for a in arrays)).numpy()
    got = call(*(ox.tensor(a).to("gpu") for a in arrays))
    assert got.device == "gpu"
    np.testing.assert_allclose(got.cpu().numpy(), want, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    "shapes", [((4, 5), (5, 3)), ((70, 65), (65, 80)), ((3, 4, 5), (5, 6)), ((2, 1, 8, 4), (3, 4, 9))]
)
def test_matmul_as_on_the_cpu(shapes: tuple[tuple[int, ...], ...]) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in shapes)
    got = ox.tensor(a).to("gpu") @ ox.tensor(b).to("gpu")
    np.testing.assert_allclose(got.cpu().numpy(), a @ b, rtol=1e-4, atol=1e-5)
    got = (
        ox.tensor(b).to("gpu").mT @ ox.tensor(a).to("gpu").mT
        if len(shapes[0]) == len(shapes[1]) == 2
        else None
    )
    if got is not None:
        np.testing.assert_allclose(got.cpu().numpy(), b.T @ a.T, rtol=1e-4, atol=1e-5)


def test_gradients_of_chains_and_products() -> None:
    x, w = ox.randn(6, 4), ox.randn(4, 3)
    grads = []
    for device in ("cpu", "gpu"):
        a = x.to(device).detach().requires_grad_()
        b = w.to(device).detach().requires_grad_()
        y = ((a @ b) * 2.0 - 1.0).tanh()
        y.backward(ox.ones(6, 3, device=device))
        assert a.grad is not None
        assert b.grad is not None
        grads.append((a.grad.cpu().numpy(), b.grad.cpu().numpy()))
    for cpu, gpu in zip(*grads, strict=True):
        np.testing.assert_allclose(gpu, cpu, rtol=1e-5, atol=1e-6)


def both(call: Callable[..., Any], *arrays: np.ndarray, backward: bool = True) -> list[list[np.ndarray]]:
    """What `call` gives on each device, and the gradients of its weighted sum where that is asked for."""
    found = []
    for device in ("cpu", "gpu"):
        inputs = [ox.tensor(a).to(device).detach().requires_grad_(backward) for a in arrays]
        outs = call(*inputs)
        outs = list(outs) if isinstance(outs, tuple) else [outs]
        assert all(out.device == device for out in outs)
        results = [out.detach().cpu().numpy() for out in outs]
        if backward:
            weight = np.random.default_rng(1).standard_normal(outs[0].shape).astype(np.float32)
            outs[0].backward(ox.tensor(weight).to(device))
            for tensor in inputs:
                assert tensor.grad is not None
                results.append(tensor.grad.cpu().numpy())
        found.append(results)
    return found


def agree(found: list[list[np.ndarray]]) -> None:
    for cpu, gpu in zip(*found, strict=True):
        assert cpu.dtype == gpu.dtype
        np.testing.assert_allclose(gpu, cpu, rtol=2e-5, atol=5e-6)


ROWS_OF = {
    "sum": lambda x: x.sum(),
    "sum of rows": lambda x: x.sum(-1),
    "sum of columns": lambda x: (x * 2.0).tanh().sum(0, keepdim=True),
    "sum of two axes": lambda x: x.sum((0, 2)),
    "mean": lambda x: x.exp().mean(1),
    "amax": lambda x: x.amax(-1),
    "amin": lambda x: x.mT.amin((0, 1)),
    "logsumexp": lambda x: (3.0 * x).logsumexp(-1),
    "var": lambda x: (x + 100.0).var((0, 2)),
    "std": lambda x: x.std(-1, correction=0),
    "norm": lambda x: x.norm(),
    "softmax": lambda x: (x * 5.0).softmax(-1),
    "softmax of columns": lambda x: x.softmax(0),
    "log_softmax": lambda x: x.log_softmax(-1),
    "cumsum": lambda x: x.cumsum(1),
    "cumsum of rows": lambda x: x.cumsum(-1),
    "layer_norm": lambda x: ox.layer_norm(x, (33,)),
    "rms_norm": lambda x: ox.rms_norm(x, (33,)),
    "group_norm": lambda x: ox.group_norm(x, 2),
}


@pytest.mark.parametrize("name", ROWS_OF)
def test_rows_and_their_gradients_as_on_the_cpu(name: str) -> None:
    x = np.random.default_rng(0).standard_normal((5, 6, 33)).astype(np.float32)
    agree(both(ROWS_OF[name], x))


@pytest.mark.parametrize(
    "name",
    ["mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss", "kl_div", "binary_cross_entropy_with_logits"],
)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_and_their_gradients_as_on_the_cpu(name: str, reduction: str) -> None:
    rng = np.random.default_rng(0)
    x, target = (
        rng.standard_normal((20, 7)).astype(np.float32),
        rng.uniform(0.1, 0.9, (20, 7)).astype(np.float32),
    )
    loss = getattr(ox, name)
    agree(both(lambda x: loss(x, ox.tensor(target).to(x.device), reduction=reduction), x))


def test_cross_entropy_with_probabilities_as_on_the_cpu() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 7)).astype(np.float32)
    target = rng.dirichlet(np.ones(7), 20).astype(np.float32)
    agree(both(lambda x: ox.cross_entropy(x, ox.tensor(target).to(x.device)), x))


def test_batch_norm_as_on_the_cpu() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 5, 4, 3)).astype(np.float32)
    weight, bias = rng.standard_normal((2, 5)).astype(np.float32)
    agree(both(lambda x, w, b: ox.batch_norm_train(x, w, b)[0], x, weight, bias))


INDICES_OF = {
    "argmax": lambda x: x.argmax(-1),
    "argmin": lambda x: x.argmin(0),
    "argmax of all": lambda x: x.argmax(),
    "any": lambda x: (x > 1.5).any(-1),
    "all": lambda x: (x > -1.5).all(0),
    "cummax": lambda x: x.cummax(-1),
    "cummin": lambda x: x.cummin(0),
    "prod": lambda x: (x * 0.1 + 1.0).prod(-1),
    "cumprod": lambda x: x.cumprod(-1),
    "sort": lambda x: tuple(x.sort(-1)),
    "sort of columns": lambda x: tuple(x.sort(0, descending=True)),
    "argsort": lambda x: x.argsort(-1),
    "topk": lambda x: tuple(x.topk(3)),
    "searchsorted": lambda x: ox.searchsorted(x[0].sort(-1)[0], x),
    "half": lambda x: x.to("float16").sum(-1),
    "half softmax": lambda x: x.to("bfloat16").softmax(-1).to("float32"),
    "integers": lambda x: (x * 10.0).to("int32").amin(-1),
}


@pytest.mark.parametrize("name", INDICES_OF)
def test_other_rows_as_on_the_cpu(name: str) -> None:
    x = np.round(np.random.default_rng(0).standard_normal((7, 33)) * 8).astype(np.float32) / 8
    agree(both(INDICES_OF[name], x, backward=False))


DRAWS: dict[str, Callable[[str], ox.Tensor]] = {
    "rand": lambda d: ox.rand(1000, generator=ox.Generator(5), device=d),
    "float16": lambda d: ox.rand(100, generator=ox.Generator(5), device=d, dtype="float16"),
    "int32": lambda d: ox.randint(0, 100, (50,), generator=ox.Generator(5), dtype="int32", device=d),
    "int64": lambda d: ox.randint(-(1 << 40), 1 << 40, (50,), generator=ox.Generator(5), device=d),
    "randperm": lambda d: ox.randperm(100, generator=ox.Generator(5), device=d),
    "bernoulli": lambda d: ox.bernoulli(ox.full((200,), 0.3, device=d), generator=ox.Generator(5)),
    "multinomial": lambda d: ox.multinomial(ox.full((20,), 0.05, device=d), 10, generator=ox.Generator(5)),
    "dropout": lambda d: dropped(ox.ones(300, device=d)),
}


def dropped(x: ox.Tensor) -> ox.Tensor:
    ox.manual_seed(3)
    return nn.functional.dropout(x, 0.4)


@pytest.mark.parametrize("name", DRAWS)
def test_the_same_seed_draws_the_same_numbers(name: str) -> None:
    cpu, gpu = DRAWS[name]("cpu"), DRAWS[name]("gpu")
    assert (cpu.dtype, gpu.device) == (gpu.dtype, "gpu")
    assert gpu.cpu().tolist() == cpu.tolist()


def test_the_same_seed_draws_the_same_normals() -> None:
    cpu = ox.randn(1000, generator=ox.Generator(5)).numpy()
    gpu = ox.randn(1000, generator=ox.Generator(5), device="gpu").cpu().numpy()
    np.testing.assert_allclose(gpu, cpu, rtol=1e-5, atol=1e-6)


def test_what_is_missing_says_so() -> None:
    x = ox.ones(2, 3, device="gpu")
    with pytest.raises(ox.DeviceError, match="float64"):
        ox.ones(2, device="gpu", dtype="float64").exp().cpu().numpy()
    with pytest.raises(ox.DeviceError, match="add: tensors are on gpu and on cpu"):
        x + ox.ones(2, 3)


def gradients(f: Callable[..., ox.Tensor], *arrays: np.ndarray, rtol: float = 1e-4) -> None:
    """Holds values and gradients of `f` on the GPU against those on the CPU; int64 arrays are indices."""
    results = []
    for device in ("cpu", "gpu"):
        operands = [ox.tensor(a).to(device).detach() for a in arrays]
        for x in operands:
            x.requires_grad_(x.dtype == ox.float32)
        y = f(*operands)
        assert y.device == device
        slope = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
        y.backward(ox.tensor(slope).to(device))
        grads = [x.grad for x in operands if x.requires_grad]
        results.append([y.detach(), *(g for g in grads if g is not None)])
        assert len(results[-1]) == 1 + len(grads)
    for cpu, gpu in zip(*results, strict=True):
        np.testing.assert_allclose(gpu.cpu().numpy(), cpu.numpy(), rtol=rtol, atol=1e-5)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


CONVOLUTIONS = [
    ((2, 3, 8, 8), (4, 3, 3, 3), {"padding": 1}),
    ((2, 3, 9, 7), (4, 3, 3, 2), {"stride": (2, 1), "padding": (0, 1), "dilation": (1, 2)}),
    ((2, 16, 8, 8), (32, 16, 3, 3), {"padding": 1}),
    ((2, 20, 8, 8), (18, 20, 1, 1), {"stride": 2}),
    ((2, 6, 8, 8), (6, 1, 3, 3), {"padding": 1, "groups": 6}),
    ((2, 6, 8, 8), (4, 3, 3, 3), {"groups": 2}),
]


@pytest.mark.parametrize(("x", "w", "options"), CONVOLUTIONS)
def test_convolutions_as_on_the_cpu(x: tuple[int, ...], w: tuple[int, ...], options: dict[str, Any]) -> None:
    gradients(lambda x, w: ox.conv2d(x, w, **options), normal(*x), normal(*w))


def test_convolutions_over_one_axis_and_transposed() -> None:
    gradients(lambda x, w: ox.conv1d(x, w, stride=2), normal(2, 3, 20), normal(6, 3, 3))
    gradients(lambda x, w: ox.conv_transpose2d(x, w, stride=2), normal(2, 3, 4, 5), normal(3, 4, 3, 3))
    # A fused chain behind the product.
    gradients(lambda x, w: (ox.conv2d(x, w) * 2.0).tanh(), normal(2, 3, 6, 6), normal(4, 3, 3, 3))


POOLS: dict[str, Callable[[ox.Tensor], ox.Tensor]] = {
    "max_pool2d": lambda x: ox.max_pool2d(x, 2),
    "max_pool2d_overlapping": lambda x: ox.max_pool2d(x, 3, stride=2, padding=1),
    "avg_pool2d": lambda x: ox.avg_pool2d(x, 2),
    "avg_pool2d_padded": lambda x: ox.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False),
    "adaptive_avg_pool2d": lambda x: ox.adaptive_avg_pool2d(x, (3, 4)),
    "adaptive_max_pool2d": lambda x: ox.adaptive_max_pool2d(x, (3, 4)),
    "global": lambda x: ox.adaptive_avg_pool2d(x, 1),
}


@pytest.mark.parametrize("name", POOLS)
def test_pools_as_on_the_cpu(name: str) -> None:
    gradients(POOLS[name], normal(2, 3, 8, 9))


def put(x: ox.Tensor, v: ox.Tensor, i: ox.Tensor) -> ox.Tensor:
    y = x * 1.0
    y[i] = v
    return y


def mask(x: ox.Tensor) -> ox.Tensor:
    y = x * 1.0
    y[y > 0] = 5.0
    return y


INDEX = np.array([0, 2, -1, 2])
MOVES: dict[str, tuple[Callable[..., ox.Tensor], tuple[np.ndarray, ...]]] = {
    "cat": (lambda x, y: ox.cat([x, y, x], 1), (normal(2, 3), normal(2, 5))),
    "stack": (lambda x, y: ox.stack([x, y], 1), (normal(2, 3), normal(2, 3))),
    "slice": (lambda x: x[1:, ::2], (normal(4, 6),)),
    "split": (lambda x: ox.split(x, 2, 1)[1] * 2.0, (normal(4, 5),)),
    "embedding": (lambda w, i: ox.embedding(i, w), (normal(10, 4), np.array([[1, 2], [1, -1]]))),
    "rows": (lambda x, i: x[i], (normal(6, 5), INDEX)),
    "columns": (lambda x, i: x[:, i], (normal(6, 5), INDEX)),
    "elements": (lambda x, i: x[i, i], (normal(6, 5), INDEX)),
    "put": (put, (normal(6, 5), normal(3, 5), INDEX[:3])),
    "mask": (mask, (normal(4, 5),)),
    "gather": (lambda x, i: ox.gather(x, 1, i), (normal(4, 5), INDEX[:, None])),
    "pad": (lambda x: ox.pad(x, (1, 2)), (normal(4, 5),)),
}


@pytest.mark.parametrize("name", MOVES)
def test_moves_as_on_the_cpu(name: str) -> None:
    f, arrays = MOVES[name]
    gradients(f, *arrays)


def test_many_tensors_are_joined() -> None:
    parts = [ox.tensor([i, -i]).to("gpu") for i in range(200)]
    assert ox.cat(parts).cpu().tolist() == [x for i in range(200) for x in (i, -i)]


def test_a_training_step_moves_nothing_but_the_loss() -> None:
    ox.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(20, 32), nn.ReLU(), nn.Dropout(0.2), nn.LayerNorm(32), nn.Linear(32, 5)
    ).to("gpu")  # fmt: skip
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)
    x, y = ox.randn(64, 20, device="gpu"), ox.randint(0, 5, (64,), device="gpu")
    losses = []
    for step in range(30):
        before = _core._transfers()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        up, down = (now - then for now, then in zip(_core._transfers(), before, strict=True))
        assert (up, down) == (0, 1), f"step {step}: {up} uploads, {down} downloads"
    assert losses[-1] < losses[0] / 2


def test_copies_and_pickles_stay_where_they_were() -> None:
    x = ox.arange(3.0, device="gpu")
    for twin in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert twin.device == "gpu"
        assert twin.cpu().tolist() == [0, 1, 2]


def test_float64_is_cast_on_the_way() -> None:
    assert ox.tensor(np.ones(2)).to("gpu", ox.float32).cpu().tolist() == [1, 1]
    layer = nn.Linear(2, 1).to("gpu")
    layer.load_state_dict({"weight": np.array([[1.0, 2.0]]), "bias": np.array([3.0])})
    assert layer(ox.ones(1, 2, device="gpu")).tolist() == [[6.0]]


def test_the_gradient_of_a_product() -> None:
    x = np.random.default_rng(0).standard_normal((4, 7)).astype(np.float32)
    x[1, 2] = x[2, 3] = x[2, 4] = 0
    agree(both(lambda x: x.prod(-1), x))
    agree(both(lambda x: x.prod(0), x))


def test_a_product_and_what_follows_without_another_operand() -> None:
    rng = np.random.default_rng(0)
    for shapes in (((4, 5), (5, 6)), ((2, 3, 70, 65), (2, 3, 65, 80)), ((4, 5), (5,))):
        a, b = (rng.standard_normal(s).astype(np.float32) for s in shapes)
        agree(both(lambda a, b: ((a @ b) * 0.3 - 1).softmax(-1), a, b))


def mask_set(x: ox.Tensor) -> ox.Tensor:
    y = x * 1.0
    y[y > 0] = 0.5
    return y


STAYS: dict[str, Callable[..., Any]] = {
    **ROWS_OF,
    **INDICES_OF,
    "matmul": lambda x: x @ x.mT,
    "conv1d": lambda x: ox.conv1d(x[None], ox.ones(4, x.shape[0], 3, device="gpu")),
    "max_pool2d": lambda x: ox.max_pool2d(x[None, None], 2),
    "indices": lambda x: x[x.argmax(-1) % 3, x.argmin(-1) % 5],
    "mask set": mask_set,
    "tril": lambda x: ox.tril(x) + ox.triu(x, 1),
    "one_hot": lambda x: nn.functional.one_hot(x.argmax(-1), 40),
    "cross_entropy": lambda x: nn.functional.cross_entropy(x, x.argmax(-1)),
    "embedding": lambda x: ox.embedding(x.argmax(-1), x.mT),
    "gather": lambda x: ox.gather(x, 1, x.argsort(-1)),
    "int64": lambda x: (x * 100).long() // 7 % 5,
    "randn": lambda x: x + ox.randn(*x.shape, device="gpu"),
    "gelu": lambda x: nn.functional.gelu(x),
}


@pytest.mark.parametrize("name", STAYS)
def test_nothing_goes_through_the_host(name: str) -> None:
    """Neither a fall-back to the CPU nor constants made there."""
    shape = (5, 6, 33) if name in ROWS_OF else (7, 33)
    x = ox.randn(*shape, device="gpu")
    ox.flush([x])
    before = _core._transfers()
    found = STAYS[name](x)
    found = found if isinstance(found, tuple) else (found,)
    ox.flush(list(found))
    ox.synchronize()
    assert _core._transfers() == before
    assert all(y.device == "gpu" for y in found)


@pytest.mark.slow
def test_a_grid_of_70_000_by_70_000() -> None:
    """More elements than 32 bits count, more workgroups than one dimension of a grid has."""
    x = ox.arange(70_000, dtype="int32", device="gpu").unsqueeze(1).expand(70_000, 70_000)
    assert x.amax().item() == 69_999
    rows = ox.ones(1, 1, device="gpu").expand(70_000, 70_000).sum(0)
    assert (rows.amin().item(), rows.amax().item()) == (70_000, 70_000)


def test_a_tensor_of_three_gigabytes_works_or_says_why_not() -> None:
    def last() -> list[int]:
        x = ox.zeros(3, 1_000_000_007, dtype="uint8", device="gpu")
        x[2, -1] = 5
        return [int(v) for v in x[2, -2:].tolist()]

    if ox.devices()[1].max_buffer > 3_000_000_021:
        assert last() == [0, 5]
    else:
        with pytest.raises(MemoryError, match="bytes asked for; its largest buffer has"):
            last()


def test_sequences_and_draws_larger_than_a_binding() -> None:
    draw = [
        ox.randint(0, 200, (140_000_001,), dtype="uint8", generator=ox.Generator(1), device=d)
        for d in ("cpu", "gpu")
    ]
    assert (draw[1].cpu().numpy() == draw[0].numpy()).all()
    x = ox.arange(40_000_001, dtype="float32", device="gpu")
    assert (x.cpu().numpy() == np.arange(40_000_001, dtype=np.float32)).all()


def test_three_rows_larger_than_a_binding() -> None:
    """Rows that begin at no multiple of four elements cannot be cut into quads."""
    x = ox.arange(13_000_001, dtype="int32", device="gpu")
    y = x * ox.tensor([[1], [2], [3]], dtype="int32", device="gpu")
    got = y.cpu().numpy().copy()
    assert (got == np.arange(13_000_001, dtype=np.int32) * np.array([[1], [2], [3]], np.int32)).all()
    y[1, 5] = -1
    picked = ox.take(y, ox.tensor([2, 1, 0], device="gpu"), 0)
    got[1, 5] = -1
    assert (picked.cpu().numpy() == got[::-1]).all()


def test_more_than_one_binding_holds() -> None:
    x = ox.zeros(300_000_000, dtype="uint8", device="gpu")
    x[299_999_990:] = 7
    assert x[-11:].tolist() == [0] + [7] * 10


def test_more_than_there_is_is_a_memory_error() -> None:
    with pytest.raises(MemoryError, match="4398046511104 bytes asked for; its largest buffer has"):
        ox.zeros(1 << 40, device="gpu").cpu().numpy()
    assert ox.ones(1, device="gpu").item() == 1


def test_attention_never_has_its_scores_in_memory() -> None:
    q, k, v = (ox.randn(4, 600, 16, device="gpu").requires_grad_() for _ in range(3))
    scores = 4 * 600 * 600 * 4
    ox.gpu.empty_cache()
    ox.gpu.set_memory_limit(ox.gpu.memory_summary()["used"] + scores // 2)
    try:
        F = nn.functional
        F.scaled_dot_product_attention(q, k, v, is_causal=True).square().sum().backward()
        assert ox.isfinite(k.grad).all().item()
        with pytest.raises(MemoryError):
            (q @ k.mT).softmax(-1).detach().cpu().numpy()
    finally:
        ox.gpu.set_memory_limit(None)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore")
def test_a_forked_child_gets_an_error_and_does_not_hang() -> None:
    x = ox.ones(2, device="gpu")
    assert x.sum().item() == 2
    child = os.fork()
    if child == 0:
        try:
            (x + 1).cpu().numpy()
        except ox.DeviceError as error:
            os._exit(0 if "spawn" in str(error) else 2)
        os._exit(3)
    assert os.waitpid(child, 0)[1] == 0
    assert (x + 1).tolist() == [2, 2]


def test_a_bad_index_is_an_index_error_where_it_is_observed() -> None:
    x, i = ox.ones(4, 3, device="gpu"), ox.tensor([0, 7]).to("gpu")
    line = inspect.getframeinfo(inspect.currentframe()).lineno + 1  # type: ignore[arg-type]
    y = ox.take(x, i, 0)
    told = rf"take: index 7 is out of range for axis 0 of size 4 \(asked for at .*test_gpu.py:{line}\)"
    with pytest.raises(IndexError, match=told):
        y.cpu().numpy()
    for call in (lambda: ox.gather(x, 0, i[:, None]), lambda: x[i], lambda: ox.embedding(i, x)):
        y = call()
        with pytest.raises(IndexError, match=r"index 7 is out of range for axis 0 .*test_gpu.py:\d+"):
            y.sum().item()
    assert ox.take(x, i[:1], 0).cpu().tolist() == [[1.0, 1.0, 1.0]]


def test_speed_and_what_recording_costs_are_measured() -> None:
    multiply_adds, copied = _core._gpu_speed("gpu")
    assert multiply_adds > 1e8
    assert copied > 1e7
    x = ox.ones(8, 8, device="gpu")
    ox.flush([x])
    before = _core._gpu_dispatches()
    _core._gpu_watch(True)
    ox.flush([x @ x])
    ox.synchronize()
    kernels, groups, recording, submitting = _core._gpu_watch(False)
    assert kernels == _core._gpu_dispatches() - before > 0
    assert groups <= kernels
    assert 0 < recording < 10
    assert submitting >= 0


def test_ranges_need_no_float64() -> None:
    for dtype in ("float32", "float16"):
        got = ox.linspace(-1, 2, 7, dtype=dtype, device="gpu")
        np.testing.assert_allclose(got.cpu().float().numpy(), np.linspace(-1, 2, 7), rtol=1e-3, atol=1e-7)
        assert got[-1].item() == 2


@pytest.mark.parametrize("default", ["cpu", "gpu"])
@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_gather_where_the_data_is(default: str, workers: int) -> None:
    """Whatever the default device, which a worker's thread does not share."""
    ox.set_default_device(default)
    x = ox.arange(12)
    sources: dict[str, tuple[Any, str]] = {
        "array": (np.arange(12), "cpu"),
        "host": (x.to("cpu"), "cpu"),
        "device": (x.to("gpu"), "gpu"),
        "dataset": (ox.data.TensorDataset(x.to("gpu")), "gpu"),
        "subset": (ox.data.Subset(ox.data.TensorDataset(x.to("gpu")), list(range(12))), "gpu"),
        "sub-subset": (
            ox.data.Subset(ox.data.Subset(ox.data.TensorDataset(x), range(12)), range(12)),
            default,
        ),
    }
    orders = []
    for name, (source, device) in sources.items():
        for options in ({"shuffle": True}, {"sampler": [3, 1, 2]}, {}):
            loader = ox.data.DataLoader(source, 5, seed=3, num_workers=workers, **options)
            batches = [batch[0] if isinstance(batch, tuple) else batch for batch in loader]
            assert {batch.device for batch in batches} == {device}, name
            found = [value for batch in batches for value in batch.tolist()]
            assert sorted(found) == ([1, 2, 3] if "sampler" in options else list(range(12))), name
            if "shuffle" in options:
                orders.append(found)
    assert all(order == orders[0] != list(range(12)) for order in orders)
