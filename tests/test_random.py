"""Random numbers: seeds, generators, and that draws are distributed as they say."""

from __future__ import annotations

import numpy as np
import oxon as ox
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numeric import FLOATS, INTS
from scipy import stats

# Random numbers.

DRAWS = {
    "rand": lambda g: ox.rand(1000, generator=g),
    "randn": lambda g: ox.randn(1000, generator=g),
    "randint": lambda g: ox.randint(0, 1000, (1000,), generator=g),
    "randperm": lambda g: ox.randperm(1000, generator=g),
    "normal": lambda g: ox.normal(1.0, 2.0, (1000,), generator=g),
    "uniform": lambda g: ox.uniform(-1.0, 2.0, (1000,), generator=g),
    "bernoulli": lambda g: ox.bernoulli(ox.full((1000,), 0.3), generator=g),
    "multinomial": lambda g: ox.multinomial(ox.arange(100.0), 50, generator=g),
    "dropout": lambda g: ox.dropout(ox.ones(1000), 0.3, generator=g),
    "uniform_": lambda g: ox.empty(1000).uniform_(generator=g),
    "normal_": lambda g: ox.empty(1000).normal_(generator=g),
}


@pytest.mark.parametrize("name", DRAWS)
def test_the_same_seed_gives_the_same_numbers(name: str) -> None:
    draw = DRAWS[name]
    first, again, other = (draw(ox.Generator(s)).numpy().tobytes() for s in (5, 5, 6))
    assert first == again != other
    g = ox.Generator(5)
    assert draw(g).numpy().tobytes() == first
    assert draw(g).numpy().tobytes() != first
    ox.manual_seed(5)
    assert draw(None).numpy().tobytes() == first
    # With another number of threads, and with draws before that nobody looks at.
    ox.set_num_threads(1)
    assert draw(ox.Generator(5)).numpy().tobytes() == first
    g = ox.Generator(5)
    dead = draw(g)
    state = g.get_state()
    g.set_state((5, 0))
    dead = draw(g)  # noqa: F841
    assert g.get_state() == state
    second = draw(g).numpy().tobytes()
    g = ox.Generator(5)
    draw(g).numpy()
    assert draw(g).numpy().tobytes() == second


def test_generators_remember_where_they_are() -> None:
    ox.manual_seed(3)
    ox.rand(5)
    state = ox.get_rng_state()
    a = ox.rand(5).tolist()
    ox.set_rng_state(state)
    assert ox.rand(5).tolist() == a
    g = ox.Generator(9)
    assert g.initial_seed() == 9
    assert g.manual_seed(-1) is g
    assert g.initial_seed() == 2**64 - 1
    # A stream of its own does not move the global one.
    ox.set_rng_state(state)
    ox.rand(5, generator=g)
    assert ox.rand(5).tolist() == a


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.cpu("moments are taken in float64")
def test_moments(dtype: str) -> None:
    g = ox.Generator(11)
    n = 200_000
    u = ox.rand(n, generator=g, dtype=dtype).double().numpy()
    assert u.min() >= 0
    assert u.max() < 1
    step = {"float16": 2**-11, "bfloat16": 2**-8}.get(dtype, 0.0)
    assert abs(u.mean() - 0.5) < 0.004 + step
    assert abs(u.var() - 1 / 12) < 0.002
    z = ox.randn(n, generator=g, dtype=dtype).double().numpy()
    assert z.dtype == np.float64
    assert abs(z.mean()) < 0.01
    assert abs(z.var() - 1) < 0.02
    assert abs(stats.skew(z)) < 0.03
    assert abs(stats.kurtosis(z)) < 0.08
    assert abs(np.corrcoef(z[:-1], z[1:])[0, 1]) < 0.01
    if dtype in ("float32", "float64"):
        assert stats.kstest(u[:50_000], "uniform").pvalue > 1e-3
        assert stats.kstest(z[:50_000], "norm").pvalue > 1e-3


@pytest.mark.parametrize("dtype", INTS)
def test_randint(dtype: str) -> None:
    low = 0 if dtype.startswith("u") else -7
    x = ox.randint(low, 13, (20_000,), dtype=dtype, generator=ox.Generator(1))
    assert x.dtype.name == dtype
    values, counts = np.unique(x.numpy(), return_counts=True)
    assert values.tolist() == list(range(low, 13))
    assert stats.chisquare(counts).pvalue > 1e-3
    info = ox.iinfo(dtype)
    wide = ox.randint(max(info.min, -(2**63)), min(info.max, 2**63 - 1), (1000,), dtype=dtype).numpy()
    assert len(np.unique(wide)) > (100 if info.bits > 8 else 50)
    with pytest.raises(ValueError, match="no integer"):
        ox.randint(3, 3, (2,))
    if info.bits < 64:
        with pytest.raises(ValueError, match="does not fit"):
            ox.randint(0, info.max + 2, (2,), dtype=dtype)


@pytest.mark.parametrize("n", [0, 1, 2, 7, 1000])
def test_permutations(n: int) -> None:
    p = ox.randperm(n, generator=ox.Generator(n))
    assert p.dtype == ox.int64
    assert sorted(p.tolist()) == list(range(n))


def test_permutations_are_fair() -> None:
    g = ox.Generator(2)
    counts = np.zeros((5, 5))
    for _ in range(2000):
        counts[np.arange(5), ox.randperm(5, generator=g).numpy()] += 1
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


def test_weighted_draws() -> None:
    g = ox.Generator(4)
    p = ox.tensor([[0.1, 0.0, 0.9], [0.5, 0.5, 0.0]])
    drawn = ox.multinomial(p, 20_000, True, generator=g).numpy()
    assert not (drawn[0] == 1).any()
    assert not (drawn[1] == 2).any()
    assert abs((drawn[0] == 2).mean() - 0.9) < 0.01
    assert abs(ox.bernoulli(ox.full((50_000,), 0.3), generator=g).mean().item() - 0.3) < 0.01
    for row in ox.multinomial(ox.ones(50, 6), 6, generator=g).tolist():
        assert sorted(row) == list(range(6))
    x = ox.dropout(ox.ones(50_000), 0.25, generator=g).numpy()
    assert set(np.unique(x)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((x == 0).mean() - 0.25) < 0.01


@example(seed=2**64 - 1)
@example(seed=-1)
@given(st.integers(-(2**63), 2**64 - 1))
def test_every_seed(seed: int) -> None:
    a, b = (ox.rand(4, generator=ox.Generator(seed)).tolist() for _ in range(2))
    assert a == b
    assert a != ox.rand(4, generator=ox.Generator(seed ^ 1)).tolist()
