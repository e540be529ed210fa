"""Training: the Trainer, its callbacks and metrics, what it measured, and a table of the model."""

from . import callbacks as callbacks
from . import metrics as metrics
from .callbacks import Callback as Callback
from .history import History as History
from .summary import Summary as Summary
from .summary import summary as summary
from .trainer import Trainer as Trainer
