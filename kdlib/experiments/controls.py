"""Controls for a notebook: a prompt, how many neighbours, from which database, how much guidance; and what is drawn."""

from __future__ import annotations

import html
from base64 import b64encode

import ipywidgets
from IPython.display import Image as Picture

from kdlib.compendium.figures import as_picture, sheet
from kdlib.pipeline import Pipeline
from kdlib.retrieval import Index


def neighbours_and_drawing(pipe: Pipeline, prompt: str, k: int, index: Index | None = None,
                           guidance_scale: float | None = None, num_steps: int | None = None,
                           seed: int = 0) -> Picture:
    """Two rows in one figure: the nearest pictures of a prompt (ten at most), and four that are drawn from all k.

    None takes the pipeline's own. Raises ValueError as the pipeline does, naming what it can't take.
    """
    made = pipe(prompt, k=k, num_images=4, index=index, guidance_scale=guidance_scale, num_steps=num_steps, seed=seed)
    near = made.neighbours[:10]
    page = sheet([[one.image for one in near], made.images], ["nearest", "drawn"], size_px=64, title_px=70)
    scale, titles = made.settings["guidance_scale"], ", ".join(one.title for one in near)
    return as_picture(page, alt=f"four pictures drawn for “{prompt}” with guidance {scale:g}; the nearest of {k} "
                                f"neighbours: {titles}")


def controls(pipe: Pipeline, indexes: dict[str, Index], prompt: str, k: int, guidance_scale: float, num_steps: int,
             seed: int = 0) -> ipywidgets.Widget:
    """A form for `neighbours_and_drawing`: change a value and press Draw. It needs a kernel; nothing is drawn before.

    indexes  databases to choose from, by name; all of the pipeline's encoder
    """
    wide = {"style": {"description_width": "9em"}, "layout": {"width": "34em"}}
    fields = {
        "prompt": ipywidgets.Text(prompt, description="prompt", **wide),
        "k": ipywidgets.IntSlider(k, 1, max(20, k), description="neighbours k", continuous_update=False, **wide),
        "index": ipywidgets.Dropdown(options=list(indexes), description="database", **wide),
        "guidance_scale": ipywidgets.FloatSlider(guidance_scale, min=0, max=8, step=0.5, description="guidance λ",
                                                 continuous_update=False, **wide)}
    draw, result = ipywidgets.Button(description="Draw", button_style="primary"), ipywidgets.HTML()

    def answer(_: ipywidgets.Button) -> None:
        asked = {name: field.value for name, field in fields.items()}
        draw.disabled = True
        try:
            picture = neighbours_and_drawing(pipe, **asked | {"index": indexes[asked["index"]]}, num_steps=num_steps,
                                             seed=seed)
            result.value = f'<img alt="{html.escape(picture.alt)}" src="data:image/png;base64,' \
                           f'{b64encode(picture.data).decode()}">'
        except ValueError as error:
            result.value = f"<p role=alert>{html.escape(str(error))}</p>"
        finally:
            draw.disabled = False

    draw.on_click(answer)
    return ipywidgets.VBox([*fields.values(), draw, result])
