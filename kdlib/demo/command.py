"""`kd demo`: opens the page."""

from __future__ import annotations

import socket
from contextlib import closing, suppress
from typing import Annotated

import typer

from kdlib.console import choose_threads, clear_errors, printable

HOST = "127.0.0.1"


def demo(preset: Annotated[str | None, typer.Option(help="A preset of params.yaml, or a folder saved by "
                                                         "save_pretrained. Default: as of `kd generate`.")] = None,
         backbone: Annotated[str | None, typer.Option(help="discrete or continuous. Default: as of "
                                                           "`kd generate`.")] = None,
         port: Annotated[int, typer.Option(min=0, max=65535, help="Of the page's address; 0 is any free one.")] = 7860
         ) -> None:
    """Open a page on this machine: type a text, watch its picture being drawn.

    It shows whose pictures it draws from, and takes a folder of your own as the database. Only this machine can open
    it, and it asks nothing of any other. Ctrl-C ends it. It needs the package gradio, which `make` installs.
    """
    with clear_errors():
        from kdlib.demo.server import check_gradio

        check_gradio()
        with closing(free_socket(port)) as listening:
            choose_threads(1)
            from kdlib.artifacts import default_preset
            from kdlib.demo.server import make_server
            from kdlib.pipeline import load_pipeline

            name = preset or default_preset(backbone=backbone)
            server = make_server(load_pipeline(name, backbone=backbone), name)
            typer.echo(printable(f"http://{HOST}:{listening.getsockname()[1]} draws with {name}; Ctrl-C ends it"))
            with suppress(KeyboardInterrupt):
                server.run(sockets=[listening])


def free_socket(port: int) -> socket.socket:
    """A socket of this machine's loopback; raises ValueError for a port that another program has."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except OSError as error:
        listening.close()
        raise ValueError(f"--port {port} can't be had ({error.strerror}); choose another one, or 0 for any") from None
    return listening
