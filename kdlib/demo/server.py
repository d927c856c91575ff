"""Serves the page on this machine alone: nothing that it sends lets a browser ask anything of another one."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uvicorn import Server

    from kdlib.pipeline import Pipeline

HOSTS = ["127.0.0.1", "localhost"]
CSS = Path(__file__).parent / "assets" / "demo.css"
POLICY = b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'self'"
FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}  # none is fetched


def check_gradio() -> None:
    """Raises ValueError where gradio isn't installed."""
    if find_spec("gradio") is None:
        raise ValueError("the demo needs the package gradio: `make environment` installs it here, and "
                         "`pip install gradio` elsewhere")


def make_server(pipe: Pipeline, name: str) -> Server:
    """A server of the pipeline's page, to be `run` with a socket of the loopback.

    It answers only who asks for this machine by address or as localhost, so that a name which someone else's server
    gives to this machine leads nowhere; and it tells browsers to load things from it alone.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
    import gradio as gr
    import uvicorn
    from fastapi import FastAPI
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from kdlib.demo.page import build_page

    app = FastAPI(openapi_url=None, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS),
                                                Middleware(WithPolicy)])
    gr.mount_gradio_app(app, build_page(pipe, name), "/", server_name=HOSTS[0], footer_links=[], run_history=False,
                        ssr_mode=False, pwa=False, mcp_server=False, enable_monitoring=False,
                        theme=gr.themes.Default(**FONTS), css_paths=CSS)
    return uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))


class WithPolicy:
    """An ASGI middleware: every answer carries POLICY."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send) -> None:
        async def send_with_policy(message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"content-security-policy", POLICY)]
            await send(message)

        await self.app(scope, receive, send_with_policy)
