"""A user's code as a loss of one parameter or of several: in batches if torch can, or one by one.

In goes an `Evaluator`, the loss at one point; out comes what every landscape, optimizer and
diagnosis takes. The user's gradient may be what is wrong: it is believed about the landscape only
where differences of values confirm it. All global random streams stay as they were,
and so does the module.
"""

from __future__ import annotations

import copy
import itertools
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gabordiag.errors import InputError, UsageError
from gabordiag.objective.losses import LOSSES
from gabordiag.objective.objective import CHUNK, Line, Objective, ScalarLoss, levels_of, to_numpy
from gabordiag.objective.space import FloatArray, Parameter, Space
from gabordiag.own.loading import RandomStreams, user_code
from gabordiag.own.modules import Evaluator, FunctionLoss
from gabordiag.own.numeric import (
    GENERIC,
    NumericDerivatives,
    differentiate,
    follows_closely,
    measure_fine_noise,
    measure_noise,
    noise_spacing,
    places_inside,
)
from gabordiag.results import Progress

# Bytes that the graph of one batch may keep.
_BATCH_BYTES = 256 * 2**20
# An evaluation whose graph is larger costs milliseconds: then every one counts.
_CHEAP_BYTES = 2**20
# Derivatives by autograd are believed where they agree this well with differences of values
# (above this a gradient counts as wrong: CS231n), or within so many errors of the differences.
_TRUST, _TRUSTED_ERRORS = 1e-2, 4
# Where noise hides differences: over so many values slopes add up to the loss's changes, to this
# part of all that it varies, which is more than so many deviations of the noise.
_INTEGRATED, _SUMS_AGREE, _DEVIATIONS = 1025, 0.05, 8
# Steps at which a line through the ranges is tried out.
_TRIED = (-0.7639320225, -0.2360679775, 0.0260018634, 0.2720196204, 0.7082039324)


