"""Loss layers: modules around the functions of `functional/losses.py`, which give the details.

All take `reduction`: "mean" (the default), "sum", or "none" for the loss of each element.
"""

from __future__ import annotations

from . import functional as F
from .module import Module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._core import Tensor


class _Loss(Module):
    _reductions: tuple[str, ...] = ("none", "mean", "sum")

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        if reduction not in self._reductions:
            *most, last = map(repr, self._reductions)
            raise ValueError(
                f"{type(self).__name__}: reduction must be {', '.join(most)} or {last}, not {reduction!r}"
            )
        self.reduction = reduction


class _WeightedLoss(_Loss):
    weight: Tensor | None

    def __init__(self, weight: Tensor | None = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)


# -- regression ------------------------------------------------------------------------------------


class MSELoss(_Loss):
    """(x - y)².

    Shape:
        input and target of one shape.

    >>> nn.MSELoss()(ox.tensor([1.0, 3.0]), ox.tensor([1.0, 1.0])).item()
    2.0
    """

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(x, target, self.reduction)


class L1Loss(_Loss):
    """|x - y|.

    Shape:
        input and target of one shape.

    >>> nn.L1Loss()(ox.tensor([1.0, 3.0]), ox.tensor([1.0, 1.0])).item()
    1.0
    """

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return F.l1_loss(x, target, self.reduction)


class SmoothL1Loss(_Loss):
    """e² / 2β where e = |x - y| < β, else e - β/2 (Girshick, 2015, https://arxiv.org/abs/1504.08083).

    Shape:
        input and target of one shape.

    >>> nn.SmoothL1Loss()(ox.tensor([1.0, 3.0]), ox.tensor([1.0, 1.0])).item()
    0.75
    """

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = beta

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return F.smooth_l1_loss(x, target, self.reduction, self.beta)


class HuberLoss(_Loss):
    """e² / 2 where e = |x - y| < δ, else δ (e - δ/2) (Huber, 1964).

    Shape:
        input and target of one shape.

    >>> nn.HuberLoss(delta=2.0)(ox.tensor([1.0, 4.0]), ox.tensor([1.0, 1.0])).item()
    2.0
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = delta

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return F.huber_loss(x, target, self.reduction, self.delta)


class PoissonNLLLoss(_Loss):
    """exp(x) - y x: the negative log-likelihood of a count y under the rate exp(x), up to a constant.

    Args:
        log_input: whether x is the logarithm of the rate; else the loss is x - y log(x + eps).
        full: add Stirling's approximation of log(y!).

    Shape:
        input and target of one shape.

    >>> nn.PoissonNLLLoss()(ox.tensor([0.0]), ox.tensor([3.0])).item()
    1.0
    """

    def __init__(
        self, log_input: bool = True, full: bool = False, *, eps: float = 1e-8, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction)
        self.log_input = log_input
        self.full = full
        self.eps = eps

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return F.poisson_nll_loss(x, target, self.log_input, self.full, self.eps, self.reduction)


class GaussianNLLLoss(_Loss):
    """(log v + (x - y)² / v) / 2 with v = max(var, eps) (Nix and Weigend, 1994).

    Args:
        full: add log(2π) / 2.

    Shape:
        input and target of one shape, var of one that broadcasts to it.

    >>> nn.GaussianNLLLoss()(ox.tensor([3.0]), ox.tensor([1.0]), ox.tensor([1.0])).item()
    2.0
    """

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.full = full
        self.eps = eps

    def forward(self, x: Tensor, target: Tensor, var: Tensor) -> Tensor:
        return F.gaussian_nll_loss(x, target, var, self.full, self.eps, self.reduction)


# -- classification --------------------------------------------------------------------------------


class CrossEntropyLoss(_WeightedLoss):
    """-Σ_c weight_c p_c log softmax(x)_c, p being 1 at the target's class, or the target itself.

    Args:
        weight: `(C,)`, the weight of each class, or None.
        ignore_index: a class index whose examples do not count.
        label_smoothing: ε, which makes p (1 - ε) p + ε / C (Szegedy et al., 2015,
            https://arxiv.org/abs/1512.00567).

    Shape:
        logits `(N, C)`, `(N, C, *)` or `(C,)`; target as integers `(N)`, `(N, *)` or `()`, or as
        probabilities of the logits' shape. Under "mean" the sum over indices is divided by the sum of
        the targets' weights, that over probabilities by the number of examples.

    >>> loss = nn.CrossEntropyLoss()(ox.tensor([[100.0, 0.0], [0.0, 0.0]]), ox.tensor([0, 1]))
    >>> round(loss.item(), 4)
    0.3466
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, reduction)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(
            x, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing
        )


