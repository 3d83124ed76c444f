"""Every critical point of a loss: where it lies, of which kind, and what flows into it.

The critical points of the smooth loss (mse under rmse) are the roots of its derivative, a
trigonometric polynomial with a known error (`series.py`); `proof.py` proves how many there are.

The slope of the derivative says whether a root of it is a minimum or a maximum. At a double root,
at the end of an interval, and where the loss has kinks that no series follows, that slope is
rounding. Then the loss's own values decide: it is looked at on either side, ever farther off, until
it differs from the loss at the point by more than its noise. Of a loss that is noisy or rounded,
and whose slopes by autograd are not, the slopes decide.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gabordiag.landscape.points import (
    AS_LOW,
    SAME_LOSS,
    Certificate,
    CriticalPoint,
    Discontinuity,
    Landscape,
    stable_lr,
)
from gabordiag.landscape.proof import NOISY, isolate_roots
from gabordiag.landscape.sampled import (
    beside_dips,
    find_dips,
    find_discontinuities,
    inside_range,
    known_values,
    largest_gap,
    unexplained,
)
from gabordiag.landscape.series import (
    EPS,
    NOISE_FACTOR,
    LossSeries,
    bisect,
    build_series,
    hold_against_all,
    new_values,
    sign_changes,
    strays,
)
from gabordiag.landscape.series_objective import SeriesObjective, cheap_objective
from gabordiag.objective.objective import Line
from gabordiag.objective.space import FloatArray, Parameter
from gabordiag.own.evaluation import OwnObjective
from gabordiag.own.numeric import (
    GENERIC,
    Function,
    measure_fine_noise,
    measure_noise,
    noise_spacing,
)

# Distances at which the loss is looked at, of the range's width, ascending.
_DISTANCES: FloatArray = np.power(4.0, -np.arange(14.0, 0.0, -1.0))
# At so many of these nothing but noise is seen.
_RIGHT_BESIDE = 5
# Noise above this part of the loss is looked at more closely: it may be ripples.
_RIPPLES = 1e-6
# A curvature counts where the loss rises as it says, to this part.
_BEND = 0.25
# Places that are looked at between two minima.
_BETWEEN = 65
# The lowest of them is approached so often, each time 32 times nearer.
_ZOOMS = 4
# Noise of the slopes below this part of the steepest leaves their signs to be trusted.
_QUIET = 1e-4
# Share of the range, on either side, from which slopes say what a critical point is.
_SLOPES_BESIDE = 1e-4
# Where a kink's slope is looked at, of the range's width, and how well both sides agree.
_BESIDE_KINK, _SAME_SLOPE = 1e-6, 1e-2
# Roots nearer to the target than this part of the range are the target.
_SAME_ROOT = 1e-7
# A Newton step longer than this part of the range leads to another root, if to any.
_NEWTON_REACH = 1e-4
# Values, evenly spread, by which the loss is judged where nothing else is known of it.
_GRID = 1001
# Parts of the tolerance, ascending, at which losses beside the goal are looked at.
_NEARER = np.power(2.0, -np.arange(20.0, -0.5, -0.5))
# Of the dips that no sign change explains, so many are looked at, the deepest: of ripples there is
# no end.
_MOST_DIPS = 16
# A zero of rmse: the loss there, relative to the largest, is rounding.
_ZERO_LOSS = 1e-9


@dataclass(frozen=True)
class Seen:
    """What the loss's values show of a critical point; `bend` is the second derivative, if seen."""

    value: float
    kind: str
    bend: float | None


