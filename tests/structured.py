"""References for the structured operations: cases, what NumPy gives in float64, and how often each can be
differentiated. A public operation without a case here fails the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import oxon as ox
from scipy import special


class Case(NamedTuple):
    """`call(*tensors)` against `reference(*arrays)`; `shapes` of normal float64 inputs, or arrays as they are."""

    call: Callable[..., Any]
    reference: Callable[..., Any]
    inputs: tuple[Any, ...] = ((3, 4),)
    order: int = 2


def inputs_of(case: Case, seed: int = 0) -> list[np.ndarray]:
    """Arrays for a case: distinct normal numbers for shapes, the arrays themselves otherwise."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(s) if isinstance(s, tuple) else np.asarray(s) for s in case.inputs]


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    return special.softmax(x, axis=axis)


def windows(
    x: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], fill: float
) -> np.ndarray:
    """(N, C, H', W', R, S) windows of a padded (N, C, H, W)."""
    p, q = padding
    x = np.pad(x, ((0, 0), (0, 0), (p, p), (q, q)), constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(2, 3))
    return view[:, :, :: stride[0], :: stride[1]]


def conv2d(
    x: np.ndarray,
    w: np.ndarray,
    b: Any = 0.0,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> np.ndarray:
    k, c, r, s = w.shape
    wide = np.zeros((k, c, (r - 1) * dilation + 1, (s - 1) * dilation + 1))
    wide[:, :, ::dilation, ::dilation] = w
    out = []
    for g in range(groups):
        part = windows(x[:, g * c : (g + 1) * c], wide.shape[2:], (stride, stride), (padding, padding), 0.0)
        out.append(np.einsum("nchwrs,kcrs->nkhw", part, wide[g * (k // groups) : (g + 1) * (k // groups)]))
    y = np.concatenate(out, axis=1)
    return y + np.reshape(b, (1, -1, 1, 1))


def max_pool(x: np.ndarray, kernel: int, stride: int, padding: int = 0) -> np.ndarray:
    return windows(x, (kernel, kernel), (stride, stride), (padding, padding), -np.inf).max((-1, -2))


def avg_pool(x: np.ndarray, kernel: int, stride: int, padding: int = 0) -> np.ndarray:
    return windows(x, (kernel, kernel), (stride, stride), (padding, padding), 0.0).mean((-1, -2))


def adaptive(x: np.ndarray, size: int, how: Callable[..., Any]) -> np.ndarray:
    def bins(n: int) -> list[slice]:
        return [slice(i * n // size, -(-(i + 1) * n // size)) for i in range(size)]

    rows = [[how(x[..., a, b], axis=(-1, -2)) for b in bins(x.shape[-1])] for a in bins(x.shape[-2])]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def normalise(x: np.ndarray, axes: tuple[int, ...], eps: float = 1e-5) -> np.ndarray:
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(var + eps)


def cross_entropy(x: np.ndarray, target: np.ndarray) -> np.ndarray:
    logp = np.log(softmax(x, 1))
    return -np.take_along_axis(logp, target[:, None], 1).mean()


def first(pair: Any) -> Any:
    return pair[0]


T = np.array([2, 0, 1])
I = np.array([[2, 0], [1, 1]])
MASK = np.array([[True, False, True, True], [False, False, True, False], [True, True, False, False]])
IMG, KER = (2, 2, 5, 6), (4, 2, 3, 3)
NEAR = np.array([1.0, 1.0, 0.0, 1e9, np.inf, np.inf, -np.inf, np.nan, np.nan])
FAR = np.array([1.05, 2.0, 0.005, 1.05e9, np.inf, 1.0, np.inf, np.nan, 0.0])

CASES: dict[str, list[Case]] = {
    "sum": [
        Case(lambda x: x.sum(), lambda x: x.sum()),
        Case(lambda x: x.sum(1), lambda x: x.sum(1)),
        Case(lambda x: x.sum((0, 2), keepdim=True), lambda x: x.sum((0, 2), keepdims=True), ((2, 3, 4),)),
    ],
    "mean": [Case(lambda x: x.mean(0), lambda x: x.mean(0)), Case(lambda x: x.mean(), lambda x: x.mean())],
    "prod": [
        Case(lambda x: x.prod(1), lambda x: x.prod(1)),
        Case(lambda x: x.prod(), lambda x: x.prod(), (np.array([[1.5, 0.0, 2.0], [3.0, -1.0, 0.5]]),), 1),
    ],
    "amax": [Case(lambda x: x.amax(1), lambda x: x.max(1))],
    "amin": [Case(lambda x: x.amin((0, 1)), lambda x: x.min())],
    "max": [
        Case(lambda x: x.max(), lambda x: x.max()),
        Case(lambda x: first(x.max(0)), lambda x: x.max(0)),
    ],
    "min": [Case(lambda x: first(x.min(1, True)), lambda x: x.min(1, keepdims=True))],
    "any": [Case(lambda x: (x > 1).any(0), lambda x: (x > 1).any(0), order=0)],
    "all": [Case(lambda x: (x > -1).all(1), lambda x: (x > -1).all(1), order=0)],
    "logsumexp": [Case(lambda x: x.logsumexp(1), lambda x: special.logsumexp(x, 1))],
    "var": [
        Case(lambda x: x.var(1), lambda x: x.var(1, ddof=1)),
        Case(lambda x: x.var((0, 2), correction=0), lambda x: x.var((0, 2)), ((2, 3, 4),)),
    ],
    "std": [Case(lambda x: x.std(0), lambda x: x.std(0, ddof=1))],
    "argmax": [
        Case(lambda x: x.argmax(1), lambda x: x.argmax(1), order=0),
        Case(lambda x: x.argmax(), lambda x: x.argmax(), order=0),
    ],
    "argmin": [Case(lambda x: x.argmin(0, True), lambda x: x.argmin(0, keepdims=True), order=0)],
    "norm": [Case(lambda x: x.norm(dim=1), lambda x: np.linalg.norm(x, axis=1))],
    "median": [Case(lambda x: first(x.median(1)), lambda x: np.sort(x, 1)[:, 2], ((3, 5),))],
    "quantile": [Case(lambda x: x.quantile(0.3, 1), lambda x: np.quantile(x, 0.3, axis=1))],
    "kthvalue": [Case(lambda x: first(x.kthvalue(2, 1)), lambda x: np.sort(x, 1)[:, 1])],
    "cumsum": [Case(lambda x: x.cumsum(1), lambda x: x.cumsum(1))],
    "cumprod": [
        Case(lambda x: x.cumprod(0), lambda x: x.cumprod(0)),
        Case(lambda x: x.cumprod(0), lambda x: x.cumprod(0), (np.array([2.0, 0.0, 3.0, -1.5]),), 1),
    ],
    "cummax": [Case(lambda x: x.cummax(1), lambda x: np.maximum.accumulate(x, 1))],
    "cummin": [Case(lambda x: x.cummin(0), lambda x: np.minimum.accumulate(x, 0))],
    "diff": [Case(lambda x: x.diff(), lambda x: np.diff(x))],
    "sort": [
        Case(lambda x: first(x.sort(1)), lambda x: np.sort(x, 1)),
        Case(lambda x: first(x.sort(0, True)), lambda x: -np.sort(-x, 0)),
    ],
    "argsort": [Case(lambda x: x.argsort(), lambda x: np.argsort(x, kind="stable"), order=0)],
    "topk": [Case(lambda x: first(x.topk(2)), lambda x: -np.sort(-x, 1)[:, :2])],
    "searchsorted": [
        Case(
            lambda x: ox.searchsorted(x.sort(0)[0][:, 0].contiguous(), x[:, 1]),
            lambda x: np.searchsorted(np.sort(x, 0)[:, 0], x[:, 1]),
            order=0,
        )
    ],
    "unique_all": [Case(lambda x: ox.unique_all(x)[0], np.unique, (np.array([3.0, 1.0, 3.0, 2.0]),), 0)],
    "bincount": [Case(lambda i: i.bincount(), lambda i: np.bincount(i), (np.array([1, 3, 1, 0]),), 0)],
    "reshape": [Case(lambda x: x.reshape(2, -1), lambda x: x.reshape(2, -1))],
    "view": [Case(lambda x: x.T.reshape(12), lambda x: x.T.reshape(12))],
    "flatten": [Case(lambda x: x.flatten(1), lambda x: x.reshape(2, 12), ((2, 3, 4),))],
    "unflatten": [Case(lambda x: x.unflatten(1, (2, -1)), lambda x: x.reshape(3, 2, 2))],
    "permute": [Case(lambda x: x.permute(2, 0, 1), lambda x: x.transpose(2, 0, 1), ((2, 3, 4),))],
    "transpose": [Case(lambda x: x.transpose(0, -1), lambda x: x.T)],
    "t": [Case(lambda x: x.t(), lambda x: x.T)],
    "movedim": [Case(lambda x: x.movedim(0, 2), lambda x: np.moveaxis(x, 0, 2), ((2, 3, 4),))],
    "squeeze": [Case(lambda x: x.squeeze(1), lambda x: x[:, 0], ((3, 1, 2),))],
    "unsqueeze": [Case(lambda x: x.unsqueeze(-1), lambda x: x[..., None])],
    "expand": [
        Case(lambda x: x.expand(2, 3, -1), lambda x: np.broadcast_to(x, (2, 3, 4)), ((3, 1, 4)[0:1] + (4,),))
    ],
    "broadcast_to": [Case(lambda x: x.broadcast_to(2, 4), lambda x: np.broadcast_to(x, (2, 4)), ((4,),))],
    "broadcast_tensors": [
        Case(
            lambda a, b: ox.broadcast_tensors(a, b)[0] * 2,
            lambda a, b: np.broadcast_arrays(a, b)[0] * 2,
            ((3, 1), (4,)),
        )
    ],
    "contiguous": [Case(lambda x: x.T.contiguous(), lambda x: x.T)],
    "clone": [Case(lambda x: x.clone(), lambda x: x)],
    "flip": [Case(lambda x: x.flip((0, 1)), lambda x: x[::-1, ::-1])],
    "roll": [
        Case(lambda x: x.roll(2, 1), lambda x: np.roll(x, 2, 1)),
        Case(lambda x: x.roll(5), lambda x: np.roll(x, 5)),
    ],
    "tile": [Case(lambda x: x.tile(2, 3), lambda x: np.tile(x, (2, 3)))],
    "repeat": [Case(lambda x: x.repeat(2, 1), lambda x: np.tile(x, (2, 1)))],
    "repeat_interleave": [Case(lambda x: x.repeat_interleave(3, 1), lambda x: x.repeat(3, 1))],
    "tril": [Case(lambda x: x.tril(-1), lambda x: np.tril(x, -1))],
    "triu": [Case(lambda x: x.triu(1), lambda x: np.triu(x, 1))],
    "diagonal": [Case(lambda x: x.diagonal(1), lambda x: x.diagonal(1))],
    "diag": [
        Case(lambda x: x.diag(), np.diag, ((3,),)),
        Case(lambda x: x.diag(1), lambda x: np.diag(x, 1), ((3, 3),)),
    ],
    "trace": [Case(lambda x: x.trace(), np.trace)],
    "split": [Case(lambda x: x.split(3, 1)[1], lambda x: x[:, 3:])],
    "chunk": [Case(lambda x: x.chunk(2, 1)[1], lambda x: x[:, 2:])],
    "unbind": [Case(lambda x: x.unbind(1)[2], lambda x: x[:, 2])],
    "cat": [Case(lambda a, b: ox.cat([a, b], 1), lambda a, b: np.concatenate([a, b], 1), ((3, 4), (3, 2)))],
    "stack": [Case(lambda a, b: ox.stack([a, b], 1), lambda a, b: np.stack([a, b], 1), ((3, 4), (3, 4)))],
    "meshgrid": [
        Case(
            lambda a, b: ox.meshgrid(a, b)[0], lambda a, b: np.meshgrid(a, b, indexing="ij")[0], ((3,), (2,))
        )
    ],
    "pad": [
        Case(
            lambda x: ox.pad(x, (1, 2, 0, 1), value=0.5),
            lambda x: np.pad(x, ((0, 1), (1, 2)), constant_values=0.5),
        ),
        Case(lambda x: ox.pad(x, (2, 1), "reflect"), lambda x: np.pad(x, ((0, 0), (2, 1)), "reflect")),
        Case(lambda x: ox.pad(x, (2, 1), "replicate"), lambda x: np.pad(x, ((0, 0), (2, 1)), "edge")),
        Case(lambda x: ox.pad(x, (2, 1), "circular"), lambda x: np.pad(x, ((0, 0), (2, 1)), "wrap")),
    ],
    "gather": [Case(lambda x, i: x.gather(0, i), lambda x, i: np.take_along_axis(x, i, 0), ((3, 2), I))],
    "take": [
        Case(lambda x, i: x.take(i, 1), lambda x, i: x.take(i, 1), ((2, 4), I)),
        Case(lambda x, i: x.take(i), lambda x, i: x.take(i), ((2, 4), I)),
    ],
    "index_select": [Case(lambda x, i: x.index_select(0, i), lambda x, i: x[i], ((3, 4), T))],
    "scatter": [
        Case(
            lambda x, s: x.scatter(0, ox.tensor([[2, 0], [1, 2]]), s),
            lambda x, s: _scatter(x, s, add=False),
            ((3, 2), (2, 2)),
        )
    ],
    "scatter_add": [
        Case(
            lambda x, s: x.scatter_add(0, ox.tensor([[2, 0], [2, 2]]), s),
            lambda x, s: _scatter(x, s, add=True),
            ((3, 2), (2, 2)),
        )
    ],
    "masked_fill": [Case(lambda x: x.masked_fill(ox.tensor(MASK), 2.5), lambda x: np.where(MASK, 2.5, x))],
    "masked_select": [Case(lambda x: x.masked_select(ox.tensor(MASK)), lambda x: x[MASK])],
    "nonzero": [Case(lambda x: (x > 0).nonzero(), lambda x: np.argwhere(x > 0), order=0)],
    "one_hot": [Case(lambda i: ox.one_hot(i, 4), lambda i: np.eye(4, dtype=int)[i], (T,), 0)],
    "clamp": [Case(lambda x: x.clamp(-0.5, 0.7), lambda x: x.clip(-0.5, 0.7), order=1)],
    "type_as": [Case(lambda x: x.float().type_as(x), lambda x: x.astype(np.float32).astype(float), order=0)],
    "matmul": [
        Case(lambda a, b: a @ b, np.matmul, ((3, 4), (4, 2))),
        Case(lambda a, b: a @ b, np.matmul, ((4,), (4,))),
        Case(lambda a, b: a @ b, np.matmul, ((4,), (2, 4, 3))),
        Case(lambda a, b: a @ b, np.matmul, ((2, 3, 4), (4,))),
        Case(lambda a, b: a @ b, np.matmul, ((2, 1, 3, 4), (5, 4, 2))),
        Case(lambda a, b: a.mT @ b.mT, lambda a, b: a.T @ b.T, ((4, 3), (2, 4))),
    ],
    "linear": [Case(ox.linear, lambda x, w, b: x @ w.T + b, ((2, 3, 4), (5, 4), (5,)))],
    "dot": [Case(lambda a, b: a.dot(b), np.dot, ((4,), (4,)))],
    "outer": [Case(lambda a, b: a.outer(b), np.outer, ((3,), (2,)))],
    "einsum": [
        Case(
            lambda a, b: ox.einsum("bij,bjk->bki", a, b),
            lambda a, b: np.einsum("bij,bjk->bki", a, b),
            ((2, 3, 4), (2, 4, 5)),
        ),
        Case(lambda a: ox.einsum("ii", a), np.trace, ((3, 3),)),
        Case(lambda a, b: ox.einsum("...i,i->...", a, b), lambda a, b: a @ b, ((2, 3, 4), (4,))),
    ],
    "tensordot": [
        Case(lambda a, b: ox.tensordot(a, b, 2), lambda a, b: np.tensordot(a, b, 2), ((2, 3, 4), (3, 4, 5)))
    ],
    "kron": [Case(ox.kron, np.kron, ((2, 3), (2, 2)))],
    "cross": [Case(ox.cross, np.cross, ((2, 3), (2, 3)))],
    "cdist": [Case(ox.cdist, lambda a, b: np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1)), ((3, 4), (2, 4)))],
    "conv2d": [
        Case(ox.conv2d, conv2d, (IMG, KER, (4,))),
        Case(
            lambda x, w: ox.conv2d(x, w, stride=2, padding=1),
            lambda x, w: conv2d(x, w, stride=2, padding=1),
            (IMG, KER),
        ),
        Case(
            lambda x, w: ox.conv2d(x, w, dilation=2, padding=2),
            lambda x, w: conv2d(x, w, dilation=2, padding=2),
            (IMG, KER),
        ),
        Case(
            lambda x, w: ox.conv2d(x, w, groups=2), lambda x, w: conv2d(x, w, groups=2), (IMG, (4, 1, 3, 3))
        ),
    ],
    "conv1d": [
        Case(
            lambda x, w: ox.conv1d(x, w, padding=1),
            lambda x, w: conv2d(np.pad(x, ((0, 0), (0, 0), (1, 1)))[:, :, None], w[:, :, None])[:, :, 0],
            ((2, 3, 7), (4, 3, 3)),
        )
    ],
    "conv_transpose2d": [
        Case(
            lambda x, w: ox.conv_transpose2d(x, w, stride=2),
            lambda x, w: _transposed(x, w, 2),
            ((2, 3, 3, 4), (3, 2, 3, 3)),
        )
    ],
    "conv_transpose1d": [
        Case(
            lambda x, w: ox.conv_transpose1d(x, w),
            lambda x, w: _transposed(x[:, :, None], w[:, :, None], 1)[:, :, 0],
            ((2, 3, 4), (3, 2, 3)),
        )
    ],
    "max_pool2d": [
        Case(lambda x: ox.max_pool2d(x, 2), lambda x: max_pool(x, 2, 2), ((2, 2, 5, 6),)),
        Case(lambda x: ox.max_pool2d(x, 3, 2, 1), lambda x: max_pool(x, 3, 2, 1), ((2, 2, 5, 6),)),
    ],
    "max_pool1d": [
        Case(lambda x: ox.max_pool1d(x, 2), lambda x: x[:, :, :6].reshape(2, 3, 3, 2).max(-1), ((2, 3, 7),))
    ],
    "avg_pool2d": [
        Case(lambda x: ox.avg_pool2d(x, 3, 2, 1), lambda x: avg_pool(x, 3, 2, 1), ((2, 2, 5, 6),))
    ],
    "avg_pool1d": [
        Case(lambda x: ox.avg_pool1d(x, 2), lambda x: x[:, :, :6].reshape(2, 3, 3, 2).mean(-1), ((2, 3, 7),))
    ],
    "adaptive_avg_pool2d": [
        Case(lambda x: ox.adaptive_avg_pool2d(x, 3), lambda x: adaptive(x, 3, np.mean), ((2, 2, 5, 7),))
    ],
    "adaptive_avg_pool1d": [
        Case(lambda x: ox.adaptive_avg_pool1d(x, 1), lambda x: x.mean(-1, keepdims=True), ((2, 2, 5),))
    ],
    "adaptive_max_pool2d": [
        Case(lambda x: ox.adaptive_max_pool2d(x, 2), lambda x: adaptive(x, 2, np.max), ((2, 2, 5, 7),))
    ],
    "adaptive_max_pool1d": [
        Case(lambda x: ox.adaptive_max_pool1d(x, 1), lambda x: x.max(-1, keepdims=True), ((2, 2, 5),))
    ],
    "softmax": [
        Case(lambda x: x.softmax(0), lambda x: softmax(x, 0)),
        Case(lambda x: x.softmax(-1), softmax),
    ],
    "log_softmax": [Case(lambda x: x.log_softmax(1), lambda x: np.log(softmax(x, 1)))],
    "layer_norm": [
        Case(
            lambda x, w, b: ox.layer_norm(x, 4, w, b),
            lambda x, w, b: normalise(x, (-1,)) * w + b,
            ((3, 4), (4,), (4,)),
        )
    ],
    "rms_norm": [
        Case(
            lambda x, w: ox.rms_norm(x, 4, w, 1e-6),
            lambda x, w: x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * w,
            ((3, 4), (4,)),
        )
    ],
    "group_norm": [
        Case(
            lambda x: ox.group_norm(x, 2),
            lambda x: normalise(x.reshape(2, 2, 2, 3), (2, 3)).reshape(2, 4, 3),
            ((2, 4, 3),),
        )
    ],
    "batch_norm": [
        Case(
            lambda x: ox.batch_norm(x, None, None, ox.zeros(3).double(), ox.ones(3).double() * 2),
            lambda x: x / np.sqrt(2 + 1e-5),
            ((2, 3, 4),),
        )
    ],
    "batch_norm_train": [
        Case(
            lambda x, w, b: ox.batch_norm_train(x, w, b)[0],
            lambda x, w, b: normalise(x, (0, 2)) * w[:, None] + b[:, None],
            ((2, 3, 4), (3,), (3,)),
        )
    ],
    "embedding": [Case(lambda w: ox.embedding(ox.tensor(I), w), lambda w: w[I], ((4, 3),))],
    "cross_entropy": [Case(lambda x: ox.cross_entropy(x, ox.tensor(T)), lambda x: cross_entropy(x, T))],
    "nll_loss": [Case(lambda x: ox.nll_loss(x, ox.tensor(T)), lambda x: -x[np.arange(3), T].mean())],
    "mse_loss": [Case(ox.mse_loss, lambda a, b: ((a - b) ** 2).mean(), ((3, 4), (3, 4)))],
    "l1_loss": [Case(ox.l1_loss, lambda a, b: np.abs(a - b).mean(), ((3, 4), (3, 4)), 1)],
    "huber_loss": [Case(ox.huber_loss, lambda a, b: special.huber(1.0, a - b).mean(), ((3, 4), (3, 4)), 1)],
    "smooth_l1_loss": [
        Case(
            lambda a, b: ox.smooth_l1_loss(a, b, 0.5),
            lambda a, b: (special.huber(0.5, a - b) / 0.5).mean(),
            ((3, 4), (3, 4)),
            1,
        )
    ],
    "kl_div": [
        Case(
            lambda x, t: ox.kl_div(x, t.softmax(-1)),
            lambda x, t: (softmax(t) * (np.log(softmax(t)) - x)).mean(),
            ((3, 4), (3, 4)),
        )
    ],
    "binary_cross_entropy": [
        Case(
            lambda x, t: ox.binary_cross_entropy(x.sigmoid(), t.sigmoid()),
            lambda x, t: _bce(special.expit(x), special.expit(t)),
            ((3, 4), (3, 4)),
        )
    ],
    "binary_cross_entropy_with_logits": [
        Case(
            lambda x, t: ox.binary_cross_entropy_with_logits(x, t.sigmoid()),
            lambda x, t: _bce(special.expit(x), special.expit(t)),
            ((3, 4), (3, 4)),
        )
    ],
}

CASES |= {
    "logical_and": [
        Case(lambda x, y: x.logical_and(y > 0), lambda x, y: np.logical_and(x, y > 0), ((3, 4), (4,)), 0)
    ],
    "logical_or": [
        Case(
            lambda x, y: ox.logical_or(x > 0, y > 0),
            lambda x, y: np.logical_or(x > 0, y > 0),
            ((3, 4), (4,)),
            0,
        )
    ],
    "logical_xor": [
        Case(lambda x, y: (x > 0).logical_xor(y), lambda x, y: np.logical_xor(x > 0, y), ((3, 4), (4,)), 0)
    ],
    "logical_not": [
        Case(lambda x: x.logical_not(), np.logical_not, (np.array([0.0, -0.0, 1.5, np.nan]),), 0)
    ],
    "isclose": [
        Case(lambda x, y: x.isclose(y, 0.1, 0.01), lambda x, y: np.isclose(x, y, 0.1, 0.01), (NEAR, FAR), 0),
        Case(
            lambda x, y: ox.isclose(x, y, equal_nan=True),
            lambda x, y: np.isclose(x, y, equal_nan=True),
            (NEAR, FAR),
            0,
        ),
        Case(lambda i: i.isclose(2), lambda i: np.isclose(i, 2), (np.array([1, 2, 3]),), 0),
    ],
    "unique": [Case(lambda x: x.unique(), np.unique, (np.array([3.0, 1.0, 3.0, 2.0]),), 0)],
}

# Public names that compute nothing from tensors, or whose numbers are random; they have tests of their own.
ELSEWHERE = {
    *("DType", "Device", "Generator", "HookHandle", "Tensor", "dtype", "finfo", "iinfo"),
    *("DTypeError", "DeviceError", "GradError", "ShapeError"),
    *("tensor", "asarray", "from_numpy", "from_dlpack", "zeros", "ones", "empty", "full", "arange", "linspace", "eye"),
    *("zeros_like", "ones_like", "empty_like", "full_like", "rand", "rand_like", "randn", "randn_like", "randint"),
    *("randperm", "normal", "uniform", "bernoulli", "multinomial", "dropout", "dropout_channels", "manual_seed"),
    *("get_rng_state", "set_rng_state", "flush", "fused", "is_autocast_cache_enabled", "get_autocast_dtype", "is_autocast_enabled", "is_grad_enabled", "save_safetensors", "load_safetensors"),
    *("set_default_device", "get_default_device", "synchronize", "get_num_threads", "set_num_threads", "set_fuse"),
    *("get_float32_conv_precision", "set_float32_conv_precision"),
    *("memory_summary", "empty_cache", "build_info", "result_type", "numel", "allclose", "equal", "ValuesIndices"),
    *ox._core.ALIASES,
}  # fmt: skip
METHODS_ELSEWHERE = {
    *("T", "mT", "shape", "size", "dtype", "device", "ndim", "dim", "numel", "itemsize", "nbytes", "stride"),
    *("is_contiguous", "is_floating_point", "requires_grad", "requires_grad_", "is_leaf", "grad_fn", "grad", "data"),
    *("detach", "copy_", "fill_", "zero_", "add_", "sub_", "mul_", "div_", "pow_", "is_view", "to", "cpu", "item"),
    *("backward", "register_hook", "register_post_accumulate_grad_hook", "numpy", "tolist", "uniform_", "normal_"),
    *("half", "bfloat16", "float", "double", "int", "long", "bool", "allclose", "equal", "expand_as", "view_as"),
    *ox._core.ALIASES,
}  # fmt: skip


def _scatter(x: np.ndarray, s: np.ndarray, add: bool) -> np.ndarray:
    out = x.copy()
    index = np.array([[2, 0], [2, 2]]) if add else np.array([[2, 0], [1, 2]])
    for i in range(2):
        for j in range(2):
            out[index[i, j], j] = s[i, j] + (out[index[i, j], j] if add else 0)
    return out


def _transposed(x: np.ndarray, w: np.ndarray, stride: int) -> np.ndarray:
    n, c, h, width = x.shape
    _, k, r, s = w.shape
    sh = stride if h > 1 or r > 1 else 1
    out = np.zeros((n, k, (h - 1) * sh + r, (width - 1) * stride + s))
    for i in range(h):
        for j in range(width):
            out[:, :, i * sh : i * sh + r, j * stride : j * stride + s] += np.einsum(
                "nc,ckrs->nkrs", x[:, :, i, j], w
            )
    return out


def _bce(p: np.ndarray, t: np.ndarray) -> np.ndarray:
    return -(t * np.log(p) + (1 - t) * np.log1p(-p)).mean()