class NLLLoss(_WeightedLoss):
    """-weight_y x_y, for log-probabilities x and a class y.

    Args:
        weight: `(C,)`, the weight of each class, or None.
        ignore_index: a class index whose examples do not count.

    Shape:
        log-probabilities `(N, C)`, `(N, C, *)` or `(C,)`; target integers `(N)`, `(N, *)` or `()`.

    >>> nn.NLLLoss()(ox.tensor([[-0.5, -2.0]]), ox.tensor([1])).item()
    2.0
    """

    def __init__(
        self, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__(weight, reduction)
        self.ignore_index = ignore_index

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return F.nll_loss(x, target, self.weight, self.ignore_index, self.reduction)


class BCELoss(_WeightedLoss):
    """-weight (y log x + (1 - y) log(1 - x)) for a probability x, each logarithm at least -100.

    Args:
        weight: of a shape that broadcasts to the input's, or None.

    Shape:
        input and target of one shape.

    >>> nn.BCELoss()(ox.tensor([1.0, 0.0]), ox.tensor([1.0, 1.0])).item()
    50.0
    """

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy(x, target, self.weight, self.reduction)


class BCEWithLogitsLoss(_WeightedLoss):
    """`BCELoss` of σ(x), without overflow: (1 - y) x + (1 + (pos_weight - 1) y) log(1 + exp(-x)).

    Args:
        weight: of a shape that broadcasts to the input's, or None.
        pos_weight: multiplies the loss of the positive class; broadcasts to the input's shape.

    Shape:
        input and target of one shape.

    >>> nn.BCEWithLogitsLoss()(ox.tensor([1000.0, -1000.0]), ox.tensor([1.0, 1.0])).item()
    500.0
    """

    pos_weight: Tensor | None

    def __init__(
        self, weight: Tensor | None = None, *, reduction: str = "mean", pos_weight: Tensor | None = None
    ) -> None:
        super().__init__(weight, reduction)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(x, target, self.weight, self.reduction, self.pos_weight)


class KLDivLoss(_Loss):
    """y (log y - x): the divergence of y from the model whose log-probabilities are x.

    Args:
        reduction: also "batchmean", the sum divided by the number of examples, which is the divergence.
        log_target: whether y is given as log y.

    Shape:
        input and target of one shape.

    >>> nn.KLDivLoss(reduction="batchmean")(ox.tensor([[-2.0, -3.0]]), ox.tensor([[1.0, 0.0]])).item()
    2.0
    """

    _reductions = ("none", "batchmean", "mean", "sum")

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction)
        self.log_target = log_target

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return F.kl_div(x, target, self.reduction, self.log_target)


class SoftMarginLoss(_Loss):
    """log(1 + exp(-y x)) for targets y of 1 and -1.

    Shape:
        input and target of one shape.

    >>> nn.SoftMarginLoss()(ox.tensor([1000.0, -1000.0]), ox.tensor([1.0, 1.0])).item()
    500.0
    """

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return F.soft_margin_loss(x, target, self.reduction)


# -- distances and rankings ------------------------------------------------------------------------


class HingeEmbeddingLoss(_Loss):
    """x where y is 1, max(0, margin - x) where y is -1.

    Shape:
        input and target of one shape.

    >>> nn.HingeEmbeddingLoss()(ox.tensor([2.0, 0.5]), ox.tensor([1, -1])).item()
    1.25
    """

    def __init__(self, margin: float = 1.0, *, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = margin

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return F.hinge_embedding_loss(x, target, self.margin, self.reduction)


class MarginRankingLoss(_Loss):
    """max(0, -y (x₁ - x₂) + margin): y is 1 where x₁ should rank higher, else -1.

    Shape:
        both inputs and the target of one shape.

    >>> nn.MarginRankingLoss()(ox.tensor([2.0]), ox.tensor([5.0]), ox.tensor([1])).item()
    3.0
    """

    def __init__(self, margin: float = 0.0, *, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = margin

    def forward(self, x1: Tensor, x2: Tensor, target: Tensor) -> Tensor:
        return F.margin_ranking_loss(x1, x2, target, self.margin, self.reduction)


class CosineEmbeddingLoss(_Loss):
    """1 - cos(x₁, x₂) where y is 1, max(0, cos(x₁, x₂) - margin) where y is -1.

    Shape:
        inputs `(N, D)` or `(D,)`, target `(N,)` or `()`.

    >>> nn.CosineEmbeddingLoss()(ox.tensor([[1.0, 0.0]]), ox.tensor([[0.0, 2.0]]), ox.tensor([1])).item()
    1.0
    """

    def __init__(self, margin: float = 0.0, *, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = margin

    def forward(self, x1: Tensor, x2: Tensor, target: Tensor) -> Tensor:
        return F.cosine_embedding_loss(x1, x2, target, self.margin, self.reduction)


class TripletMarginLoss(_Loss):
    """max(0, margin + d(a, p) - d(a, n)) with d(x, y) = ‖x - y + eps‖ₚ (Schroff et al., 2015,
    https://arxiv.org/abs/1503.03832).

    Args:
        margin: by how much the negative should be further away than the positive.
        p: the norm.
        eps: added to every difference.
        swap: take the negative's distance to the positive where that is smaller.

    Shape:
        anchor, positive and negative `(N, D)` or `(D,)`.

    >>> a, p, n = ox.tensor([[0.0]]), ox.tensor([[3.0]]), ox.tensor([[2.0]])
    >>> round(nn.TripletMarginLoss()(a, p, n).item(), 3)
    2.0
    """

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        *,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self.margin = margin
        self.p = p
        self.eps = eps
        self.swap = swap

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        return F.triplet_margin_loss(
            anchor, positive, negative, self.margin, self.p, self.eps, self.swap, self.reduction
        )
