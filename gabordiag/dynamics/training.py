"""One real training run, watched: torch's own optimizer on the user's module and batches.

What is watched is copied at every step as it is kept by the module, in a few operations, and only
read afterwards: the run costs little more than the plain loop.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gabordiag.dynamics.checkpoint import Checkpoint, plain_attributes, restore_attributes
from gabordiag.dynamics.optimizers import OptimizerSettings, unguarded_step
from gabordiag.dynamics.replay import Step
from gabordiag.errors import UsageError
from gabordiag.objective.space import FloatArray
from gabordiag.own.evaluation import tensors_in
from gabordiag.own.loading import user_code
from gabordiag.own.training import Batch, BatchStream, State, Training, Watched, Weights

# Whose rate holds for all parameters that have none of their own.
OTHERS = "others"
# That a loss on fixed batches is the mean over.
BATCHES = 8
# Steps that are read and handed out together.
_BLOCK = 20
# A loss that is so many times what it was at most in the first fifth of the steps has blown up.
_GROWTH = 10


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """A training run of T steps with d watched elements.

    Attributes:
        rates: Learning rates by parameter, and `others`.
        values: Of the elements (T + 1, d): radians, pixels.
        coordinates: What the optimizer moves (T + 1, d): the value, or its logarithm.
        losses: Of the batches (T + 1,).
        gradients: Of the coordinates (T + 1, d); 0 where none arrives.
        lrs: Learning rates (T + 1, d).
        sizes: Length of every parameter's gradient (T + 1,), by name.
        arrived: Whether any gradient, be it zero, arrived at the element (d,).
        divisors: What the optimizer divides the elements' gradients by at the end, as Adam does
            (d,); None of one that does not divide.
        start: All tensors of the model before the run, by name; `final`, after it.
        is_fed_badly: Whether it broke off at a batch that holds NaN, or an infinite target.
        snapshots: All weights, as `Weights` lays them out, at the steps asked for (k, m).
    """

    watched: tuple[Watched, ...]
    settings: OptimizerSettings
    rates: Mapping[str, float]
    values: FloatArray
    coordinates: FloatArray
    losses: FloatArray
    gradients: FloatArray
    lrs: FloatArray
    sizes: dict[str, FloatArray]
    arrived: npt.NDArray[np.bool_]
    divisors: FloatArray | None
    start: State = field(repr=False)
    final: State = field(repr=False)
    seconds: float = 0.0
    snapshots: Tensor | None = field(default=None, repr=False)
    is_fed_badly: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON says of the settings."""
        (common, _), *others = Counter(self.rates.values()).most_common()
        named = {name: rate for name, rate in self.rates.items() if rate != common}
        # One number where all rates are equal, else those that differ from most.
        lr = {**named, OTHERS: common} if others else common
        run = {"losses": self.losses.tolist(), "seconds": self.seconds}
        return {**asdict(self.settings), "lr": lr, **run}

    @property
    def total(self) -> FloatArray:
        """Length of the gradient of all parameters together (T + 1,)."""
        return np.asarray(np.sqrt(np.sum([size**2 for size in self.sizes.values()], axis=0)))

    @property
    def is_finite(self) -> bool:
        """Whether loss and values are finite to the end."""
        return bool(np.isfinite(self.losses).all() and np.isfinite(self.values).all())

    @property
    def is_held(self) -> bool:
        """Whether it is finite to the end, and its loss has not grown out of all proportion."""
        early, late = self.losses[: len(self.losses) // 5 + 1], self.losses[-10:]
        # A likelihood may fall below zero, as far as it likes.
        return self.is_finite and bool(late.mean() <= _GROWTH * np.abs(early).max())


def rates_of(
    training: Training, watched: Sequence[Watched], lr: float | Mapping[str, float], default: float
) -> dict[str, float]:
    """Returns the learning rate of each parameter of the model by name.

    A rate is one for all, or goes by the name of a watched group, of a parameter or of a submodule,
    the longest first, and `others`; parameters that are not named have the default.
    """
    names = [name for name, _ in training.model.named_parameters()]
    given = dict(lr) if isinstance(lr, Mapping) else {OTHERS: float(lr)}
    rest = float(given.pop(OTHERS, default))
    kept = {watched_.group: watched_.name for watched_ in watched}
    rates = dict.fromkeys(names, rest)
    for name in sorted(given, key=len):
        place = kept.get(name, name)
        hits = [n for n in names if n == place or n.startswith(f"{place}.")]
        if not hits:
            raise UsageError(
                f"a learning rate for {name}, which is not a parameter of the model.",
                f"Name one of {', '.join(names[:8])}, or '{OTHERS}' for all that are not named.",
            )
        rates |= dict.fromkeys(hits, float(given[name]))
    for name, rate in rates.items():
        if not (np.isfinite(rate) and rate > 0):
            raise UsageError(f"learning rate {rate} of {name} is not a positive number.")
    return rates


def run_training(
    training: Training,
    watched: Sequence[Watched],
    settings: OptimizerSettings,
    rates: Mapping[str, float],
    *,
    seed: int = 0,
    first: int = 0,
    starts: Mapping[str, float] | None = None,
    turning: Mapping[str, int] | None = None,
    listener: Callable[[Step], None] | None = None,
    progress: Callable[[int, int, float], None] | None = None,
    batches: Sequence[Batch] = (),
    checkpoint: str | Path | None = None,
    snapshots: Collection[int] = (),
) -> tuple[TrainingRun, float, float | None]:
    """Trains the model, watching some of its elements; the model comes back as it was.

    Returns the run, and mean loss and mean metric on `batches` (by default the last one) at its
    end. The rates are those of `rates_of`, the settings' own is not used; where the batches are a
    list, the `first` of them begins. `starts` are coordinates of elements by label, instead of the
    model's own; `turning`, parameters of angles that are learned as vectors (cos k a, sin k a),
    with their k; `snapshots`, steps before which all weights are kept.

    The listener gets every step, some steps late, of a training that goes on from its checkpoint's
    file those before, too; progress is called with (steps done, steps in all, loss).
    """
    what = {"settings": asdict(settings), "rates": dict(rates), "seed": seed, "first": first}
    what["watched"] = [element.label for element in watched]
    if snapshots:
        what["snapshots"] = sorted(snapshots)
    saved = Checkpoint(checkpoint, what)
    with training.kept(seed):
        _place(training, watched, starts or {})
        began = time.perf_counter()
        trainer = _Trainer(training, watched, settings, rates, turning or {}, first, snapshots)
        trainer.listener = listener
        if saved.content is not None:
            began -= trainer.go_on(saved.content)
        for step in range(len(trainer.losses), settings.steps + 1):
            saved.save(partial(trainer.parts, began), now=step == settings.steps)
            batch = next(trainer.stream)
            loss = trainer.evaluate(batch)
            trainer.take(loss)
            if progress is not None and step % _BLOCK == 0:
                progress(step, settings.steps, loss)
            if step == settings.steps or not np.isfinite(loss):
                break
            trainer.step(batch)
        run = trainer.finished(time.perf_counter() - began)
        run = replace(run, is_fed_badly=not run.is_finite and _is_broken(batch))
        loss, metric = training.score(batches or [batch])
    return run, loss, metric


def _is_broken(batch: Batch) -> bool:
    # A mask of inputs may be infinite.
    is_nan = any(bool(torch.isnan(tensor).any()) for tensor in tensors_in(batch))
    return is_nan or any(bool(torch.isinf(tensor).any()) for tensor in tensors_in(batch[1]))


def _place(training: Training, watched: Sequence[Watched], starts: Mapping[str, float]) -> None:
    state = training.state()
    for element in watched:
        if element.label in starts:
            name = element.name
            state[name] = element.placed(state[name], [starts[element.label]])[0]
    training.load(state)


class _Turning:
    """A parameter a of angles, in whose place an optimizer moves v = r (cos k a, sin k a).

    a = atan2(v1, v0) / k, so that dL/dv = (-v1, v0) / (k |v|^2) dL/da: each step makes v longer,
    and the longer it is the less it turns.
    """

    def __init__(self, angles: nn.Parameter, factor: int) -> None:
        self._angles, self._factor = angles, factor
        turned = factor * angles.detach()
        self.vector = torch.stack([turned.cos(), turned.sin()], dim=-1).requires_grad_()

    def take_gradient(self) -> None:
        slopes, (cos, sin) = self._angles.grad, self.vector.detach().unbind(-1)
        self.vector.grad = None
        if slopes is not None:
            lengths = self._factor * (cos**2 + sin**2)
            self.vector.grad = torch.stack([-sin, cos], dim=-1) * (slopes / lengths)[..., None]
            self._angles.grad = None

    def place(self) -> None:
        cos, sin = self.vector.detach().unbind(-1)
        with torch.no_grad():
            self._angles.copy_(torch.atan2(sin, cos) / self._factor)


class _Trainer:
    """A training under way: the model with its optimizer, and raw copies of what is watched."""

    def __init__(
        self,
        training: Training,
        watched: Sequence[Watched],
        settings: OptimizerSettings,
        rates: Mapping[str, float],
        turning: Mapping[str, int],
        first: int,
        snapshots: Collection[int],
    ) -> None:
        self.training, self.watched, self.settings = training, tuple(watched), settings
        self.rates, self.start = dict(rates), training.state()
        self.listener: Callable[[Step], None] | None = None
        parameters = dict(training.model.named_parameters())
        self.learned = {name: p for name, p in parameters.items() if p.requires_grad}
        self.tensors = {w.name: parameters[w.name] for w in watched}
        self.turning = {name: _Turning(parameters[name], k) for name, k in turning.items()}
        moved = self.learned | {name: turned.vector for name, turned in self.turning.items()}
        self.moved = {name: moved.get(name, tensor) for name, tensor in self.tensors.items()}
        groups = [
            {"params": [p for n, p in moved.items() if rates[n] == rate], "lr": rate}
            for rate in dict.fromkeys(rates[name] for name in self.learned)
        ]
        if not groups:
            raise UsageError("no parameter of the model has requires_grad = True.")
        if len(groups) > 1 and not settings.is_elementwise:
            raise UsageError("lbfgs takes one learning rate for all parameters.")
        self.optimizer = settings.build(groups)
        self.schedule = settings.build_schedule(self.optimizer)
        self._step = unguarded_step(self.optimizer)
        self.stream = BatchStream(training, first)
        self._weights, self._asked = Weights(training), frozenset(snapshots)
        self.snapshots: list[Tensor] = []
        # Of every step the watched tensors, flat, with their gradients (2, m).
        self.raw: list[Tensor] = []
        self.norms: list[Tensor] = []
        self.losses: list[float] = []
        self.lrs: list[list[float]] = []
        self._sent = 0
        self.arrived = dict.fromkeys(self.tensors, False)
        sizes = [tensor.numel() for tensor in self.tensors.values()]
        self._offsets = dict(zip(self.tensors, np.cumsum([0, *sizes]).tolist(), strict=False))

    def parts(self, began: float) -> dict[str, Any]:
        """Returns what a checkpoint holds between two steps."""
        stacked = {"raw": self.raw, "norms": self.norms}
        record: dict[str, Any] = {
            name: torch.stack(rows) if rows else [] for name, rows in stacked.items()
        }
        names = ("losses", "lrs", "arrived", "snapshots")
        return {
            "start": dict(self.start),
            "model": self.training.state(),
            "attributes": plain_attributes(self.training.model),
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "stream": self.stream.place(),
            "record": record | {name: getattr(self, name) for name in names},
            "seconds": time.perf_counter() - began,
        }

    def go_on(self, saved: Mapping[str, Any]) -> float:
        """Goes on where a checkpoint was written; returns the seconds until then.

        The listener gets again what was taken before.
        """
        start = self.start
        if saved["start"].keys() != start.keys() or not all(
            torch.equal(saved["start"][name].to(tensor), tensor) for name, tensor in start.items()
        ):
            raise UsageError(
                "the model does not begin with the values that the checkpoint's began with.",
                "Seed what builds it: torch.manual_seed(0).",
            )
        self.training.load(saved["model"])
        restore_attributes(self.training.model, saved["attributes"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(saved["schedule"])
        for name, part in saved["record"].items():
            # A stack is a list of rows again.
            setattr(self, name, part if isinstance(part, dict) else list(part))
        self.stream.go_to(saved["stream"])
        return float(saved["seconds"])

    def evaluate(self, batch: Batch) -> float:
        """Returns the loss; the gradients are in the parameters."""
        # As `zero_grad` does, whose first call imports torch's compiler, two seconds' work.
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        with torch.enable_grad():
            loss, output = self.training.compare(self.training.model, batch)
            if not self.losses:
                self.training.refuse_broadcasting(loss, output, batch[1])
            if loss.requires_grad:
                with user_code("computing the gradient"):
                    torch.autograd.backward(loss)
        return float(loss.detach())

    def step(self, batch: Batch) -> None:
        for turned in self.turning.values():
            turned.take_gradient()
        with user_code("making an optimizer's step"):
            if not self.settings.is_elementwise:
                self.optimizer.step(lambda: self.evaluate(batch))
            elif self.schedule is not None:
                self.optimizer.step()
            else:
                with torch.no_grad():
                    self._step()
        for turned in self.turning.values():
            turned.place()
        if self.schedule is not None:
            self.schedule.step()

    def _groups(self) -> dict[str, Mapping[str, Any]]:
        """Returns the optimizer's group of every watched tensor that it moves, by name."""
        groups = {id(p): group for group in self.optimizer.param_groups for p in group["params"]}
        return {name: groups[id(p)] for name, p in self.moved.items() if id(p) in groups}

    def rates_now(self) -> list[float]:
        rates = {name: float(group["lr"]) for name, group in self._groups().items()}
        return [rates.get(element.name, 0.0) for element in self.watched]

    def divisors(self) -> FloatArray | None:
        """Returns what the elements' gradients are divided by (d,), NaN where they are not."""
        found = {}
        for name, group in self._groups().items():
            state: Mapping[str, Any] = self.optimizer.state.get(self.moved[name], {})
            if "exp_avg_sq" in state:
                grown = 1 - group["betas"][1] ** float(state["step"])
                found[name] = (state["exp_avg_sq"] / grown).sqrt() + group["eps"]
            elif "square_avg" in state:
                found[name] = state["square_avg"].sqrt() + group["eps"]
        is_vector = self.turning or any(watched.kind == "vector" for watched in self.watched)
        if not found or is_vector:
            return None
        watched = self.watched
        at = [found[w.name].reshape(-1)[w.index] if w.name in found else np.nan for w in watched]
        return np.array([float(divisor) for divisor in at])

    def take(self, loss: float) -> None:
        if len(self.losses) in self._asked:
            self.snapshots.append(self._weights.vector(self.training.tensors()).cpu())
        # Of nothing that is watched the copies are empty.
        empty = next(iter(self.learned.values())).detach().new_zeros(0)
        values, slopes = [empty], [empty]
        for name, tensor in self.tensors.items():
            values.append(tensor.detach().reshape(-1))
            self.arrived[name] |= tensor.grad is not None
            gradient = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
            slopes.append(gradient.detach().reshape(-1))
        self.raw.append(torch.stack([torch.cat(values), torch.cat(slopes)]))
        gradients = [p.grad for p in self.learned.values()]
        there = [g for g in gradients if g is not None]
        lengths = iter(torch._foreach_norm(there) if there else [])
        zero = self.raw[-1].new_zeros(())
        self.norms.append(
            torch.stack([zero if g is None else next(lengths).to(zero) for g in gradients])
        )
        self.losses.append(loss)
        self.lrs.append(self.rates_now())
        if len(self.losses) - self._sent > _BLOCK:
            self._send(len(self.losses) - 1)

    def _send(self, until: int) -> None:
        """Hands out the steps before `until`; a step's update is known from the next one."""
        if self.listener is None:
            return
        rows = slice(self._sent, until + 1)
        values, _, gradients = self._read(rows)
        updates = np.diff(values, axis=0, append=np.nan)
        columns = (values, self.losses[rows], gradients, updates, np.array(self.lrs[rows]))
        for step, row in zip(range(self._sent, until), zip(*columns, strict=True), strict=False):
            self.listener(Step(step, *row))
        self._sent = until

    def _read(self, rows: slice) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Returns values, coordinates and gradients (n, d)."""
        raw, slopes = torch.stack(self.raw[rows], dim=1).double().cpu().numpy()
        columns = []
        for watched in self.watched:
            place = self._offsets[watched.name] + watched.place.start
            coordinate, slope = raw[:, place], slopes[:, place]
            value = coordinate
            if watched.kind == "log":
                with np.errstate(over="ignore"):
                    value = np.exp(coordinate)
            elif watched.kind == "vector":
                cos, sin = raw[:, place], raw[:, place + 1]
                value = coordinate = np.unwrap(np.arctan2(sin, cos)) / 2
                slope = 2 * (cos * slopes[:, place + 1] - sin * slopes[:, place])
            columns.append((value, coordinate, slope))
        found = np.array(columns).reshape(len(columns), 3, len(raw))
        values, coordinates, gradients = np.moveaxis(found, 0, -1)
        return values, coordinates, gradients

    def finished(self, seconds: float) -> TrainingRun:
        self._send(len(self.losses))
        values, coordinates, gradients = self._read(slice(None))
        norms = torch.stack(self.norms).double().cpu().numpy()
        sizes = dict(zip(self.learned, norms.T, strict=True))
        arrived = np.array([self.arrived[w.name] for w in self.watched])
        snapshots = torch.stack(self.snapshots) if self.snapshots else None
        return TrainingRun(
            self.watched, self.settings, self.rates, values, coordinates,
            np.array(self.losses), gradients, np.array(self.lrs), sizes, arrived,
            self.divisors(), self.start, self.training.state(), seconds, snapshots,
        )  # fmt: skip
