"""A command of agentd, run in this process."""

import logging

import pytest

from agentd.cli import main


def code_of(*argv: str) -> int:
    """Its exit code. How it sets up logging ends with it: other tests read the log, too."""
    root, ours = logging.getLogger(), logging.getLogger("agentd")
    handlers, levels = list(root.handlers), (root.level, ours.level)
    try:
        with pytest.raises(SystemExit) as stop:
            main(list(argv))
    finally:
        root.handlers[:] = handlers
        root.setLevel(levels[0])
        ours.setLevel(levels[1])
    return int(stop.value.code or 0)
