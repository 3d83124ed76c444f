"""What a plane through all weights of a network shows of its training, and what it does not.

A training is run and its weights are kept at some sixty steps, evenly apart: the path. Through its
end goes a plane, on which the loss is drawn. Whether the picture shows the run is measured: how
much of the path's variance lies in the plane, and how far the loss that is drawn at the path's
nearest places is from the loss that the run had. All losses are on the same batches.

Plain descent with rate lr is stable in a direction of curvature h while lr h < 2, and training
often comes to just there: the edge of stability (Cohen et al. 2021, arXiv 2103.00065). Other
optimizers have their own limits (`theory.py`).

`landscape.network` has the directions and lines through all weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gabordiag.choices import PlaneName
from gabordiag.dynamics.checkpoint import Checkpoint, beside, remove
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.theory import curvature_limit
from gabordiag.dynamics.training import BATCHES, TrainingRun, rates_of, run_training
from gabordiag.errors import InputError, UsageError, unknown_name
from gabordiag.landscape.network import (
    barrier,
    interpolated,
    largest_eigenvalues,
    main_directions,
    orthonormal,
    project,
    random_directions,
    resolve,
)
from gabordiag.landscape.surface import Ends
from gabordiag.objective.space import FloatArray
from gabordiag.own.training import Training, Watched, WeightLoss, Weights, find_watched
from gabordiag.results import Data, Progress, Report, Result, finite_or_none, read_only
from gabordiag.wording import show_number

# Values along each side of a plane.
DEFAULT_POINTS = 41
# Moments of the run that are kept, as far as they take no more bytes than this.
_MOMENTS, _PATH_BYTES = 61, 2**30
# Of the path's variance so much has to lie in the plane, and the loss drawn may differ from the
# true one by so much of what the true one goes through: then the picture shows the run.
CAPTURED, MISMATCH = 0.8, 0.1
# Beside the path, a plane shows this part of its width; no side is shorter than this of the longer.
_MARGIN, _LEAST = 0.15, 0.2
# To this part of its height a line between two ends is resolved.
_RESOLVED = 0.01
# Weights longer than this have run away.
_LARGEST = 1e100
# Places that are evaluated between two reports of progress, and shares of variance in the JSON.
_PLACES, _SHARES = 64, 10
# Eigenvalues that are computed at the end, and moments of the run at which the largest is.
_EIGENVALUES, _CURVED = 3, 5
# At the edge of stability lr times the sharpness is so near to its limit.
_AT_EDGE = 0.2


@dataclass(frozen=True, eq=False)
class Sharpness:
    """How the loss on the fixed batches curves along the run, beside what its steps can bear.

    Attributes:
        eigenvalues: The largest of the Hessian over all weights at the end, the largest first.
        watched: Those over the watched numbers alone; none of none.
        error: So near to each lies an eigenvalue.
        sharpness: The largest eigenvalue at moments of the run, the steps (n,).
        lr: Learning rate; None where there is no single one.
        limit: What lr times the sharpness must stay below; None where none is known.
        reason: Why something is not known.
    """

    eigenvalues: tuple[float, ...] = ()
    watched: tuple[float, ...] = ()
    error: float | None = None
    steps: tuple[int, ...] = ()
    sharpness: tuple[float, ...] = ()
    lr: float | None = None
    limit: float | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows; `of_limit` is about 1 at the edge of stability."""
        rate = load = edge = None
        if self.limit and self.eigenvalues:
            rate = self.limit / self.eigenvalues[0] if self.eigenvalues[0] > 0 else None
            if self.lr is not None:
                load = self.lr * self.eigenvalues[0] / self.limit
                edge = "at" if abs(load - 1) <= _AT_EDGE else "below" if load < 1 else "above"
        return {**asdict(self), "stable_lr": rate, "of_limit": load, "edge": edge}


@dataclass(frozen=True, eq=False)
class WeightLine:
    """The loss (n,) on the line between two ends, at places t from 0 to 1 (n,), and its error."""

    start: str
    end: str
    t: FloatArray
    loss: FloatArray
    error: float

    @classmethod
    def between(
        cls, names: tuple[str, str], loss: WeightLoss, ends: Sequence[Tensor]
    ) -> WeightLine:
        """Returns the line between two vectors of weights."""
        way = (ends[1] - ends[0])[None]
        t, losses, error = resolve(lambda t: loss.on_grid(ends[0], way, t[:, None]), _RESOLVED)
        return cls(*names, read_only(t), read_only(losses), error)

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        height, at = barrier(self.t, self.loss)
        return {
            "from": self.start,
            "to": self.end,
            "losses": [finite_or_none(loss) for loss in self.loss[[0, -1]]],
            "barrier": finite_or_none(height),
            "at": at,
            "error": finite_or_none(self.error),
            "points": len(self.t),
        }


