"""Random logs with the verdicts that are right of them, from algebra and loops written here.

A landscape is a formula with its minima; a *kind* of run is a rate, a start and a number of steps
for which algebra says how it ends, such as lr L'' > 2, and what was seen to come true in the loop.
Its label is the set of verdicts that are right of what the log holds: without a target, a run that
settled in any minimum is healthy. Nothing here imports gabordiag.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# At a target that is an angle: within one degree.
TOLERANCE = math.radians(1)
Curve = Callable[[float], float]
Random = np.random.Generator


@dataclass(frozen=True)
class Landscape:
    """A loss of one parameter.

    Attributes:
        name: Of its family.
        loss: At a value.
        slope: Its derivative.
        minima: Places of the minima in one period, the one of interest first.
        reach: Starts so far from the first minimum descend to it.
        bend: L'' at the first minimum; None for a V.
        steep: Largest |L''| between minimum and reach; of a V, the smaller slope.
        period: Or None.
    """

    name: str
    loss: Curve
    slope: Curve
    minima: tuple[float, ...]
    reach: float
    bend: float | None
    steep: float
    period: float | None = None

    @property
    def place(self) -> float:
        return self.minima[0]


@dataclass
class Made:
    """A log: its columns, what `explain` is given besides, and the verdicts that are right."""

    kind: str
    landscape: str
    columns: dict[str, Any]
    right: set[str]
    keywords: dict[str, Any] = field(default_factory=dict)


def bowl(random: Random) -> Landscape:
    m, c = random.uniform(-2, 2), 10 ** random.uniform(-1, 1)
    return Landscape("bowl", lambda x: c / 2 * (x - m) ** 2, lambda x: c * (x - m),
                     (m,), random.uniform(0.5, 3), c, c)  # fmt: skip


def wave(random: Random) -> Landscape:
    """a (1 - cos k(x - m)): L'' = a k^2 at m, at most so much elsewhere."""
    m, a, k = random.uniform(-0.7, 0.7), 10 ** random.uniform(-1, 0.5), float(random.choice([1, 2]))
    return Landscape("wave", lambda x: a * (1 - math.cos(k * (x - m))),
                     lambda x: a * k * math.sin(k * (x - m)),
                     (m,), 0.8 * math.pi / k, a * k * k, a * k * k, 2 * math.pi / k)  # fmt: skip


def harmonics(random: Random) -> Landscape:
    """1 - cos 2u + b (1 - cos 4u), u = x - m: L'' = 4 cos 2u + 16 b cos 4u.

    A second minimum, at u = pi/2, where this is 16 b - 4 > 0. Between them lies the maximum where
    2 sin 2u (1 + 4 b cos 2u) = 0: cos 2u = -1 / 4b.
    """
    m, b = random.uniform(-0.7, 0.7), random.uniform(0.35, 1.5)
    top = math.acos(-1 / (4 * b)) / 2
    return Landscape(
        "harmonics",
        lambda x: 1 - math.cos(2 * (x - m)) + b * (1 - math.cos(4 * (x - m))),
        lambda x: 2 * math.sin(2 * (x - m)) + 4 * b * math.sin(4 * (x - m)),
        (m, m + math.pi / 2), 0.9 * top, 4 + 16 * b, 4 + 16 * b, math.pi,
    )  # fmt: skip


def wells(random: Random) -> Landscape:
    """a ((x/w)^2 - 1)^2 about m: minima at m +- w with L'' = 8 a / w^2, a maximum at m."""
    m, w, a = random.uniform(-1, 1), random.uniform(0.5, 2), 10 ** random.uniform(-0.5, 0.5)
    side = float(random.choice([-1, 1]))
    # Up to 0.9 w on either side: L'' = 4 a (3 (x/w)^2 - 1) / w^2 <= 39.4 a / w^2.
    return Landscape("wells", lambda x: a * (((x - m) / w) ** 2 - 1) ** 2,
                     lambda x: 4 * a * (x - m) / w**2 * (((x - m) / w) ** 2 - 1),
                     (m + side * w, m - side * w), 0.9 * w, 8 * a / w**2,
                     39.4 * a / w**2)  # fmt: skip


def vee(random: Random) -> Landscape:
    m, left, right = random.uniform(-2, 2), *(10 ** random.uniform(-0.5, 0.5, 2))
    if random.random() < 0.5:
        right = left
    return Landscape("vee", lambda x: max(right * (x - m), left * (m - x)),
                     lambda x: right if x > m else -left,
                     (m,), random.uniform(0.5, 3), None, min(left, right))  # fmt: skip


def arch(random: Random) -> Landscape:
    """a |sin k(x - m)|, of slope a k on both sides of m, and of period pi / k."""
    m, a, k = random.uniform(-0.7, 0.7), 10 ** random.uniform(-0.5, 0.5), 1.0
    return Landscape("arch", lambda x: a * abs(math.sin(k * (x - m))),
                     lambda x: math.copysign(a * k * math.cos(k * (x - m)), math.sin(k * (x - m))),
                     (m,), 0.6 * math.pi / 2 / k, None, a * k, math.pi / k)  # fmt: skip


def needle(random: Random) -> Landscape:
    """A bowl with a Gaussian needle at its side, whose own minimum the way to m does not meet."""
    m, w = random.uniform(-1, 1), random.uniform(0.02, 0.06)
    at, depth = m + random.choice([-1, 1]) * random.uniform(1, 2), random.uniform(0.3, 0.6)

    def dip(x: float) -> float:
        return depth * math.exp(-(((x - at) / w) ** 2))

    place = at
    for _ in range(60):  # (x - m) = -(dip)' = 2 (x - at) dip / w^2, near `at`
        place = at - (place - m) * w * w / (2 * dip(place))
    return Landscape("needle", lambda x: 0.5 * (x - m) ** 2 - dip(x),
                     lambda x: (x - m) + 2 * (x - at) / w**2 * dip(x),
                     (m, place), 0.6, 1.0, 1.0)  # fmt: skip


SMOOTH = (bowl, wave, harmonics, wells, needle)
SHARP = (vee, arch)


def descend(
    land: Landscape,
    start: float,
    rate: float | Curve,
    steps: int,
    *,
    momentum: float = 0.0,
    noise: Any = None,
    sign: float = 1.0,
) -> dict[str, Any]:
    """Heavy ball, written out; noise (steps,) is added to the slopes."""
    rows, x, velocity = [], start, 0.0
    for step in range(steps):
        lr = rate(step) if callable(rate) else rate
        try:
            g, value = sign * land.slope(x), land.loss(x)
        except (OverflowError, ValueError):
            g = value = math.nan
        if noise is not None:
            g += float(noise[step])
        rows.append((step, x, value, g, lr))
        if not math.isfinite(x) or not math.isfinite(g):
            break
        velocity = momentum * velocity + g
        x -= lr * velocity
    return dict(zip(("step", "theta", "loss", "grad", "lr"), np.array(rows).T, strict=True))


def adam(land: Landscape, start: float, rate: float, steps: int) -> dict[str, Any]:
    rows, x, m, v = [], start, 0.0, 0.0
    for step in range(steps):
        g = land.slope(x)
        rows.append((step, x, land.loss(x), g, rate))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        x -= rate * m / (1 - 0.9 ** (step + 1)) / (math.sqrt(v / (1 - 0.999 ** (step + 1))) + 1e-8)
    return dict(zip(("step", "theta", "loss", "grad", "lr"), np.array(rows).T, strict=True))


def begin(land: Landscape, random: Random, least: float = 0.3) -> float:
    return land.place + random.choice([-1, 1]) * random.uniform(least, 0.95) * land.reach


def settles(columns: dict[str, Any], place: float, near: float) -> bool:
    tail = columns["theta"][-len(columns["theta"]) // 10 :]
    return bool(np.abs(tail - place).max() <= near)


def given(land: Landscape, random: Random, target: float | None) -> dict[str, Any]:
    """What the user says: a target, or none; a period, if there is one."""
    keywords: dict[str, Any] = {}
    if target is not None and random.random() < 0.6:
        keywords["target"] = target
    if land.period is not None and random.random() < 0.8:
        keywords["period"] = land.period
    return keywords


def healthy(land: Landscape, random: Random) -> tuple[Any, ...] | None:
    """0.15 < lr L'' < 1.2 in the whole basin: at rest in the minimum."""
    steps = int(random.integers(150, 500))
    # 1 - lr L'' at the minimum, to less than a thousandth of the way.
    rate = random.uniform(0.15, 1.2) / land.steep
    kind = random.integers(4)
    start = begin(land, random)
    if kind == 0:
        columns = descend(land, start, rate, steps, momentum=random.choice([0.5, 0.9]))
    elif kind == 1:
        columns = descend(land, start, lambda t: rate * (1 + math.cos(math.pi * t / steps)) / 2,
                          steps)  # fmt: skip
    elif kind == 2:
        columns = adam(land, start, 0.02 * land.reach, 2 * steps)
    else:
        columns = descend(land, start, rate, steps)
    if not settles(columns, land.place, 1e-3 * land.reach):
        return None
    right = {"healthy"}
    if land.bend is None and np.ptp(columns["theta"][-10:]) > 0:
        # Steps that do not vanish at a V never end, however small they are.
        right |= {"kink", "step_too_large"}
    return columns, given(land, random, land.place), right


def wrong_basin(land: Landscape, random: Random) -> tuple[Any, ...] | None:
    """As `healthy`, but the target is the other minimum."""
    if len(land.minima) < 2:
        return None
    made = healthy(land, random)
    if made is None:
        return None
    keywords = given(land, random, land.minima[1])
    return made[0], keywords, {"wrong_basin"} if "target" in keywords else {"healthy"}


def equivalent(land: Landscape, random: Random) -> tuple[Any, ...] | None:
    """As `healthy`, whole periods away."""
    made = healthy(land, random)
    if made is None or land.period is None:
        return None
    columns, turns = dict(made[0]), int(random.choice([-3, -1, 1, 2]))
    columns["theta"] = columns["theta"] + turns * land.period
    keywords = given(land, random, land.place)
    if "target" not in keywords:
        return columns, keywords, {"healthy"}
    right = {"equivalent_solution"}
    return columns, keywords, right if "period" in keywords else right | {"wrong_basin"}


def kink(land: Landscape, random: Random) -> tuple[Any, ...] | None:
    """A step lr x slope of 2% to 15% of the way at either side of a V, for ever."""
    if land.bend is not None:
        return None
    start = begin(land, random, 0.5)
    rate = random.uniform(0.04, 0.15) * abs(start - land.place) / land.steep
    columns = descend(land, start, rate, int(random.integers(200, 500)))
    tail = columns["theta"][-len(columns["theta"]) // 10 :] - land.place
    # On a steeper side it may be thrown out of an arch.
    if not (tail.min() < 0 < tail.max()) or np.abs(tail).max() > 0.5 * land.reach:
        return None
    keywords, right = given(land, random, land.place), {"kink"}
    if np.abs(tail).max() <= TOLERANCE and {"target", "period"} <= set(keywords):
        right = {"healthy"}
    return columns, keywords, right


def too_large(land: Landscape, random: Random) -> tuple[Any, ...] | None:
    """Lr L'' of 2.2 to 8 at the minimum, and no rest anywhere."""
    if land.bend is None:
        return None
    momentum = float(random.choice([0, 0, 0.5]))
    rate = random.uniform(2.2, 8) * (1 + momentum) / land.bend
    steps = int(random.integers(150, 500))
    columns = descend(land, begin(land, random, 0.05), rate, steps, momentum=momentum)
    tail = columns["theta"][-len(columns["theta"]) // 10 :]
    finite = np.isfinite(tail).all()
    if finite and np.ptp(tail) < 0.05 * land.reach:
        return None
    return columns, given(land, random, land.place), {"step_too_large"}


def too_small(land: Landscape, random: Random) -> tuple[Any, ...] | None:
    """A third of the way, or more, is left, and the loss falls at every step."""
    start, steps = begin(land, random, 0.5), int(random.integers(100, 400))
    slope = abs(land.slope(start))
    rate = random.uniform(0.1, 0.4) * abs(start - land.place) / (slope * steps)
    columns = descend(land, start, rate, steps)
    left = abs(columns["theta"][-1] - land.place) / abs(start - land.place)
    losses = columns["loss"]
    if not 0.33 < left < 0.95 or not (np.diff(losses) < 0).all():
        return None
    # A loss that falls by less than a tenth of its size makes no progress.
    if losses[0] - losses[-1] < 0.1 * abs(losses[0]):
        return None
    keywords = given(land, random, land.place)
    return columns, keywords, {"step_too_small"} if "target" in keywords else {"healthy"}


def noisy(land: Landscape, random: Random) -> tuple[Any, ...] | None:
    """Slopes with noise: hovers about the minimum, within a tenth of its reach."""
    if land.bend is None:
        return None
    rate, steps = random.uniform(0.05, 0.3) / land.steep, int(random.integers(300, 600))
    # Deviation s of the value: s^2 (2 lr L'' - (lr L'')^2) = (lr noise)^2.
    product = rate * land.bend
    wanted = random.uniform(0.005, 0.04) * land.reach
    size = wanted * math.sqrt(2 * product - product**2) / rate
    columns = descend(land, begin(land, random, 0.6), rate, steps,
                      noise=size * random.standard_normal(steps))  # fmt: skip
    half = columns["theta"][-len(columns["theta"]) // 2 :] - land.place
    if np.abs(half).max() > 0.2 * land.reach:
        return None
    return columns, given(land, random, land.place), {"healthy"}


def no_progress(land: Landscape, random: Random) -> tuple[Any, ...] | None:
    """So slow that the loss stays what it was, but for noise of batches in it."""
    start, steps = begin(land, random, 0.5), int(random.integers(100, 400))
    rate = 1e-5 * abs(start - land.place) / (abs(land.slope(start)) * steps)
    columns = descend(land, start, rate, steps)
    columns["loss"] = columns["loss"] * (1 + 0.02 * random.standard_normal(steps))
    keywords = given(land, random, land.place)
    right = {"no_progress"} | ({"step_too_small"} if "target" in keywords else set())
    return columns, keywords, right


def frozen(land: Landscape, random: Random) -> tuple[Any, ...] | None:
    """Detached: slopes of zero, a value that stays, a loss with or without noise."""
    start, steps = begin(land, random, 0.5), int(random.integers(50, 400))
    columns = descend(land, start, 0.1, steps, sign=0.0)
    if random.random() < 0.5:
        columns["loss"] = columns["loss"] * (1 + 0.02 * random.standard_normal(steps))
    return columns, given(land, random, land.place), {"no_gradient"}


def not_finite(land: Landscape, random: Random) -> tuple[Any, ...] | None:
    """0/0 at the minimum of a root: a sound row, then NaN."""
    made = healthy(land, random)
    if made is None:
        return None
    columns = {name: column.copy() for name, column in made[0].items()}
    for name in ("theta", "loss", "grad"):
        columns[name][-1] = math.nan
    return columns, made[1], {"nonfinite_gradient"}


def climbing(land: Landscape, random: Random) -> tuple[Any, ...] | None:
    """The sign of the slope is wrong: up, in one direction, by half the loss or more."""
    if land.name not in ("wave", "harmonics", "bowl"):
        return None
    start = land.place + random.choice([-1, 1]) * random.uniform(0.1, 0.4) * land.reach
    steps = int(random.integers(60, 300))
    columns = descend(land, start, random.uniform(0.5, 3) / land.steep / steps, steps, sign=-1.0)
    losses = columns["loss"]
    if losses[-1] < 1.5 * losses[0] or not (np.diff(losses) > 0).all():
        return None
    return columns, given(land, random, land.place), {"wrong_gradient"}


def short(land: Landscape, random: Random) -> tuple[Any, ...] | None:
    columns = descend(land, begin(land, random), 0.1 / land.steep, int(random.integers(2, 20)))
    return columns, given(land, random, land.place), {"inconclusive"}


def left(land: Landscape, random: Random) -> tuple[Any, ...] | None:
    """Thrown out of the lower minimum, it settles where the loss is higher: of `harmonics`.

    Loss 0 at m, 2 at m + pi/2. The rate falls in time to rest in the other minimum.
    """
    if land.name != "harmonics":
        return None
    start, steps = land.place + random.uniform(0.005, 0.02), int(random.integers(200, 400))
    high, low = random.uniform(3, 8) / land.steep, 0.5 / land.steep
    turn = int(random.integers(30, 60))
    columns = descend(land, start, lambda t: low if t < 20 or t > turn else high, steps)
    # Somewhere in the other minimum, or in one of its copies.
    end = (columns["theta"][-1] - land.minima[1]) / math.pi
    if abs(end - round(end)) > 1e-3:
        return None
    keywords = given(land, random, land.place)
    right = {"step_too_large"} | ({"wrong_basin"} if "target" in keywords else set())
    return columns, keywords, right


KINDS = {
    kind.__name__: kind
    for kind in (healthy, wrong_basin, equivalent, kink, too_large, too_small, noisy, no_progress,
                 frozen, not_finite, climbing, short, left)
}  # fmt: skip
# What a log may lack; a kink is seen by slopes, or by the steps of plain descent.
LACKS = ((), (), ("lr",), ("grad",), ("grad", "lr"), ("step", "grad", "lr"))


# Kinds that a landscape has no room for.
ONLY = {"wrong_basin", "left"}
NEVER = {
    "bowl": ONLY | {"kink", "equivalent"}, "wave": ONLY | {"kink"}, "harmonics": {"kink"},
    "wells": {"left", "kink", "equivalent", "climbing"},
    "needle": {"left", "kink", "equivalent", "climbing"},
    "vee": ONLY | {"healthy", "equivalent", "too_large", "noisy", "not_finite", "climbing"},
    "arch": ONLY | {"too_large", "noisy", "climbing"},
}  # fmt: skip


def logs(seed: int, landscapes: int, each: int) -> Iterator[Made]:
    """Yields `each` logs of every landscape."""
    random = np.random.default_rng(seed)
    # What diverges overflows.
    np.seterr(over="ignore", invalid="ignore")
    for number in range(landscapes):
        family = (SMOOTH + SHARP)[number % 7]
        land = family(random)
        kinds = [kind for kind in KINDS if kind not in NEVER.get(land.name, ())]
        for kind in random.choice(kinds, each):
            made = next((m for _ in range(30) if (m := KINDS[kind](land, random))), None)
            if made is None:
                continue
            columns, keywords, right = made
            lacks = LACKS[random.integers(len(LACKS))]
            columns = {name: column for name, column in columns.items() if name not in lacks}
            if random.random() < 0.2:
                columns["loss"] = columns["loss"].astype(np.float32).astype(float)
            yield Made(str(kind), land.name, columns, right, keywords)
