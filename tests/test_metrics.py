"""Metrics, fed in batches, against their formulas in NumPy."""

import numpy as np
import oxon as ox
import pytest
from oxon import nn

metrics = ox.metrics


def streamed(metric, outputs, targets, size=7):
    """The metric over batches of unequal sizes, after it has been used for something else and reset."""
    metric.update(ox.tensor(outputs[:3]), ox.tensor(targets[:3]))
    metric.reset()
    for start in range(0, len(outputs), size):
        metric.update(ox.tensor(outputs[start : start + size]), ox.tensor(targets[start : start + size]))
    return metric.compute()


@pytest.fixture
def scores():
    random = np.random.default_rng(3)
    labels = random.integers(0, 4, 50)
    outputs = random.standard_normal((50, 4)).astype(np.float32)
    outputs[np.arange(50), labels] += 1.0
    return outputs, labels


def by_class(predicted, labels, classes):
    hits = np.array([np.sum((predicted == c) & (labels == c)) for c in range(classes)], float)
    called = np.array([np.sum(predicted == c) for c in range(classes)], float)
    true = np.array([np.sum(labels == c) for c in range(classes)], float)
    return hits / called, hits / true, 2 * hits / (called + true), true


def test_classification_metrics_follow_their_formulas(scores):
    outputs, labels = scores
    predicted = outputs.argmax(1)
    assert streamed(metrics.Accuracy(), outputs, labels) == np.mean(predicted == labels)
    assert streamed(metrics.Accuracy(), predicted, labels) == np.mean(predicted == labels)
    kept = labels != 2
    assert streamed(metrics.Accuracy(ignore_index=2), outputs, labels) == pytest.approx(
        np.mean(predicted[kept] == labels[kept])
    )
    for k in (1, 2, 4, 9):
        order = np.argsort(-outputs, 1)[:, :k]
        assert streamed(metrics.TopKAccuracy(k), outputs, labels) == np.mean(
            (order == labels[:, None]).any(1)
        )
    precision, recall, f1, true = by_class(predicted, labels, 4)
    for metric, each in ((metrics.Precision, precision), (metrics.Recall, recall), (metrics.F1, f1)):
        assert streamed(metric(), outputs, labels) == pytest.approx(each.mean())
        assert streamed(metric("macro"), outputs, labels) == pytest.approx(each.mean())
        assert streamed(metric("weighted"), outputs, labels) == pytest.approx(
            (each * true).sum() / true.sum()
        )
        assert streamed(metric("micro"), outputs, labels) == pytest.approx(np.mean(predicted == labels))
    matrix = np.zeros((4, 4), int)
    np.add.at(matrix, (labels, predicted), 1)
    assert streamed(metrics.ConfusionMatrix(), outputs, labels).tolist() == matrix.tolist()
    assert streamed(metrics.ConfusionMatrix(4), predicted, labels).tolist() == matrix.tolist()


def test_binary_metrics():
    random = np.random.default_rng(4)
    logits = random.standard_normal(40).astype(np.float32)
    labels = (logits + random.standard_normal(40) > 0).astype(np.float32)
    predicted = logits > 0
    precision, recall, f1, _ = by_class(predicted, labels, 2)
    for outputs, targets in ((logits, labels), (logits[:, None], labels), (logits[:, None], labels[:, None])):
        assert streamed(metrics.Accuracy(threshold=0.0), outputs, targets) == np.mean(predicted == labels)
        assert streamed(metrics.F1(threshold=0.0), outputs, targets) == pytest.approx(f1[1])
    probabilities = 1 / (1 + np.exp(-logits))
    assert streamed(metrics.Precision(), probabilities, labels) == pytest.approx(precision[1])
    assert streamed(metrics.Recall(), probabilities, labels.astype(np.int64)) == pytest.approx(recall[1])
    assert streamed(metrics.Recall("macro"), probabilities, labels) == pytest.approx(recall.mean())