def look_beside(
    objective: Line, series: LossSeries, values: FloatArray, clear: npt.NDArray[np.bool_]
) -> list[Seen]:
    """Returns the kinds of doubtful critical points from values of the smooth loss.

    One entry per doubtful point, of all ascending ones (m,), about which the loss beside it says
    something; points into which rounding split one root count once. Nothing is read from beyond
    those that are `clear` (m,).
    """
    if clear.all():
        return []
    smooth, parameter, doubtful = smooth_level(objective), objective.parameter, values[~clear]
    rises = _rises(smooth, parameter, doubtful)
    noise = _noise_there(objective, series, rises)
    reach = _reach(parameter, rises, noise)
    groups = _grouped(doubtful, reach)
    # A clear root is known to rounding: it is not moved, and none is moved to it.
    known = np.concatenate([[doubtful[group].mean() for group in groups], values[clear]])
    reaches = np.zeros(len(known))
    reaches[: len(groups)] = [reach[group].max() for group in groups]
    known = snapped(smooth, parameter, known, reaches, float(noise.max()))
    centers = known[: len(groups)]
    rises = _rises(smooth, parameter, centers)
    noise = _noise_there(objective, series, rises)
    looked = (
        _look_at(parameter, center, around, known, least)
        for center, around, least in zip(centers, rises.swapaxes(0, 1), noise, strict=True)
    )
    return [point for point in looked if point is not None]


def smooth_level(objective: Line, order: int = 0) -> Function:
    """Returns the smooth loss or a derivative of it, by autograd, as a function of values (n,)."""
    return lambda places: objective.derivatives(places, order, smooth=True)[order]


def loss_noise(objective: Line, series: LossSeries) -> float:
    """Returns the deviation of the smooth loss's noise, rounding included."""
    size, noise, parameter = series.smooth.bound(0), series.noise, objective.parameter
    if noise > _RIPPLES * size:
        noise = measure_fine_noise(smooth_level(objective), parameter.low, parameter.high, 0.0)
    return max(noise, EPS * size)


def _slopes_decide(objective: Line, series: LossSeries) -> bool:
    """Whether losses are noisy and slopes by autograd are not: of a loss that is rounded, say."""
    parameter, slopes, noise = objective.parameter, smooth_level(objective, 1), series.noise
    low, high = parameter.low, parameter.high
    # A loss in single precision may be a staircase: level from one place to the next.
    rounding = objective.loss_eps * series.smooth.bound(0)
    angles = np.linspace(0, parameter.span, _BETWEEN)
    least = NOISY * np.ptp(series.smooth.derivatives(angles, 0)[0])
    if noise > least:
        noise = measure_fine_noise(smooth_level(objective), low, high, EPS)
    if max(noise, rounding) <= least:
        return False
    places = low + parameter.width * np.array(GENERIC)
    spacing = noise_spacing(parameter.width, max(abs(low), abs(high)), EPS)
    steepest = float(np.nanmax(np.abs(slopes(places))))
    return steepest > 0 and measure_noise(slopes, places, spacing) <= _QUIET * steepest


def _look_by_slopes(objective: Line, values: FloatArray) -> list[Seen]:
    """Returns the kinds of critical points (m,) by the slopes on either side."""
    parameter, slopes = objective.parameter, smooth_level(objective, 1)
    step = _SLOPES_BESIDE * parameter.width
    sides = np.stack([values - step, values + step])
    if parameter.period is None:
        sides = np.clip(sides, parameter.low, parameter.high)
    below, above = slopes(sides.ravel()).reshape(sides.shape)
    bends = (above - below) / (sides[1] - sides[0])
    kinds = np.where(below * above > 0, "inflection", np.where(bends > 0, "minimum", "maximum"))
    return list(map(Seen, values.tolist(), kinds.tolist(), bends.tolist()))


def kink_slope(objective: Line, value: float, curvature: float) -> float:
    """Returns the steeper |dloss/dvalue| beside a root's zero, of this curvature under the root."""
    # Near its zero, smooth = curvature d^2 / 2, so the root is sqrt(curvature / 2) |d|.
    slope = math.sqrt(curvature / 2)
    parameter = objective.parameter
    step = _BESIDE_KINK * parameter.width
    beside = np.array([value - step, value + step])
    zero, *above = objective.loss_at([value, *beside[parameter.room(beside) >= 0]])
    steepest = float(max(above) - zero) / step
    return slope if abs(steepest - slope) <= _SAME_SLOPE * slope else steepest


