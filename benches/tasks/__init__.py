"""What is measured: a file for each family, each with its table of tasks."""

from . import conv, matmul, overhead, rows, training

TASKS = {**matmul.TASKS, **rows.TASKS, **overhead.TASKS, **conv.TASKS, **training.TASKS}
