"""What a training shows: history, progress, and the summary of a model."""

import io
import sys

import numpy as np
import oxon as ox
import pytest
from oxon import nn, optim
from oxon.train.progress import Progress, mode_of

# -- history -------------------------------------------------------------------------------------------------


def test_history(tmp_path):
    history = ox.History()
    assert repr(history) == "History(no epochs)"
    assert history.epochs == 0
    history.append({"loss": 2.0, "accuracy": 0.5})
    history.append({"loss": 1.0, "accuracy": 0.75, "val_<loss>": 3.0})
    history.append({"loss": float("nan"), "accuracy": 0.75, "val_<loss>": 4.0})
    assert np.isnan(history["val_<loss>"][0])
    assert history["val_<loss>"][1:] == [3.0, 4.0]
    assert history.best("loss") == (2, 1.0)
    assert history.best("accuracy") == (2, 0.75)
    assert history.best("accuracy", "min") == (1, 0.5)
    with pytest.raises(KeyError, match="no figure 'f1'; there are loss, accuracy"):
        history.best("f1")
    assert repr(history) == "History(3 epochs; last: loss nan, accuracy 0.7500, val_<loss> 4.0000)"
    assert "<td>2</td><td>1.0000</td><td>0.7500</td>" in history._repr_html_()
    assert "val_&lt;loss&gt;" in history._repr_html_()
    assert "<loss>" not in history._repr_html_()
    history.save(tmp_path / "history.csv")
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[:3] == ["epoch,loss,accuracy,val_<loss>", "1,2.0,0.5,nan", "2,1.0,0.75,3.0"]


def test_history_plots_without_a_display(tmp_path):
    pytest.importorskip("matplotlib")
    history = ox.History()
    with pytest.raises(ValueError, match="nothing to plot"):
        history.plot()
    for epoch in range(3):
        history.append({"loss": 1.0 / (epoch + 1), "val_loss": 1.5 / (epoch + 1), "val_only": 1.0})
    figure = history.plot(tmp_path / "plot.png")
    assert [axes.get_title() for axes in figure.axes] == ["loss", "val_only"]
    curves = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].lines}
    assert curves == {"training": history["loss"], "validation": history["val_loss"]}
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"


def test_plot_says_when_matplotlib_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    history = ox.History()
    history.append({"loss": 1.0})
    with pytest.raises(ImportError, match="needs matplotlib: pip install matplotlib"):
        history.plot()


# -- progress ------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def screen(text):
    """The lines that a terminal shows after `text`, which may hold carriage returns but no escape codes."""
    lines = [""]
    for line in text.split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return lines[1:]


def test_a_log_file_gets_one_plain_line_per_epoch(capsys):
    model = nn.Linear(2, 3)
    trainer = ox.Trainer(model, optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss(), ["accuracy"])
    data = (np.random.default_rng(0).standard_normal((9, 2)), np.arange(9) % 3)
    trainer.fit(data, data, epochs=2, seed=0)
    out = capsys.readouterr().out
    first, second = out.splitlines()
    assert first.startswith("epoch 1/2  ")
    assert second.startswith("epoch 2/2  ")
    assert all(f"  {name} " in second for name in ("loss", "accuracy", "val_loss", "val_accuracy"))
    assert "\r" not in out
    assert "\x1b" not in out
    trainer.fit(data, verbose=False)
    assert capsys.readouterr().out == ""


