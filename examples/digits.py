"""Handwritten digits: a multi-layer perceptron, then a convolutional network, on data that come with oxon.

    python examples/digits.py              five seeds of each model, a quarter of a minute or so
    python examples/digits.py --seeds 1 --device gpu

Trains on the 1,437 training images, prints the accuracy on the 360 test images (mean over the seeds), draws
the last run's history, saves its weights as safetensors, loads them into a new model and checks that it
predicts exactly the same. The settings were chosen by cross-validation within the training images.
"""

import argparse
import os
from collections.abc import Callable

import oxon as ox
from oxon import nn, optim


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 256), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(256, 256), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(256, 10),
    )  # fmt: skip


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Dropout(0.3),
        nn.Flatten(), nn.Linear(32 * 4 * 4, 10),
    )  # fmt: skip


def fit(model: nn.Module, lr: float, epochs: int, seed: int, device: str) -> tuple[ox.Trainer, ox.History]:
    loader = ox.data.DataLoader(ox.data.digits("train"), batch_size=64, shuffle=True, seed=seed)
    optimizer = optim.AdamW(model.parameters(), lr=lr)
    schedule = optim.OneCycleLR(optimizer, max_lr=lr, total_steps=epochs * len(loader))
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    trainer = ox.Trainer(model, optimizer, loss, ["accuracy"], scheduler=schedule, device=device)
    return trainer, trainer.fit(loader, ox.data.digits("test"), epochs, verbose=False)


def run(name: str, make: Callable[[], nn.Module], lr: float, epochs: int, args: argparse.Namespace) -> None:
    test = ox.data.digits("test")
    scores = []
    for seed in range(args.seeds):
        ox.manual_seed(seed)
        trainer, history = fit(make(), lr, args.epochs or epochs, seed, args.device)
        scores.append(history["val_accuracy"][-1])
    each = ", ".join(f"{score:.2%}" for score in scores)
    print(f"{name}: test accuracy {sum(scores) / len(scores):.2%}, mean of {len(scores)} seeds ({each})")

    os.makedirs(args.out, exist_ok=True)
    try:
        history.plot(f"{args.out}/digits-{name.lower()}.png")
    except ImportError as error:
        print(f"no plot: {error}")
    path = f"{args.out}/digits-{name.lower()}.safetensors"
    ox.save(trainer.model.state_dict(), path)
    fresh = make().to(args.device)
    fresh.load_state_dict(ox.load(path))
    again = ox.Trainer(fresh, trainer.optimizer, trainer.loss).predict(test)
    same = bool((again == trainer.predict(test)).all())
    print(f"weights in {path}; loaded back, the predictions are {'equal' if same else 'DIFFERENT'}")
    if not same:
        raise SystemExit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="train on the embedded handwritten digits")
    parser.add_argument("--seeds", type=int, default=5, help="train with seeds 0, 1, ... (default 5 of them)")
    parser.add_argument("--epochs", type=int, help="instead of 20 for the MLP and 15 for the CNN")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", default="outputs", help="folder for plots and weights")
    arguments = parser.parse_args()
    run("MLP", mlp, lr=5e-3, epochs=20, args=arguments)
    run("CNN", cnn, lr=1e-2, epochs=15, args=arguments)
