"""What an atlas covers: images, losses and filters, and the tasks into which they are cut."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gabordiag.errors import UsageError
from gabordiag.gabor import theta_period
from gabordiag.objective.experiment import Experiment

# The dimensions of every quantity, in this order.
DIMENSIONS = ("image", "loss", "psi", "wavelength", "gamma", "sigma")
AXES = DIMENSIONS[1:]
# Landscapes of a task: their tables and runs fit the cache, and a task takes a second or some.
_LANDSCAPES = 14


@dataclass(frozen=True)
class Task:
    """One filter on some images: the images' indices, and the filter's along its four axes."""

    images: tuple[int, ...]
    filter: tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Grid:
    """Every combination of the images, losses and filters.

    The experiment has what they share: image processing, kernel size, target angle, start. Of every
    landscape so many starts are run, evenly spread around the target, for so many steps.
    """

    experiment: Experiment
    axes: Mapping[str, tuple[Any, ...]]
    starts: int
    steps: int

    def __post_init__(self) -> None:
        for name, values in self.axes.items():
            if len(values) == 0 or len(set(values)) < len(values):
                raise UsageError(f"the {name}s of an atlas are {list(values)}.", "Give distinct.")
        if not 2 <= self.starts <= 360:
            raise UsageError(f"{self.starts} starts are not possible.", "Use 2 to 360.")
        for loss in self.axes["loss"]:
            replace(self.experiment, loss=loss)
        # Refused before anything is computed.
        for index in self.filters():
            self.of_filter(index)

    @property
    def coordinates(self) -> dict[str, list[Any]]:
        """Returns the values along every dimension."""
        names = list(self.experiment.image_set.names)
        files = [Path(name).name for name in names]
        images = files if len(set(files)) == len(files) else names
        return {"image": images, **{name: list(self.axes[name]) for name in AXES}}

    @property
    def shape(self) -> tuple[int, ...]:
        """How many values every dimension has."""
        return tuple(len(values) for values in self.coordinates.values())

    @property
    def count(self) -> int:
        """How many landscapes there are."""
        return math.prod(self.shape)

    @property
    def images_at_once(self) -> int:
        """How many images a task has."""
        return max(1, _LANDSCAPES // len(self.axes["loss"]))

    def filters(self) -> Iterator[tuple[int, int, int, int]]:
        """Yields every filter, as indices of psi, wavelength, gamma and sigma."""
        psi, wavelength, gamma, sigma = (range(len(self.axes[name])) for name in AXES[1:])
        yield from itertools.product(psi, wavelength, gamma, sigma)

    def of_filter(self, index: tuple[int, int, int, int]) -> Experiment:
        """Returns the experiment of a filter, without its images."""
        values = {name: self.axes[name][i] for name, i in zip(AXES[1:], index, strict=True)}
        return replace(self.experiment, image="hopper", images=None, progress=None, **values)

    def image_blocks(self) -> list[tuple[int, ...]]:
        """Returns the images, by index, that are held at the same time."""
        indices = range(len(self.experiment.image_set))
        step = self.images_at_once
        return [tuple(indices[lo : lo + step]) for lo in range(0, len(indices), step)]

    def start_angles(self, psi: float) -> list[float]:
        """Returns the starts of a filter, radians, symmetric about the target."""
        period, target = theta_period(psi), self.experiment.target_theta
        return [target + period * ((k + 0.5) / self.starts - 0.5) for k in range(self.starts)]

    def fingerprint(self) -> str:
        """Returns what distinguishes the images' pixels, and their noise, from those of others."""
        digest = hashlib.blake2b(digest_size=16)
        for index in range(len(self.experiment.image_set)):
            picture = self.experiment.picture(index)
            for pixels in (picture.padded, picture.noise):
                if pixels is not None:
                    digest.update(str(tuple(pixels.shape)).encode() + pixels.numpy().tobytes())
        return digest.hexdigest()

    def settings(self) -> dict[str, Any]:
        """Returns what the numbers depend on, as JSON takes it."""
        shared = {n: v for n, v in self.experiment.to_dict().items() if n not in (*AXES, "strict")}
        for name in ("image", "images"):
            shared.pop(name, None)
        return {**shared, "starts": self.starts, "steps": self.steps}
