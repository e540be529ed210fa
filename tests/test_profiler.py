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


def test_operations_of_attention_and_recurrent_layers():
    q, k = ox.randn(2, 3, 5, 8), ox.randn(2, 3, 7, 8)
    for causal, pairs in ((False, 5 * 7), (True, 1 + 2 + 3 + 4 + 5)):
        with ox.profile() as costs:
            ox.nn.functional.scaled_dot_product_attention(q, k, k, is_causal=causal).numpy()
        assert sum(row.flops for row in costs.rows) == 2 * 2 * 3 * pairs * (8 + 8)
    for layer, gates in ((ox.nn.LSTM(4, 6), 4), (ox.nn.GRU(4, 6), 3)):
        with ox.profile() as costs:
            layer(ox.randn(5, 2, 4))[0].detach().numpy()
        assert sum(row.flops for row in costs.rows) == 2 * 5 * 2 * gates * 6 * (4 + 6)
