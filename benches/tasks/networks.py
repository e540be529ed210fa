"""The networks of the training steps: sizes, and PyTorch's versions of `oxon.models`, whose parameters bear
the same names so that all start from the same weights."""

from __future__ import annotations

from typing import Any

GPTS = {"gpt 4x128 b12": (4, 4, 128, 64, 12), "gpt 6x384 b8": (6, 6, 384, 256, 8)}
VOCABULARY = 65


def sequential(nn: Any, name: str) -> Any:
    """Feed-forward networks, written alike in both libraries."""
    if name == "mlp":
        return nn.Sequential(
            nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)
        )
    if name == "tiny":
        return nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


def recurrent(nn: Any, kind: str) -> Any:
    """An LSTM or GRU of 64 inputs and 256 units, and a linear layer on its last output."""

    class Network(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.rnn = getattr(nn, kind.upper())(64, 256, batch_first=True)
            self.out = nn.Linear(256, 10)

        def forward(self, x: Any) -> Any:
            return self.out(self.rnn(x)[0][:, -1])

    return Network()


def torch_resnet18(torch: Any, cifar: bool = True) -> Any:
    """ResNet-18 in the form for images of 32 × 32, or of 224 × 224."""
    nn, F = torch.nn, torch.nn.functional

    def conv(i: int, o: int, size: int, stride: int) -> Any:
        return nn.Conv2d(i, o, size, stride, size // 2, bias=False)

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self, i: int, o: int, stride: int) -> None:
            super().__init__()
            self.conv1, self.bn1 = conv(i, o, 3, stride), nn.BatchNorm2d(o)
            self.conv2, self.bn2 = conv(o, o, 3, 1), nn.BatchNorm2d(o)
            self.downsample = None
            if stride != 1 or i != o:
                self.downsample = nn.Sequential(conv(i, o, 1, stride), nn.BatchNorm2d(o))

        def forward(self, x: Any) -> Any:
            rest = x if self.downsample is None else self.downsample(x)
            return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + rest)

    class ResNet(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = conv(3, 64, 3, 1) if cifar else conv(3, 64, 7, 2)
            self.bn1 = nn.BatchNorm2d(64)
            width = 64
            for stage in range(4):
                last, width = width, 64 << stage
                blocks = [Block(last, width, 2 if stage else 1), Block(width, width, 1)]
                setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
            self.fc = nn.Linear(512, 10)

        def forward(self, x: Any) -> Any:
            x = F.relu(self.bn1(self.conv1(x)))
            x = x if cifar else F.max_pool2d(x, 3, 2, 1)
            return self.fc(self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((-2, -1)))

    return ResNet()


def torch_gpt(torch: Any, layers: int, heads: int, width: int, block: int) -> Any:
    """The decoder of `oxon.models.GPT`."""
    nn, F = torch.nn, torch.nn.functional

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: Any) -> Any:
            parts = self.qkv(self.norm1(x)).unflatten(-1, (3, heads, width // heads)).unbind(2)
            q, k, v = (part.transpose(1, 2) for part in parts)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).flatten(2))
            return x + self.down(F.gelu(self.up(self.norm2(x))))

    class GPT(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.places = nn.Embedding(VOCABULARY, width), nn.Embedding(block, width)
            self.blocks = nn.ModuleList([Block() for _ in range(layers)])
            self.norm = nn.LayerNorm(width)

        def forward(self, tokens: Any) -> Any:
            x = self.tokens(tokens) + self.places.weight[: tokens.shape[1]]
            for layer in self.blocks:
                x = layer(x)
            return F.linear(self.norm(x), self.tokens.weight)

    return GPT()
