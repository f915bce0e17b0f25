"""Heat maps of attacks by pipelines, with what they were drawn from written into the files."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

_DPI = 110
_CELL = 0.46  # inches
_COLOURS = "YlOrBr"  # ordered by lightness alone: readable in any colour vision, and in grey
_STAMP = "Description"


@dataclass(frozen=True, slots=True)
class HeatMap:
    """One figure: a panel for each split, figures in points or per cent.

    Attributes:
        file: Its name in the folder of images.
        title: What it shows, and of what.
        scale: What the colours mean, with the unit.
        rows: Attacks.
        columns: Pipelines.
        panels: Title and shares, 0..1, (rows, columns); NaN, drawn grey, where too few
            seeds were measured.
        greatest: The share at which colours end.
    """

    file: str
    title: str
    scale: str
    rows: Sequence[str]
    columns: Sequence[str]
    panels: Sequence[tuple[str, Sequence[Sequence[float]]]]
    greatest: float

    @property
    def stamp(self) -> str:
        """The digest of all that is drawn, which is in the file, too."""
        drawn = [self.title, self.scale, list(self.rows), list(self.columns), self.greatest]
        panels = [
            [title, [list(map(_text, row)) for row in shares]] for title, shares in self.panels
        ]
        return hashlib.sha256(json.dumps([drawn, panels]).encode()).hexdigest()

    def is_drawn(self, folder: Path) -> bool:
        """Tell whether the file there shows exactly this."""
        path = folder / self.file
        if not path.is_file():
            return False
        with Image.open(path) as image:
            return image.info.get(_STAMP) == self.stamp

    def draw(self, folder: Path) -> None:
        """Draw it as PNG."""
        width = len(self.panels) * len(self.columns) * _CELL + 3.6
        height = len(self.rows) * _CELL * 0.75 + 2.4
        figure = Figure(figsize=(width, height), layout="constrained")
        colours = colormaps[_COLOURS].with_extremes(bad="0.92")
        axes = figure.subplots(1, len(self.panels), sharey=True, squeeze=False)[0]
        for one, (title, shares) in zip(axes, self.panels, strict=True):
            values = 100 * np.array(shares, dtype=np.float64)
            top = 100 * self.greatest
            drawn = one.imshow(values, cmap=colours, vmin=0, vmax=top, aspect="auto")
            one.set_title(title, fontsize=10)
            one.set_xticks(range(len(self.columns)), self.columns, rotation=45, ha="right")
            one.set_yticks(range(len(self.rows)), self.rows)
            one.tick_params(length=0, labelsize=9)
            one.spines[:].set_visible(False)
            for (row, column), value in np.ndenumerate(values):
                dark = value > 0.6 * top
                told = _text(value / 100)
                one.text(
                    column,
                    row,
                    told,
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="w" if dark else "k",
                )
        figure.colorbar(drawn, ax=list(axes), label=self.scale, fraction=0.03, pad=0.01)
        figure.suptitle(self.title, fontsize=11)
        figure.savefig(folder / self.file, dpi=_DPI, metadata={_STAMP: self.stamp})


def _text(share: float) -> str:
    """Write whole points, nothing where nothing was measured; what rounds to 0 has no sign."""
    return "" if math.isnan(share) else f"{round(100 * share) + 0:d}"
