"""The atlas read: charts over a filter's shape, a prediction for held-out images, where one lies.

A filter can be *learned* on an image, from the start, where a window of learning rates works that
is at least a factor of two wide: a narrower one is found by luck. A filter's shape is sigma /
wavelength, the number of its waves, and gamma, how elongated it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from gabordiag.charting.engine import AtlasPlan
from gabordiag.charting.grid import AXES, DIMENSIONS
from gabordiag.dynamics.outcomes import BoolArray
from gabordiag.errors import UsageError
from gabordiag.gabor import theta_period
from gabordiag.objective.space import FloatArray
from gabordiag.results import Data, Result, View, finite_or_none, read_only

# Highest over lowest rate of a window that a person finds without luck.
_WIDE_ENOUGH = 2.0
# Of sigma / wavelength.
_BINS_PER_OCTAVE = 2
# A filter is learnable where more than this share of the images learn it.
MOST = 0.5
# Between these shares of the images, a filter lies at the border.
_BORDER = (0.2, 0.8)
_FILTER = AXES[1:]


@dataclass(frozen=True)
class Place:
    """Where a filter lies in the atlas, by the charted one that is nearest to it in shape.

    The nearest filter that can be learned is None where no charted one is on most images; itself
    where that is this one.
    """

    asked: Mapping[str, float]
    charted: Mapping[str, float]
    loss: str
    learned: int
    images: int
    reachable_share: float
    nearest: Mapping[str, float] | None
    nearest_learned: int

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        return {**vars(self), "sentence": self.sentence}

    @property
    def sentence(self) -> str:
        """What a person wants to know, in one or two sentences."""
        text = (
            f"With {self.loss}, the filter with {_described(self.charted)} can be learned on "
            f"{self.learned} of {self.images} images from the given start; at its best learning "
            f"rate {self.reachable_share:.0%} of all starts arrive."
        )
        if dict(self.asked) != dict(self.charted):
            text = f"Nearest to {_described(self.asked)} in the atlas: {text[0].lower()}{text[1:]}"
        if self.nearest is None:
            return f"{text} No filter of the atlas can be learned on most images."
        changes = {n: v for n, v in self.nearest.items() if v != self.charted[n]}
        if not changes:
            return text
        return (
            f"{text} The nearest filter that can be learned on most has {_described(changes)} "
            f"instead: {self.nearest_learned} of {self.images}."
        )


def _described(values: Mapping[str, float]) -> str:
    units = {"wavelength": " px", "sigma": " px", "gamma": ""}
    return ", ".join(
        f"{name} " + (f"{math.degrees(v):.3g}°" if name == "psi" else f"{v:.3g}{units[name]}")
        for name, v in values.items()
    )


@dataclass(frozen=True, eq=False)
class Atlas(Result):
    """Every landscape's quantities over images, losses and filters.

    The columns hold the coordinates by dimension, and the quantities of `landscapes.QUANTITIES`
    over all of them; the settings are what all landscapes share; `asked` is the filter whose place
    is sought.
    """

    grid = tuple((name, name) for name in DIMENSIONS)

    columns: Mapping[str, npt.NDArray[Any]]
    settings: Mapping[str, Any]
    asked: Mapping[str, float]
    plan: AtlasPlan | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        landscapes = self.learned.size
        return {
            "landscapes": landscapes,
            "computed": int(np.isfinite(self.columns["minima"]).sum()),
            "certified": int(np.nansum(self.columns["certified"])),
            "axes": {name: self.columns[name].tolist() for name in DIMENSIONS},
            "settings": dict(self.settings),
            "plan": self.plan and dict(vars(self.plan)),
            "learnable": {
                loss: float(self.learned[:, index].mean()) for index, loss in self._losses()
            },
            "places": [self.place(loss=loss, **self.asked).to_dict() for _, loss in self._losses()],
            "charts": [chart.to_dict() for chart in self.charts],
            "prediction": self.prediction,
        }

    @classmethod
    def from_view(cls, view: View) -> Atlas:
        """Returns the atlas of a saved run: the inverse of `view`."""
        saved = view.result
        plan = saved["plan"] and AtlasPlan(**saved["plan"])
        asked = saved["places"][0]["asked"]
        columns = {name: read_only(array) for name, array in view.data["atlas.npz"].items()}
        return cls(columns, saved["settings"], asked, plan)

    def data(self) -> Data:
        """Returns what is saved as atlas.npz."""
        return {"atlas.npz": self.columns}

    def _losses(self) -> list[tuple[int, str]]:
        return list(enumerate(self.columns["loss"].tolist()))

    @cached_property
    def learned(self) -> BoolArray:
        """Where the target is reached from the start over a window that is wide enough."""
        low, high = self.columns["window_low"], self.columns["window_high"]
        return np.asarray(high >= _WIDE_ENOUGH * low)

    @cached_property
    def charts(self) -> list[Chart]:
        """One chart for each loss and phase."""
        return [
            Chart.of(self, (index, loss), (place, phase))
            for index, loss in self._losses()
            for place, phase in enumerate(self.columns["psi"].tolist())
        ]

    def place(self, loss: str | None = None, **values: float) -> Place:
        """Returns where a filter lies; what is left out is the first of the charted ones.

        Raises:
            UsageError: The atlas has no such loss, or a filter has no such parameter.

        Distances are in the logarithms of sigma, wavelength and gamma, the phase counts first.
        """
        known = self.columns["loss"].tolist()
        loss = known[0] if loss is None else loss
        if loss not in known or not values.keys() <= set(_FILTER):
            raise UsageError(
                f"the atlas has no {loss} with {', '.join(values)}.",
                f"Use one of {', '.join(known)}, and any of {', '.join(_FILTER)}.",
            )
        asked = {n: values.get(n, float(self.columns[n][0])) for n in _FILTER}
        filters = [np.asarray(self.columns[name], dtype=np.float64) for name in _FILTER]
        psi, *shape = np.meshgrid(*filters, indexing="ij")
        turned = np.abs(np.angle(np.exp(1j * (psi - asked["psi"]))))

        def away(*center: float) -> FloatArray:
            logs = [np.abs(np.log(x / c)) for x, c in zip(shape, center, strict=True)]
            # No change of shape outweighs one of the phase.
            return np.asarray(sum(logs) + 100 * turned)

        place = np.unravel_index(np.argmin(away(*list(asked.values())[1:])), psi.shape)
        charted = {n: float(f[i]) for n, f, i in zip(_FILTER, filters, place, strict=True)}
        learned = self.learned[:, known.index(loss)].sum(axis=0)
        count = len(self.columns["image"])
        # Of filters that are equally far, the one that most images can teach.
        far = away(*list(charted.values())[1:]) - 1e-6 * learned / count
        far = np.where(learned > MOST * count, far, np.inf)
        best = np.unravel_index(np.argmin(far), far.shape)
        nearest = None
        if np.isfinite(far[best]):
            nearest = {n: float(f[i]) for n, f, i in zip(_FILTER, filters, best, strict=True)}
        arrive = np.moveaxis(self.columns["reachable_share"][:, known.index(loss)], 0, -1)
        return Place(
            asked, charted, loss, int(learned[place]), count, float(np.nanmean(arrive[place])),
            nearest, int(learned[best]) if nearest else 0,
        )  # fmt: skip

    @cached_property
    def prediction(self) -> dict[str, Any] | None:
        """How well the chart of all other images predicts what happens on one; None of one image.

        Learnable is a filter that more than half of them learn with the same loss; the rate, in
        natural units, is the middle of their windows. `baseline` is the accuracy of the
        commoner answer everywhere.
        """
        learned = self.learned
        count = len(learned)
        if count < 2:
            return None
        others = (learned.sum(axis=0) - learned) / (count - 1)
        said = others > MOST
        right = said == learned
        share = learned.mean(axis=0)
        border = (share >= _BORDER[0]) & (share <= _BORDER[1])
        by_image = right.reshape(count, -1).mean(axis=1)
        worst = int(np.argmin(by_image))
        by_filter = right.mean(axis=(0, 1))
        hardest = np.unravel_index(np.argmin(by_filter), by_filter.shape)
        hits, tried = self._rates_that_work(said & learned)
        mean = float(learned.mean())
        return {
            "accuracy": float(right.mean()),
            "baseline": max(mean, 1 - mean),
            "promised_but_fails": int((said & ~learned).sum()),
            "missed": int((~said & learned).sum()),
            "at_border": _mean(right[:, border]),
            "elsewhere": _mean(right[:, ~border]),
            "rate_works": None if tried == 0 else hits / tried,
            "worst_image": {
                "image": str(self.columns["image"][worst]), "accuracy": float(by_image[worst]),
            },
            "hardest_filter": {
                **{n: float(self.columns[n][i]) for n, i in zip(_FILTER, hardest, strict=True)},
                "accuracy": float(by_filter[hardest]),
            },
        }  # fmt: skip

    def _rates_that_work(self, where: BoolArray) -> tuple[int, int]:
        """Returns how often the rate that the others suggest lies in the window, of how many."""
        low, high = (
            np.log(self.columns[name] / self.columns["unit_lr"])
            for name in ("window_low", "window_high")
        )
        hits = 0
        for image, here in enumerate(where):
            others = (np.delete(ends, image, axis=0)[:, here] for ends in (low, high))
            middle = sum(np.nanmedian(ends, axis=0) for ends in others) / 2
            hits += int(((low[image][here] <= middle) & (middle <= high[image][here])).sum())
        return hits, int(where.sum())


def _mean(right: BoolArray) -> float | None:
    return float(right.mean()) if right.size else None


@dataclass(frozen=True, eq=False)
class Chart:
    """Means over images and filters of like shape, of one loss and phase.

    Rows are gammas (g,), ascending, columns bins of sigma / wavelength, by their edges (b + 1,); a
    bin without a filter is NaN. `learned`: share of landscapes that are learned; `arrive`: share of
    starts that arrive at the best rate; `spurious`: minima besides the target; `basin`: the
    target's, as a share of the period; `window`: the usable rates, lowest and highest, in units of
    1 / curvature (at a kink, of the rate whose step is one degree), medians where learned.
    """

    loss: str
    psi: float
    gammas: FloatArray
    edges: FloatArray
    maps: Mapping[str, FloatArray]

    @classmethod
    def of(cls, atlas: Atlas, loss: tuple[int, str], psi: tuple[int, float]) -> Chart:
        """Returns the chart of a loss and a phase, each by index and value."""
        columns = atlas.columns
        order = np.argsort(columns["gamma"])
        part = (slice(None), loss[0], psi[0])
        unit = columns["unit_lr"][part]
        learned = atlas.learned[part]
        values = {
            "learned": learned.astype(np.float64),
            "arrive": columns["reachable_share"][part],
            "spurious": columns["spurious"][part],
            "basin": columns["basin_width"][part] / theta_period(psi[1]),
            "window_low": np.where(learned, columns["window_low"][part] / unit, np.nan),
            "window_high": np.where(learned, columns["window_high"][part] / unit, np.nan),
        }
        # (images, wavelengths, gammas, sigmas) -> bins of sigma / wavelength.
        ratio = np.log2(columns["sigma"][None, :] / columns["wavelength"][:, None])
        first = math.floor(_BINS_PER_OCTAVE * ratio.min() + 1e-9)
        bins = np.floor(_BINS_PER_OCTAVE * ratio + 1e-9).astype(int) - first
        edges = 2.0 ** ((np.arange(bins.max() + 2) + first) / _BINS_PER_OCTAVE)
        maps = {}
        for name, array in values.items():
            gathered = np.full((len(order), len(edges) - 1), np.nan)
            mean = np.nanmedian if name.startswith("window") else np.nanmean
            for row, gamma in enumerate(order):
                for column in range(len(edges) - 1):
                    inside = array[:, :, gamma][:, bins == column]
                    if np.isfinite(inside).any():
                        gathered[row, column] = mean(inside)
            maps[name] = read_only(gathered)
        return cls(loss[1], psi[1], columns["gamma"][order], edges, maps)

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        return {
            "loss": self.loss,
            "psi": self.psi,
            "gamma": self.gammas.tolist(),
            "sigma_over_wavelength": self.edges.tolist(),
            **{n: [[finite_or_none(v) for v in row] for row in a] for n, a in self.maps.items()},
        }
