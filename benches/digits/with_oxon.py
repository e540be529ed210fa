"""The digits in oxon; see compare.py."""

import sys

import oxon as ox
from oxon import nn, optim

start = ox.load(f"{sys.argv[1]}/start.safetensors")
model = nn.Sequential(
    nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
)  # fmt: skip
model.load_state_dict(
    {f"{2 * i}.{kind}": start[f"{kind}{i}"] for i in range(3) for kind in ("weight", "bias")}
)
optimizer = optim.Adam(model.parameters(), lr=2e-3)
images, labels = start["train_images"], start["train_labels"]

for epoch, order in enumerate(start["order"]):
    for first in range(0, len(order), 64):
        batch = order[first : first + 64]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
    with ox.no_grad():
        right = (model(start["test_images"]).argmax(1) == start["test_labels"]).float().mean().item()
    if right >= 0.97:
        print(f"{right:.2%} after {epoch + 1} epochs")
        break
else:
    raise SystemExit(f"only {right:.2%}")
