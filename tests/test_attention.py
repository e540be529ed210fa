"""Attention and the transformer's layers: values against NumPy, gradients, masks, options, errors, and a task."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import oxon as ox
import pytest
from numeric import assert_close, check_gradients, draw, t64
from oxon import nn, optim

F = nn.functional
INFINITY = float("inf")


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, allowed: Any = True, added: Any = 0.0, scale: Any = None
) -> np.ndarray:
    """Attention by its formula; `allowed` is bool, `added` is added to the scores."""
    scores = q @ np.swapaxes(k, -1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale) + added
    scores = np.where(allowed, scores, -INFINITY)
    dead = np.isneginf(scores).all(-1, keepdims=True)
    return np.where(dead, 0.0, softmax(np.where(dead, 0.0, scores)) @ v)


def mha(
    weights: dict[str, np.ndarray],
    heads: int,
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    allowed: Any = True,
    added: Any = 0.0,
) -> np.ndarray:
    """Multi-head attention over `(N, L, E)`, head by head."""
    size = q.shape[-1]
    if "in_proj_weight" in weights:
        projections = np.split(weights["in_proj_weight"], 3)
    else:
        projections = [weights[f"{name}_proj_weight"] for name in "qkv"]
    biases = np.split(weights.get("in_proj_bias", np.zeros(3 * size)), 3)
    q, k, v = (x @ w.T + b for x, w, b in zip((q, k, v), projections, biases, strict=True))
    if "bias_k" in weights:
        extra = [np.broadcast_to(weights[name], (len(k), 1, size)) for name in ("bias_k", "bias_v")]
        k, v = np.concatenate([k, extra[0]], 1), np.concatenate([v, extra[1]], 1)
    each = size // heads
    outputs = []
    for head in range(heads):
        part = slice(head * each, (head + 1) * each)
        outputs.append(attention(q[..., part], k[..., part], v[..., part], allowed, added))
    return np.concatenate(outputs, -1) @ weights["out_proj.weight"].T + weights.get("out_proj.bias", 0.0)


def random_(module: Any, seed: int = 0) -> Any:
    """The module with normal values everywhere, also where it starts with zeros and ones."""
    for place, parameter in enumerate(module.parameters()):
        parameter.data = t64(draw(*parameter.shape, seed=100 * seed + place) * 0.5)
    return module


def arrays(module: Any, prefix: str = "") -> dict[str, np.ndarray]:
    state = {key: value.numpy() for key, value in module.state_dict().items()}
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


Q, K, V = draw(2, 3, 4, 5), draw(2, 3, 6, 5), draw(2, 3, 6, 2)
TRIANGLE = np.tril(np.ones((4, 6), bool))
HOLES = draw(4, 6, seed=1) > 0
HOLES[2] = False


# The function.


def test_attention_is_its_formula() -> None:
    q, k, v = t64(Q), t64(K), t64(V)
    assert_close(F.scaled_dot_product_attention(q, k, v), attention(Q, K, V))
    assert_close(F.scaled_dot_product_attention(q, k, v, scale=0.3), attention(Q, K, V, scale=0.3))
    assert_close(F.scaled_dot_product_attention(q, k, v, is_causal=True), attention(Q, K, V, TRIANGLE))
    assert_close(F.scaled_dot_product_attention(q[0, 0], k, v), attention(Q[0, 0], K, V))
    more = np.arange(6)[:, None] >= np.arange(4)  # more queries than keys
    assert_close(F.scaled_dot_product_attention(k, q, q, is_causal=True), attention(K, Q, Q, more))


def test_masks_forbid_or_add() -> None:
    q, k, v = t64(Q), t64(K), t64(V)
    out = F.scaled_dot_product_attention(q, k, v, ox.tensor(HOLES))
    assert_close(out, attention(Q, K, V, HOLES))
    assert (out.numpy()[:, :, 2] == 0).all()  # a query that sees nothing
    added = draw(2, 1, 4, 6, seed=2)
    assert_close(F.scaled_dot_product_attention(q, k, v, t64(added)), attention(Q, K, V, added=added))
    added[1, 0, 3] = -INFINITY
    out = F.scaled_dot_product_attention(q, k, v, t64(added))
    assert_close(out, attention(Q, K, V, added=added))
    assert (out.numpy()[1, :, 3] == 0).all()
    single = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), t64(added))
    assert single.dtype == ox.float32


def test_groups_of_queries_share_keys() -> None:
    q, k, v = draw(2, 6, 3, 4), draw(2, 2, 5, 4), draw(2, 2, 5, 4, seed=1)
    expected = attention(q, k.repeat(3, 1), v.repeat(3, 1))
    assert_close(F.scaled_dot_product_attention(t64(q), t64(k), t64(v), enable_gqa=True), expected)


@pytest.mark.parametrize("causal", [False, True])
def test_gradients_of_attention(causal: bool) -> None:
    check_gradients(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal), Q[0], K[0], V[0]
    )
    assert ox.gradcheck(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal),
        [t64(Q[0, 0, :2, :2]), t64(K[0, 0, :3, :2]), t64(V[0, 0, :3])],
        order=2,
    )


def test_gradients_pass_masks() -> None:
    mask = ox.tensor(HOLES)
    check_gradients(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, mask), Q[0], K[0], V[0])
    added = draw(4, 6, seed=3)
    check_gradients(F.scaled_dot_product_attention, Q[0, 0], K[0, 0], V[0, 0], added)


def test_dropout_of_weights() -> None:
    q, k, v = ox.zeros(1, 2), ox.zeros(1000, 2), ox.ones(1000, 1)
    ox.manual_seed(0)
    out = F.scaled_dot_product_attention(q, k, v, dropout_p=0.5).item()
    assert out != 1
    assert out == pytest.approx(1, abs=0.2)
    assert F.scaled_dot_product_attention(q, k, v).item() == pytest.approx(1, rel=1e-5)


@pytest.mark.cpu("float64 beside float32")
def test_errors_of_attention() -> None:
    q, k, v = t64(Q), t64(K), t64(V)
    call: Any = F.scaled_dot_product_attention
    for arguments, error, text in (
        ((q, k[..., :3], v), ox.ShapeError, r"query \(2, 3, 4, 5\) and key \(2, 3, 6, 3\) must have the same last"),
        ((q, k, v[:, :, :3]), ox.ShapeError, r"value \(2, 3, 3, 2\) must be equally long"),
        ((q, k[:, :, :0], v[:, :, :0]), ox.ShapeError, "at least 1"),
        ((q[0, 0, 0], k, v), ox.ShapeError, r"query needs at least two axes, not \(5,\)"),
        ((q, k.float(), v), ox.DTypeError, "key is oxon.float32 beside oxon.float64"),
        ((q.long(), k, v), ox.DTypeError, "query is oxon.int64"),
        ((q, None, v), TypeError, "key must be a tensor, not NoneType"),
        ((q, k, v, ox.ones(4, 6).long()), ox.DTypeError, "attn_mask must be bool or of a floating-point dtype"),
        ((q, k, v, ox.ones(4, 5)), ox.ShapeError, r"the mask \(4, 5\) does not fit the scores \(2, 3, 4, 6\)"),
        ((q, k, v, ox.ones(4, 6), 0.0, True), ValueError, "a mask and is_causal exclude each other"),
        ((q, k, v, None, 1.5), ValueError, "p must lie between 0 and 1"),
        ((q, k[:, :2], v[:, :2], None, 0.0, False, None, True), ox.ShapeError, "must be a multiple of those of"),
    ):  # fmt: skip
        with pytest.raises(error, match=f"scaled_dot_product_attention: .*{text}"):
            call(*arguments)


# The kernel, which does not keep the scores, beside the composition that does.


def composed(q: ox.Tensor, k: ox.Tensor, v: ox.Tensor, causal: bool, mask: ox.Tensor | None) -> ox.Tensor:
    """The same by matrix products and a softmax."""
    scores = q @ k.mT * q.shape[-1] ** -0.5
    if mask is not None:
        scores = ox.where(mask, scores, -INFINITY) if mask.dtype == ox.bool else scores + mask
    if causal:
        places = ox.arange(q.shape[-2]).unsqueeze(1) >= ox.arange(k.shape[-2])
        scores = ox.where(places, scores, -INFINITY)
    return scores.softmax(-1) @ v


@pytest.mark.parametrize(("queries", "keys"), [(1, 40), (3, 3), (70, 70), (33, 130), (300, 20)])
@pytest.mark.parametrize("kind", ["none", "causal", "bool", "float", "padding"])
def test_the_kernel_is_the_composition(queries: int, keys: int, kind: str) -> None:
    values = [draw(2, n, 3, e, seed=s) for s, (n, e) in enumerate([(queries, 9), (keys, 9), (keys, 17)])]
    mask = None
    if kind == "bool":
        allowed = draw(queries, keys, seed=7) > -0.5
        allowed[:, 0] = True
        mask = ox.tensor(allowed)
    elif kind == "float":
        mask = ox.tensor(draw(2, 1, queries, keys, seed=8))
    elif kind == "padding":
        allowed = np.ones((2, 1, 1, keys), bool)
        allowed[1, ..., keys // 2 + 1 :] = False
        mask = ox.tensor(allowed)
    found = []
    for function in (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, mask, is_causal=kind == "causal"),
        lambda q, k, v: composed(q, k, v, kind == "causal", mask),
    ):
        leaves = [t64(x).requires_grad_() for x in values]
        out = function(*(leaf.transpose(1, 2) for leaf in leaves))  # heads behind sequences
        (out * t64(draw(*out.shape, seed=9))).sum().backward()
        found.append([out.detach(), *(leaf.grad for leaf in leaves)])
    for actual, expected in zip(*found, strict=True):
        assert_close(actual, expected.numpy(), rtol=1e-9)


@pytest.mark.parametrize("dtype", [ox.float16, ox.bfloat16, ox.float32])
def test_dtypes_of_attention(dtype: Any) -> None:
    leaves = [t64(x).to(dtype).requires_grad_() for x in (Q, K, V)]
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    tolerance = {ox.float16: 2e-3, ox.bfloat16: 2e-2, ox.float32: 1e-6}[dtype]
    out = F.scaled_dot_product_attention(*leaves, is_causal=True)
    assert out.dtype == dtype
    assert_close(out.double(), attention(*(x.detach().numpy() for x in exact), TRIANGLE), atol=tolerance)
    out.sum().backward()
    F.scaled_dot_product_attention(*exact, is_causal=True).sum().backward()
    for single, double in zip(leaves, exact, strict=True):
        assert single.grad.dtype == dtype
        assert_close(single.grad.double(), double.grad.numpy(), atol=8 * tolerance)


def test_leading_axes_broadcast_and_sum_up() -> None:
    check_gradients(F.scaled_dot_product_attention, Q[0, 0], K[0], V[0])
    check_gradients(F.scaled_dot_product_attention, Q[0], K[0, :1], V[0, 0])


def test_empty_attention() -> None:
    for shapes in (
        ((0, 4, 5), (0, 6, 5), (0, 6, 2)),
        ((3, 0, 5), (3, 6, 5), (3, 6, 2)),
        ((4, 5), (6, 5), (6, 0)),
    ):
        leaves = [ox.ones(*shape, requires_grad=True) for shape in shapes]
        out = F.scaled_dot_product_attention(*leaves)
        assert out.shape == (*shapes[0][:-1], shapes[2][-1])
        out.sum().backward()
        for leaf in leaves:
            assert leaf.grad.tolist() == ox.zeros_like(leaf).tolist()


def test_a_mask_that_learns() -> None:
    bias = t64(draw(4, 6, seed=3)).requires_grad_()
    F.scaled_dot_product_attention(t64(Q), t64(K), t64(V), bias)[0, 0, 0, 0].backward()
    assert bias.grad is not None
    assert (bias.grad.numpy()[1:] == 0).all()
    with ox.no_grad():
        out = F.scaled_dot_product_attention(t64(Q), t64(K), t64(V), bias)
    assert_close(out, attention(Q, K, V, added=bias.detach().numpy()))


def test_second_gradients_pass_masks() -> None:
    mask = ox.tensor(HOLES[:2, :3])
    given = [t64(Q[0, 0, :2, :2]), t64(K[0, 0, :3, :2]), t64(V[0, 0, :3])]
    assert ox.gradcheck(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, mask), given, order=2)


@pytest.mark.cpu("one of the dtypes is float64")
def test_the_kernel_refuses_what_does_not_fit() -> None:
    from oxon import _core

    q, k, v = ox.ones(2, 4, 5), ox.ones(2, 6, 5), ox.ones(2, 6, 3)
    for given, error in (
        ((q[0, 0], k, v, None), ox.ShapeError),
        ((q, k[..., :4], v, None), ox.ShapeError),
        ((q, k, v[:, :5], None), ox.ShapeError),
        ((q, k[:, :0], v[:, :0], None), ox.ShapeError),
        ((q, ox.ones(3, 6, 5), v, None), ox.ShapeError),
        ((q, k, v, ox.ones(4, 5)), ox.ShapeError),
        ((q, k, v, ox.ones(2, 2, 4, 6)), ox.ShapeError),
        ((q, k.double(), v, None), ox.DTypeError),
        ((q.long(), k.long(), v.long(), None), ox.DTypeError),
        ((q, k, v, ox.ones(4, 6).long()), ox.DTypeError),
    ):
        with pytest.raises(error, match="scaled_dot_product_attention: "):
            _core._attention(*given, False, 1.0)


# The module.

X, Y, Z = draw(2, 4, 8), draw(2, 6, 8, seed=1), draw(2, 6, 8, seed=2)


@pytest.mark.parametrize("bias", [True, False])
def test_heads_by_heads(bias: bool) -> None:
    layer = random_(nn.MultiheadAttention(8, 2, bias=bias, batch_first=True, dtype=ox.float64))
    weights = arrays(layer)
    x, y, z = t64(X), t64(Y), t64(Z)
    assert_close(layer(x, x, x)[0], mha(weights, 2, X, X, X))
    assert_close(layer(x, y, y)[0], mha(weights, 2, X, Y, Y))
    assert_close(layer(x, y, z)[0], mha(weights, 2, X, Y, Z))
    assert_close(layer(x, y, z, need_weights=False)[0], mha(weights, 2, X, Y, Z))
    assert layer(x, y, z, need_weights=False)[1] is None
    late = nn.MultiheadAttention(8, 2, bias=bias, dtype=ox.float64)
    late.load_state_dict(layer.state_dict())
    out, _ = late(x.transpose(0, 1), y.transpose(0, 1), z.transpose(0, 1))
    assert_close(out, mha(weights, 2, X, Y, Z).swapaxes(0, 1))
    out, mean = late(x[0], y[0], z[0])  # without a batch
    assert_close(out, mha(weights, 2, X, Y, Z)[0])
    assert mean.shape == (4, 6)


def test_other_sizes_of_keys_and_values() -> None:
    layer = random_(
        nn.MultiheadAttention(8, 4, kdim=3, vdim=5, add_bias_kv=True, batch_first=True, dtype=ox.float64)
    )
    k, v = draw(2, 6, 3), draw(2, 6, 5)
    assert_close(layer(t64(X), t64(k), t64(v))[0], mha(arrays(layer), 4, X, k, v))
    allowed = np.concatenate([TRIANGLE, np.ones((4, 1), bool)], 1)
    for need in (True, False):
        out, _ = layer(t64(X), t64(k), t64(v), need_weights=need, is_causal=True)
        assert_close(out, mha(arrays(layer), 4, X, k, v, allowed))


def test_a_key_of_zeros() -> None:
    layer = random_(
        nn.MultiheadAttention(8, 2, bias=False, add_zero_attn=True, batch_first=True, dtype=ox.float64)
    )
    # Without biases, a row of zeros is projected to zeros.
    padded = np.concatenate([Y, np.zeros((2, 1, 8))], 1)
    assert_close(layer(t64(X), t64(Y), t64(Y))[0], mha(arrays(layer), 2, X, padded, padded))
    # It is what is left when everything else is masked.
    out, weights = layer(t64(X), t64(Y), t64(Y), key_padding_mask=ox.ones(2, 6, dtype=ox.bool))
    assert_close(out, np.zeros((2, 4, 8)))
    assert_close(weights[..., -1], np.ones((2, 4)))


@pytest.mark.parametrize("need", [True, False])
def test_masks_of_the_module(need: bool) -> None:
    layer = random_(nn.MultiheadAttention(8, 2, batch_first=True, dtype=ox.float64))
    weights = arrays(layer)
    x, y = t64(X), t64(Y)
    hidden = draw(4, 6, seed=4) > 0.5  # True: not to be seen
    padding = np.zeros((2, 6), bool)
    padding[0, 4:] = padding[1, 2:] = True
    hidden[:, 0] = False

    def run(**masks: Any) -> ox.Tensor:
        out: ox.Tensor = layer(x, y, y, need_weights=need, **masks)[0]
        return out

    cases = [
        ({"attn_mask": ox.tensor(hidden)}, {"allowed": ~hidden}),
        ({"key_padding_mask": ox.tensor(padding)}, {"allowed": ~padding[:, None]}),
        (
            {"attn_mask": ox.tensor(hidden), "key_padding_mask": ox.tensor(padding)},
            {"allowed": ~padding[:, None] & ~hidden},
        ),
        ({"is_causal": True}, {"allowed": TRIANGLE}),
        (
            {"is_causal": True, "key_padding_mask": ox.tensor(padding)},
            {"allowed": ~padding[:, None] & TRIANGLE},
        ),
        ({"attn_mask": t64(hidden * 0.7)}, {"added": hidden * 0.7}),
        (
            {"attn_mask": t64(hidden * 0.7), "key_padding_mask": ox.tensor(padding)},
            {"added": hidden * 0.7, "allowed": ~padding[:, None]},
        ),
        (
            {"attn_mask": ox.tensor(hidden), "key_padding_mask": t64(padding * -2.0)},
            {"added": padding[:, None] * -2.0, "allowed": ~hidden},
        ),
    ]
    for given, expected in cases:
        assert_close(run(**given), mha(weights, 2, X, Y, Y, **expected), rtol=1e-9)
    # A mask for each head of each example: (N H, L, S).
    each = draw(4, 4, 6, seed=5)
    out = run(attn_mask=t64(each))
    for n in range(2):
        single = layer(x[n], y[n], y[n], attn_mask=t64(each[2 * n : 2 * n + 2]))[0]
        assert_close(single, out[n].detach().numpy())


def test_a_query_that_sees_nothing() -> None:
    layer = random_(nn.MultiheadAttention(8, 2, batch_first=True, dtype=ox.float64))
    hidden = ox.tensor(~HOLES)
    out, weights = layer(t64(X), t64(Y), t64(Y), attn_mask=hidden)
    assert np.isnan(out.detach().numpy()[:, 2]).all()
    assert np.isnan(weights.detach().numpy()[:, 2]).all()
    out, _ = layer(t64(X), t64(Y), t64(Y), attn_mask=hidden, need_weights=False)
    assert_close(out[:, 2], np.tile(layer.out_proj.bias.detach().numpy(), (2, 1)))
    x = t64(X).requires_grad_()
    layer(x, t64(Y), t64(Y), attn_mask=hidden, need_weights=False)[0].sum().backward()
    assert np.isfinite(x.grad.numpy()).all()


def test_weights_of_the_heads() -> None:
    layer = nn.MultiheadAttention(8, 2, batch_first=True, dtype=ox.float64)
    x = t64(X)
    _, mean = layer(x, x, x)
    _, each = layer(x, x, x, average_attn_weights=False)
    assert each.shape == (2, 2, 4, 4)
    assert_close(mean, each.detach().numpy().mean(1))
    assert_close(each.sum(-1), np.ones((2, 2, 4)))
    assert layer(x[0], x[0], x[0], average_attn_weights=False)[1].shape == (2, 4, 4)


@pytest.mark.parametrize("same", [True, False])
def test_gradients_of_the_module(same: bool) -> None:
    layer = random_(nn.MultiheadAttention(4, 2, batch_first=True, dtype=ox.float64))
    keys = list(layer.state_dict())

    def call(x: ox.Tensor, y: ox.Tensor, weight: ox.Tensor, bias: ox.Tensor) -> ox.Tensor:
        layer.__dict__["in_proj_weight"], layer.__dict__["in_proj_bias"] = weight, bias
        out = layer(x, x, x, is_causal=True)[0] if same else layer(x, y, y, need_weights=False)[0]
        return out + y.sum() * 0.1 if same else out

    assert keys[:2] == ["in_proj_weight", "in_proj_bias"]
    check_gradients(call, draw(2, 3, 4), draw(2, 2, 4), draw(12, 4), draw(12))


def test_dropout_acts_in_training_only() -> None:
    layer = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)
    x = ox.randn(1, 6, 8)
    for need in (True, False):
        layer.train()
        assert layer(x, x, x, need_weights=need)[0].tolist() != layer(x, x, x, need_weights=need)[0].tolist()
        layer.eval()
        assert layer(x, x, x, need_weights=need)[0].tolist() == layer(x, x, x, need_weights=need)[0].tolist()


def test_keys_and_starting_values() -> None:
    layer = nn.MultiheadAttention(64, 2)
    assert list(layer.state_dict()) == ["in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"]
    assert np.abs(layer.in_proj_weight.detach().numpy()).max() <= (6 / 256) ** 0.5
    assert layer.in_proj_weight.detach().numpy().std() == pytest.approx((2 / 256) ** 0.5, rel=0.1)
    assert layer.in_proj_bias.abs().sum().item() == layer.out_proj.bias.abs().sum().item() == 0
    other = nn.MultiheadAttention(8, 2, kdim=3, vdim=5, add_bias_kv=True)
    assert {key: tuple(value.shape) for key, value in other.state_dict().items()} == {
        "q_proj_weight": (8, 8),
        "k_proj_weight": (8, 3),
        "v_proj_weight": (8, 5),
        "in_proj_bias": (24,),
        "bias_k": (1, 1, 8),
        "bias_v": (1, 1, 8),
        "out_proj.weight": (8, 8),
        "out_proj.bias": (8,),
    }
    assert list(nn.MultiheadAttention(8, 2, bias=False).state_dict()) == ["in_proj_weight", "out_proj.weight"]


def test_errors_of_the_module() -> None:
    layer: Any = nn.MultiheadAttention(8, 2)
    x = ox.ones(4, 2, 8)
    for call, error, text in (
        (lambda: nn.MultiheadAttention(8, 3), ValueError, "embed_dim 8 does not split into 3 heads"),
        (lambda: nn.MultiheadAttention(0, 1), ValueError, "embed_dim must be positive, not 0"),
        (lambda: nn.MultiheadAttention(8, 2, dropout=-1.0), ValueError, "p must lie between 0 and 1"),
        (lambda: layer(x, x, None), TypeError, "value must be a tensor, not NoneType"),
        (lambda: layer(x, x[0], x[0]), ox.ShapeError, r"all \(L, features\), and key is \(2, 8\)"),
        (lambda: layer(x[..., :5], x, x), ox.ShapeError, r"query must have 8 features, not the 5 of \(4, 2, 5\)"),
        (lambda: layer(x, x, x[:3]), ox.ShapeError, r"key \(4, 2, 8\) and value \(3, 2, 8\) must be equally long"),
        (lambda: layer(x, x[:, :1], x[:, :1]), ox.ShapeError, r"key \(4, 1, 8\) must be of one batch"),
        (lambda: layer(x, x, x, ox.ones(2, 5)), ox.ShapeError, r"key_padding_mask must be \(2, 4\), not \(2, 5\)"),
        (lambda: layer(x, x, x, attn_mask=ox.ones(4, 3)), ox.ShapeError, r"attn_mask must be \(4, 4\) or \(4, 4, 4\)"),
        (lambda: layer(x, x, x, attn_mask=ox.ones(4, 4).int()), ox.DTypeError, "attn_mask must be bool or of a float"),
        (lambda: layer(x, x, x, attn_mask=[1]), TypeError, "attn_mask must be a tensor, not list"),
    ):  # fmt: skip
        with pytest.raises(error, match=f"MultiheadAttention: .*{text}"):
            call()
    assert repr(nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)).startswith(
        "MultiheadAttention(\n  8, 2, dropout=0.1, batch_first=True\n"
    )


# The transformer's layers.


def norm(weights: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * weights[f"{name}.weight"] + weights.get(f"{name}.bias", 0.0)


def within(weights: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {key[len(name) + 1 :]: value for key, value in weights.items() if key.startswith(name + ".")}


def feed(weights: dict[str, np.ndarray], x: np.ndarray, activation: Any) -> np.ndarray:
    hidden = activation(x @ weights["linear1.weight"].T + weights.get("linear1.bias", 0.0))
    return hidden @ weights["linear2.weight"].T + weights.get("linear2.bias", 0.0)


def encoder_layer(weights: dict[str, np.ndarray], x: np.ndarray, first: bool, allowed: Any) -> np.ndarray:
    own = within(weights, "self_attn")
    if first:
        y = norm(weights, "norm1", x)
        x = x + mha(own, 2, y, y, y, allowed)
        return x + feed(weights, norm(weights, "norm2", x), lambda h: np.maximum(h, 0))
    x = norm(weights, "norm1", x + mha(own, 2, x, x, x, allowed))
    return norm(weights, "norm2", x + feed(weights, x, lambda h: np.maximum(h, 0)))


def decoder_layer(
    weights: dict[str, np.ndarray], x: np.ndarray, memory: np.ndarray, first: bool, allowed: Any
) -> np.ndarray:
    own, other = within(weights, "self_attn"), within(weights, "multihead_attn")
    if first:
        y = norm(weights, "norm1", x)
        x = x + mha(own, 2, y, y, y, allowed)
        x = x + mha(other, 2, norm(weights, "norm2", x), memory, memory)
        return x + feed(weights, norm(weights, "norm3", x), np.tanh)
    x = norm(weights, "norm1", x + mha(own, 2, x, x, x, allowed))
    x = norm(weights, "norm2", x + mha(other, 2, x, memory, memory))
    return norm(weights, "norm3", x + feed(weights, x, np.tanh))


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_encoder(first: bool, bias: bool) -> None:
    layer = nn.TransformerEncoderLayer(
        8, 2, 12, dropout=0.0, batch_first=True, norm_first=first, bias=bias, dtype=ox.float64
    )
    model = random_(nn.TransformerEncoder(layer, 2, nn.LayerNorm(8, dtype=ox.float64)))
    triangle = np.tril(np.ones((4, 4), bool))
    x = X
    for place in range(2):
        x = encoder_layer(arrays(model, f"layers.{place}."), x, first, triangle)
    expected = norm(arrays(model), "norm", x)
    assert_close(model(t64(X), is_causal=True), expected, rtol=1e-9)
    assert_close(model(t64(X), ox.tensor(~triangle)), expected, rtol=1e-9)
    late = nn.TransformerEncoderLayer(8, 2, 12, 0.0, norm_first=first, bias=bias, dtype=ox.float64)
    late.load_state_dict(model.layers[0].state_dict())
    padding = np.zeros((2, 4), bool)
    padding[1, 3] = True
    expected = encoder_layer(arrays(late), X, first, ~padding[:, None])
    out = late(t64(X.swapaxes(0, 1)), src_key_padding_mask=ox.tensor(padding))
    assert_close(out, expected.swapaxes(0, 1), rtol=1e-9)


@pytest.mark.parametrize("first", [False, True])
def test_decoder(first: bool) -> None:
    layer = nn.TransformerDecoderLayer(
        8, 2, 12, 0.0, ox.tanh, batch_first=True, norm_first=first, dtype=ox.float64
    )
    model = random_(nn.TransformerDecoder(layer, 2))
    triangle = np.tril(np.ones((4, 4), bool))
    x = X
    for place in range(2):
        x = decoder_layer(arrays(model, f"layers.{place}."), x, Y, first, triangle)
    assert_close(model(t64(X), t64(Y), tgt_is_causal=True), x, rtol=1e-9)
    normed = copy.deepcopy(model)
    normed.norm = nn.LayerNorm(8, dtype=ox.float64)
    out = normed(t64(X), t64(Y), ox.tensor(~triangle))
    assert_close(out, norm({"n.weight": np.ones(8)}, "n", x), rtol=1e-9)


def test_layers_have_pytorchs_keys() -> None:
    attention_keys = ["in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"]
    rest = [
        f"{name}.{kind}" for name in ("linear1", "linear2", "norm1", "norm2") for kind in ("weight", "bias")
    ]
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12), 2)
    own = [f"self_attn.{key}" for key in attention_keys]
    assert list(encoder.state_dict()) == [f"layers.{i}.{key}" for i in range(2) for key in [*own, *rest]]
    other = [f"multihead_attn.{key}" for key in attention_keys]
    decoder = nn.TransformerDecoderLayer(8, 2, 12)
    assert list(decoder.state_dict()) == [*own, *other, *rest, "norm3.weight", "norm3.bias"]


def test_copies_start_alike_and_part() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 12)
    model = nn.TransformerEncoder(layer, 2)
    first, second = (each.linear1.weight for each in model.layers)
    assert first is not second
    assert first.tolist() == second.tolist() == layer.linear1.weight.tolist()


def test_options_and_errors_of_the_layers() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.5, activation="gelu")
    x = ox.randn(4, 2, 8)
    assert layer(x).tolist() != layer(x).tolist()
    layer.eval()
    assert layer(x).tolist() == layer(x).tolist()
    for call, error, text in (
        (lambda: nn.TransformerEncoderLayer(8, 2, activation="x"), ValueError, "activation must be 'relu', 'gelu' or"),
        (lambda: nn.TransformerEncoderLayer(8, 3), ValueError, "embed_dim 8 does not split into 3 heads"),
        (lambda: nn.TransformerDecoderLayer(8, 2, 0), ValueError, "dim_feedforward must be positive"),
        (lambda: nn.TransformerEncoder(layer, 0), ValueError, "num_layers must be positive, not 0"),
        (lambda: nn.TransformerDecoder(3, 1), TypeError, "must be a Module such as TransformerDecoderLayer, not int"),  # type: ignore[arg-type]
    ):  # fmt: skip
        with pytest.raises(error, match=text):
            call()


def test_an_encoder_learns_to_find() -> None:
    """Which of eight steps carries the mark, told at the first step."""
    ox.manual_seed(0)
    rng = np.random.default_rng(0)
    marks = rng.integers(0, 8, 64)
    x = rng.standard_normal((64, 8, 16)).astype(np.float32) * 0.3
    x[np.arange(64), marks, 0] += 3
    place = np.eye(8, 16, k=8, dtype=np.float32) * 2  # each step knows where it stands
    inputs, target = ox.tensor(x + place), ox.tensor(marks)
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    encoder, head = nn.TransformerEncoder(layer, 2), nn.Linear(16, 8)
    optimizer = optim.Adam([*encoder.parameters(), *head.parameters()], lr=3e-3)
    for _ in range(100):
        loss = F.cross_entropy(head(encoder(inputs)[:, 0]), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2
