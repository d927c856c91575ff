"""The page: a text, its neighbours, and the picture as it is drawn; one's own folder as the database."""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, no_type_check

from kdlib.data.folder import Skipped
from kdlib.demo.cards import database_card, drawing_card, neighbour_cards
from kdlib.demo.watch import watch
from kdlib.pipeline import Pipeline
from kdlib.retrieval import Index, build_index
from kdlib.types import check_request

if TYPE_CHECKING:
    from gradio import Blocks

HEAD = """# KNN-Diffusion: {name}

The generator has never seen text. It draws what you type from its embedding and from the pictures nearest to it, which
stand below with their authors and licences. Everything happens on this machine."""
MAX_NEIGHBOURS = 50
Number = float | int | None  # what a page's field of a number holds


def build_page(pipe: Pipeline, name: str) -> Blocks:
    """The page of a pipeline, which is called `name` there.

    Each visitor has a database of their own; drawings wait for each other. A control is an input of `draw` below, in
    the order of its arguments.
    """
    import gradio as gr

    with gr.Blocks(title=f"KNN-Diffusion: {name}", analytics_enabled=False) as page:
        gr.Markdown(HEAD.format(name=name))
        database = gr.State()
        with gr.Row():
            with gr.Column(elem_id="kd-controls"):
                prompt = gr.Textbox(value="a red apple", label="What to draw", elem_id="kd-prompt", max_lines=1)
                start = gr.Button("Draw", variant="primary", elem_id="kd-draw")
                settings = add_settings(pipe)
                folder, use, back, told = add_database()
            with gr.Column():
                drawing = gr.HTML(elem_id="kd-drawing")
        neighbours = gr.HTML(elem_id="kd-neighbours")

        @no_type_check  # a wrapped function is no generator to gradio
        def draw(prompt: str, k, guidance_scale, num_steps, seed, index: Index | None):
            with told_on_the_page():
                yield from draw_steps(pipe, prompt, k, guidance_scale, num_steps, seed, index)

        def take(folder: str):
            with told_on_the_page():
                return take_folder(pipe, folder)

        gr.on([start.click, prompt.submit], draw, [prompt, *settings, database], [drawing, neighbours],
              concurrency_id="model", concurrency_limit=1, show_progress="hidden", api_visibility="private")
        use.click(take, folder, [database, told], concurrency_id="model", api_visibility="private")
        back.click(lambda: (None, ""), None, [database, told], api_visibility="private")
    return page


def add_settings(pipe: Pipeline) -> list:
    """The controls k, guidance scale, steps and seed, with the pipeline's own settings."""
    import gradio as gr

    denoiser, most = pipe.backbone.denoiser, min(MAX_NEIGHBOURS, len(pipe.index))
    num_timesteps = getattr(denoiser, "schedule", None) or denoiser.process
    with gr.Accordion("Settings", open=False, elem_id="kd-settings"):
        return [gr.Slider(1, most, pipe.settings["k"], step=1, label="Neighbours (k)", elem_id="kd-k"),
                gr.Slider(0, 10, pipe.settings["guidance_scale"], step=0.5, label="Guidance scale (1 is none)",
                          elem_id="kd-guidance"),
                gr.Slider(1, num_timesteps.num_timesteps, pipe.settings["num_steps"], step=1, label="Sampling steps",
                          elem_id="kd-steps"),
                gr.Number(0, label="Seed", precision=0, elem_id="kd-seed")]


def add_database() -> tuple:
    """The controls of one's own database: (the folder's name, use it, back to the stickers, what came of it)."""
    import gradio as gr

    with gr.Accordion("Your own pictures as the database", open=False, elem_id="kd-own"):
        folder = gr.Textbox(label="A folder of pictures on this machine", placeholder="/home/me/pictures",
                            elem_id="kd-folder", max_lines=1)
        with gr.Row():
            use = gr.Button("Use it", elem_id="kd-use")
            back = gr.Button("Back to the stickers", elem_id="kd-back")
        told = gr.HTML(elem_id="kd-told")
    return folder, use, back, told


@contextmanager
def told_on_the_page() -> Iterator[None]:
    """Shows the library's errors on the page."""
    import gradio as gr

    try:
        yield
    except (ValueError, OSError) as error:
        raise gr.Error(html.escape(str(error)), duration=None, print_exception=False) from None


# --- what the controls do --------------------------------------------------------------------------------------------

def draw_steps(pipe: Pipeline, prompt: str, k: Number, guidance_scale: Number, num_steps: Number, seed: Number,
               index: Index | None) -> Iterator[tuple[str, str]]:
    """(the drawing so far, the neighbours) as HTML, first without a drawing; the last is the pipeline's own picture.

    Numbers are as the page has them; of a database with fewer than k pictures, all are taken. Raises ValueError as the
    pipeline does.
    """
    seed, scale = whole("seed", seed), None if guidance_scale is None else float(guidance_scale)
    check_request(seed=seed)
    count = min(whole("k", k), len(pipe.index if index is None else index))
    found, condition = pipe.retrieve([prompt], count, index)
    cards, looks = neighbour_cards(pipe.describe(found, index)[0]), []
    yield "", cards
    for look in watch(pipe, condition, whole("num_steps", num_steps), scale, seed):
        looks.append(look)
        yield drawing_card(prompt, looks), cards


def whole(name: str, number: Number) -> int:
    """A number of the page, which may hold nothing or a fraction, as an int; raises ValueError naming it."""
    if number is None or number != int(number):
        raise ValueError(f"{name} = {number} must be a whole number")
    return int(number)


def take_folder(pipe: Pipeline, folder: str) -> tuple[Index, str]:
    """(an index of the pictures below a folder, what is to be said of it); raises ValueError for none."""
    skipped: list[Skipped] = []
    path = Path(folder.strip()).expanduser()
    if not folder.strip() or not path.is_dir():
        raise ValueError(f"{folder!r} is no folder of pictures on this machine; give its whole path")
    index = build_index(path, pipe.encoder, skipped=skipped)
    return index, database_card(str(path), len(index), skipped)
