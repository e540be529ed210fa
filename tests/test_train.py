"""The trainer and its callbacks."""

import csv
import os

import numpy as np
import oxon as ox
import pytest
from oxon import nn, optim

callbacks, metrics = ox.callbacks, ox.metrics


def blobs(n=60, seed=0):
    """Three well separated classes in the plane."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    centres = np.array([[0.0, 3.0], [3.0, -2.0], [-3.0, -2.0]])
    return centres[labels] + 0.5 * random.standard_normal((n, 2)), labels


def make(lr=0.1, seed=0, **options):
    ox.manual_seed(seed)
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = optim.SGD(model.parameters(), lr=lr)
    return ox.Trainer(model, optimizer, nn.CrossEntropyLoss(), **{"metrics": ["accuracy"], **options})


def quiet(trainer, *data, **options):
    return trainer.fit(*data, **{"verbose": False, "seed": 0, **options})


class Script(callbacks.Callback):
    """Puts given validation losses into the logs."""

    def __init__(self, losses):
        self.losses = losses

    def on_epoch_end(self, trainer, epoch, logs):
        logs["val_loss"] = self.losses[epoch - 1]


# -- fit, evaluate, predict ----------------------------------------------------------------------------------


def test_fit_learns_and_records():
    trainer = make()
    history = quiet(trainer, blobs(), blobs(30, seed=1), epochs=15, batch_size=10)
    assert list(history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert all(len(values) == 15 for values in history.values())
    assert len(history.seconds) == 15
    assert history["loss"][-1] < 0.1 < history["loss"][0]
    assert history["val_accuracy"][-1] == 1.0
    assert trainer.evaluate(blobs(30, seed=1)) == {
        "loss": history["val_loss"][-1],
        "accuracy": history["val_accuracy"][-1],
    }
    assert trainer.epoch == 15
    assert trainer.history is history


def test_the_loss_is_the_mean_over_samples_of_unequal_batches():
    trainer = make(lr=0.0)
    x, y = blobs(25)
    history = quiet(trainer, (x, y), epochs=1, batch_size=7)
    scores = trainer.predict(x).numpy().astype(np.float64)
    log_sum = np.log(np.exp(scores).sum(1))
    expected = (log_sum - scores[np.arange(25), y]).mean()
    assert history["loss"][0] == pytest.approx(expected, rel=1e-5)
    assert trainer.evaluate((x, y), batch_size=4)["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["arrays", "tensors", "dataset", "loader", "samples", "batches"])
def test_every_form_of_data_trains_alike(kind):
    x, y = (ox.data.as_tensor(part) for part in blobs(24))
    forms = {
        "arrays": blobs(24),
        "tensors": (x, y),
        "dataset": ox.data.TensorDataset(x, y),
        "loader": ox.data.DataLoader((x, y), batch_size=8),
        "samples": list(zip(x, y, strict=True)),
        "batches": Batches([(x[i : i + 8], y[i : i + 8]) for i in (0, 8, 16)]),
    }
    history = quiet(make(), forms[kind], epochs=2, batch_size=8, shuffle=False)
    expected = quiet(make(), (x, y), epochs=2, batch_size=8, shuffle=False)
    assert history == expected


class Batches:
    """Iterable again and again, without a length."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def test_the_same_seed_trains_bit_for_bit_alike_and_another_does_not():
    def weights(seed):
        ox.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 3))
        trainer = ox.Trainer(model, optim.Adam(model.parameters()), nn.CrossEntropyLoss())
        trainer.fit(blobs(), epochs=2, verbose=False, seed=seed)
        return [parameter.detach().numpy().tobytes() for parameter in model.parameters()]

    assert weights(1) == weights(1) != weights(2)


def test_modes_and_predict():
    ox.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 16), nn.Dropout(0.5), nn.Linear(16, 3))
    model[1].eval()
    trainer = ox.Trainer(model, optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss())
    x, y = blobs(20)
    first = trainer.predict(x, batch_size=6)
    assert first.shape == (20, 3)
    assert not first.requires_grad
    np.testing.assert_array_equal(first.numpy(), trainer.predict((x, y), batch_size=6).numpy())
    np.testing.assert_array_equal(first.numpy(), trainer.predict(ox.data.DataLoader((x, y), 6)).numpy())
    assert (model.training, model[0].training, model[1].training) == (True, True, False), "as they were"
    quiet(trainer, (x, y))
    assert model[1].training


