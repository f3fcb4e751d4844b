"""Where the workers of one server keep their figures, so that a scrape of any of them tells the sum.

Imports nothing of Prometheus: its library looks for the folder when it is imported.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


@contextlib.contextmanager
def shared_metrics() -> Iterator[None]:
    """For the parent, around its workers: a folder that they inherit by the environment. One that the operator has
    named is taken, and left there.
    """
    if os.environ.get(VARIABLE):
        os.makedirs(os.environ[VARIABLE], exist_ok=True)
        yield
        return
    os.environ[VARIABLE] = folder = tempfile.mkdtemp(prefix="agentd-metrics-")
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        shutil.rmtree(folder, ignore_errors=True)


def worker_ended(pid: int) -> None:
    """For the parent: what this worker had under way is over. What it has counted stays in the sums."""
    from prometheus_client.multiprocess import mark_process_dead

    if os.environ.get(VARIABLE):
        mark_process_dead(pid)  # type: ignore[no-untyped-call]