@dataclass(frozen=True, eq=False)
class NetworkPlane(Result):
    """The loss (m, k) on a plane through all weights, at a (m,) and b (k,), and a training's path.

    Attributes:
        kind: `random`, `pca`, `gradient`, or `axes` of two watched numbers.
        axes: What the two directions are, in words.
        steps: Moments of the path (t,).
        path: Their nearest places in the plane (t, 2).
        path_loss: The loss that the run had there (t,).
        path_drawn: The loss drawn at those places (t,), bilinear; NaN outside the picture.
        captured: Share of the path's variance that lies in the plane.
        variance: Shares of the path's variance along its main directions, the largest first.
        second: `captured` and `mismatch` of a second, random plane.
        lines: From the run's start to its end, and from there to the ends of other seeds' runs.
        origin: Weights at (0, 0).
        directions: Of the plane (2, weights).
        batches: How many every loss is the mean over.
        evaluations: Losses that all this shows, each on all the batches.
    """

    grid = (("a", "a"), ("b", "b"))

    kind: str
    axes: tuple[str, str]
    a: FloatArray
    b: FloatArray
    loss: FloatArray
    steps: npt.NDArray[np.int64]
    path: FloatArray
    path_loss: FloatArray
    path_drawn: FloatArray
    captured: float
    variance: FloatArray
    second: Mapping[str, float]
    lines: tuple[WeightLine, ...]
    sharpness: Sharpness
    run: TrainingRun
    origin: Tensor
    directions: Tensor
    batches: int
    evaluations: int

    @property
    def path_error(self) -> float:
        """Largest |true - drawn| along the path over the height of the whole picture."""
        return _largest(self._apart) / float(np.ptp(self.loss[np.isfinite(self.loss)]) or np.nan)

    @property
    def mismatch(self) -> float:
        """Largest |true - drawn| along the path over what the true loss runs through."""
        return mismatch(self.path_loss, self.path_drawn)

    @property
    def _apart(self) -> FloatArray:
        return np.abs(self.path_loss - self.path_drawn)

    @property
    def _worst(self) -> int:
        return int(np.argmax(np.nan_to_num(self._apart, nan=-1.0)))

    @property
    def outside(self) -> int:
        """How many moments of the path lie outside the picture."""
        return int(np.isnan(self.path_drawn).sum())

    @property
    def shows(self) -> bool:
        """Whether the picture shows the run."""
        return not self.outside and self.captured >= CAPTURED and self.mismatch <= MISMATCH

    @property
    def headline(self) -> str:
        """Whether the picture shows the run, and why."""
        worst = self._worst
        true, drawn = self.path_loss[worst], self.path_drawn[worst]
        notes = ""
        if self.outside:
            notes = f" It is outside the picture at {self.outside} of {len(self.steps)} moments."
        if self.steps[-1] < self.run.settings.steps:
            notes += f" The weights ran away: the path ends at step {self.steps[-1]}."
        return (
            f"This picture {'shows' if self.shows else 'does not show'} the run: "
            f"{_percent(self.captured)} of the path's variance lies in the plane (at least "
            f"{_percent(CAPTURED)} is asked for), and the loss drawn differs from the true one by "
            f"up to {_percent(self.mismatch)} of what the run goes through (at most "
            f"{_percent(MISMATCH)} is allowed), most at step {self.steps[worst]}: "
            f"{_loss(true)}, drawn {_loss(drawn)}.{notes}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        worst = self._worst
        return {
            "plane": self.kind,
            "verdict": "shows_the_run" if self.shows else "does_not_show_the_run",
            "headline": self.headline,
            "captured": self.captured,
            "path_error": finite_or_none(self.path_error),
            "path_mismatch": finite_or_none(self.mismatch),
            "worst": {
                "step": int(self.steps[worst]),
                "true": finite_or_none(self.path_loss[worst]),
                "drawn": finite_or_none(self.path_drawn[worst]),
            },
            "path_outside": self.outside,
            "second_plane": dict(self.second),
            "rule": {"captured_at_least": CAPTURED, "mismatch_at_most": MISMATCH},
            "lines": [line.to_dict() for line in self.lines],
            "curvature": self.sharpness.to_dict(),
            "variance": self.variance[:_SHARES].tolist(),
            "axes": list(self.axes),
            "ranges": [[float(axis[0]), float(axis[-1])] for axis in (self.a, self.b)],
            "points": list(self.loss.shape),
            "weights": self.directions.shape[1],
            "batches": self.batches,
            "evaluations": self.evaluations,
            "run": self.run.to_dict(),
        }

    def data(self) -> Data:
        """Returns what is saved as surface.npz and lines.npz."""
        names = ("a", "b", "loss", "steps", "path", "path_loss", "path_drawn")
        lines: dict[str, FloatArray] = {}
        for index, line in enumerate(self.lines):
            lines |= {f"t-{index}": line.t, f"loss-{index}": line.loss}
        return {"surface.npz": {name: getattr(self, name) for name in names}, "lines.npz": lines}

    def _tables(self) -> list[tuple[Any, Mapping[str, str], Mapping[str, npt.NDArray[Any]]]]:
        # The path is along another dimension than the grid.
        return [(None, dict(self.grid), {"a": self.a, "b": self.b, "loss": self.loss})]


def mismatch(true: FloatArray, drawn: FloatArray) -> float:
    """Returns the largest |true - drawn| over the largest true loss less the smallest."""
    apart = _largest(np.abs(true - drawn))
    height = float(np.ptp(true))
    return apart / height if height else np.inf if apart else 0.0


def _largest(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(known.max()) if len(known) else np.nan


def sweep_network(
    training: Training,
    kind: str,
    settings: OptimizerSettings,
    lr: float | Mapping[str, float],
    *,
    params: str | Sequence[str] = (),
    points: tuple[int, int] = (DEFAULT_POINTS, DEFAULT_POINTS),
    ranges: Sequence[Ends] = (),
    seed: int = 0,
    seeds: int = 1,
    progress: Report | None = None,
    checkpoint: str | Path | None = None,
) -> NetworkPlane:
    """Trains the model once, and draws the loss on a plane through all its weights at the end.

    The plane is `random`, filter-normalised (`random_directions`, with its bias); `pca`, the two
    main directions of the path; `gradient`, that of the gradient at the end and the sharpest, the
    Hessian's first eigenvector; or `axes`, the two numbers in `params`, which are watched in any
    case. Its ranges are by default so wide that the whole path is inside; of a random plane, from
    -1 to 1 at least. Rates go by name, with `others`; the settings' own is not used.

    So many `seeds` are trainings from the same start, each with the next seed (and the next first
    batch, where they are a list), with the straight line from the first's end to each other's.
    Progress is called with (done, in all, what is done). The work goes on from the checkpoint and
    the files beside it, if they exist.
    """
    report = progress or (lambda done, total, what: None)
    if kind not in get_args(PlaneName):
        raise unknown_name("plane", kind, dict.fromkeys(get_args(PlaneName)))
    if min(points) < 2 or seeds < 1:
        raise UsageError("a plane needs at least 2 values along each side, and 1 seed.")
    watched = find_watched(training.model, params) if params else ()
    if kind == "axes" and (len(watched) != 2 or "vector" in {w.kind for w in watched}):
        raise UsageError(
            f"axes are two watched numbers, not {len(watched)}.",
            "Name two such as gabor.sigma[0]; angles that are kept as vectors are no axes.",
        )
    rates = rates_of(training, watched, lr, settings.lr)
    weights = Weights(training)
    if kind == "axes" and not {w.name for w in watched} <= set(weights.learned):
        raise UsageError("axes are learned numbers, and requires_grad is False for one of these.")
    if weights.count < 2:
        raise UsageError("a plane needs a model with at least 2 learned weights.")
    with training.kept(seed):
        batches = training.fixed(BATCHES)
        model_bytes = sum(t.numel() * t.element_size() for t in training.tensors().values())
    count = max(3, min(_MOMENTS, int(_PATH_BYTES // max(1, model_bytes))))
    moments = np.unique(np.linspace(0, settings.steps, count).round().astype(np.int64))

    def train(number: int, kept: Sequence[int]) -> TrainingRun:
        place = beside(checkpoint, str(number)) if number else checkpoint
        name = f"another training, seed {seed + number}" if number else "training"
        return run_training(
            training, watched if not number else (), settings, rates, seed=seed + number,
            first=number, batches=batches, snapshots=kept,
            checkpoint=place,
            progress=lambda done, total, loss: report(done, total, f"{name}, loss {loss:.4g}"),
        )[0]  # fmt: skip

    run = train(0, moments.tolist())
    path = _finite_path(run, least=2)
    loss = WeightLoss(training, batches, run.final, seed)
    learned = path[:, : weights.count]
    origin, directions, axes = _plane(kind, training, loss, path, watched, seed)
    coordinates, captured = project(learned, origin[: weights.count], directions)
    own, given = _ranges(kind, coordinates, directions), list(ranges) or [(None, None)] * 2
    a, b = (_axis(*each) for each in zip(given, own, points, strict=True))
    places = np.stack(np.meshgrid(a, b, indexing="ij"), axis=-1).reshape(-1, 2)
    what = {"plane": kind, "places": places.tobytes().hex(), "rates": rates, "seed": seed}
    saved = Checkpoint(beside(checkpoint, "losses"), what)
    losses = _on_grid(loss, origin, directions, places, saved, report).reshape(len(a), len(b))
    others = range(1, seeds)
    ends = [_finite_path(train(i, moments[-1:].tolist()))[-1] for i in others]
    report(0, 1, "looking along the path")
    lines = [WeightLine.between(("start", "end"), loss, (path[0], path[-1]))]
    lines += [
        WeightLine.between((f"seed {seed}", f"seed {seed + i}"), loss, (path[-1], end))
        for i, end in zip(others, ends, strict=True)
    ]
    true = loss(path)
    second = random_directions(training.model, weights.tensors(learned[-1]), seed + 1)
    at_second, captured_second = project(learned, learned[-1], second)
    apart = mismatch(true, loss.on_grid(path[-1], second, at_second))
    variance = main_directions(learned)[1]
    sharpness = _measure_sharpness(
        loss, path, moments.tolist(), run, seed,
        lambda done, total: report(done, total, "measuring the curvature"),
    )  # fmt: skip
    remove(checkpoint, *(beside(checkpoint, name) for name in ("losses", *map(str, others))))
    return NetworkPlane(
        kind=kind,
        axes=axes,
        a=read_only(a),
        b=read_only(b),
        loss=read_only(losses),
        steps=read_only(moments[: len(path)]),
        path=read_only(coordinates),
        path_loss=read_only(true),
        path_drawn=read_only(interpolated(a, b, losses, coordinates)),
        captured=captured,
        variance=read_only(variance),
        second={"captured": captured_second, "mismatch": apart},
        lines=tuple(lines),
        sharpness=sharpness,
        run=run,
        origin=origin,
        directions=directions,
        batches=len(batches),
        evaluations=len(places) + 2 * len(path) + sum(len(line.t) for line in lines),
    )


def _measure_sharpness(
    loss: WeightLoss,
    path: Tensor,
    steps: Sequence[int],
    run: TrainingRun,
    seed: int,
    progress: Progress,
) -> Sharpness:
    """Returns the Hessian's largest eigenvalues at some moments of a run, by Lanczos' method."""
    rates, settings = set(run.rates.values()), run.settings
    lr = rates.pop() if len(rates) == 1 and settings.schedule == "constant" else None
    limit = curvature_limit(settings)
    reason = "" if limit else f"No bound on the curvature is known for {settings.optimizer}."
    if lr is None:
        reason = "There is no single learning rate to compare with."
    count = loss.weights.count
    learned = [w for w in run.watched if w.name in loss.weights.learned]
    places = [place for watched in learned for place in loss.weights.places(watched)]
    chosen = np.unique(np.linspace(0, len(path) - 1, _CURVED).round().astype(int)).tolist()

    def eigenvalues(at: Tensor, among: Any, number: int) -> tuple[FloatArray, float]:
        """Those of the Hessian's rows and columns at some places."""

        def product(vector: Tensor) -> Tensor:
            full = at.new_zeros(count)
            full[among] = vector
            return loss.gradient(at, full)[among]

        values, _, error = largest_eigenvalues(product, at[:count][among], number, seed)
        return values, error

    try:
        sharpness = []
        for index, moment in enumerate(chosen[:-1]):
            progress(index, len(chosen))
            sharpness.append(float(eigenvalues(path[moment], slice(None), 1)[0][0]))
        progress(len(sharpness), len(chosen))
        values, error = eigenvalues(path[-1], slice(None), _EIGENVALUES)
        own = eigenvalues(path[-1], places, _EIGENVALUES)[0] if places else np.zeros(0)
    except InputError as failed:
        # Not every operation has a second derivative.
        return Sharpness(lr=lr, limit=limit, reason=str(failed))
    along = tuple(steps[i] for i in chosen), (*sharpness, float(values[0]))
    ends = tuple(values.tolist()), tuple(own.tolist()), error
    return Sharpness(*ends, *along, lr, limit, reason)


def _finite_path(run: TrainingRun, least: int = 1) -> Tensor:
    """Returns the weights at the moments (t, m) before the first that are not finite."""
    snapshots = torch.empty(0, 0) if run.snapshots is None else run.snapshots
    # Squares of larger ones have no finite sum.
    finite = [float(row.double().norm()) < _LARGEST for row in snapshots]
    path = snapshots[: finite.index(False) if False in finite else None]
    if len(path) < least:
        raise InputError("The training has no finite path.", "Train with a smaller lr.")
    return path.to(next(iter(run.final.values())).device)


def _plane(
    kind: str,
    training: Training,
    loss: WeightLoss,
    path: Tensor,
    watched: Sequence[Watched],
    seed: int,
) -> tuple[Tensor, Tensor, tuple[str, str]]:
    """Returns the weights at (0, 0), the two directions, and what these are in words."""
    end, count = path[-1], loss.weights.count
    if kind == "axes":
        first, second = (element.label for element in watched)
        origin, directions = end.clone(), end.new_zeros(2, len(end))
        for row, element in enumerate(watched):
            place = loss.weights.places(element)[0]
            directions[row, place], origin[place] = 1.0, 0.0
        return origin, directions[:, :count], (first, second)
    if kind == "random":
        drawn = random_directions(training.model, loss.weights.tensors(end[:count]), seed)
        return end, drawn, ("first random direction", "second random direction")
    if kind == "pca":
        words = "first main direction of the path", "second main direction"
        return end, main_directions(path[:, :count])[0], words
    slope = loss.gradient(end)
    if not bool(slope.norm() > 0):
        raise InputError("The gradient at the end is zero.", "Draw another plane: pca, say.")
    sharpest = largest_eigenvalues(lambda v: loss.gradient(end, v), slope, 1, seed)[1]
    return end, orthonormal(torch.stack([slope, sharpest])), ("gradient", "sharpest direction")


def _ranges(kind: str, path: FloatArray, directions: Tensor) -> list[tuple[float, float]]:
    """Returns the ranges of both coordinates that hold the path and the origin, with a margin."""
    lengths = directions.double().norm(dim=1).cpu().numpy()
    low, high = path.min(axis=0), path.max(axis=0)
    if kind != "axes":
        low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    least = _LEAST * float(((high - low) * lengths).max()) / lengths
    more = np.maximum(_MARGIN * (high - low), (least - (high - low)) / 2)
    low, high = low - more, high + more
    if kind == "random":
        low, high = np.minimum(low, -1.0), np.maximum(high, 1.0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _axis(given: Ends, own: tuple[float, float], count: int) -> FloatArray:
    low, high = (mine if end is None else end for end, mine in zip(given, own, strict=True))
    if not low < high:
        raise UsageError(f"the range {low:g} to {high:g} is empty.")
    return np.linspace(low, high, count)


def _on_grid(
    loss: WeightLoss,
    origin: Tensor,
    directions: Tensor,
    places: FloatArray,
    saved: Checkpoint,
    report: Report,
) -> FloatArray:
    """Returns the losses (n,) at places (n, 2), going on behind what a checkpoint holds."""
    done: list[float] = [] if saved.content is None else saved.content["losses"]
    while len(done) < len(places):
        report(len(done), len(places), "drawing the plane")
        part = places[len(done) : len(done) + _PLACES]
        done.extend(loss.on_grid(origin, directions, part).tolist())
        saved.save(partial(dict, losses=done))
    return np.array(done)


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _loss(value: float) -> str:
    return show_number(value) if value > 0 else f"{value:.3g}"
