"""`ox.profile`: what it counts, what it leaves out, and that it ends."""

import oxon as ox
import pytest


def test_it_counts_what_the_block_asks_for():
    x, w = ox.randn(32, 64), ox.randn(64, 16)
    before = x + 1
    with ox.profile() as costs:
        for _ in range(3):
            (x @ w).relu().sum().item()
    (before + 1).numpy()
    rows = {row.kernel: row for row in costs.rows}
    assert set(rows) == {"matmul | relu", "sum"}
    product = rows["matmul | relu"]
    assert (product.calls, product.flops, product.device) == (3, 3 * 2 * 32 * 64 * 16, "cpu")
    assert product.bytes == 3 * 4 * (32 * 64 + 64 * 16 + 32 * 16)
    assert product.inputs == [(32, 64), (64, 16)]
    assert product.outputs == [(32, 16)]
    assert all(row.seconds > 0 for row in costs.rows)
    assert costs.rows == sorted(costs.rows, key=lambda row: -row.seconds)
    assert "matmul | relu: 32×64, 64×16 → 32×16" in str(costs)


def test_it_stops_after_an_error_and_cannot_be_nested():
    with pytest.raises(ZeroDivisionError), ox.profile():
        _ = 1 / 0
    with ox.profile() as costs, pytest.raises(RuntimeError, match="one block at a time"):
        ox.profile().__enter__()
    assert costs.rows == []


def test_broadcast_operands_count_once():
    x, row = ox.randn(8, 100), ox.randn(100)
    with ox.profile() as costs:
        (x * row).numpy()
    assert costs.rows[0].bytes == 4 * (800 + 100 + 800)
