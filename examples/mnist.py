"""MNIST with the convnet of the Keras documentation (34,826 parameters), in a third of its epochs.

    python examples/mnist.py                          one seed, 5 epochs
    python examples/mnist.py --seeds 3 --device gpu
    python examples/mnist.py --limit 2000 --epochs 1  a quick look

Keras's page (Chollet, "Simple MNIST convnet") reports a test accuracy of 0.9922 after 15 epochs of Adam
with batches of 128. Here the same network gets a one-cycle learning rate instead. The files come from
$OXON_DATA/mnist, or are downloaded once.
"""

import argparse

import oxon as ox
from oxon import nn, optim


def convnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.5), nn.Linear(1600, 10),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="train the Keras convnet on MNIST")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1, help="train with seeds 0, 1, ... (default 1 of them)")
    parser.add_argument("--limit", type=int, help="use only so many training images")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()

    train, test = ox.data.mnist(train=True), ox.data.mnist(train=False)
    if args.limit:
        train = ox.data.TensorDataset(*train[: args.limit])
    scores = []
    for seed in range(args.seeds):
        ox.manual_seed(seed)
        model = convnet()
        if seed == 0:
            print(model.summary((1, 28, 28)))
        loader = ox.data.DataLoader(train, batch_size=128, shuffle=True, seed=seed)
        optimizer = optim.AdamW(model.parameters(), lr=5e-3)
        schedule = optim.OneCycleLR(optimizer, max_lr=5e-3, total_steps=args.epochs * len(loader))
        trainer = ox.Trainer(
            model, optimizer, nn.CrossEntropyLoss(), ["accuracy"], scheduler=schedule, device=args.device
        )
        history = trainer.fit(loader, test, args.epochs)
        scores.append(history["val_accuracy"][-1])
    each = ", ".join(f"{score:.2%}" for score in scores)
    mean = sum(scores) / len(scores)
    print(f"test accuracy {mean:.2%} after {args.epochs} epochs, mean of {len(scores)} seeds ({each})")
    print("Keras:        99.22% after 15 epochs")


if __name__ == "__main__":
    main()
