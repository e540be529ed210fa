"""References for every elementwise operation: what NumPy and SciPy give in float64, where it is smooth, and
where to sample it. A row of the table in Rust without a line here fails the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import special


class Row(NamedTuple):
    """One operation: its reference, the interval to sample each argument from, and how often it can be
    differentiated there."""

    reference: Callable[..., Any]
    domain: tuple[float, float] = (-3.0, 3.0)
    order: int = 2


def sigmoid(x: Any) -> Any:
    return special.expit(x)


def floor_divide(a: Any, b: Any) -> Any:
    with np.errstate(all="ignore"):
        return np.floor_divide(a, b)


def remainder(a: Any, b: Any) -> Any:
    with np.errstate(all="ignore"):
        return np.remainder(a, b)


def round_half_even(x: Any) -> Any:
    return np.rint(x)


def sign(x: Any) -> Any:
    return np.sign(x)


def gelu(x: Any) -> Any:
    return 0.5 * x * (1 + special.erf(x / np.sqrt(2)))


def gelu_tanh(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def logsigmoid(x: Any) -> Any:
    return -np.logaddexp(0, -x)


def silu(x: Any) -> Any:
    return x * special.expit(x)


POSITIVE = (0.3, 4.0)
INSIDE = (-0.9, 0.9)

ROWS: dict[str, Row] = {
    "neg": Row(np.negative),
    "abs": Row(np.abs),
    "sign": Row(sign, order=0),
    "square": Row(np.square),
    "relu": Row(lambda x: np.maximum(x, 0)),
    "sqrt": Row(np.sqrt, POSITIVE),
    "rsqrt": Row(lambda x: 1 / np.sqrt(x), POSITIVE),
    "reciprocal": Row(lambda x: 1 / np.asarray(x, float), POSITIVE),
    "exp": Row(np.exp),
    "exp2": Row(np.exp2),
    "expm1": Row(np.expm1),
    "log": Row(np.log, POSITIVE),
    "log2": Row(np.log2, POSITIVE),
    "log10": Row(np.log10, POSITIVE),
    "log1p": Row(np.log1p, POSITIVE),
    "sin": Row(np.sin),
    "cos": Row(np.cos),
    "tan": Row(np.tan, (-1.2, 1.2)),
    "asin": Row(np.arcsin, INSIDE),
    "acos": Row(np.arccos, INSIDE),
    "atan": Row(np.arctan),
    "sinh": Row(np.sinh),
    "cosh": Row(np.cosh),
    "tanh": Row(np.tanh),
    "asinh": Row(np.arcsinh),
    "acosh": Row(np.arccosh, (1.3, 4.0)),
    "atanh": Row(np.arctanh, INSIDE),
    "erf": Row(special.erf),
    "erfc": Row(special.erfc),
    "erfinv": Row(special.erfinv, INSIDE),
    "lgamma": Row(special.gammaln, POSITIVE, order=1),
    "digamma": Row(special.digamma, POSITIVE, order=0),
    "sigmoid": Row(sigmoid),
    "logsigmoid": Row(logsigmoid),
    "softplus": Row(lambda x: np.logaddexp(0, x)),
    "silu": Row(silu),
    "gelu": Row(gelu),
    "gelu_tanh": Row(gelu_tanh),
    "floor": Row(np.floor, order=0),
    "ceil": Row(np.ceil, order=0),
    "trunc": Row(np.trunc, order=0),
    "round": Row(round_half_even, order=0),
    "isnan": Row(np.isnan, order=0),
    "isinf": Row(np.isinf, order=0),
    "isfinite": Row(np.isfinite, order=0),
    "signbit": Row(np.signbit, order=0),
    "bitwise_not": Row(np.bitwise_not, order=0),
    "add": Row(np.add),
    "sub": Row(np.subtract),
    "mul": Row(np.multiply),
    "maximum": Row(np.maximum),
    "minimum": Row(np.minimum),
    "floor_divide": Row(floor_divide, POSITIVE, order=0),
    "remainder": Row(remainder, POSITIVE, order=1),
    "fmod": Row(np.fmod, POSITIVE, order=1),
    "pow": Row(np.power, POSITIVE),
    "div": Row(np.divide, POSITIVE),
    "atan2": Row(np.arctan2, POSITIVE),
    "hypot": Row(np.hypot, POSITIVE),
    "copysign": Row(np.copysign, POSITIVE),
    "nextafter": Row(np.nextafter, order=0),
    "logaddexp": Row(np.logaddexp),
    "xlogy": Row(special.xlogy, POSITIVE),
    "eq": Row(np.equal, order=0),
    "ne": Row(np.not_equal, order=0),
    "lt": Row(np.less, order=0),
    "le": Row(np.less_equal, order=0),
    "gt": Row(np.greater, order=0),
    "ge": Row(np.greater_equal, order=0),
    "bitwise_and": Row(np.bitwise_and, order=0),
    "bitwise_or": Row(np.bitwise_or, order=0),
    "bitwise_xor": Row(np.bitwise_xor, order=0),
    "bitwise_left_shift": Row(np.left_shift, order=0),
    "bitwise_right_shift": Row(np.right_shift, order=0),
    "where": Row(np.where),
}
