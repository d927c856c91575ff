"""Super-resolution measured: enlarged pictures beside the true large ones (paper section 6.6)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from PIL import Image

from kdlib.evaluation.comparison import Statistic
from kdlib.evaluation.judge import Judge
from kdlib.evaluation.metrics import psnr_db
from kdlib.models.superres import Upsampler

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "Lanczos": Image.Resampling.LANCZOS}


def enlarge_each_way(upsampler: Upsampler, pictures: UInt8[np.ndarray, "num_pictures size size 3"]
                     ) -> dict[str, UInt8[np.ndarray, "num_pictures larger larger 3"]]:
    """Pictures enlarged by each of FILTERS, and by the upsampler: what each method makes of them."""
    small = [Image.fromarray(picture) for picture in pictures]
    size = [pictures.shape[1] * upsampler.config.scale] * 2
    made = {name: [picture.resize(size, how) for picture in small] for name, how in FILTERS.items()}
    made["upsampler"] = upsampler.upsample(small)
    return {name: np.stack([np.asarray(picture) for picture in enlarged]) for name, enlarged in made.items()}


def tiles(pictures: UInt8[np.ndarray, "num_pictures side side 3"],
          tile_px: int) -> UInt8[np.ndarray, "num_tiles {tile_px} {tile_px} 3"]:
    """Square pictures cut into squares, picture by picture and row by row. Raises ValueError where these don't fit."""
    side = pictures.shape[1]
    if side % tile_px:
        raise ValueError(f"tile_px = {tile_px} must divide {side}, the pictures' side")
    count = side // tile_px
    cut = pictures.reshape(len(pictures), count, tile_px, count, tile_px, 3)
    return np.ascontiguousarray(cut.transpose(0, 1, 3, 2, 4, 5)).reshape(-1, tile_px, tile_px, 3)


def compare(judge: Judge, copies: UInt8[np.ndarray, "num_pictures side side 3"],
            true: UInt8[np.ndarray, "num_pictures side side 3"], tile_px: int) -> pd.DataFrame:
    """How far each enlarged picture is from the true one: a row a picture.

    psnr_db           peak signal-to-noise ratio, dB: higher is better
    feature_distance  Euclidean, between the judge's features of both, which it looks at in its own size
    detail_distance   the same of their tiles of tile_px, the mean of a picture's: what the judge sees of edges
    """
    apart = lambda one, other: np.linalg.norm(judge.features(one) - judge.features(other), axis=1)
    of_tiles = apart(tiles(copies, tile_px), tiles(true, tile_px))
    return pd.DataFrame({"psnr_db": psnr_db(copies, true), "feature_distance": apart(copies, true),
                         "detail_distance": of_tiles.reshape(len(true), -1).mean(1)})


def mean_statistics(table: pd.DataFrame) -> dict[str, Statistic]:
    """The mean of each column of numbers over some rows, as `kdlib.evaluation.comparison.measure` wants it."""
    columns = {name: table[name].to_numpy(float) for name in table}
    return {name: lambda rows, values=values: float(values[rows].mean()) for name, values in columns.items()}
