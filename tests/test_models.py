"""Whole models: their values against NumPy, their keys and sizes, generation, errors, and that they learn."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import oxon as ox
import pytest
from numeric import assert_close, check_gradients, draw, t64
from oxon import nn, optim
from oxon.models import GPT, GPTConfig, KVCache, ResNet, resnet18

F = nn.functional


def small(**options: Any) -> GPTConfig:
    return GPTConfig(
        **{"vocab_size": 11, "block_size": 8, "num_layers": 2, "num_heads": 2, "width": 8, **options}
    )


def random_(model: Any) -> Any:
    """The model in float64 with normal values everywhere, also where it starts with zeros and ones."""
    model.double()
    for place, parameter in enumerate(model.parameters()):
        parameter.data = t64(draw(*parameter.shape, seed=place) * 0.3)
    return model


def arrays(model: nn.Module) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in model.state_dict().items()}


# GPT.


def norm(weights: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * weights[f"{name}.weight"] + weights.get(f"{name}.bias", 0.0)


def linear(weights: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0.0)


def gelu(x: np.ndarray) -> np.ndarray:
    from math import erf

    return x * 0.5 * (1 + np.vectorize(erf)(x / np.sqrt(2)))


def gpt(weights: dict[str, np.ndarray], config: GPTConfig, tokens: np.ndarray) -> np.ndarray:
    """The model, token by token and head by head."""
    length, each = tokens.shape[1], config.width // config.num_heads
    x = weights["tokens.weight"][tokens] + weights["places.weight"][:length]
    for layer in range(config.num_layers):
        at = f"blocks.{layer}."
        qkv = linear(weights, at + "qkv", norm(weights, at + "norm1", x))
        q, k, v = np.split(qkv, 3, -1)
        mixed = np.zeros_like(x)
        for n in range(len(x)):
            for head in range(config.num_heads):
                part = slice(head * each, (head + 1) * each)
                for i in range(length):
                    scores = k[n, : i + 1, part] @ q[n, i, part] / np.sqrt(each)
                    p = np.exp(scores - scores.max())
                    mixed[n, i, part] = p @ v[n, : i + 1, part] / p.sum()
        x = x + linear(weights, at + "out", mixed)
        x = x + linear(weights, at + "down", gelu(linear(weights, at + "up", norm(weights, at + "norm2", x))))
    return norm(weights, "norm", x) @ weights["tokens.weight"].T


TOKENS = np.random.default_rng(0).integers(0, 11, (3, 8))


@pytest.mark.parametrize("bias", [True, False])
def test_gpt_is_its_formula(bias: bool) -> None:
    config = small(bias=bias)
    model = random_(GPT(config))
    for length in (8, 5, 1):
        tokens = TOKENS[:, :length]
        assert_close(model(ox.tensor(tokens)), gpt(arrays(model), config, tokens), rtol=1e-9, atol=1e-9)


def test_gradients_of_gpt() -> None:
    model = random_(GPT(small(vocab_size=3, block_size=3, num_layers=1, width=4)))
    tokens = ox.tensor([[0, 2, 1]])

    def call(*weights: ox.Tensor) -> ox.Tensor:
        model.tokens.__dict__["weight"], model.places.__dict__["weight"] = weights[0], weights[1]
        model.blocks[0].qkv.__dict__["weight"] = weights[2]
        out: ox.Tensor = model(tokens)
        return out

    check_gradients(call, draw(3, 4), draw(3, 4), draw(12, 4))


def test_gpt_keys_sizes_and_starting_values() -> None:
    model = GPT(small(width=64, num_layers=2))
    block = [
        f"{name}.{kind}"
        for name in ("norm1", "qkv", "out", "norm2", "up", "down")
        for kind in ("weight", "bias")
    ]
    keys = ["tokens.weight", "places.weight", *(f"blocks.{i}.{key}" for i in range(2) for key in block)]
    assert list(model.state_dict()) == [*keys, "norm.weight", "norm.bias"]
    width = 64
    each = 12 * width * width + 13 * width
    assert sum(p.numel() for p in model.parameters()) == (11 + 8) * width + 2 * each + 2 * width
    weights = arrays(model)
    assert weights["blocks.0.qkv.weight"].std() == pytest.approx(0.02, rel=0.05)
    assert weights["blocks.1.down.weight"].std() == pytest.approx(0.01, rel=0.05)
    assert weights["blocks.1.out.weight"].std() == pytest.approx(0.01, rel=0.05)
    assert not weights["blocks.0.up.bias"].any()
    assert (weights["blocks.0.norm1.weight"] == 1).all()


def test_output_and_input_share_their_weights() -> None:
    model = GPT(small())
    model(ox.tensor(TOKENS)).sum().backward()
    assert model.tokens.weight.grad.abs().sum(1).numpy().all()  # also those that do not occur
    assert "head.weight" not in model.state_dict()


def test_a_cache_changes_nothing() -> None:
    model = random_(GPT(small())).eval()
    tokens = ox.tensor(TOKENS)
    expected = model(tokens).detach().numpy()
    for pieces in ([1] * 8, [3, 1, 4], [8], [5, 3]):
        cache = KVCache(2)
        start = 0
        for size in pieces:
            out = model(tokens[:, start : start + size], cache)
            assert_close(out, expected[:, start : start + size], rtol=1e-9, atol=1e-9)
            start += size
            assert cache.length == start
            assert all(part.shape[2] == start for part in (*cache.keys, *cache.values))
    assert repr(cache) == "KVCache(2 layers, 8 tokens)"
    # What comes anew is written over what was forgotten.
    cache.truncate(3)
    assert_close(model(tokens[:, 3:], cache), expected[:, 3:], rtol=1e-9, atol=1e-9)
    cache.truncate(0)
    assert_close(model(tokens[:2], cache), expected[:2], rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="truncate: 9 is not between 0 and the 8 tokens there are"):
        cache.truncate(9)


def test_a_cache_is_written_where_it_stands() -> None:
    cache = KVCache(1)
    cache.reserve(64)
    parts = [ox.randn(2, 4, 1, 8) for _ in range(64)]
    with ox.profile() as costs:
        for part in parts:
            keys, values = cache.extend(0, part, part + 1)
            ox.flush([keys, values])
    # No `concat`; a GPU fills the room that is reserved.
    assert {row.kernel for row in costs.rows} <= {"assign", "add", "copy", "fill"}
    whole = ox.cat(parts, 2)
    assert cache.keys[0].tolist() == keys.tolist() == whole.tolist()
    assert cache.values[0].tolist() == values.tolist() == (whole + 1).tolist()
    # Without room to spare it grows.
    small = KVCache(1)
    for part in parts:
        small.extend(0, part, part + 1)
    assert small.values[0].tolist() == values.tolist()


def test_gradients_go_through_a_cache() -> None:
    model = random_(GPT(small()))
    tokens = ox.tensor(TOKENS)
    found = []
    for pieces in ([8], [5, 3]):
        cache, start, total = KVCache(2), 0, 0.0
        for size in pieces:
            total = total + (model(tokens[:, start : start + size], cache) ** 2).sum()
            start += size
        model.zero_grad()
        total.backward()
        found.append(model.blocks[0].qkv.weight.grad)
    assert_close(found[1], found[0].numpy(), rtol=1e-9, atol=1e-9)


def test_the_likeliest_are_generated_one_by_one() -> None:
    config = small()
    model = random_(GPT(config)).train()
    model.blocks[1].eval()
    tokens = TOKENS[:, :3]
    expected = tokens
    for _ in range(9):  # past the block
        logits = gpt(arrays(model), config, expected[:, -8:])
        expected = np.concatenate([expected, logits[:, -1:].argmax(-1)], 1)
    out = model.generate(ox.tensor(tokens), 9, temperature=0)
    assert out.tolist() == expected.tolist()
    assert out.dtype == ox.int64
    assert not out.requires_grad
    # Whatever was training still is.
    assert model.training
    assert not model.blocks[1].training
    assert model.generate(ox.tensor(tokens), 0).tolist() == tokens.tolist()
    assert model.generate(ox.tensor(tokens), 5, top_k=1).tolist() == expected[:, :8].tolist()


def test_generation_draws_by_probability() -> None:
    config = small(vocab_size=4, num_layers=1)
    model = random_(GPT(config))
    tokens = np.zeros((4000, 1), np.int64)

    def frequencies(**options: Any) -> np.ndarray:
        out = model.generate(ox.tensor(tokens), 1, generator=ox.Generator(0), **options)
        return np.bincount(out.numpy()[:, 1], minlength=4) / len(tokens)

    logits = gpt(arrays(model), config, tokens[:1])[0, -1]
    for temperature in (1.0, 3.0):
        p = np.exp(logits / temperature)
        np.testing.assert_allclose(frequencies(temperature=temperature), p / p.sum(), atol=0.03)
    p = np.exp(logits)
    p[np.argsort(p)[:2]] = 0
    np.testing.assert_allclose(frequencies(top_k=2), p / p.sum(), atol=0.03)
    assert (frequencies(top_k=100) == frequencies()).all()
    assert (frequencies() == frequencies()).all()


def test_generation_does_not_drop_out() -> None:
    model = random_(GPT(small(dropout=0.9)))
    tokens = ox.tensor(TOKENS[:, :2])
    assert model(tokens).tolist() != model(tokens).tolist()
    assert model.generate(tokens, 4, 0).tolist() == model.generate(tokens, 4, 0).tolist()


def test_errors_of_gpt() -> None:
    model: Any = GPT(small())
    tokens = ox.tensor(TOKENS)
    cache = KVCache(2)
    model(tokens[:2, :7], cache)
    for call, error, text in (
        (lambda: small(width=9), ValueError, "GPTConfig: width 9 does not split into 2 heads"),
        (lambda: small(vocab_size=0), ValueError, "GPTConfig: vocab_size must be positive, not 0"),
        (lambda: small(num_layers=1.5), TypeError, "GPTConfig: num_layers must be an integer, not float"),
        (lambda: small(dropout=2.0), ValueError, "GPTConfig: p must lie between 0 and 1"),
        (lambda: GPT({"width": 8}), TypeError, "GPT: config must be a GPTConfig, not dict"),  # type: ignore[arg-type]
        (lambda: model(tokens[0]), ox.ShapeError, r"GPT: expected tokens \(N, L\) with at least one place, not \(8,\)"),
        (lambda: model(tokens[:, :0]), ox.ShapeError, r"at least one place, not \(3, 0\)"),
        (lambda: model([[1]]), TypeError, "GPT: tokens must be a tensor, not list"),
        (lambda: model(ox.cat([tokens, tokens], 1)), ox.ShapeError, "GPT: 16 tokens are more than the block size 8"),
        (lambda: model(tokens[:2, :2], cache), ox.ShapeError, "GPT: 9 tokens are more than the block size 8"),
        (lambda: model(tokens[:, :1], cache), ox.ShapeError, "KVCache: it holds a batch of 2, which cannot go on with 3"),
        (lambda: model(tokens, KVCache(3)), ValueError, "GPT: a cache of 3 layers, and 2 blocks"),
        (lambda: model(tokens, 3), TypeError, "GPT: cache must be a KVCache, not int"),
        (lambda: model(tokens + 100).tolist(), IndexError, "out of range"),
        (lambda: model.generate(tokens, -1), ValueError, "generate: max_new_tokens must not be negative"),
        (lambda: model.generate(tokens, 1.0), TypeError, "generate: max_new_tokens must be an integer, not float"),
        (lambda: model.generate(tokens, 1, -1.0), ValueError, "generate: temperature must be 0 or more, not -1.0"),
        (lambda: model.generate(tokens, 1, top_k=0), ValueError, "generate: top_k must be positive, not 0"),
    ):  # fmt: skip
        with pytest.raises(error, match=text):
            call()


def test_gpt_learns_to_count() -> None:
    ox.manual_seed(0)
    model = GPT(small(vocab_size=8, block_size=8, width=16))
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)
    tokens = ox.tensor((np.arange(8)[:, None] + np.arange(8)) % 8)
    for _ in range(60):
        logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert model.generate(ox.tensor([[3]]), 6, temperature=0).tolist() == [[3, 4, 5, 6, 7, 0, 1]]


# ResNet.


def conv(x: np.ndarray, weight: np.ndarray, stride: int = 1) -> np.ndarray:
    """Cross-correlation with half of the window as padding."""
    size = weight.shape[-1]
    pad = size // 2
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (2, 3))[:, :, ::stride, ::stride]
    return np.einsum("nchwij,kcij->nkhw", windows, weight, optimize=True)


def batch_norm(weights: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    """By the running statistics, as in evaluation."""
    mean, var, scale, shift = (
        weights[f"{name}.{kind}"].reshape(1, -1, 1, 1)
        for kind in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / np.sqrt(var + 1e-5) * scale + shift


def resnet(weights: dict[str, np.ndarray], x: np.ndarray, layers: tuple[int, ...], cifar: bool) -> np.ndarray:
    x = np.maximum(batch_norm(weights, "bn1", conv(x, weights["conv1.weight"], 1 if cifar else 2)), 0)
    if not cifar:
        x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
        x = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))[:, :, ::2, ::2].max((-2, -1))
    for stage, count in enumerate(layers, 1):
        for place in range(count):
            at = f"layer{stage}.{place}."
            stride = 2 if stage > 1 and place == 0 else 1
            y = np.maximum(batch_norm(weights, at + "bn1", conv(x, weights[at + "conv1.weight"], stride)), 0)
            y = batch_norm(weights, at + "bn2", conv(y, weights[at + "conv2.weight"]))
            if at + "downsample.0.weight" in weights:
                x = batch_norm(
                    weights, at + "downsample.1", conv(x, weights[at + "downsample.0.weight"], stride)
                )
            x = np.maximum(x + y, 0)
    return x.mean((2, 3)) @ weights["fc.weight"].T + weights["fc.bias"]


# Of a convolution's operands, images are cut into bindings; its weight is not, nor is a single image.
whole_weights = pytest.mark.skipif(
    "bindings" in os.environ.get("OXON_GPU_WITHOUT", ""), reason="weights of 9 MB, bindings of 1 MiB"
)


@whole_weights
@pytest.mark.parametrize(("cifar", "size"), [(True, 16), (False, 40)])
def test_resnet_is_its_formula(cifar: bool, size: int) -> None:
    ox.manual_seed(0)
    model = ResNet((1, 2, 1, 1), 5, cifar).double()
    x = draw(2, 3, size, size)
    model(t64(x))  # gives the running statistics values
    model.eval()
    expected = resnet(arrays(model), x, (1, 2, 1, 1), cifar)
    assert_close(model(t64(x)), expected, rtol=1e-8, atol=1e-8)


def test_resnet18_has_torchvisions_keys_and_sizes() -> None:
    model = resnet18()
    assert sum(p.numel() for p in model.parameters()) == 11_689_512
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert len(shapes) == 122
    assert list(shapes)[:7] == [
        "conv1.weight",
        *(f"bn1.{kind}" for kind in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
        "layer1.0.conv1.weight",
    ]
    assert shapes["conv1.weight"] == (64, 3, 7, 7)
    assert shapes["layer2.0.downsample.0.weight"] == (128, 64, 1, 1)
    assert shapes["layer4.1.conv2.weight"] == (512, 512, 3, 3)
    assert shapes["layer4.0.downsample.1.running_var"] == (512,)
    assert shapes["fc.weight"] == (1000, 512)
    assert "layer1.0.downsample.0.weight" not in shapes
    small = resnet18(10, cifar=True)
    assert small.conv1.weight.shape == (64, 3, 3, 3)
    assert small.fc.weight.shape == (10, 512)
    std = small.layer3[0].conv1.weight.detach().numpy().std()
    assert std == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)


def test_errors_of_resnet() -> None:
    model = ResNet((1, 1, 1, 1), 4, cifar=True)
    for call, error, text in (
        (lambda: model(ox.ones(1, 1, 8, 8)), ox.ShapeError, r"ResNet: expected images \(N, 3, H, W\), not \(1, 1"),
        (lambda: ResNet((2, 2)), ValueError, r"layers must be the numbers of blocks of 4 stages, not \(2, 2\)"),
        (lambda: ResNet((1, 1, 0, 1)), ValueError, r"layers\[2\] must be positive, not 0"),
        (lambda: resnet18(0), ValueError, "num_classes must be positive"),
    ):  # fmt: skip
        with pytest.raises(error, match=text):
            call()


@whole_weights
def test_resnet_learns() -> None:
    """Where the bright corner is."""
    ox.manual_seed(0)
    rng = np.random.default_rng(0)
    target = rng.integers(0, 4, 16)
    images = rng.standard_normal((16, 3, 8, 8)).astype(np.float32) * 0.1
    for image, corner in zip(images, target, strict=True):
        row, column = divmod(int(corner), 2)
        image[:, row * 4 : row * 4 + 4, column * 4 : column * 4 + 4] += 1
    model = ResNet((1, 1, 1, 1), 4, cifar=True)
    optimizer = optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for _ in range(12):
        loss = F.cross_entropy(model(ox.tensor(images)), ox.tensor(target))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_models_are_part_of_the_surface() -> None:
    assert ox.models.GPT is GPT
    assert "models" in dir(ox)
