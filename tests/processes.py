"""Processes that tests run beside themselves, often to kill them.

They are forked from a process that has imported what they need and done nothing else, so that each starts at once.
"""

import multiprocessing
from collections.abc import Callable
from multiprocessing.process import BaseProcess

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.training.test_loop", "torch._dynamo", "dvc.repo", "scmrepo.git"])  # late imports


def start(function: Callable, *arguments) -> BaseProcess:
    """A function of a test module in a process of its own."""
    process = CONTEXT.Process(target=function, args=arguments)
    process.start()
    return process
