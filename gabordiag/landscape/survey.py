"""Many images one by one: whose landscape holds the start in another basin than the target's.

The mean over many images has a landscape of its own; what traps the start may be the doing of a few
of them or of all. Each image's loss follows from its own Gram matrix, at no convolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gabordiag.landscape.critical import Landscape, find_critical_points
from gabordiag.landscape.series_objective import SeriesObjective
from gabordiag.objective.gabor_line import ShortcutObjective
from gabordiag.objective.line import Line
from gabordiag.objective.space import FloatArray
from gabordiag.results import read_only

# More images than this are sampled: some hundredths of a second each.
MOST_SURVEYED = 200


@dataclass(frozen=True)
class NearStart:
    """Where gradient flow from the start ends on one image's own landscape.

    Attributes:
        file: The image's name.
        minimum: The minimum or kink of the start's basin; None where there is none.
        loss: There.
        is_target: It is the target's.
        minima: How many minima and kinks the landscape has.
        certified: Its list of critical points is proven complete.
    """

    file: str
    minimum: float | None
    loss: float | None
    is_target: bool
    minima: int
    certified: bool

    @property
    def is_spurious(self) -> bool:
        """Whether the start lies in the basin of another minimum than the target's."""
        return self.minimum is not None and not self.is_target


@dataclass(frozen=True, eq=False)
class Survey:
    """The single images' landscapes, of all or of an even sample.

    Attributes:
        near_start: One an image.
        losses: Of every image at the sweep's values (images, m).
    """

    near_start: tuple[NearStart, ...]
    losses: FloatArray

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any], losses: FloatArray) -> Survey:
        """Returns the survey of a result's JSON and saved losses: the inverse of `to_dict`."""
        return cls(tuple(NearStart(**image) for image in saved["near_start"]), losses)

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows under `images`."""
        return {
            "surveyed": len(self.near_start),
            "spurious": sum(image.is_spurious for image in self.near_start),
            "to_target": sum(image.is_target for image in self.near_start),
            "near_start": [asdict(image) for image in self.near_start],
        }


def survey_images(objective: Line, values: FloatArray) -> Survey | None:
    """Looks at every image alone, or at `MOST_SURVEYED` of them, evenly spread over the order.

    None where the objective is over one image, or lacks the images' own Gram matrices; the losses
    are those at values (m,) of the parameter.
    """
    if not isinstance(objective, ShortcutObjective) or not objective.has_single_images:
        return None
    images = objective.experiment.image_set
    count = min(len(images), MOST_SURVEYED)
    chosen = [index * len(images) // count for index in range(count)]
    progress = objective.experiment.progress
    losses, found = [], []
    for done, index in enumerate(chosen, 1):
        # Through its series, which the proof needs anyway: half the time.
        alone = SeriesObjective(objective.on_images([index]))
        losses.append(alone.loss_at(values))
        found.append(_near_start(images.names[index], find_critical_points(alone)))
        if progress is not None:
            progress("looking at single images", done, count)
    return Survey(tuple(found), read_only(np.stack(losses)))


def _near_start(name: str, landscape: Landscape) -> NearStart:
    point = landscape.attractor_of(landscape.parameter.start)
    known = len(landscape.attractors), landscape.certificate.certified
    if point is None:
        return NearStart(name, None, None, False, *known)
    return NearStart(name, point.value, point.loss, point.is_target, *known)
