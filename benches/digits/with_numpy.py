"""The digits in NumPy, gradients by hand; see compare.py."""

import sys

import numpy as np

start = np.load(f"{sys.argv[1]}/start.npz")
images, labels, order = start["train_images"], start["train_labels"], start["order"]
test_images, test_labels = start["test_images"], start["test_labels"]
parameters = [start[f"{kind}{i}"] for i in range(3) for kind in ("weight", "bias")]
means = [np.zeros_like(p) for p in parameters]
squares = [np.zeros_like(p) for p in parameters]
step = 0


def forward(x: np.ndarray) -> list[np.ndarray]:
    """The input and what each layer makes of it."""
    layers = [x]
    for i in range(3):
        z = layers[-1] @ parameters[2 * i].T + parameters[2 * i + 1]
        layers.append(np.maximum(z, 0) if i < 2 else z)
    return layers


for epoch in range(len(order)):
    for first in range(0, len(labels), 64):
        batch = order[epoch, first : first + 64]
        layers = forward(images[batch])
        # Of the mean cross-entropy: softmax less the truth.
        g = np.exp(layers[3] - layers[3].max(1, keepdims=True))
        g /= g.sum(1, keepdims=True)
        g[np.arange(len(batch)), labels[batch]] -= 1
        g /= len(batch)
        gradients = []
        for i in (2, 1, 0):
            gradients = [g.T @ layers[i], g.sum(0), *gradients]
            g = (g @ parameters[2 * i]) * (layers[i] > 0)
        step += 1
        rate, root = 2e-3 / (1 - 0.9**step), (1 - 0.999**step) ** 0.5
        for p, g, m, v in zip(parameters, gradients, means, squares, strict=True):
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            p -= rate * m / (np.sqrt(v) / root + 1e-8)
    right = (forward(test_images)[3].argmax(1) == test_labels).mean()
    if right >= 0.97:
        print(f"{right:.2%} after {epoch + 1} epochs")
        break
else:
    raise SystemExit(f"only {right:.2%}")