def test_several_inputs_dicts_and_autoencoders():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 1)

        def forward(self, a, b):
            return self.linear(ox.cat([a, b], 1))

    samples = [((ox.ones(2) * i, ox.ones(2)), ox.ones(1)) for i in range(6)]
    named = [({"a": ox.ones(2) * i, "b": ox.ones(2)}, ox.ones(1)) for i in range(6)]
    results = []
    for data in (samples, named):
        ox.manual_seed(0)
        model = Two()
        trainer = ox.Trainer(model, optim.SGD(model.parameters(), lr=0.01), nn.MSELoss(), ["mae"])
        results.append(quiet(trainer, data, epochs=2, batch_size=3))
        assert trainer.predict(data).shape == (6, 1)
    assert results[0] == results[1]
    model = nn.Linear(2, 2)
    trainer = ox.Trainer(model, optim.SGD(model.parameters(), lr=0.1), nn.MSELoss())
    history = quiet(trainer, ox.data.TensorDataset(blobs()[0]), epochs=5)
    assert history["loss"][-1] < history["loss"][0]


def test_forward_can_be_overridden():
    class Weighted(ox.Trainer):
        def forward(self, batch):
            x, y, weight = batch
            outputs = self.model(x)
            return (self.loss(outputs, y) * weight.mean()), outputs, y

    model = nn.Linear(2, 3)
    trainer = Weighted(model, optim.SGD(model.parameters(), lr=0.0), nn.CrossEntropyLoss())
    x, y = blobs(12)
    full = quiet(trainer, (x, y, np.ones(12)))["loss"]
    assert quiet(trainer, (x, y, np.ones(12) / 4))["loss"][0] == pytest.approx(full[0] / 4, rel=1e-6)
    with pytest.raises(ValueError, match=r"got 3 parts; override Trainer\.forward"):
        quiet(make(), (x, y, y))


def test_gradients_are_clipped():
    norms = []

    class Norm(callbacks.Callback):
        def on_batch_end(self, trainer, step, loss):
            squares = sum(
                float((p.grad.numpy().astype(np.float64) ** 2).sum()) for p in trainer.model.parameters()
            )
            norms.append(squares**0.5)

    quiet(make(lr=0.0), blobs(), callbacks=[Norm()])
    quiet(make(lr=0.0, clip_grad_norm=0.01), blobs(), callbacks=[Norm()])
    assert norms[0] > 0.02
    assert norms[2] == pytest.approx(0.01, rel=1e-3)
    with pytest.raises(ValueError, match="must be positive"):
        make(clip_grad_norm=0.0)


def test_schedules_step_by_epoch_by_batch_and_on_a_plateau():
    def rates(scheduler, **options):
        trainer = make(lr=1.0)
        trainer = ox.Trainer(
            trainer.model, trainer.optimizer, trainer.loss, scheduler=scheduler(trainer.optimizer), **options
        )
        log = callbacks.LearningRateLogger()
        return quiet(trainer, blobs(40), blobs(10), epochs=3, batch_size=20, callbacks=[log])["lr"]

    assert rates(lambda o: optim.StepLR(o, 1, 0.5)) == pytest.approx([1.0, 0.5, 0.25])
    assert rates(lambda o: optim.StepLR(o, 1, 0.5), scheduler_step="batch") == pytest.approx(
        [1.0, 0.25, 0.0625]
    )
    cycle = rates(lambda o: optim.OneCycleLR(o, max_lr=1.0, total_steps=6))
    assert cycle[0] == pytest.approx(0.04)
    assert cycle[1] > 0.5
    plateau = rates(
        lambda o: optim.ReduceLROnPlateau(o, factor=0.1, patience=0, threshold=1e9, threshold_mode="abs")
    )
    assert plateau == pytest.approx([1.0, 1.0, 0.1]) or plateau == pytest.approx([1.0, 0.1, 0.01])
    with pytest.raises(ValueError, match="scheduler_step"):
        make(scheduler_step="sometimes")


