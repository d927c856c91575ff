"""kdlib.console: how many threads a command takes."""

import os

import pytest

from kdlib.console import SMALL_BATCH, choose_threads


@pytest.fixture
def environment(monkeypatch):
    """The environment without OMP_NUM_THREADS; what is set in it is taken back."""
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    monkeypatch.delenv("OMP_NUM_THREADS")


@pytest.mark.parametrize("num_pictures, threads", [(1, "1"), (SMALL_BATCH, "1"), (SMALL_BATCH + 1, None)])
def test_a_small_batch_takes_one_thread(environment, num_pictures, threads):
    choose_threads(num_pictures)
    assert os.environ.get("OMP_NUM_THREADS") == threads


def test_the_users_own_number_stays(environment, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    choose_threads(1)
    assert os.environ["OMP_NUM_THREADS"] == "3"
