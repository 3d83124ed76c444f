"""What an animation shows when: which steps of a run, how long, and where the ball is in between.

A descent is shown at a pace that can be followed, the first jumps slowly, what follows quickly, all
within ten seconds. Places between two steps lie on an arc: an optimizer does not roll, it hops.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gabordiag.presentation.figures.axis import FloatArray
from gabordiag.presentation.figures.run_paths import RunPath

# All in milliseconds. GIF knows hundredths of a second, and players slow down what is below two.
FRAME = 40
LONGEST = 9_900
_OPENING, _CLOSING = 800, 1_700
_AFTER_JUMP, _AFTER_QUICK_JUMP = 800, 120
_JUMP, _QUICK_JUMP = 640, 160
# The way to a jump that is shown slowly takes this long, each step of it so long.
_APPROACH, _LONGEST_STEP = 2_000, 240
_SLOW_JUMPS = 2
# Steps of a run that converges, further and further apart.
_CALM_STEPS = 80
_MOST_STEPS = 400
_STEPS_OF_A_CYCLE = 40
# A run has converged once its distance to the end is this share of the largest one.
_AT_REST = 1e-3
# Height of an arc, as a share of the landscape's: of a jump, of the longest other step.
_HIGH, _LOW = 0.28, 0.10


@dataclass(frozen=True)
class Frame:
    """One picture of an animation.

    `value` (in the parameter's unit, not wrapped) and `height` place the ball; `jump` is the step
    from which a jump under way, or just made, starts, and `arc` (m, 2) the way from there so far.
    """

    step: int
    value: float
    height: float
    milliseconds: int
    jump: int | None = None
    arc: FloatArray | None = None


def storyboard(path: RunPath, period: float | None) -> list[Frame]:
    """Returns the pictures of a run, at most `LONGEST` milliseconds.

    Of a step longer than the parameter's period, whole periods are left out.
    """
    steps = chosen_steps(path)
    first = steps[0]
    frames = [Frame(first, float(path.values[first]), float(path.losses[first]), _OPENING)]
    left = LONGEST - _OPENING - _CLOSING
    for shot in _shots(path, steps, period):
        left -= sum(frame.milliseconds for frame in shot)
        if left < 0:
            break
        frames += shot
    return [*frames, replace(frames[-1], milliseconds=_CLOSING)]


def chosen_steps(path: RunPath) -> list[int]:
    """Returns the steps worth showing: all around the first jumps, or ever fewer of a descent."""
    broken = np.flatnonzero(~np.isfinite(path.values) | ~np.isfinite(path.losses))
    last = int(broken[0]) - 1 if len(broken) else len(path.values) - 1
    if last < 1:
        return [0]
    if path.is_restless:
        most = _MOST_STEPS if len(path.jumps) else _STEPS_OF_A_CYCLE
        return list(range(path.window, min(path.window + most, last) + 1))
    away = np.abs(path.values[: last + 1] - path.values[last])
    moving = np.flatnonzero(away > _AT_REST * away.max())
    if len(moving):
        last = min(last, int(1.2 * moving[-1]) + 5)
    spread = np.geomspace(1, last + 1, _CALM_STEPS)
    return sorted({round(float(number)) - 1 for number in spread})


def _shots(path: RunPath, steps: Sequence[int], period: float | None) -> Iterator[list[Frame]]:
    """Yields the pictures of one step after the other."""
    jumps = set(path.jumps.tolist())
    seen = 0
    for here, there in itertools.pairwise(steps):
        is_slow, is_jump = seen < _SLOW_JUMPS, here in jumps
        duration = _pace(path, steps, here) if is_slow else FRAME
        if is_jump:
            duration = _JUMP if is_slow else _QUICK_JUMP
            seen += 1
        hold = (_AFTER_JUMP if is_slow else _AFTER_QUICK_JUMP) if is_jump else 0
        yield _hop(path, here, there, period, duration, hold)


def _pace(path: RunPath, steps: Sequence[int], here: int) -> int:
    """Milliseconds of a step, so that the way to the next jump takes as long as it may."""
    if not path.is_restless:
        return min(_LONGEST_STEP, (LONGEST - _OPENING - _CLOSING) // len(steps))
    before = [int(t) for t in path.jumps if t < here]
    after = [int(t) for t in path.jumps if t >= here]
    if not (before or after):
        return _LONGEST_STEP
    begin = before[-1] if before else steps[0]
    end = after[0] if after else steps[-1]
    return min(_LONGEST_STEP, max(FRAME, _APPROACH // max(1, end - begin)))


def _hop(
    path: RunPath, here: int, there: int, period: float | None, duration: int, hold: int
) -> list[Frame]:
    count = max(1, duration // FRAME)
    travel = float(path.values[there] - path.values[here])
    if period is not None:
        # The ball of a step of many turns goes the remainder.
        travel = math.fmod(travel, period)
    is_jump = here in path.jumps
    share = np.arange(count + 1) / count
    # Slow, fast, slow: 3 s^2 - 2 s^3.
    eased = share * share * (3 - 2 * share)
    heights = (1 - eased) * path.losses[here] + eased * path.losses[there]
    lift = _lift(path, travel, period, is_jump)
    arc = np.stack([path.values[here] + eased * travel, heights + lift * 4 * eased * (1 - eased)])
    jump = here if is_jump else None
    frames = [
        Frame(here, float(value), float(height), FRAME, jump, arc.T[: k + 1] if is_jump else None)
        for k, (value, height) in enumerate(arc.T.tolist())
    ]
    end = float(path.values[there])
    frames[-1] = replace(frames[-1], step=there, value=end, milliseconds=FRAME + hold)
    return frames[1:]


def _lift(path: RunPath, travel: float, period: float | None, is_jump: bool) -> float:
    finite = path.losses[np.isfinite(path.losses)]
    height = float(finite.max() - finite.min())
    if is_jump:
        return _HIGH * height
    if period is None:
        return _LOW * height
    return _LOW * height * min(1.0, abs(travel) / (period / 4))
