"""What is measured: a file for each family, each with its table of tasks."""

from . import attention, conv, latency, matmul, overhead, recurrent, rows, training

TASKS = {
    **matmul.TASKS,
    **rows.TASKS,
    **overhead.TASKS,
    **conv.TASKS,
    **attention.TASKS,
    **recurrent.TASKS,
    **training.TASKS,
    **latency.TASKS,
}
