"""The question at full size: a bank of filters learns from the responses of another one.

A teacher, Gabor filters drawn at random, all five parameters of each, makes the responses to the
image; a student of as many filters starts at random, and each of its filters sees the response of
its own teacher. What stops those that do not arrive is judged as in any training, and what may help
is tried.

The loss is that of the whole image, and yet a step costs little: with M = F^T F the Gram matrix of
the image's patches, |F g|^2 is the mean square of the response to g, so that the rows of F are K^2
patches that stand for all of the image.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gabordiag.diagnosis.training.causes import FAULTS
from gabordiag.diagnosis.training.verdict import TrainingDiagnosis, diagnose_training
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import ARRIVED
from gabordiag.dynamics.replay import Step
from gabordiag.errors import UsageError
from gabordiag.gabor import PARAMETER_NAMES, POSITIVE_NAMES, gabor_kernel
from gabordiag.gabor_fit import gabor_values
from gabordiag.gabor_layer import GaborConv2d
from gabordiag.objective.experiment import Experiment
from gabordiag.own.loading import public
from gabordiag.own.training import Training
from gabordiag.results import Data, Result, finite_or_none, read_only
from gabordiag.wording import counted

FILTERS, KERNEL_SIZE = 16, 21
# The best rate of plain Adam, of 0.02, 0.05 and 0.1.
OPTIMIZER, RATE, STEPS = "adam", 0.05, 1500
# Ranges of the random filters; lengths and ratios are drawn as logarithms.
RANGES = {
    "theta": (0.0, math.pi),
    "wavelength": (4.0, 12.0),
    "sigma": (2.0, 5.0),
    "psi": (0.0, math.tau),
    "gamma": (0.4, 1.2),
}


@dataclass(frozen=True, eq=False)
class BankReproduction(Result):
    """Which filters of a student bank found their teachers, which did not, why, and what helps.

    The teacher's parameters by name are (n,), its kernels (n, K, K), the student's before and after
    the training (2, n, K, K). Errors (n,) are mean squares of the difference of the responses, over
    that of the teacher's. `remedy` indexes the diagnosis's remedies: the one that brings most
    filters home, after which `errors_after` and `kernels_after` are; None where none brings more.
    """

    main_table = "filters"
    # A filter has arrived where its error is below.
    within: ClassVar[float] = ARRIVED

    teacher: Mapping[str, npt.NDArray[np.float64]]
    diagnosis: TrainingDiagnosis
    errors: npt.NDArray[np.float64]
    errors_after: npt.NDArray[np.float64]
    remedy: int | None
    teacher_kernels: npt.NDArray[np.float64]
    kernels: npt.NDArray[np.float64]
    kernels_after: npt.NDArray[np.float64]

    @property
    def arrived(self) -> int:
        """How many filters the plain training brought to their teachers."""
        return int((self.errors < self.within).sum())

    @property
    def arrived_after(self) -> int:
        """How many the training with the remedy did."""
        return int((self.errors_after < self.within).sum())

    @property
    def headline(self) -> str:
        """What happened, in two sentences."""
        text = f"{self.arrived} of {counted(len(self.errors), 'filter', 'filters')} arrived"
        parts = [f"{n} {FAULTS[verdict][n > 1]}" for verdict, n in self._causes().most_common()]
        text += (": " if parts else "") + ", ".join(parts) + "."
        if self.remedy is not None:
            plan = self.diagnosis.remedies[self.remedy].plan
            steps, took = self.diagnosis.run.settings.steps, plan.settings.steps
            many = "as many" if took == steps else f"{took} instead of {steps}"
            text += f" With {plan.change}, {self.arrived_after} arrive, in {many} steps."
        return text

    def _causes(self) -> Counter[str]:
        rows = np.flatnonzero(~(self.errors < self.within)).tolist()
        return Counter(self._why(row)[0] for row in rows)

    def _why(self, row: int) -> tuple[str, str]:
        """Returns the cause that holds a filter back, and the words for it."""
        if self.errors[row] < self.within:
            return "healthy", ""
        judged = [j for j in self.diagnosis.elements if j.watched.row == row]
        for verdict in FAULTS:
            for worst in (j for j in judged if j.verdict == verdict):
                return verdict, f"{worst.watched.group}: {worst.judgement.why}"
        return "inconclusive", ""

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        diagnosis = self.diagnosis.to_dict()
        ends = {(e["parameter"], e["filter"] or 0): e["final"] for e in diagnosis["elements"]}
        found = None if self.remedy is None else self.diagnosis.remedies[self.remedy]
        return {
            "verdict": next((cause for cause, _ in self._causes().most_common(1)), "healthy"),
            "headline": self.headline,
            "arrived": self.arrived,
            "arrived_after": self.arrived_after,
            "remedy": None if found is None else found.plan.name,
            "filters": [self._filter(row, ends) for row in range(len(self.errors))],
            "diagnosis": diagnosis,
        }

    def _filter(self, row: int, ends: Mapping[tuple[str, int], float]) -> dict[str, Any]:
        before, after = float(self.errors[row]), float(self.errors_after[row])
        verdict, why = self._why(row)
        return {
            "filter": row,
            "teacher": {name: float(self.teacher[name][row]) for name in PARAMETER_NAMES},
            "student": {name: ends[name, row] for name in PARAMETER_NAMES},
            "verdict": verdict,
            "why": why,
            "error": finite_or_none(before),
            "arrived": before < self.within,
            "error_after": finite_or_none(after),
            "arrived_after": after < self.within,
        }

    def data(self) -> Data:
        """Returns the arrays of the diagnosis, and the kernels of teacher and remedy."""
        remedy = {} if self.remedy is None else {"remedy": self.kernels_after}
        bank = {"kernels": self.kernels, "teacher": self.teacher_kernels, **remedy}
        return {**self.diagnosis.data(), "bank.npz": bank}


class _OnPatches(GaborConv2d):
    """The layer on patches (1, K^2, P): one matrix product, of the responses (1, n, P)."""

    def convolve(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return weight.flatten(1) @ input


@public
def reproduce_bank(
    experiment: Experiment | None = None,
    filters: int = FILTERS,
    *,
    optimizer: str = OPTIMIZER,
    lr: float = RATE,
    steps: int = STEPS,
    seed: int = 0,
    listener: Callable[[Step], None] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> BankReproduction:
    """Trains a bank of filters on another's responses; says which do not arrive, and what helps.

    Args:
        experiment: Whose image, padding, precision and device are used. Default: the photograph.
        filters: Number n of filters of each bank.
        optimizer: A name of torch.optim in lower case.
        lr: Learning rate; lengths and ratios are learned as logarithms.
        steps: Optimizer steps of each training.
        seed: Of the two banks.
        listener: Called with every step of the plain training.
        progress: Called with (done, in all, what is done).

    Raises:
        UsageError: No filter, or settings that torch.optim does not support.
        InputError: The image cannot be used.

    Example:
        >>> import numpy as np, gabordiag as gd
        >>> noise = gd.Experiment(np.random.default_rng(0).random((64, 64)))
        >>> made = gd.reproduce_bank(noise, 2, steps=150)
        >>> made.arrived, made.arrived_after
        (0, 2)
    """
    if filters < 1:
        raise UsageError(f"{filters} filters are not a bank.", "Give at least 1.")
    bank = Bank(experiment or Experiment(), filters, seed)
    # Nothing is random after the start: one training of each kind says all.
    diagnosis = diagnose_training(
        bank.training,
        PARAMETER_NAMES,
        OptimizerSettings(optimizer, lr, steps=steps),
        lr,
        seed=seed,
        seeds=1,
        listener=listener,
        progress=progress,
    )
    ends = [diagnosis.run.coordinates[step] for step in (0, -1)]
    ends += [remedy.after.final[0] for remedy in diagnosis.remedies]
    banks = [bank.kernels(end) for end in ends]
    errors = [bank.errors(found) for found in banks]
    # The student after its training, unless a remedy brings more filters home.
    best = max(range(1, len(banks)), key=lambda i: (errors[i] < ARRIVED).sum())
    return BankReproduction(
        {name: read_only(value.numpy()) for name, value in bank.teacher.items()},
        diagnosis,
        read_only(errors[1]),
        read_only(errors[best]),
        best - 2 if best > 1 else None,
        read_only(bank.wanted.numpy()),
        read_only(torch.stack(banks[:2]).numpy()),
        read_only(banks[best].numpy()),
    )


class Bank:
    """Teacher, with kernels `wanted` (n, K, K), and the training by the mean of the errors."""

    def __init__(self, experiment: Experiment, filters: int, seed: int) -> None:
        experiment = replace(experiment, kernel_size=KERNEL_SIZE).prepare()
        draws = torch.Generator().manual_seed(seed)
        self.teacher, student = (random_bank(filters, draws) for _ in range(2))
        self.wanted = gabor_kernel(**self.teacher, kernel_size=KERNEL_SIZE)
        self._response = experiment.everywhere
        self._power = self._response(self.wanted).square().sum(-1)
        kind: Any = {"dtype": experiment.torch_dtype(), "device": experiment.torch_device()}
        patches = self._response.weights.T[None].to(**kind)
        target = self._response(self.wanted)[None].to(**kind)
        scale = (1 / self._power).to(**kind)
        self.training = Training(
            _OnPatches(1, filters, KERNEL_SIZE, bias=False, **kind, **student),
            [(patches, target)],
            lambda output, target: ((output - target).square().sum((0, 2)) * scale).mean(),
        )

    def kernels(self, coordinates: npt.NDArray[np.float64]) -> Tensor:
        """Returns the kernels (n, K, K) at the coordinates of all elements, name by name."""
        places = torch.tensor(coordinates).reshape(len(PARAMETER_NAMES), -1).T
        return gabor_kernel(*gabor_values(places).values(), kernel_size=KERNEL_SIZE)

    def errors(self, kernels: Tensor) -> npt.NDArray[np.float64]:
        """Returns the errors (n,) of kernels, as parts of the squares of the teacher's."""
        error = self._response(kernels - self.wanted).square().sum(-1) / self._power
        return np.asarray(error.nan_to_num(nan=math.inf).numpy())


def random_bank(count: int, draws: torch.Generator) -> dict[str, Any]:
    """Returns the five parameters (count,) of random filters by name."""
    values: dict[str, Any] = {}
    for name, (low, high) in RANGES.items():
        share = torch.rand(count, generator=draws, dtype=torch.float64)
        is_log = name in POSITIVE_NAMES
        values[name] = low * (high / low) ** share if is_log else low + (high - low) * share
    return values
