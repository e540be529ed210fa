"""Two moons by hand: Rosenblatt's perceptron, then a small network trained with plain tensor operations.

    python examples/by_hand.py

No layers, no optimizer, no Trainer: only tensors, `backward` and an update. The perceptron draws a straight
line and cannot part the moons; the network with one hidden layer can.
"""

import argparse
import math

import oxon as ox


def two_moons(n: int, noise: float = 0.1) -> tuple[ox.Tensor, ox.Tensor]:
    """`2 n` points `(2 n, 2)` on two interleaved half circles, and their labels -1 and 1."""
    angle = ox.rand(n) * math.pi
    upper = ox.stack([ox.cos(angle), ox.sin(angle)], 1)
    lower = ox.stack([1 - ox.cos(angle), 0.5 - ox.sin(angle)], 1)
    points = ox.cat([upper, lower]) + noise * ox.randn(2 * n, 2)
    labels = ox.cat([-ox.ones(n), ox.ones(n)])
    order = ox.randperm(2 * n)
    return points[order], labels[order]


def accuracy(scores: ox.Tensor, labels: ox.Tensor) -> float:
    return float((scores * labels > 0).float().mean().item())


def perceptron(x: ox.Tensor, y: ox.Tensor, epochs: int) -> ox.Tensor:
    """Rosenblatt 1958: whenever a point is on the wrong side, move the line towards it. No gradient
    needed."""
    x = ox.cat([x, ox.ones(len(x), 1)], 1)  # a column of ones carries the bias
    w = ox.zeros(3)
    for _ in range(epochs):
        for point, label in zip(x, y, strict=True):
            if (w @ point) * label <= 0:
                w = w + label * point
    return x @ w


def network(x: ox.Tensor, y: ox.Tensor, steps: int, lr: float, device: str) -> ox.Tensor:
    """One hidden layer of 32 units, trained by gradient descent on the logistic loss."""
    x, y = x.to(device), y.to(device)
    w1 = ox.randn(2, 32, device=device).requires_grad_()
    b1 = ox.zeros(32, device=device).requires_grad_()
    w2 = (ox.randn(32, device=device) / math.sqrt(32)).requires_grad_()
    parameters = [w1, b1, w2]
    for step in range(steps):
        scores = ox.tanh(x @ w1 + b1) @ w2
        loss = ox.log1p(ox.exp(-scores * y)).mean()
        loss.backward()
        with ox.no_grad():
            for p in parameters:
                p -= lr * p.grad
                p.grad = None
        if step % 100 == 0:
            print(f"step {step:4d}  loss {loss.item():.4f}")
    return (ox.tanh(x @ w1 + b1) @ w2).detach().cpu()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="a perceptron and a network in plain tensor operations")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    ox.manual_seed(0)
    points, labels = two_moons(200)
    print(f"perceptron: accuracy {accuracy(perceptron(points, labels, epochs=5), labels):.2%}")
    print(
        f"network:    accuracy {accuracy(network(points, labels, args.steps, 1.0, args.device), labels):.2%}"
    )
