"""`kd demo`: what it says before the page is there, and how it fails."""

import socket
from contextlib import closing

import pytest

from kdlib.demo import command, server


class Ended:
    """A server that is told to stop at once, as by Ctrl-C."""

    def run(self, sockets):
        self.address = sockets[0].getsockname()
        raise KeyboardInterrupt


def test_it_serves_the_named_pipeline_on_the_loopback_alone(kd, monkeypatch):
    asked, ended = [], Ended()
    monkeypatch.setattr(server, "make_server", lambda pipe, name: asked.append((pipe.settings["k"], name)) or ended)
    result = kd("demo", "--port", 0)
    assert result.exit_code == 0, result.output
    assert asked == [(2, "quick")] and ended.address[0] == "127.0.0.1"
    assert result.stdout == f"http://127.0.0.1:{ended.address[1]} draws with quick; Ctrl-C ends it\n"


def test_a_taken_port_and_missing_weights_and_packages_are_one_line(kd, monkeypatch):
    with closing(socket.socket()) as taken:
        taken.bind((command.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"kd: --port {port} can't be had" in kd("demo", "--port", port).stderr
    assert "make reproduce PRESET=cpu" in kd("demo", "--port", 0, "--preset", "cpu").stderr
    monkeypatch.setattr(server, "find_spec", lambda name: None)
    result = kd("demo")
    assert result.exit_code == 2 and "kd: the demo needs the package gradio" in result.stderr


@pytest.mark.parametrize("port", [-1, 65536])
def test_no_such_port(kd, port):
    assert kd("demo", "--port", port).exit_code == 2