def lowest_between(objective: Line, low: float, high: float) -> tuple[float, float] | None:
    """Returns where the loss is lowest between two places, and the loss; None if at one of them."""
    between = None
    for _ in range(_ZOOMS):
        places = np.linspace(low, high, _BETWEEN)
        losses = objective.loss_at(places)
        at = int(np.argmin(losses))
        if at in (0, _BETWEEN - 1):
            break
        between = float(places[at]), float(losses[at])
        low, high = float(places[at - 1]), float(places[at + 1])
    return between


def highest_between(objective: Line, low: float, high: float) -> float | None:
    """Returns where the loss is highest between two places, None if nothing between is higher."""
    # The top may be right beside the higher end.
    near = (high - low) * _DISTANCES
    places = np.sort(np.concatenate([np.linspace(low, high, _BETWEEN), low + near, high - near]))
    losses = objective.loss_at(places)
    top = int(np.argmax(losses))
    return float(places[top]) if losses[top] > max(losses[0], losses[-1]) else None


def _rises(smooth: Function, parameter: Parameter, values: FloatArray) -> FloatArray:
    """Returns loss(value -+ distance) - loss(value), (2, m, distances); NaN outside an interval."""
    offsets = parameter.width * _DISTANCES
    points = values[None, :, None] + np.array([-1.0, 1.0])[:, None, None] * offsets
    rises = np.full(points.shape, np.nan)
    inside = parameter.room(points) >= 0
    rises[inside] = smooth(points[inside])
    return rises - smooth(values)[None, :, None]


def _noise_there(objective: Line, series: LossSeries, rises: FloatArray) -> FloatArray:
    """Returns the noise at each place (m,), beyond which a rise counts.

    A loss that falls from 4e4 to -363 may be noisy by 700 above and by 1 in its valley: where it is
    noisy, no more counts as noise than it varies right beside the place.
    """
    everywhere = NOISE_FACTOR * loss_noise(objective, series)
    size = series.smooth.bound(0)
    if everywhere <= _RIPPLES * size:
        return np.full(rises.shape[1], everywhere)
    beside = np.abs(np.nan_to_num(rises[..., :_RIGHT_BESIDE])).max(axis=(0, 2))
    return np.asarray(np.clip(NOISE_FACTOR * beside, EPS * size, everywhere))


def _reach(parameter: Parameter, rises: FloatArray, noise: FloatArray) -> FloatArray:
    """Returns how far one has to go for the loss to differ (m,)."""
    clear = np.max(np.abs(np.nan_to_num(rises)), axis=0) > noise[:, None]
    return np.asarray(parameter.width * _DISTANCES[np.argmax(clear, axis=1)])


def _grouped(values: FloatArray, reach: FloatArray) -> list[slice]:
    """Points closer together than one can see are one."""
    near = np.diff(values) <= np.maximum(reach[1:], reach[:-1])
    edges = [0, *(np.flatnonzero(~near) + 1).tolist(), len(values)]
    return [slice(lo, hi) for lo, hi in itertools.pairwise(edges)]


def snapped(
    smooth: Function, parameter: Parameter, values: FloatArray, reach: FloatArray, noise: float
) -> FloatArray:
    """Replaces a point that cannot be distinguished from the target by the target."""
    if parameter.target is None or len(values) == 0:
        return values
    distances = np.abs(parameter.offset(values, parameter.target))
    nearest = int(np.argmin(distances))
    if distances[nearest] > reach[nearest]:
        return values
    losses = smooth(np.array([values[nearest], parameter.target]))
    is_target = (np.arange(len(values)) == nearest) & (losses[1] <= losses[0] + noise)
    return np.where(is_target, parameter.wrap(parameter.target), values)


