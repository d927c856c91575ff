"""The paper's Table 1 on sets that no part has seen: distance to their pictures, fit to names that no judge knows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float

from kdlib.evaluation.comparison import Statistic, frechet_statistic
from kdlib.evaluation.judge import Judge, text_features
from kdlib.evaluation.metrics import Interval, bootstrap, fit_gaussian

BEST = 5
MEASURES = ("fd_sticker", "alignment", "named_top5")


@torch.inference_mode()
def fit_to_names(judge: Judge, features: Float[np.ndarray, "num_titles width"], titles: list[str]) -> pd.DataFrame:
    """How well pictures, one for each title of a set, fit their own title, by the judge's map into the space of texts.

    Columns, a row for each picture: alignment (the cosine with its title), named_top5 (bool: is its own title among the
    five best of all titles? By chance five of them are). Equal cosines count against it. No class of the judge's is
    asked for, so that any name can be.
    """
    texts = text_features(titles)
    said = F.normalize(judge.text(torch.from_numpy(features.astype(np.float32))).cpu(), dim=1)
    cosines = said @ texts.T
    own = cosines.diagonal()[:, None]
    among = (~(cosines < own)).sum(1).numpy() <= BEST
    return pd.DataFrame({"alignment": own[:, 0].double().numpy(), "named_top5": among})


def set_statistics(judge: Judge, features: Float[np.ndarray, "num_titles width"], titles: list[str],
                   real: Float[np.ndarray, "num_pictures width"]) -> dict[str, Statistic]:
    """Each of MEASURES as a function of the rows of titles to use.

    features  of a picture for each title      real  of the set's own pictures, which the distance is to
    """
    said = fit_to_names(judge, features, titles)
    means = {name: said[name].to_numpy(float) for name in MEASURES[1:]}
    return {"fd_sticker": frechet_statistic(features[:, None], fit_gaussian(real)),
            **{name: lambda rows, of=of: float(of[rows].mean()) for name, of in means.items()}}


def measured(found: dict[str, Statistic], num_titles: int, num_draws: int, seed: int) -> dict[str, Interval]:
    """Every statistic with its 95% bootstrap interval over titles; the distance centred (see `bootstrap`)."""
    return {name: bootstrap(of, num_titles, num_draws, seed, centred=name == "fd_sticker")
            for name, of in found.items()}