def test_metrics_take_their_reading_from_the_loss():
    logits = ox.tensor([[0.2], [-0.2]])
    accuracy = metrics.resolve("accuracy", nn.BCEWithLogitsLoss())
    accuracy.update(logits, ox.tensor([[1.0], [0.0]]))
    assert accuracy.compute() == 1.0
    soft = metrics.resolve("accuracy", nn.CrossEntropyLoss())
    soft.update(ox.tensor([[0.1, 0.9], [0.2, 0.8]]), ox.tensor([[0.0, 1.0], [0.7, 0.3]]))
    assert soft.compute() == 0.5
    masked = metrics.resolve("accuracy", nn.CrossEntropyLoss(ignore_index=7))
    masked.update(ox.tensor([[0.1, 0.9], [0.2, 0.8]]), ox.tensor([7, 1]))
    assert masked.compute() == 1.0
    assert metrics.resolve("top3_accuracy").name == "top3_accuracy"
    own = metrics.resolve(lambda outputs, targets: (outputs - targets).max())
    own.update(ox.tensor([1.0]), ox.tensor([0.0]))
    assert own.compute() == 1.0
    with pytest.raises(TypeError, match="got int"):
        metrics.resolve(3)


def test_metrics_on_scores_per_position():
    outputs = np.random.default_rng(5).standard_normal((6, 3, 5)).astype(np.float32)
    labels = np.random.default_rng(6).integers(0, 3, (6, 5))
    assert streamed(metrics.Accuracy(), outputs, labels) == pytest.approx(
        np.mean(outputs.argmax(1) == labels)
    )


def test_regression_metrics_follow_their_formulas():
    random = np.random.default_rng(7)
    targets = (1000 + random.standard_normal((40, 2)) * [1.0, 3.0]).astype(np.float32)
    outputs = (targets + random.standard_normal((40, 2)) * 0.5).astype(np.float32)
    t, o = targets.astype(np.float64), outputs.astype(np.float64)
    assert streamed(metrics.MSE(), outputs, targets) == pytest.approx(((t - o) ** 2).mean(), rel=1e-5)
    assert streamed(metrics.MAE(), outputs, targets) == pytest.approx(np.abs(t - o).mean(), rel=1e-5)
    r2 = 1 - ((t - o) ** 2).sum(0) / ((t - t.mean(0)) ** 2).sum(0)
    assert streamed(metrics.R2(), outputs, targets) == pytest.approx(r2.mean(), rel=1e-4)
    constant = metrics.R2()
    constant.update(ox.ones(3), ox.ones(3))
    assert constant.compute() == 1.0
    constant.update(ox.zeros(3), ox.ones(3))
    assert constant.compute() == 0.0


def test_metrics_refuse_what_does_not_fit_and_are_nan_when_empty():
    with pytest.raises(ValueError, match=r"\(3, 2\) do not fit targets of shape \(4,\)"):
        metrics.Accuracy().update(ox.zeros(3, 2), ox.zeros(4, dtype=ox.int64))
    with pytest.raises(ValueError, match=r"outputs of shape \(3, 1\), targets of shape \(3,\)"):
        metrics.MSE().update(ox.zeros(3, 1), ox.zeros(3))
    with pytest.raises(ValueError, match="expected outputs"):
        metrics.TopKAccuracy(2).update(ox.zeros(3), ox.zeros(3, dtype=ox.int64))
    with pytest.raises(ValueError, match="pass num_classes"):
        metrics.F1().update(ox.tensor([1, 2]), ox.tensor([1, 2]))
    outside = metrics.ConfusionMatrix(2)
    outside.update(ox.tensor([0, 1, 5]), ox.tensor([0, 1, 1]))
    with pytest.raises(ValueError, match=r"1 labels outside 0\.\.1"):
        outside.compute()
    for bad in (
        lambda: metrics.TopKAccuracy(0),
        lambda: metrics.Accuracy("multi"),
        lambda: metrics.F1("mean"),
    ):
        with pytest.raises(ValueError):
            bad()
    for metric in (metrics.Accuracy(), metrics.TopKAccuracy(2), metrics.F1(), metrics.MSE(), metrics.R2()):
        assert np.isnan(metric.compute())


def test_a_nan_score_is_never_right():
    nan = float("nan")
    top = metrics.TopKAccuracy(1)
    top.update(ox.tensor([[nan, nan], [0.0, 1.0]]), ox.tensor([0, 1]))
    assert top.compute() == 0.5