def _look_at(
    parameter: Parameter, value: float, rises: FloatArray, known: FloatArray, noise: float
) -> Seen | None:
    """Returns what is seen, or None where the loss is level on both sides."""
    apart, distances = np.abs(parameter.offset(known, value)), parameter.width * _DISTANCES
    limit = 0.5 * apart[apart > 0].min(initial=parameter.width)
    seen = np.where(distances <= limit, rises, np.nan)
    below, above = sorted(_sign(side, noise) for side in seen)
    if below == above == 0:
        return None
    kind = "minimum" if below >= 0 else "maximum" if above <= 0 else "inflection"
    return Seen(float(value), kind, _bend(seen, distances, noise))


def _sign(rises: FloatArray, noise: float) -> float:
    """Returns 1 where the loss rises on this side, -1 where it falls, 0 where it does neither."""
    clear = np.flatnonzero(np.abs(np.nan_to_num(rises)) > noise)
    return float(np.sign(rises[clear[0]])) if len(clear) else 0.0


def _bend(rises: FloatArray, offsets: FloatArray, noise: float) -> float | None:
    """Returns (f(v + d) - 2 f(v) + f(v - d)) / d^2 at the smallest d that noise hardly touches."""
    ends = np.isnan(rises).all(axis=1)
    total = 2 * rises[int(np.argmin(ends))] if ends.any() else rises.sum(axis=0)
    clear = np.flatnonzero(np.abs(np.nan_to_num(total)) > 16 * noise)
    return float(total[clear[0]] / offsets[clear[0]] ** 2) if len(clear) else None


def find_critical_points(objective: Line) -> Landscape:
    """Returns all critical points of the objective with a certificate."""
    asked, objective = objective, cheap_objective(objective)
    series = build_series(objective)
    brackets, doubtful, certificate = isolate_roots(series)
    jumps: tuple[Discontinuity, ...] = ()
    by_slopes = not series.is_flat and _slopes_decide(objective, series)
    if series.is_flat:
        candidates = np.empty(0)
    elif by_slopes:
        candidates = sign_changes(series, objective)
    elif series.is_resolved:
        candidates = _roots(series, brackets, doubtful)
    else:
        candidates, jumps = _search(objective, series)
    parameter = objective.parameter
    values = np.unique(parameter.wrap(_polish(objective, candidates)))
    # A root that equals the target to rounding is replaced by the target itself.
    reach = np.full(len(values), _SAME_ROOT * parameter.width)
    values = np.sort(snapped(smooth_level(objective), parameter, values, reach, 0.0))
    places = parameter.value(np.linspace(0, parameter.span, _GRID))
    losses, gradients = objective.derivatives(places)
    hold_against_all(asked)
    losses = np.append(losses, [(jump.loss_below, jump.loss_above) for jump in jumps])
    largest = float(losses.max())
    found = Landscape(
        parameter,
        _classify(objective, values, series, largest, certificate.is_isolated, by_slopes),
        _as_sampled(asked, series, certificate),
        largest,
        float(np.abs(gradients[np.isfinite(gradients)]).max(initial=0.0)),
        float(losses.min()),
        jumps,
        objective.images,
    )
    return replace(found, parameter=_with_closeness(objective, series, found))


def _with_closeness(objective: Line, series: LossSeries, landscape: Landscape) -> Parameter:
    """Returns the parameter, close to the goal only where the loss is nearly as low as there.

    Of an angle a degree means something by itself; a hundredth of a range, which may be far wider
    than the goal's basin, does not.
    """
    parameter, goal, level = landscape.parameter, landscape.goal, smooth_level(objective)
    if goal is None or parameter.is_angle:
        return parameter
    apart = parameter.tolerance * _NEARER
    places = goal.value + np.stack([apart, -apart])
    is_inside = parameter.room(places) >= 0
    rises = np.zeros_like(places)
    rises[is_inside] = level(places[is_inside]) - level(np.array([goal.value]))
    # Of a root the height of what is under it.
    power = 2 if objective.is_root else 1
    height = landscape.largest_loss**power - landscape.smallest_loss**power
    as_low = AS_LOW * height + NOISE_FACTOR * loss_noise(objective, series)
    high = np.flatnonzero((rises > as_low).any(axis=0))
    if len(high) == 0:
        return parameter
    return replace(parameter, closeness=float(apart[max(high[0] - 1, 0)]))