def test_what_is_wrong_is_said():
    x, y = blobs(12)
    model, other = nn.Linear(2, 3), nn.Linear(2, 3)
    stranger = ox.Trainer(model, optim.SGD(other.parameters(), lr=0.1), nn.CrossEntropyLoss())
    with pytest.raises(ValueError, match="holds none of the model's parameters"):
        quiet(stranger, (x, y))
    both = nn.Sequential(model, nn.Linear(3, 3))
    partly = ox.Trainer(both, optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss())
    with pytest.warns(UserWarning, match="does not hold 1.weight, 1.bias"):
        quiet(partly, (x, y))

    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare = nn.Linear(2, 3), nn.Linear(2, 3)

        def forward(self, x):
            return self.used(x)

    unused = Unused()
    trainer = ox.Trainer(unused, optim.SGD(unused.parameters(), lr=0.1), nn.CrossEntropyLoss())
    with pytest.warns(UserWarning, match=r"no gradient to spare\.weight, spare\.bias"):
        quiet(trainer, (x, y))
    for data in [ox.data.TensorDataset(ox.zeros(0, 2), ox.zeros(0, dtype=ox.int64)), []]:
        with pytest.raises(ValueError, match="gave no batch"):
            quiet(make(), data)
        with pytest.raises(ValueError, match="gave no batch"):
            make().evaluate(data)
        with pytest.raises(ValueError, match="gave no batch"):
            make().predict(data)
    with pytest.raises(TypeError, match="got int"):
        quiet(make(), 3)
    with pytest.raises(TypeError, match="one epoch only"):
        quiet(make(), iter([(x, y)]))
    with pytest.raises(ValueError, match="epochs must not be negative"):
        quiet(make(), (x, y), epochs=-1)
    with pytest.raises(TypeError, match="expected a Callback, got str"):
        quiet(make(), (x, y), callbacks=["stop"])
    with pytest.raises(ValueError, match="unknown name 'acuracy'; known are accuracy"):
        make(metrics=["acuracy"])
    with pytest.raises(TypeError, match="not a single number"):
        quiet(make(metrics=[metrics.ConfusionMatrix()]), (x, y))


def test_a_loss_that_is_not_finite_ends_the_training():
    x, y = blobs(12)
    x[5] = np.nan
    trainer = make()
    with pytest.raises(FloatingPointError, match="loss became nan in epoch 1, at or before batch 3"):
        quiet(trainer, (x, y), epochs=3, batch_size=4)
    assert trainer.history.epochs == 0


def test_hooks_come_in_order_and_stop_ends_the_training():
    events = []

    class Events(callbacks.Callback):
        def on_fit_begin(self, trainer):
            events.append("begin")

        def on_epoch_begin(self, trainer, epoch, logs):
            events.append(f"epoch {epoch} {logs}")

        def on_batch_end(self, trainer, step, loss):
            assert loss.shape == ()
            assert not loss.requires_grad
            events.append(step)

        def on_epoch_end(self, trainer, epoch, logs):
            events.append(sorted(logs))
            trainer.stop = epoch == 2

        def on_fit_end(self, trainer):
            events.append("end")

    history = quiet(make(metrics=[]), blobs(20), epochs=5, batch_size=10, callbacks=[Events()])
    assert events == ["begin", "epoch 1 {}", 1, 2, ["loss"], "epoch 2 {}", 1, 2, ["loss"], "end"]
    assert history.epochs == 2
    assert quiet(make(), blobs(20), epochs=0).epochs == 0


def test_lambda_callback_and_logs_of_callbacks():
    note = callbacks.LambdaCallback(on_epoch_end=lambda trainer, epoch, logs: logs.update(twice=2 * epoch))
    assert quiet(make(), blobs(20), epochs=2, callbacks=[note])["twice"] == [2.0, 4.0]


# -- callbacks -----------------------------------------------------------------------------------------------


def test_early_stopping_restores_the_best_weights():
    stopper = callbacks.EarlyStopping(patience=2, restore_best=True)
    seen = []

    class Weights(callbacks.Callback):
        def on_epoch_end(self, trainer, epoch, logs):
            seen.append(trainer.model[0].weight.detach().numpy().copy())

    trainer = make()
    history = quiet(
        trainer, blobs(), epochs=9, callbacks=[Script([3, 1, 2, 1, 9, 9, 9, 9, 9]), Weights(), stopper]
    )
    assert history.epochs == 4
    assert stopper.stopped_epoch == 4
    assert (stopper.best, stopper.best_epoch) == (1, 2)
    np.testing.assert_array_equal(trainer.model[0].weight.detach().numpy(), seen[1])
    assert (seen[1] != seen[3]).any()
    quiet(trainer, blobs(), epochs=2, callbacks=[Script([5, 4]), stopper])
    assert (stopper.best, stopper.stopped_epoch) == (4, 0), "a second fit begins anew"