class UserObjective(ScalarLoss):
    """What a user's function or module is evaluated with: batches, random streams, progress.

    It may be tried out at `places`: values (n,), or points (n, d).

    Attributes:
        takes_root_away: The loss is the square of what the evaluator gives.
        progress: Called with (done, in all) of one request whose evaluations go one by one.
        samples: Evaluations so far.
        is_timed_slow: Whether an evaluation was measured to take too long to make thousands.
        repeats: Whether two evaluations at the same place were seen to agree to the bit.
    """

    has_state = True

    def __init__(
        self, evaluator: Evaluator, loss_name: str, places: FloatArray, seed: int = 0
    ) -> None:
        self.evaluator, self.loss_name, self.is_root = evaluator, loss_name, evaluator.is_root
        self.dtype, self.device = evaluator.dtype, evaluator.device
        self.progress: Progress | None = None
        self.samples = 0
        # Value -> loss, and whether without its root: of one parameter, all that was computed.
        self._seen: dict[float, tuple[float, bool]] = {}
        self.streams = RandomStreams(seed, evaluator.device)
        self._places, self._seed = places, seed
        self.repeats = self.is_timed_slow = self.takes_root_away = False

    @property
    def held_fixed(self) -> str | None:
        """Says which numbers beside the parameters are held fixed, and where; None without any."""
        return ", ".join(self.evaluator.held) or None

    @property
    def scale(self) -> float:
        """What the loss without its root is a difference of; 0 where that is unknown."""
        return self.evaluator.scale

    @property
    def loss_eps(self) -> float:
        """Relative rounding of the losses so far: their own precision may be the coarser one."""
        return max(self.value_eps, float(torch.finfo(self.evaluator.precision).eps))

    def loss(self, values: Tensor, *, smooth: bool = False) -> Tensor:
        """Returns the losses (n,) at n values, or at coordinates (n, d); no root, if `smooth`."""
        without_root = self._has_squared if smooth else self.takes_root_away
        is_known = without_root and self.evaluator.is_root
        loss = self._evaluate(self._inside(values), is_known)
        return loss * loss if without_root and not is_known else loss

    def _inside(self, values: Tensor) -> Tensor:
        """Returns the evaluator's points that belong to values or coordinates."""
        return values

    def _losses(self, points: FloatArray, smooth: bool) -> FloatArray:
        with torch.no_grad():
            return to_numpy(self.loss(self.tensor(points), smooth=smooth))

    @property
    def _has_squared(self) -> bool:
        """Whether the smooth loss is the square of what the evaluator gives, or under its root."""
        return self.is_root or self.takes_root_away

    def _by_autograd(self, points: FloatArray, order: int, smooth: bool) -> list[FloatArray]:
        """Returns losses, slopes and, of order 2, second derivatives at points (n,) or (n, d)."""
        loss = partial(self.loss, smooth=smooth)
        chunks = torch.split(self.tensor(points), self.batch_size)
        with user_code("computing the gradient"):
            pieces = [levels_of(loss, chunk, order) for chunk in chunks]
        levels = [to_numpy(torch.cat(level)) for level in zip(*pieces, strict=True)]
        if self.takes_root_away:
            # The square of a root has the slope 0 at zero, and autograd zero times infinity.
            is_zero = (levels[0] == 0).reshape(-1, *(1,) * (levels[1].ndim - 1))
            levels[1] = np.where(is_zero & np.isnan(levels[1]), 0.0, levels[1])
        return levels

    def _doubtful(self, losses: FloatArray, *derivatives: FloatArray) -> npt.NDArray[np.bool_]:
        """Returns where derivatives (n, ...) of the smooth loss are not those of its values."""
        # 0/0 of a root at zero loss; or torch's choice of 0 for the slope of |x| there, which
        # leaves no second derivative of |x|^2.
        flat = [level.reshape(len(level), -1) for level in derivatives]
        doubtful = ~np.all([np.isfinite(level).all(axis=1) for level in flat], axis=0)
        is_zero = losses == 0
        if not self._has_squared or self.evaluator.is_root:
            is_zero &= (len(flat) > 1) & ~flat[-1].any(axis=1)
        return np.asarray(doubtful & np.isfinite(losses) | is_zero)

    def squared(self) -> Self | None:
        """Returns the objective with the root of its loss taken away, or None without one."""
        if not self.is_root:
            return None
        smooth = copy.copy(self)
        smooth.is_root, smooth.takes_root_away = False, True
        known = LOSSES.get(self.loss_name)
        smooth.loss_name = f"{self.loss_name} squared" if known is None else known.squared
        return smooth

    @cached_property
    def batch_size(self) -> int:
        """Evaluations that go at once: 1 where torch cannot batch the user's code."""
        most = min(CHUNK, _BATCH_BYTES // self._graph_bytes) if self._batches(self._tried) else 1
        return max(1, most)

    @property
    def is_slow(self) -> bool:
        """Whether one evaluation takes too long to make thousands of them."""
        return self.is_timed_slow or self._graph_bytes > _CHEAP_BYTES

    @property
    def is_expensive(self) -> bool:
        """Whether one evaluation costs so much that every one counts."""
        return self.batch_size == 1 or self.is_slow

    @property
    def _tried(self) -> Tensor:
        return torch.tensor(self._places, dtype=self.dtype, device=self.device)

    @cached_property
    def _graph_bytes(self) -> int:
        """What one evaluation keeps for its backward pass."""
        kept = [1]

        def pack(tensor: Tensor) -> Tensor:
            kept.append(tensor.numel() * tensor.element_size())
            return tensor

        value = self._tried[:1].requires_grad_()
        hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        with torch.enable_grad(), hooks:
            self._one_by_one(value)
        return sum(kept)

    def _batches(self, values: Tensor) -> bool:
        """Whether a batch gives what evaluations one by one give, values and gradients."""
        results = []
        for evaluate in (self._one_by_one, self._one_by_one, self._batched):
            leaf = values.clone().requires_grad_()
            try:
                with torch.enable_grad():
                    loss = evaluate(leaf)
                    slope = gradient_of(loss.sum(), leaf)
            except Exception:
                # What torch cannot batch raises many kinds of errors; whether the user's code is
                # at fault shows one by one.
                return False
            slope = torch.zeros_like(leaf) if slope is None else slope
            results.append(torch.stack([loss.detach(), *slope.reshape(len(leaf), -1).T]))
            self.repeats = len(results) > 1 and torch.equal(*results[:2])
        single, _, batched = results
        # A batch of random numbers is another draw: nothing can be compared.
        if not self.repeats:
            return False
        scale = single.abs().amax(dim=1, keepdim=True)
        # Another order of summation costs some digits, never half of them.
        agrees: Tensor = (batched - single).abs() <= math.sqrt(self.value_eps) * scale
        return bool(agrees.all())

    def rewritten(
        self, mode: AbstractContextManager[Any] | None = None, *, squared: bool = False
    ) -> Self:
        """Returns the loss with something else written in its place: advice, as it would be typed.

        The user's code runs under the mode; the loss is squared as `loss ** 2` in it would.
        """
        other, given = copy.copy(self), self.evaluator
        # What was found out of the loss is not true of the other.
        for name in ("batch_size", "trusted_order", "_graph_bytes"):
            vars(other).pop(name, None)
        other._seen = {}

        def changed(run: Callable[..., Tensor]) -> Callable[..., Tensor]:
            def run_otherwise(point: Any, **options: Any) -> Tensor:
                with mode or nullcontext():
                    loss = run(point, **options)
                return loss**2 if squared else loss

            return run_otherwise

        other.evaluator = copy.copy(given)
        runs = {"loss": changed(given.loss), "run": changed(given.run)}
        vars(other.evaluator).update(runs, is_root=False)
        other.is_root = other.takes_root_away = False
        return other

    def _evaluate(self, values: Tensor, smooth: bool) -> Tensor:
        self.samples += len(values)
        if len(values) == 0:
            return values.new_empty(0)
        if len(values) == 1 or self.batch_size == 1:
            return self._one_by_one(values, smooth)
        parts = torch.split(values, self.batch_size)
        return torch.cat([self._batched(part, smooth) for part in parts])

    def _one(self, value: Tensor, *, smooth: bool) -> Tensor:
        # The user's code makes a graph whatever is asked; of thousands of losses none is kept.
        loss = self.evaluator.loss(value, smooth=smooth)
        return loss if torch.is_grad_enabled() else loss.detach()

    def _one_by_one(self, values: Tensor, smooth: bool = False) -> Tensor:
        results = []
        with self.streams():
            for count, value in enumerate(values, 1):
                results.append(self._one(value, smooth=smooth))
                if self.progress is not None and len(values) > 1:
                    self.progress(count, len(values))
        return torch.stack(results)

    def _batched(self, values: Tensor, smooth: bool = False) -> Tensor:
        one = partial(self._one, smooth=smooth)
        with self.streams(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="There is a performance drop")
            result: Tensor = torch.func.vmap(one, randomness="different")(values)
            return result


class OwnObjective(UserObjective, Line):
    """A user's function or module along one parameter.

    The derivatives of the smooth loss are those of the function that the values show: by autograd
    where that agrees with differences of values, by differences where it does not (a graph that
    is cut). Those of the loss itself are what an optimizer would get, right or wrong; zero where
    no gradient arrives.

    Attributes:
        nodes: Largest number of values from which a series is made, if evaluations are expensive.
        spread: Parts of the range in each of which it is known then.
    """

    nodes, spread = 128, 160

    def _evaluate(self, values: Tensor, smooth: bool) -> Tensor:
        losses = super()._evaluate(values, smooth)
        for value, loss in zip(values.tolist(), losses.tolist(), strict=True):
            if math.isfinite(loss):
                self._seen[value] = loss, smooth
        return losses

    def known(self, since: int = 0) -> tuple[FloatArray, FloatArray]:
        """Returns where losses were computed (n,), past the first `since`, and the smooth ones."""
        pairs = [
            (value, loss if is_smooth or not self._has_squared else loss * loss)
            for value, (loss, is_smooth) in itertools.islice(self._seen.items(), since, None)
        ]
        table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
        return table[:, 0], table[:, 1]

    def loss_once(self, values: npt.ArrayLike) -> FloatArray:
        """Returns the losses (n,), those that were computed before from memory if they repeat."""
        places = self.tensor(values).tolist()
        known = [self._seen.get(place, (math.nan, True)) for place in places]
        asked = [is_smooth or not self.repeats or self.takes_root_away for _, is_smooth in known]
        losses = np.array([loss for loss, _ in known])
        losses[asked] = self.loss_at(np.array(places)[asked])
        return losses

    def seconds_each(self) -> float:
        """Measures how long an evaluation with its gradient takes."""
        value = self.tensor(self.parameter.start)
        begin = time.perf_counter()
        self.losses_and_gradients(value)
        return time.perf_counter() - begin

    def _slope(self, loss: Tensor, leaf: Tensor) -> Tensor | None:
        return gradient_of(loss, leaf)

    def derivatives(
        self, values: npt.ArrayLike, order: int = 1, *, smooth: bool = False
    ) -> FloatArray:
        """Returns the loss and its derivatives, (order + 1, n); see the class."""
        points = np.array(values, dtype=np.float64, ndmin=1)
        if order == 0:
            return self._losses(points, smooth)[None]
        # The first derivative of the loss itself is whatever autograd makes of it, right or wrong.
        trusted = self.trusted_order if smooth or order > 1 else 1
        if smooth and trusted == 0:
            return self._numeric(points, order, smooth)
        levels = np.stack(self._by_autograd(points, min(order, max(trusted, 1)), smooth))
        doubtful = self._doubtful(*levels) if smooth else np.zeros(len(points), dtype=np.bool_)
        if len(levels) <= order:
            levels = np.concatenate([levels, self._numeric(points, order, smooth)[len(levels) :]])
        if doubtful.any():
            levels[:, doubtful] = self._numeric(points[doubtful], order, smooth)
        return levels

    def _numeric(self, points: FloatArray, order: int, smooth: bool) -> FloatArray:
        if order > 2:
            raise NotImplementedError("differences of values give two derivatives")
        distinct, places = np.unique(points, return_inverse=True)
        slopes = self.differences(distinct, smooth=smooth)
        levels = np.stack([self._losses(distinct, smooth), slopes.first, slopes.second])
        return levels[: order + 1, places]

    def differences(self, points: FloatArray, *, smooth: bool = False) -> NumericDerivatives:
        """Returns derivatives at points (n,) from values alone, 17 evaluations each."""
        low, high = self.parameter.low, self.parameter.high
        points, reach = places_inside(points, low, high, self.parameter.period is None)
        return differentiate(lambda values: self._losses(values, smooth), points, reach)

    @cached_property
    def trusted_order(self) -> int:
        """The highest derivative by autograd that differences of values confirm."""
        parameter = self.parameter
        points = parameter.low + parameter.width * np.array(GENERIC)
        numeric = self.differences(points, smooth=True)
        shown = ((numeric.first, numeric.first_error), (numeric.second, numeric.second_error))
        for order, (expected, error) in enumerate(shown, 1):
            try:
                exact = self._by_autograd(points, order, True)[order]
            except (InputError, RuntimeError):
                # No second derivative of some operation, say.
                return order - 1
            tolerance = _TRUST * np.abs(expected).max() + _TRUSTED_ERRORS * error
            agrees = (np.abs(exact - expected) <= tolerance).all() or self._fits(points, order)
            if not agrees and (order == 2 or not self._integrates()):
                return order - 1
        return 2

    def _integrates(self) -> bool:
        """Whether slopes by autograd add up to the loss's changes where noise hides differences."""
        if self.is_expensive:
            return False
        low, high = self.parameter.low, self.parameter.high
        places = np.linspace(low, high, _INTEGRATED)
        losses, slopes = self._by_autograd(places, 1, True)
        spacing = noise_spacing(high - low, max(abs(low), abs(high)), self.value_eps)
        generic = low + (high - low) * np.array(GENERIC)
        noise = measure_noise(lambda at: self._losses(at, True), generic, spacing)
        # Rounding by at most half a digit deviates by the digit / sqrt(12).
        noise = max(noise, self.loss_eps * float(np.abs(losses).max()) / math.sqrt(12))
        sums = np.cumsum((slopes[1:] + slopes[:-1]) / 2 * np.diff(places))
        apart = np.ptp(losses[1:] - losses[0] - sums)
        slack = _SUMS_AGREE * np.ptp(losses)
        return bool(0 < _DEVIATIONS * noise <= slack and apart <= slack)

    def _fits(self, points: FloatArray, order: int) -> bool:
        """Whether derivatives by autograd are those of the values, or slopes, close up."""
        exact = self._by_autograd(points, order, True)[order]

        def function(values: FloatArray) -> FloatArray:
            if order == 1:
                return self._losses(values, True)
            return self._by_autograd(values, order - 1, True)[order - 1]

        low, high = self.parameter.low, self.parameter.high
        noise = measure_fine_noise(function, low, high, self.value_eps)
        reach = (high - low) / (2 * math.pi)
        return bool(follows_closely(function, points, exact, reach, noise).all())


def gradient_of(loss: Tensor, value: Tensor) -> Tensor | None:
    """Returns dloss/dvalue, or None where the loss's graph does not lead to the value."""
    if not loss.requires_grad:
        return None
    with user_code("computing the gradient"):
        (slope,) = torch.autograd.grad(loss, value, allow_unused=True)
    return slope


def tensors_in(value: Any) -> list[Tensor]:
    """Returns the tensors in nested lists, tuples and dictionaries, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for part in value for tensor in tensors_in(part)]
    return []


def graph_nodes(root: Any) -> list[Any]:
    """Returns the operations of a loss's graph, breadth first; leaves have none."""
    nodes = [] if root is None else [root]
    seen = set(nodes)
    for node in nodes:
        for following, _ in node.next_functions:
            # Hooks on leaves are the user's.
            if not (following is None or following in seen or hasattr(following, "variable")):
                seen.add(following)
                nodes.append(following)
    return nodes


_Part = TypeVar("_Part", bound=UserObjective)


class CustomObjective(UserObjective, Objective):
    """A user's function or module of several parameters; derivatives are as in `OwnObjective`."""

    def with_logs(self, names: Sequence[str]) -> Self:
        """Returns the same objective with some parameters, above 0, moved as their logarithms."""
        for name in names:
            if self.space.low[self._index(name)] <= 0:
                problem = f"{name} cannot be learned as a logarithm."
                raise UsageError(problem, "Give it a range above 0.")
        other = copy.copy(self)
        # What was found out of derivatives is about the coordinates.
        vars(other).pop("trusted_order", None)
        other.space = Space(
            tuple(replace(p, is_log=p.name in names) for p in self.space.parameters)
        )
        return other

    def in_values(self) -> Self:
        """Returns the same objective with no parameter moved as its logarithm."""
        return self.with_logs([])

    def restricted(self, names: Sequence[str]) -> CustomObjective:
        """Returns the loss of some of the parameters, the others at their starts."""
        indices = [self._index(name) for name in names]
        other = self._part(CustomObjective, indices, self.space.start)
        chosen = [self.space.parameters[index] for index in indices]
        other.space = Space(tuple(replace(p, start=float(p.start)) for p in chosen))
        return other

    def along(self, index: int, at: npt.ArrayLike) -> OwnObjective:
        """Returns the loss along one parameter, the others fixed at values (d,)."""
        return self.line(self.space.names[index], at)

    def line(self, name: str, at: npt.ArrayLike | None = None) -> OwnObjective:
        """Returns the loss along one parameter, the others fixed at values (d,) or their starts."""
        index = self._index(name)
        point = np.array(self.space.start if at is None else at, dtype=np.float64)
        line = self._part(OwnObjective, index, point)
        line.parameter = replace(self.space.parameters[index], start=float(point[index]))
        return line

    def _part(self, kind: type[_Part], index: int | list[int], at: FloatArray) -> _Part:
        evaluator = self.evaluator.along(np.atleast_1d(index).tolist(), at)
        part = kind(evaluator, self.loss_name, self._places[:, index], self._seed)
        part.is_root, part.takes_root_away = self.is_root, self.takes_root_away
        return part

    def _index(self, name: str) -> int:
        if name not in self.space.names:
            names = ", ".join(self.space.names[:8]) + (", ..." if len(self.space) > 8 else "")
            problem = f"'{name}' is not a parameter of this objective."
            raise UsageError(problem, f"Its parameters are {names}.")
        return self.space.names.index(name)

    def _inside(self, values: Tensor) -> Tensor:
        return self._values(values)

    def step_gradient(self, coordinates: Tensor) -> tuple[FloatArray, Tensor | None]:
        """Returns losses (n,) and an optimizer's gradients (n, d), or None where none arrives."""
        at = coordinates.detach().clone().requires_grad_()
        losses = self.loss(at)
        return to_numpy(losses), gradient_of(losses.sum(), at)

    def loss_and_gradient(
        self, coordinates: npt.ArrayLike, *, smooth: bool = False
    ) -> tuple[FloatArray, FloatArray]:
        """Returns losses (n,) and gradients (n, d), without root, if `smooth`."""
        losses, slopes, *_ = self._levels(coordinates, 1, smooth)
        return losses, slopes

    def hessian(self, coordinates: npt.ArrayLike, *, smooth: bool = False) -> FloatArray:
        """Returns the second derivatives (n, d, d)."""
        return self._levels(coordinates, 2, smooth)[2]

    def _levels(self, coordinates: npt.ArrayLike, order: int, smooth: bool) -> list[FloatArray]:
        """Returns losses (n,), gradients (n, d) and, of order 2, Hessians (n, d, d)."""
        points = np.atleast_2d(np.asarray(coordinates, dtype=np.float64))
        if (smooth or order > 1) and self.trusted_order < order:
            return self._numeric(points, smooth)
        found = self._by_autograd(points, order, smooth)
        if not smooth:
            return found
        doubtful = self._doubtful(*found)
        if doubtful.any():
            for level, numeric in zip(found, self._numeric(points[doubtful], smooth), strict=False):
                level[doubtful] = numeric
        return found

    def _numeric(self, points: FloatArray, smooth: bool) -> list[FloatArray]:
        """Returns losses, gradients and Hessians from values alone.

        The second along r_i e_i + r_j e_j is r_i^2 H_ii + r_j^2 H_jj + 2 r_i r_j H_ij.
        """
        count, size = points.shape
        ended = np.array([parameter.period is None for parameter in self.space.parameters])
        low, high = self.space.coordinates([self.space.low, self.space.high])
        base, reach = places_inside(points, low, high, ended)
        pairs = list(itertools.combinations(range(size), 2))
        units = np.eye(size)
        units = np.concatenate([units, *(units[[i]] + units[[j]] for i, j in pairs)])
        ways = reach * units[:, None]

        def along(steps: FloatArray) -> FloatArray:
            moved = base + steps.reshape(-1, *ways.shape[:2], 1) * ways
            return self._losses(moved.reshape(-1, size), smooth)

        found = differentiate(along, np.zeros(len(units) * count), 1.0)
        first = found.first.reshape(-1, count)[:size].T / reach
        second = found.second.reshape(-1, count)
        hessians = np.zeros((count, size, size))
        hessians[:, range(size), range(size)] = second[:size].T / reach**2
        for row, (i, j) in enumerate(pairs, size):
            mixed = (second[row] - second[i] - second[j]) / (2 * reach[:, i] * reach[:, j])
            hessians[:, i, j] = hessians[:, j, i] = mixed
        return [self._losses(points, smooth), first, hessians]

    @cached_property
    def trusted_order(self) -> int:
        """The highest derivative by autograd that differences of values confirm.

        Looked at along one line through the middle of the ranges, on which every parameter moves
        by a different part of its own.
        """
        low, high = self.space.coordinates([self.space.low, self.space.high])
        middle = self.tensor((low + high) / 2)[0]
        # Irrational, so that no symmetry of the loss hides a component.
        way = self.tensor((high - low) / 2 * (0.5 + np.sqrt(np.arange(2, 2 + len(low))) % 0.5))[0]

        def on_line(step: Tensor) -> Tensor:
            point = (middle + step * way).to(self.dtype)
            value = self._inside(point)
            is_known = self._has_squared and self.evaluator.is_root
            loss = self.evaluator.loss(value, smooth=is_known)
            return loss * loss if self._has_squared and not is_known else loss

        evaluator = FunctionLoss(on_line, np.array(_TRIED))
        evaluator.dtype = self.dtype
        line = OwnObjective(evaluator, self.loss_name, np.array(_TRIED), self._seed)
        line.parameter = Parameter("step", -1.0, 1.0, None, None, 0.0)
        try:
            return line.trusted_order
        except InputError:
            # The loss ends inside the ranges: nothing contradicts its derivatives.
            return 2