def still_holds(objective: Line, landscape: Landscape) -> bool:
    """Whether a landscape explains every value of a custom loss that was computed since."""
    if landscape.certificate.basis == "none" or not isinstance(objective, OwnObjective):
        return True
    new, _ = new_values(objective)
    if len(new) == 0:
        return True
    if strays(objective):
        return False
    series = build_series(objective)
    if series.is_resolved:
        return True
    values, losses = known_values(objective)
    noise = NOISE_FACTOR * max(series.noise, EPS * float(np.abs(losses).max()))
    found = np.array([point.value for point in landscape.attractors])
    dips = find_dips(objective.parameter, values, losses, noise)
    missed = unexplained(objective.parameter, dips, found, landscape.discontinuities)
    lowest = objective.parameter.wrap([dip[1] for dip in missed])
    return not bool(np.isin(lowest, objective.parameter.wrap(new)).any())


def _search(objective: Line, series: LossSeries) -> tuple[FloatArray, tuple[Discontinuity, ...]]:
    """Returns where the slope of a loss changes sign that no series follows, and its jumps."""
    if series.is_rough:
        # The signs of a noisy loss's own derivative would be chance.
        return sign_changes(series), ()
    candidates = sign_changes(series, objective)
    smooth, parameter = smooth_level(objective), objective.parameter
    noise = NOISE_FACTOR * loss_noise(objective, series)
    values, losses = known_values(objective)
    if len(values) == 0:
        values = np.linspace(parameter.low, parameter.high, _GRID)
        values = values if parameter.period is None else values[:-1]
        losses = smooth(values)
    jumps = find_discontinuities(smooth, parameter, values, losses, noise)
    missed = unexplained(parameter, find_dips(parameter, values, losses, noise), candidates, jumps)
    if missed:
        beside = inside_range(parameter, beside_dips(missed[:_MOST_DIPS]))[0]
        candidates = sign_changes(series, objective, beside)
    if objective.is_root:
        jumps = tuple(
            replace(jump, loss_below=jump.loss_below**0.5, loss_above=jump.loss_above**0.5)
            for jump in jumps
        )
    return candidates, jumps


def _as_sampled(objective: Line, series: LossSeries, certificate: Certificate) -> Certificate:
    """Returns what the certificate of a custom objective's series says about the objective."""
    custom = objective.original if isinstance(objective, SeriesObjective) else objective
    values, losses = known_values(custom)
    if len(values) == 0:
        return certificate
    if series.noise > NOISY * np.ptp(losses) or series.is_flat:
        return replace(certificate, basis="none")
    gap = largest_gap(objective.parameter, values)
    reason = f"judged by {len(values)} evaluations, at most {objective.parameter.show(gap)} apart"
    if not certificate.is_isolated:
        reason += f"; {certificate.reason}"
    return replace(certificate, basis="resolved", resolution=2 * gap, reason=reason)


def _roots(series: LossSeries, brackets: FloatArray, doubtful: FloatArray) -> FloatArray:
    """Returns the roots, as values: those in brackets to rounding, one in each doubtful stretch.

    In such a stretch D is zero to within its error: where its sign differs between the ends, it is
    followed to the change, otherwise the middle stands for what may be a double root. D is even in
    phi at an interval's ends, so the middle of a stretch there is the end.
    """
    parameter = series.parameter
    if parameter.period is None:
        doubtful = np.where(doubtful[:, :1] <= 0, 0.0, doubtful)
        doubtful = np.where(doubtful[:, 1:] >= parameter.span, parameter.span, doubtful)
    low, high = np.concatenate([brackets, doubtful]).T
    crossed = np.sign(series.slope(low)) != np.sign(series.slope(high))
    crossings = bisect(series.slope, low[crossed], high[crossed])
    return parameter.value(np.concatenate([crossings, (low + high)[~crossed] / 2]))


