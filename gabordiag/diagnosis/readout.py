"""The question at full size, seen through a read-out: filters learn from one number of each patch.

A teacher, Gabor filters drawn at random, makes of a patch x of the image

    y = sum_k a_k max(0, <w_k, x>) ,    w_k = g_k / |g_k| ,

and a student of as many filters learns the five parameters and the weight a of each from y alone.
No filter has a target of its own. Where filters are missing, the others make up for them, and what
they cannot make up for shows where the missing ones are: candidates that explain it are added, all
are fitted together, and those that are read out least are left out again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from gabordiag.diagnosis.bank import FILTERS, KERNEL_SIZE, BankReproduction, random_bank
from gabordiag.diagnosis.training.remedies import Plan, TrainingRemedy, Trials
from gabordiag.diagnosis.training.verdict import TrainingDiagnosis
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import ALIKE
from gabordiag.dynamics.replay import Step
from gabordiag.dynamics.training import rates_of, run_training
from gabordiag.errors import UsageError
from gabordiag.gabor import PARAMETER_NAMES, POSITIVE_NAMES, gabor_kernel
from gabordiag.gabor_fit import gabor_slopes, gabor_values
from gabordiag.gabor_layer import GaborConv2d
from gabordiag.objective.experiment import Experiment
from gabordiag.own.loading import public
from gabordiag.own.training import Batch, Training, find_watched
from gabordiag.results import finite_or_none, read_only

RATE, STEPS, BATCH = 0.02, 2500, 1024
# Patches of the sample that is fitted, and candidates of each filter for those that are missing; a
# search ends after work of so many times the training's steps, so that its end stays below 2.
_SAMPLE, _CANDIDATES, _SEARCH = 4096, 200, 1.94
# Levenberg-Marquardt steps of a fit, and of one on the way; in a search it ends sooner where five
# of them gain less than this part.
_FIT_STEPS, _FEW_STEPS, _GAIN = 40, 15, 0.2
# A loss below this part of the teacher's variance is rounding; below the other, what a filter
# should have been is known.
_SOLVED, _EXPLAINED = 1e-8, 1e-4
# Cosine similarities: of two filters that are one, and of one that is near to another.
_SAME, _NEAR = 0.95, 0.9
_CHANGES = {
    "fit": "Levenberg-Marquardt steps after it",
    "add and leave out": "filters added that explain the error, all fitted, and those left out "
    "that are read least",
}
# Hardly read out is a filter whose absence costs less than this part of the loss that is left.
_UNREAD = 0.01


@dataclass(frozen=True, eq=False)
class ReadoutDiagnosis(TrainingDiagnosis):
    """The training of a student behind a read-out, and verdict and words for each of its filters.

    No element is judged by its own line: what is wrong with a filter is what others do.
    """

    reasons: tuple[tuple[str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        elements = [
            {
                "name": watched.label,
                "parameter": watched.group,
                "tensor": watched.name,
                "filter": watched.row,
                "start": float(values[0]),
                "final": finite_or_none(float(values[-1])),
                "verdict": self.reasons[watched.row or 0][0],
            }
            for watched, values in zip(self.run.watched, self.run.values.T, strict=True)
        ]
        return super().to_dict() | {"elements": elements}


@dataclass(frozen=True, eq=False)
class ReadoutReproduction(BankReproduction):
    """Which filters behind a read-out found one of the teacher's, which did not, why, what helps.

    Teacher and student are matched by the similarity of their kernels, the most similar first; the
    teacher's are in the order of the student's. Errors are 1 - cosine similarity. `active` is the
    part of the patches to which each of the teacher's filters responds (n,).
    """

    within = ALIKE

    diagnosis: ReadoutDiagnosis
    active: npt.NDArray[np.float64]

    @property
    def headline(self) -> str:
        """What happened, and to how many patches the filters respond that are not found."""
        missed = np.sort(self.active[~(self.errors_after < self.within)])
        parts = ", ".join(f"{part:.2g}" for part in missed)
        text = f" The teacher's filters not found respond to {parts} of all patches."
        return super().headline + (text if len(missed) else "")

    def _why(self, row: int) -> tuple[str, str]:
        return self.diagnosis.reasons[row]

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        steps = [remedy.plan.settings.steps for remedy in self.diagnosis.remedies]
        return super().to_dict() | {"readout": {"steps": steps, "active": self.active.tolist()}}


class _ReadOut(GaborConv2d):
    """The sum (P,) over filters of length 1, rectified and weighted, of patches (P, K^2)."""

    def __init__(self, weights: Tensor, **options: Any) -> None:
        super().__init__(1, len(weights), KERNEL_SIZE, bias=False, dtype=weights.dtype, **options)
        self.readout = nn.Parameter(weights)

    def forward(self, input: Tensor) -> Tensor:
        kernels = functional.normalize(self.kernels().flatten(1))
        return (input @ kernels.T).relu() @ self.readout


class _Patches:
    """Batches without end of patches drawn from an image, and what the teacher makes of them."""

    def __init__(self, image: Tensor, teacher: _ReadOut, dtype: torch.dtype) -> None:
        self._all = image.unfold(0, KERNEL_SIZE, 1).unfold(1, KERNEL_SIZE, 1)
        self._teacher, self._dtype = teacher, dtype

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield self.converted(*self.draw(BATCH))

    def converted(self, *pair: Tensor) -> Batch:
        return pair[0].to(self._dtype), pair[1].to(self._dtype)

    def draw(self, count: int, draws: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        places = [torch.randint(n, (count,), generator=draws) for n in self._all.shape[:2]]
        patches = self._all[places[0], places[1]].flatten(1)
        with torch.no_grad():
            return patches, self._teacher(patches)


class Fitted(NamedTuple):
    """Filters at places (n, 5), as `gabor_values` takes them, their weights (n,), and the loss."""

    places: Tensor
    weights: Tensor
    loss: float


class Fit:
    """Filters and weights fitted to what a teacher makes (P,) of a sample of patches (P, K^2).

    The loss is the mean square of the error over the teacher's variance. `work` counts
    multiplications: of the patches with kernels and derivatives, and of the responses with each
    other. Beyond the limit no fit goes on.
    """

    def __init__(self, patches: Tensor, wanted: Tensor, limit: float = math.inf) -> None:
        self._patches, self._wanted = patches, wanted
        self.power = wanted.var()
        self.work, self.limit = 0.0, limit

    def responses(self, kernels: Tensor) -> Tensor:
        """Returns the rectified responses (P, n)."""
        self.work += self._patches.numel() * len(kernels)
        return (self._patches @ kernels.T).relu()

    def leave_out(self, places: Tensor, count: int) -> tuple[Fitted, Tensor]:
        """Returns the filters that remain, with the best weights, and what each one is worth.

        With the Gram matrix A of the responses and b the best weights, the loss without filter k,
        the others' weights fitted again, is higher by b_k^2 / (A^-1)_kk. The cheapest goes first.
        """
        responses = self.responses(unit_kernels(places))
        self.work += responses.numel() * len(places)
        gram = responses.T @ responses / len(responses)
        # A filter that responds to no patch has weight 0 and costs nothing.
        gram += torch.diag(1e-10 * gram.diagonal() + 1e-14 * gram.diagonal().max() + 1e-300)
        along = responses.T @ self._wanted / len(responses)
        kept = list(range(len(places)))
        while True:
            inverse = torch.linalg.inv(gram[kept][:, kept])
            weights = inverse @ along[kept]
            costs = weights**2 / inverse.diagonal()
            if len(kept) <= count:
                error = (responses[:, kept] @ weights - self._wanted).square().mean() / self.power
                return Fitted(places[kept], weights, float(error)), costs / self.power
            kept.pop(int(costs.argmin()))

    def add(self, places: Tensor, count: int, candidates: Tensor) -> Tensor:
        """Returns the places with those of candidates that explain most of what is left.

        By orthogonal matching pursuit (Pati et al. 1993): each time the one is added whose
        response, as far as it is not a sum of the others', correlates most with the error.
        """
        half = slice(len(self._patches) // 2)
        offered = (self._patches[half] @ unit_kernels(candidates).T).relu()
        found = (self._patches[half] @ unit_kernels(places).T).relu()
        self.work += self._patches[half].numel() * (len(candidates) + len(places))
        for _ in range(count - len(places)):
            basis = torch.linalg.qr(found)[0]
            left = self._wanted[half] - basis @ (basis.T @ self._wanted[half])
            lengths = offered.square().sum(0)
            fresh = lengths - (basis.T @ offered).square().sum(0)
            # Of one that is a sum of the others, or responds to nothing, only rounding is left.
            gain = (left @ offered) ** 2 / fresh.maximum(1e-6 * lengths).clamp(min=1e-12)
            best = int(gain.argmax())
            places = torch.cat([places, candidates[best : best + 1]])
            found = torch.cat([found, offered[:, best : best + 1]], dim=1)
            self.work += offered.numel() * (len(places) + 1)
        return places

    def descend(self, start: Fitted, most: int = _FIT_STEPS, gain: float = _GAIN) -> Fitted:
        """Returns filters and weights after Levenberg-Marquardt steps, as in `fit_gabor`."""
        places, weights, loss = start
        count, damping, losses = len(places), 1e-2, [loss]
        while len(losses) <= most and self.work < self.limit:
            kernels = gabor_kernel(*gabor_values(places).values(), kernel_size=KERNEL_SIZE)
            lengths = kernels.flatten(1).norm(dim=1)[:, None].clamp(min=1e-12)
            kernels, slopes = kernels.flatten(1) / lengths, gabor_slopes(places, KERNEL_SIZE)
            # dw = (dg - w <w, dg>) / |g|
            slopes = slopes / lengths[:, None]
            slopes = slopes - kernels[:, None] * (slopes @ kernels[..., None])
            responses = self.responses(kernels)
            along = self._patches @ slopes.flatten(0, 1).T
            is_active = (responses > 0).to(along)
            steps = along.unflatten(1, (count, -1)) * (is_active * weights)[..., None]
            jacobian = torch.cat([steps.flatten(1), responses], dim=1)
            self.work += self._patches.numel() * 5 * count + jacobian.numel() * 6 * count
            bend = jacobian.T @ jacobian / len(jacobian)
            slope = jacobian.T @ (responses @ weights - self._wanted) / len(jacobian)
            scale = bend.diagonal()
            for _ in range(8):
                damped = bend + torch.diag(damping * scale + 1e-12 * scale.max() + 1e-300)
                step = torch.linalg.solve(damped, slope)
                tried = places - step[: 5 * count].reshape(count, 5).clamp(-0.5, 0.5)
                read = weights - step[5 * count :]
                error = self.responses(unit_kernels(tried)) @ read - self._wanted
                loss = float(error.square().mean() / self.power)
                if loss < losses[-1]:
                    break
                damping *= 4
            else:
                break
            places, weights, damping = tried, read, max(damping / 5, 1e-9)
            losses.append(loss)
            if loss < _SOLVED / 10 or (len(losses) > 6 and losses[-1] > (1 - gain) * losses[-6]):
                break
        return Fitted(places, weights, losses[-1])

    def search(self, places: Tensor, draws: torch.Generator) -> Fitted:
        """Returns as many filters, after adding and leaving out, again and again."""
        count = len(places)
        more, best = math.ceil(count / 2), None
        while best is None or (best.loss > _SOLVED and self.work < self.limit):
            candidates = _as_places(random_bank(_CANDIDATES * count, draws))
            places = self.add(places, count + more, candidates)
            grown = made = self.descend(self.leave_out(places, len(places))[0])
            # All at once would take filters that are right along with those that are too many.
            while (extra := len(made.places) - count) > 0:
                fewer = self.leave_out(made.places, count + extra // 2)[0]
                made = self.descend(fewer, _FIT_STEPS if extra == 1 else _FEW_STEPS)
            best = made if best is None or made.loss < best.loss else best
            places = self.leave_out(grown.places, count + more // 2)[0].places
        return best


@public
def reproduce_readout(
    experiment: Experiment | None = None,
    filters: int = FILTERS,
    *,
    lr: float = RATE,
    steps: int = STEPS,
    seed: int = 0,
    listener: Callable[[Step], None] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> ReadoutReproduction:
    """Trains a bank of filters behind a read-out; says which found none of the teacher's, and why.

    The student is trained by Adam with a cosine schedule on batches of 1,024 patches. Work is
    counted in steps of that training: multiplications over those of one step, which multiplies the
    patches by the kernels for the loss, and again for the gradient.

    Args:
        experiment: Whose image, padding, precision and device are used. Default: the photograph.
        filters: Number n of filters of teacher and student each.
        lr: Learning rate; lengths and ratios are learned as logarithms.
        steps: Optimizer steps; what is tried afterwards costs at most about twice as many.
        seed: Of all that is random.
        listener: Called with every step of the plain training.
        progress: Called with (done, in all, what is done).

    Raises:
        UsageError: No filter, or several images.
        InputError: The image cannot be used.

    Example:
        >>> import numpy as np, gabordiag as gd
        >>> noise = gd.Experiment(np.random.default_rng(0).random((64, 64)))
        >>> made = gd.reproduce_readout(noise, 2, steps=200, seed=2)
        >>> made.arrived, made.arrived_after
        (0, 2)
    """
    if filters < 1:
        raise UsageError(f"{filters} filters are not a bank.", "Give at least 1.")
    experiment = replace(experiment or Experiment(), kernel_size=KERNEL_SIZE).prepare()
    if experiment.images is not None:
        raise UsageError("a read-out is learned from one image.", "Give one --image.")
    draws = torch.Generator().manual_seed(seed)
    wanted, first = (random_bank(filters, draws) for _ in range(2))
    readout = torch.randn(filters, generator=draws, dtype=torch.float64)
    signs = torch.randint(2, (filters,), generator=draws) * 2 - 1
    weights = signs * (0.5 + torch.rand(filters, generator=draws, dtype=torch.float64))
    patches = _Patches(experiment.padded, _ReadOut(weights, **wanted), experiment.torch_dtype())
    sample = patches.draw(_SAMPLE, draws)
    a_step = 2 * BATCH * KERNEL_SIZE**2 * filters
    fits = [Fit(*sample, limit=_SEARCH * steps * a_step) for _ in range(2)]
    power = float(fits[0].power)
    training = Training(
        _ReadOut(readout.to(experiment.torch_dtype()), **first).to(experiment.torch_device()),
        patches,
        lambda output, target: (output - target).square().mean() / power,
    )
    watched = find_watched(training.model, (*PARAMETER_NAMES, "readout"))
    settings = OptimizerSettings("adam", lr, schedule="cosine", steps=steps)
    rates = rates_of(training, watched, lr, lr)
    run, loss, _ = run_training(
        training,
        watched,
        settings,
        rates,
        seed=seed,
        listener=listener,
        progress=None if progress is None else lambda k, n, at: progress(k, n, f"loss {at:.4g}"),
        batches=[patches.converted(*sample)],
    )
    # Of a training that broke off, only its start can be used.
    coordinates = torch.tensor(run.coordinates[[0, -1 if run.is_finite else 0], : 5 * filters])
    ends = coordinates.reshape(2, 5, filters).mT
    plain, costs = fits[0].leave_out(ends[1], filters)
    fits[0].work = 0.0
    if progress is not None:
        progress(0, 1, "trying remedies")
    tried = [fits[0].descend(plain, gain=0), fits[1].search(ends[1], draws)]
    plainly = Trials(np.array([loss]), np.array([]), run.coordinates[-1:])
    remedies = []
    for fit, made, (name, change) in zip(fits, tried, _CHANGES.items(), strict=True):
        took = replace(settings, steps=steps + round(fit.work / a_step))
        end = torch.cat([made.places.T.flatten(), made.weights]).numpy()[None]
        fitted = plainly._replace(losses=np.array([made.loss]), final=end)
        plan = Plan(name, change, took, run.rates)
        remedies.append(TrainingRemedy(plan, not made.loss >= loss, plainly, fitted, ()))
    # Rows are the student's filters; of a search those of the teacher's that are matched with them.
    before, after, alone, found = (
        unit_kernels(places) for places in (*ends, *(made.places for made in tried))
    )
    teacher = _as_places(wanted)
    teacher = teacher[_matched(after, unit_kernels(teacher))]
    kernels = unit_kernels(teacher)
    banks = [after, *(bank[_matched(kernels, bank)] for bank in (alone, found))]
    # 1 - cos(a, b) = |a/|a| - b/|b||^2 / 2: never negative.
    errors = [((bank - kernels).square().sum(1) / 2).numpy() for bank in banks]
    # The student after its training, unless a remedy brings more filters home.
    best = max(range(3), key=lambda i: (errors[i] < ReadoutReproduction.within).sum())
    reasons = (("inconclusive", "the training broke off: its loss is not finite"),) * filters
    if run.is_finite:
        twin = (after @ after.T).fill_diagonal_(-1).amax(1)
        near = (after @ found.T).amax(1) * (tried[1].loss < _EXPLAINED)
        measured = (errors[0], twin, costs / plain.loss, (alone @ kernels.T).amax(1), near)
        rows = zip(*(column.tolist() for column in measured), strict=True)
        reasons = tuple(_reason(*row) for row in rows)
    counts = Counter(verdict for verdict, _ in reasons if verdict != "healthy")
    diagnosis = ReadoutDiagnosis(
        counts.most_common(1)[0][0] if counts else "healthy",
        f"The loss at the end is {loss:.3g} of the teacher's variance.",
        run, (), tuple(remedies), loss, None, 0, None, reasons,
    )  # fmt: skip
    square = (-1, KERNEL_SIZE, KERNEL_SIZE)
    return ReadoutReproduction(
        {name: read_only(value.numpy()) for name, value in gabor_values(teacher).items()},
        diagnosis,
        read_only(errors[0]),
        read_only(errors[best]),
        best - 1 if best else None,
        read_only(kernels.reshape(square).numpy()),
        read_only(torch.stack([bank.reshape(square) for bank in (before, after)]).numpy()),
        read_only(banks[best].reshape(square).numpy()),
        read_only((fits[0].responses(kernels) > 0).double().mean(0).numpy()),
    )


def unit_kernels(places: Tensor) -> Tensor:
    """Returns the kernels (n, K^2) at places (n, 5), of length 1."""
    kernels = gabor_kernel(*gabor_values(places).values(), kernel_size=KERNEL_SIZE)
    return functional.normalize(kernels.flatten(1))


def _as_places(values: Mapping[str, Tensor]) -> Tensor:
    columns = [values[n].log() if n in POSITIVE_NAMES else values[n] for n in PARAMETER_NAMES]
    return torch.stack(columns, dim=1)


def _matched(kernels: Tensor, others: Tensor) -> Tensor:
    similar = kernels @ others.T
    order = torch.zeros(len(kernels), dtype=torch.long)
    for _ in kernels:
        row, column = divmod(int(similar.argmax()), len(others))
        order[row] = column
        similar[row], similar[:, column] = -math.inf, -math.inf
    return order


def _reason(error: float, twin: float, cost: float, alone: float, near: float) -> tuple[str, str]:
    """Returns verdict and words for a filter: what it is like at the end of the training.

    Similarities are the largest with another filter of the student (twin), after the fit alone with
    one of the teacher's, and with one of those that explain all (near).
    """
    if error < ReadoutReproduction.within:
        return "healthy", ""
    if twin > _SAME:
        return "duplicate", f"another filter's kernel has a similarity of {twin:.3f} with its own"
    if cost < _UNREAD:
        return "unread", f"without it the loss would be {cost:.1%} higher"
    if alone > 1 - ReadoutReproduction.within:
        return "step_too_small", "Levenberg-Marquardt steps alone bring it home"
    if near > _NEAR:
        why = f"it has a similarity of {near:.3f} with one of the filters that explain all"
        return "pulled", f"{why}, and gets there when none is missing"
    return "wrong_basin", "Levenberg-Marquardt steps alone do not bring it to a filter"
