"""Several threads and several processes: side by side they give what one alone gives, bit for bit."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import oxon as ox
import pytest
from oxon import nn, optim

PATIENCE = 60.0


def side_by_side(count: int, work: Callable[[int], Any]) -> list[Any]:
    """What `work(0) … work(count - 1)` give in threads that begin at the same moment; errors are raised."""
    results: list[Any] = [None] * count
    errors: list[BaseException] = []
    gate = threading.Barrier(count)

    def run(i: int) -> None:
        try:
            gate.wait(PATIENCE)
            results[i] = work(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]
    return results


def train(seed: int, steps: int = 8) -> bytes:
    """A small network after some steps, as bytes; draws from a generator of its own only."""
    g = ox.Generator(seed)
    w1 = (ox.randn(12, 16, generator=g) * 0.3).requires_grad_()
    w2 = (ox.randn(16, 3, generator=g) * 0.3).requires_grad_()
    x = ox.randn(64, 12, generator=g)
    target = ox.randint(0, 3, (64,), generator=g)
    optimizer = optim.AdamW([w1, w2], lr=0.01)
    for _ in range(steps):
        loss = ox.cross_entropy(ox.dropout((x @ w1).relu(), 0.2, generator=g) @ w2, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return w1.detach().numpy().tobytes() + w2.detach().numpy().tobytes() + loss.detach().numpy().tobytes()


def test_training_side_by_side() -> None:
    alone = [train(seed) for seed in range(4)]
    assert len(set(alone)) == 4
    assert side_by_side(4, train) == alone


def test_one_pending_value_is_observed_by_all() -> None:
    for n in range(20):
        x = ox.arange(3000.0) + n
        y = (x * 0.5).sin().sum() + x.cos()
        want = (ox.arange(3000.0) + n) * 0.5
        want = (want.sin().sum() + (ox.arange(3000.0) + n).cos()).numpy().tobytes()
        assert set(side_by_side(4, lambda i, y=y: y.numpy().tobytes())) == {want}


def test_branches_of_one_pending_value() -> None:
    """Each thread builds on what another thread has pending, and observes only its own end."""
    for n in range(20):
        base = (ox.arange(2000.0) * 0.01 + n).tanh()
        want = [((base.detach() + i).exp() * (i + 1)).sum().item() for i in range(4)]
        fresh = (ox.arange(2000.0) * 0.01 + n).tanh()
        got = side_by_side(4, lambda i, fresh=fresh: ((fresh + i).exp() * (i + 1)).sum().item())
        assert got == want


def test_values_handed_from_thread_to_thread() -> None:
    """A chain that each thread makes longer, which only the last observes."""
    x = ox.arange(100.0)
    for i in range(12):
        held: list[ox.Tensor] = []
        thread = threading.Thread(target=lambda x=x, i=i, held=held: held.append(x * 1.5 - i))
        thread.start()
        thread.join(PATIENCE)
        x = held[0]
    want = np.arange(100, dtype="f4")
    for i in range(12):
        want = want * np.float32(1.5) - np.float32(i)
    np.testing.assert_array_equal(x.numpy(), want)


def test_an_error_reaches_every_thread_that_waits() -> None:
    bad = ox.ones(2**40) * 2

    def work(i: int) -> str:
        with pytest.raises(MemoryError) as caught:
            (bad + i).sum().item()
        return type(caught.value).__name__

    assert side_by_side(4, work) == ["MemoryError"] * 4
    assert (ox.ones(2) + 1).tolist() == [2, 2]


def test_one_handle_changed_by_several_threads() -> None:
    """Handles are swapped whole: a reader sees one of the values, never a mixture."""
    x = ox.zeros(5000)
    stop = threading.Event()

    def work(i: int) -> bool:
        if i < 2:
            for k in range(100):
                x.fill_(float(k % 7))
            stop.set()
            return True
        while not stop.is_set():
            a = x.numpy()
            if (a != a[0]).any():
                return False
        return True

    assert side_by_side(4, work) == [True] * 4


def test_the_number_of_threads_may_change_at_any_time() -> None:
    g = ox.Generator(0)
    a, b = ox.randn(96, 200, generator=g), ox.randn(200, 96, generator=g)
    x = ox.randn(40_000, generator=g)

    def compute() -> bytes:
        parts = (a @ b, x.exp().sum(), x.reshape(200, 200).softmax(-1), x.sort()[0], x.cumsum(0))
        return b"".join(p.numpy().tobytes() for p in parts)

    want = compute()

    def work(i: int) -> bool:
        if i == 0:
            for k in range(30):
                ox.set_num_threads(1 + k % 4)
            return True
        return all(compute() == want for _ in range(4))

    assert side_by_side(3, work) == [True] * 3


def test_backward_side_by_side_on_shared_leaves() -> None:
    """`grad` leaves the leaves alone, so threads may share them."""
    w = ox.arange(50.0).requires_grad_()

    def work(i: int) -> bytes:
        (g,) = ox.grad(((w * (i + 1)).sin() * w).sum(), w)
        return g.numpy().tobytes()

    assert side_by_side(4, work) == [work(i) for i in range(4)]


def network(threads: int) -> bytes:
    """A convolutional network after some steps with the global generator."""
    ox.set_num_threads(threads)
    ox.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(200, 5)
    )  # fmt: skip
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    x, target = ox.randn(32, 1, 12, 12), ox.randint(0, 5, (32,))
    for _ in range(5):
        loss = ox.cross_entropy(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return b"".join(t.detach().numpy().tobytes() for t in model.state_dict().values())


def test_training_does_not_depend_on_the_number_of_threads() -> None:
    want = network(1)
    assert [network(n) == want for n in (1, 2, 4)] == [True] * 3


def run(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=120,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path]),
            **environment,
        },
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_training_is_the_same_in_another_process() -> None:
    program = """
        import hashlib, test_threads
        print(hashlib.sha256(test_threads.train(7)).hexdigest())
    """
    here = hashlib.sha256(train(7)).hexdigest()
    assert [run(program, OXON_NUM_THREADS=n) for n in ("1", "4")] == [here, here]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_works() -> None:
    """After use of the pool, with values pending and done: the child computes, and so does the parent after."""
    assert run("""
        import os, warnings
        warnings.simplefilter("ignore")
        import oxon as ox
        a = ox.randn(300, 300)
        done = (a @ a).sum()
        done.item()
        pending = (a + 1).exp().mean()
        child = os.fork()
        if child == 0:
            good = ox.isfinite(pending).item() and (a @ a).sum().item() == done.item()
            w = ox.ones(300, 300, requires_grad=True)
            (w @ a).sum().backward()
            good = good and w.grad.isfinite().all().item()
            os._exit(0 if good else 3)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), (a @ a).sum().item() == done.item(), pending.isfinite().item())
    """) == "0 True True"  # fmt: skip