def _polish(objective: Line, values: FloatArray) -> FloatArray:
    """Two Newton steps on the objective's own derivatives, each kept only where it helps."""
    if len(values) == 0:
        return values
    parameter = objective.parameter
    _, first, second = objective.derivatives(values, 2, smooth=True)
    for _ in range(2):
        with np.errstate(divide="ignore", invalid="ignore"):
            trial = values - first / second
        length = np.abs(trial - values) / parameter.width
        # A step within the rounding of the range finds nothing.
        trial = np.where((length > EPS) & (length <= _NEWTON_REACH), trial, values)
        if parameter.period is None:
            # A user's function may end where its range does.
            trial = np.clip(trial, parameter.low, parameter.high)
        _, first_trial, second_trial = objective.derivatives(trial, 2, smooth=True)
        better = np.abs(first_trial) < np.abs(first)
        values = np.where(better, trial, values)
        first, second = np.where(better, first_trial, first), np.where(better, second_trial, second)
    return values


def _classify(
    objective: Line,
    values: FloatArray,
    series: LossSeries,
    largest: float,
    certified: bool,
    by_slopes: bool,
) -> tuple[CriticalPoint, ...]:
    if len(values) == 0:
        return ()
    if by_slopes:
        clear, seen = np.zeros(len(values), dtype=np.bool_), _look_by_slopes(objective, values)
    else:
        slopes, rounding = _slopes(series, values, certified)
        clear = slopes > rounding
        seen = look_beside(objective, series, values, clear)
        if not certified:
            found = np.append(values[clear], [point.value for point in seen])
            seen += _missed_target(objective, series, found)
    looked = {point.value: point for point in seen}
    values = np.sort(np.concatenate([values[clear], list(looked)]))
    if len(values) == 0:
        return ()
    smooth, _, second = objective.derivatives(values, 2, smooth=True)
    losses = objective.loss_at(values)
    points: list[CriticalPoint] = []
    for row in zip(values, losses, smooth, second, strict=True):
        value, loss, square, curvature = map(float, row)
        if objective.is_root and loss <= _ZERO_LOSS * largest:
            slope = kink_slope(objective, value, max(curvature, 0.0))
            points.append(CriticalPoint(value, loss, None, "kink", slope=slope))
            continue
        # d^2 sqrt(s) = s'' / (2 sqrt s) where s' = 0.
        own = curvature / (2 * math.sqrt(square)) if objective.is_root else curvature
        kind, bends = "minimum" if curvature > 0 else "maximum", True
        if value in looked:
            kind, bend = looked[value].kind, looked[value].bend
            bends = bend is not None and abs(curvature - bend) <= _BEND * abs(bend)
        stable = stable_lr(own) if kind == "minimum" and bends else None
        # Of a minimum that is flatter or sharper than any parabola no curvature is claimed.
        shown = own if bends or kind != "minimum" else None
        points.append(CriticalPoint(value, loss, shown, kind, stable_lr=stable))
    points = points if certified else _with_missing_minima(objective, points)
    return _with_basins(objective, points, SAME_LOSS * (largest - float(losses.min())))


def _with_missing_minima(objective: Line, points: list[CriticalPoint]) -> list[CriticalPoint]:
    """Returns the points with a minimum between any two maxima, where the loss is lowest.

    Among fine ripples the root that was found may lie beside the valley's lowest point and look
    like an inflection: then the minimum takes its place.
    """
    parameter = objective.parameter
    tops = [index for index, point in enumerate(points) if point.kind == "maximum"]
    pairs = list(itertools.pairwise(tops))
    if parameter.period is not None and tops:
        pairs.append((tops[-1], tops[0] + len(points)))
    shift = parameter.period or 0.0
    around = [*points, *(replace(point, value=point.value + shift) for point in points)]
    result = list(points)
    for left, right in pairs:
        inside = around[left + 1 : right]
        if any(point.is_attractor for point in inside):
            continue
        if (lowest := lowest_between(objective, around[left].value, around[right].value)) is None:
            continue
        place, loss = lowest
        if inside:
            nearest = min(inside, key=lambda point: abs(point.value - place))
            result.remove(points[around.index(nearest) % len(points)])
        result.append(CriticalPoint(float(parameter.wrap(place)), loss, None, "minimum"))
    return sorted(result, key=lambda point: point.value)