def test_a_terminal_gets_a_bar_that_the_epochs_line_replaces(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    out = Terminal()
    progress = Progress(epochs=10, stream=out)
    progress.interval = 0.0
    progress.begin(1, steps=4)
    assert progress.due()
    progress.update(1, {"loss": 0.123456})
    assert "\x1b" not in out.getvalue()
    assert screen(out.getvalue())[-1].startswith(
        "epoch  1/10  ━━━━━───────────────  1/4  0s left  loss 0.1235"[:14]
    )
    assert "━━━━━───────────────" in out.getvalue()
    assert "1/4" in out.getvalue()
    progress.end({"loss": 0.1}, seconds=2.0)
    assert screen(out.getvalue()) == ["epoch  1/10  2.0s  loss 0.1000", ""]
    progress.begin(2, steps=None)
    progress.update(3, {"loss": 1e-6})
    assert screen(out.getvalue())[-1].startswith("epoch  2/10  3 batches")
    assert "1.000e-06" in out.getvalue()
    progress.close()
    assert out.getvalue().endswith("\n"), "after an exception the cursor stands on a fresh line"


def test_a_bar_never_wraps_and_needs_no_unicode(monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    out = Terminal()
    out.encoding = "ascii"
    progress = Progress(epochs=1, stream=out)
    progress.begin(1, steps=2)
    progress.update(1, {f"figure_{number}": 1.0 for number in range(9)})
    assert len(screen(out.getvalue())[-1]) == 49
    assert out.getvalue().isascii()


def test_the_bar_is_redrawn_only_now_and_then():
    progress = Progress(epochs=1, stream=Terminal())
    progress.begin(1, steps=2)
    assert not progress.due()


def test_modes():
    assert mode_of(True, Terminal()) == "bar"
    assert mode_of(True, io.StringIO()) == "lines"
    assert mode_of("notebook", io.StringIO()) == "notebook"
    assert mode_of(False, Terminal()) == "silent"
    with pytest.raises(ValueError, match="got 'loud'"):
        mode_of("loud", io.StringIO())


def test_a_notebook_gets_one_display_that_is_updated(monkeypatch):
    shown = []

    class Handle:
        def update(self, page):
            shown.append(page)

    class ZMQInteractiveShell:
        pass

    module, display = type(sys)("IPython"), type(sys)("IPython.display")
    module.get_ipython = ZMQInteractiveShell
    display.HTML = lambda text: text
    display.display = lambda page, display_id: (shown.append(page), Handle())[1]
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    progress = Progress(epochs=2)
    assert progress.mode == "notebook"
    for epoch in (1, 2):
        progress.begin(epoch, steps=2)
        progress.update(1, {"loss<": 1.0})
        progress.end({"loss<": 0.5}, seconds=1.0)
    assert len(shown) == 4
    assert shown[-1].count("\n") == 1
    assert "1/2" in shown[0]
    assert shown[-1] == "<pre>epoch 1/2  1.0s  loss&lt; 0.5000\nepoch 2/2  1.0s  loss&lt; 0.5000</pre>"


# -- summary -------------------------------------------------------------------------------------------------


def test_summary_of_a_convnet():
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        nn.Flatten(),
        nn.Linear(4 * 6 * 6, 10),
    )
    model[2].bias.requires_grad_(False)
    model[0][2].eval()
    table = ox.summary(model, (1, 8, 8))
    assert table.rows == [
        ("0.0", "Conv2d", "(N, 4, 6, 6)", 40),
        ("0.1", "BatchNorm2d", "(N, 4, 6, 6)", 8),
        ("0.2", "ReLU", "(N, 4, 6, 6)", 0),
        ("1", "Flatten", "(N, 144)", 0),
        ("2", "Linear", "(N, 10)", 1450),
    ]
    assert (table.parameters, table.trainable) == (1498, 1488)
    assert table.bytes == 4 * (1498 + 8) + 8, "parameters, running mean and variance, and the batch counter"
    assert repr(table).splitlines()[-1] == "1,498 parameters, 10 of them frozen, 5.9 KiB"
    assert "<td>Conv2d</td>" in table._repr_html_()
    assert model.training
    assert model[0][1].training
    assert not model[0][2].training
    assert model[0][1].num_batches_tracked.item() == 0
    assert repr(model.summary((1, 8, 8))) == repr(table)
    assert {row[2] for row in ox.summary(model).rows} == {"-"}


def test_summary_of_shared_layers_several_inputs_and_integers():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(10, 4)
            self.again = self.embed
            self.scale = nn.Parameter(ox.ones(4))

        def forward(self, a, b):
            return self.embed(a) * self.scale, self.again(b)

    table = ox.summary(Net(), ((3,), (5,)), dtype=ox.int64)
    assert table.rows == [
        ("(model)", "Net", "(N, 3, 4), (N, 5, 4)", 4),
        ("embed", "Embedding", "(N, 3, 4)", 40),
    ]
    assert table.parameters == 44


def test_summary_takes_its_hooks_off_after_an_error():
    model = nn.Linear(2, 1)
    with pytest.raises(Exception):  # noqa: B017 - whatever the layer says about the shape
        ox.summary(model, (3,))
    calls = []
    handle = model.register_forward_hook(lambda *arguments: calls.append(1))
    model(ox.ones(1, 2))
    handle.remove()
    assert calls == [1]
