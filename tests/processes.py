"""Processes that tests run beside themselves, often to kill them.

They are forked from a process that has imported what they need and done nothing else, so that each starts at once.
"""

from collections.abc import Callable
from multiprocessing import forkserver, get_context
from multiprocessing.process import BaseProcess

CONTEXT = get_context("forkserver")
IMPORTED = ["tests.training.test_loop", "benchmarks.contenders",
            "torch._dynamo", "dvc.repo", "scmrepo.git"]  # which others import at their first use


def make_ready() -> None:
    """Starts the process to fork from. There is one in all, and who starts it says what it imports."""
    CONTEXT.set_forkserver_preload(IMPORTED)
    forkserver.ensure_running()


def start(function: Callable, *arguments) -> BaseProcess:
    """A function of a test module in a process of its own."""
    make_ready()
    process = CONTEXT.Process(target=function, args=arguments)
    process.start()
    return process