def _missed_target(objective: Line, series: LossSeries, found: FloatArray) -> list[Seen]:
    """Returns the target with what the loss shows of it, if it is a minimum not found (m,) yet.

    There the question is asked, so where no series follows the loss it is looked at there. The
    target is no root: unless the loss rises on both sides, it is no critical point.
    """
    parameter = objective.parameter
    if parameter.target is None or (target := float(parameter.wrap(parameter.target))) in found:
        return []
    values = np.sort(np.append(found, target))
    looked = look_beside(objective, series, values, values != target)
    return [replace(seen, value=target) for seen in looked[:1] if seen.kind == "minimum"]


def _slopes(
    series: LossSeries, values: FloatArray, certified: bool
) -> tuple[FloatArray, FloatArray]:
    """Returns |dD/dphi| at critical points, and what of it may be rounding.

    An error e of D near a double root splits it into two that lie sqrt(2 e / |D''|) apart, with
    slopes up to sqrt(2 e |D''|): without a proof, no smaller slope counts.
    """
    _, slope, curvature = series.derivative.derivatives(series.parameter.angle(values), 2)
    rounding = np.full_like(slope, series.slope_error)
    if not certified:
        rounding = np.maximum(rounding, 4 * np.sqrt(series.error * np.abs(curvature)))
    return np.abs(slope), rounding


def _with_basins(
    objective: Line, points: list[CriticalPoint], same: float
) -> tuple[CriticalPoint, ...]:
    parameter = objective.parameter
    attractors = [point for point in points if point.is_attractor]
    # Gradient flow ends at an inflection, too: a run that comes down to it goes no farther.
    edges = [point.value for point in points if not point.is_attractor]
    edges += _missing_edges(objective, points, same)
    target = None
    if parameter.target is not None:
        apart = [abs(float(parameter.offset(p.value, parameter.target))) for p in attractors]
        if min(apart, default=math.inf) <= parameter.tolerance:
            target = attractors[int(np.argmin(apart))]
    result = []
    for point in points:
        if point.is_attractor:
            low, high = basin_around(parameter, point.value, edges)
            wrapped = float(parameter.wrap(low))
            basin = wrapped, high + (wrapped - low)
            point = replace(point, basin=basin, is_target=point is target)
        result.append(point)
    return tuple(result)


def _missing_edges(objective: Line, points: list[CriticalPoint], same: float) -> list[float]:
    """Returns what divides neighbouring attractors between which no other point is listed.

    A proven list has none. The loss jumps there; or it is level, differs by no more than is the
    `same`, and nothing flows; or it rises to the higher of the two, beside which the top is.
    """
    edges: list[float] = []
    following = points[1:]
    if objective.parameter.period is not None and len(points) > 1:
        first = points[0]
        following = [*following, replace(first, value=first.value + objective.parameter.period)]
    for left, right in zip(points, following, strict=False):
        if left.is_attractor and right.is_attractor:
            top = highest_between(objective, left.value, right.value)
            if top is not None:
                edges.append(top)
                continue
            if left.loss >= right.loss - same:
                edges.append(math.nextafter(left.value, math.inf))
            if right.loss >= left.loss - same:
                edges.append(math.nextafter(right.value, -math.inf))
    return edges


def basin_around(parameter: Parameter, value: float, edges: list[float]) -> tuple[float, float]:
    """Returns the edges beside a value, not wrapped; without any, the range or a whole period."""
    period = parameter.period
    if period is None:
        low = max((m for m in edges if m < value), default=parameter.low)
        return low, min((m for m in edges if m > value), default=parameter.high)
    if not edges:
        return value - period / 2, value + period / 2
    below = max(m - period * math.ceil((m - value) / period) for m in edges)
    above = min(m - period * math.floor((m - value) / period) for m in edges)
    return below, above