@pytest.mark.parametrize(
    ("losses", "options", "epochs"),
    [
        ([1.0, 0.95, 0.9, 0.89, 0.88], {"patience": 2, "min_delta": 0.08}, 5),
        ([1.0, 0.95, 0.93, 0.9, 0.8], {"patience": 2, "min_delta": 0.2}, 3),
        ([1, 2, 3, 4, 5], {"patience": 1, "mode": "max"}, 5),
        ([float("nan")] * 5, {"patience": 3}, 3),
        ([float("nan"), 2, 1, 2, 2], {"patience": 2}, 5),
    ],
)
def test_early_stopping_counts(losses, options, epochs):
    stopper = callbacks.EarlyStopping(**options)
    assert quiet(make(), blobs(20), epochs=5, callbacks=[Script(losses), stopper]).epochs == epochs


def test_early_stopping_says_what_it_misses():
    with pytest.raises(
        KeyError, match="no figure 'val_loss' to monitor; there are loss, accuracy; pass validation"
    ):
        quiet(make(), blobs(20), callbacks=[callbacks.EarlyStopping()])
    with pytest.raises(ValueError, match="patience"):
        callbacks.EarlyStopping(patience=0)
    with pytest.raises(ValueError, match="mode"):
        callbacks.EarlyStopping(mode="up")


def test_checkpoints(tmp_path):
    every = callbacks.ModelCheckpoint(tmp_path / "all" / "{epoch:02d}-{val_loss:.1f}.safetensors")
    best = callbacks.ModelCheckpoint(tmp_path / "best.safetensors", save_best_only=True)
    whole = callbacks.ModelCheckpoint(tmp_path / "whole.safetensors", weights_only=False)
    trainer = make()
    quiet(trainer, blobs(), epochs=3, callbacks=[Script([2.0, 1.0, 1.5]), every, best, whole])
    assert sorted(os.listdir(tmp_path / "all")) == [
        "01-2.0.safetensors",
        "02-1.0.safetensors",
        "03-1.5.safetensors",
    ]
    assert every.saved.endswith("03-1.5.safetensors")
    second, last = ox.load(tmp_path / "all" / "02-1.0.safetensors"), trainer.model.state_dict()
    kept = ox.load(tmp_path / "best.safetensors")
    assert sorted(kept) == sorted(last)
    for name in last:
        np.testing.assert_array_equal(kept[name].numpy(), second[name].numpy())
    assert (kept["0.weight"].numpy() != last["0.weight"].numpy()).any()
    assert ox.load(tmp_path / "whole.safetensors")["epoch"] == 3
    with pytest.raises(KeyError, match="names 'val_f1'; there are epoch, loss, accuracy"):
        quiet(make(), blobs(), callbacks=[callbacks.ModelCheckpoint(tmp_path / "{val_f1}")])


def test_training_resumes_as_if_it_had_not_stopped(tmp_path):
    def build():
        trainer = make()
        optimizer = optim.Adam(trainer.model.parameters(), lr=0.05)
        schedule = optim.StepLR(optimizer, 1, 0.9)
        return ox.Trainer(trainer.model, optimizer, trainer.loss, scheduler=schedule)

    straight = build()
    quiet(straight, blobs(), epochs=4, shuffle=False)
    first = build()
    quiet(first, blobs(), epochs=2, shuffle=False)
    ox.save(first.state_dict(), tmp_path / "state.safetensors")
    second = build()
    second.load_state_dict(ox.load(tmp_path / "state.safetensors"))
    quiet(second, blobs(), epochs=2, shuffle=False)
    assert second.epoch == 4
    for got, want in zip(second.model.parameters(), straight.model.parameters(), strict=True):
        np.testing.assert_array_equal(got.detach().numpy(), want.detach().numpy())


def test_csv_logger(tmp_path):
    path = tmp_path / "logs" / "run.csv"
    logger = callbacks.CSVLogger(path)
    history = quiet(make(), blobs(), epochs=2, callbacks=[callbacks.LearningRateLogger(), logger])

    def rows():
        with open(path, newline="") as file:
            return list(csv.DictReader(file))

    assert [row["epoch"] for row in rows()] == ["1", "2"]
    assert list(rows()[0]) == ["epoch", "lr", "loss", "accuracy"]
    assert [float(row["loss"]) for row in rows()] == history["loss"], "every digit"
    quiet(make(), blobs(), callbacks=[callbacks.LearningRateLogger(), callbacks.CSVLogger(path, append=True)])
    assert [row["epoch"] for row in rows()] == ["1", "2", "1"]
    with pytest.raises(ValueError, match="has columns"):
        quiet(make(), blobs(), callbacks=[callbacks.CSVLogger(path, append=True)])
    quiet(make(), blobs(), callbacks=[callbacks.CSVLogger(path)])
    assert len(rows()) == 1, "written anew"
