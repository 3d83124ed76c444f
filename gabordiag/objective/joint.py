"""The experiment as a function of several of its parameters at once.

What an optimizer moves are *coordinates*: a parameter's value, or its logarithm, which keeps it
positive. The kernels of several parameters span no small space, so the compressed response is the
one that is exact for every kernel (`Experiment.everywhere`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gabordiag.errors import UsageError
from gabordiag.gabor import POSITIVE_NAMES, gabor_kernel, gabor_partials, theta_period
from gabordiag.objective.experiment import DTYPES, Experiment
from gabordiag.objective.gabor_objective import DirectObjective
from gabordiag.objective.kernel_loss import KernelLoss
from gabordiag.objective.losses import find_loss
from gabordiag.objective.objective import CHUNK, FloatArray, Parameter, to_numpy

# What stays the same filter with the other sign: the envelope knows only the squares.
_EVEN = ("sigma", "gamma")


class JointObjective:
    """The experiment's loss of d parameters; the others stand at the target's values.

    Attributes:
        experiment: All settings.
        parameters: What is learned, in order (d).
        logs: Names of those of which the logarithm is moved.
        loss_name: Of the loss.
        is_root: It is a square root, with a kink at zero.

    Args:
        experiment: All settings.
        names: Of the learned parameters.
        logs: Of those that are moved as logarithms; `wavelength`, `sigma` or `gamma`.
        direct: conv2d on the whole image at every evaluation, instead of the shortcut.

    Raises:
        UsageError: A name twice, an unknown one, or a logarithm of an angle.
    """

    def __init__(
        self,
        experiment: Experiment,
        names: Sequence[str],
        logs: Sequence[str] = (),
        *,
        direct: bool = False,
    ) -> None:
        if len(set(names)) != len(names) or not names:
            raise UsageError(
                f"the parameters {', '.join(names) or 'none'} are not distinct.", "Name each once."
            )
        for name in logs:
            if name not in names or name not in POSITIVE_NAMES:
                raise UsageError(
                    f"{name} cannot be learned as a logarithm.",
                    f"Name a learned one of {', '.join(POSITIVE_NAMES)}.",
                )
        self.experiment = experiment
        self.parameters = tuple(_parameter(experiment, name, names) for name in names)
        self.logs = tuple(logs)
        self.loss_definition = find_loss(experiment.loss)
        self.loss_name = experiment.loss
        self.is_root = self.loss_definition.is_root
        self._fixed = experiment.target_parameters.to_dict()
        self._direct = DirectObjective(experiment, names[0]) if direct else None
        self._is_log = np.array([name in self.logs for name in names])

    def in_double(self) -> JointObjective:
        """Returns the same objective in float64 on the CPU, through the shortcut."""
        if self.dtype == torch.float64 and self.experiment.device == "cpu":
            return self
        return JointObjective(self.experiment.in_double(), self.names, self.logs)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parameters (d)."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the experiment."""
        return DTYPES[self.experiment.dtype]

    @property
    def target(self) -> FloatArray:
        """Values (d,) that made the target."""
        return np.array([self._fixed[name] for name in self.names])

    @property
    def start(self) -> FloatArray:
        """Values (d,) where an optimizer starts: the experiment's angle, the target's others."""
        return np.array([parameter.start for parameter in self.parameters])

    @property
    def tolerance(self) -> FloatArray:
        """How close (d,) counts as being there."""
        return np.array([parameter.tolerance for parameter in self.parameters])

    def values(self, coordinates: npt.ArrayLike) -> FloatArray:
        """Returns the parameters' values (..., d) at coordinates (..., d)."""
        array = np.asarray(coordinates, dtype=np.float64)
        with np.errstate(over="ignore"):
            result: FloatArray = np.where(
                self._is_log, np.exp(np.where(self._is_log, array, 0.0)), array
            )
        return result

    def coordinates(self, values: npt.ArrayLike) -> FloatArray:
        """Returns the coordinates (..., d) of values (..., d)."""
        array = np.asarray(values, dtype=np.float64)
        result: FloatArray = np.where(
            self._is_log, np.log(np.where(self._is_log, array, 1.0)), array
        )
        return result

    def copies(self) -> FloatArray:
        """Returns all values (m, d) of the target's filter, up to whole periods.

        g(theta + pi, psi) = g(theta, -psi), and cos is even: g(-wavelength, psi) =
        g(wavelength, -psi). A sign of sigma or gamma changes nothing; psi + pi turns the kernel's
        sign, and is another filter to every loss here.
        """
        copies = [dict(self._fixed)]
        for name, turned in (
            ("theta", self._fixed["theta"] + math.pi),
            ("wavelength", -self._fixed["wavelength"]),
        ):
            if name in self.names:
                copies += [{**copy, name: turned, "psi": -copy["psi"]} for copy in copies]
        if "psi" not in self.names:
            # The phase stands where it is: -psi must be the same, or both moves cancel.
            is_even = theta_period(self._fixed["psi"]) == math.pi
            copies = [c for c in copies if is_even or c["psi"] == self._fixed["psi"]]
        for name in _EVEN:
            if name in self.names:
                copies += [{**copy, name: -copy[name]} for copy in copies]
        return np.array([[copy[name] for name in self.names] for copy in copies])

    def offsets(self, values: npt.ArrayLike, point: npt.ArrayLike) -> FloatArray:
        """Returns values - point (..., d), to the nearest copy of every angle."""
        array, where = np.asarray(values, dtype=np.float64), np.asarray(point, dtype=np.float64)
        # Runs may end at infinity.
        with np.errstate(invalid="ignore", over="ignore"):
            columns = [
                parameter.offset(array[..., index], float(where[index]))
                for index, parameter in enumerate(self.parameters)
            ]
        return np.stack(columns, axis=-1)

    def distances(self, values: npt.ArrayLike, point: npt.ArrayLike) -> FloatArray:
        """Returns the largest offset (...) of values (..., d), in units of the tolerances."""
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = np.abs(self.offsets(values, point)) / self.tolerance
        largest: FloatArray = scaled.max(axis=-1)
        return largest

    def target_distances(self, values: npt.ArrayLike) -> FloatArray:
        """Returns the distances (...) to the nearest copy of the target."""
        nearest: FloatArray = np.min([self.distances(values, c) for c in self.copies()], axis=0)
        return nearest

    def tensor(self, coordinates: npt.ArrayLike) -> Tensor:
        """Returns coordinates as a tensor (n, d) that `loss` takes."""
        array = np.atleast_2d(np.asarray(coordinates, dtype=np.float64))
        return torch.tensor(array, dtype=self.dtype, device=self.experiment.torch_device())

    def kernels(self, coordinates: Tensor) -> Tensor:
        """Returns the kernels (n, K, K) at coordinates (n, d)."""
        return gabor_kernel(
            **self._arguments(coordinates),
            kernel_size=self.experiment.kernel_size,
            dtype=coordinates.dtype,
        )

    def loss(self, coordinates: Tensor) -> Tensor:
        """Returns the loss (n,) at coordinates (n, d), differentiable."""
        kernels = self.kernels(coordinates)
        return self._kernel_loss.loss(kernels) if self._direct is None else self._whole(kernels)

    def smooth_loss(self, coordinates: Tensor) -> Tensor:
        """Returns the loss without its root (n,)."""
        kernels = self.kernels(coordinates)
        if self._direct is None:
            return self._kernel_loss.smooth_loss(kernels)
        return self._whole(kernels, smooth=True)

    def loss_at(self, coordinates: npt.ArrayLike) -> FloatArray:
        """Returns the losses (n,) at coordinates (n, d)."""
        with torch.no_grad():
            chunks = torch.split(self.tensor(coordinates), CHUNK)
            return to_numpy(torch.cat([self.loss(chunk) for chunk in chunks]))

    def loss_and_gradient(
        self, coordinates: npt.ArrayLike, *, smooth: bool = False
    ) -> tuple[FloatArray, FloatArray]:
        """Returns losses (n,) and gradients (n, d), the kernels' derivatives in closed form.

        dloss/dparameter = <dloss/dkernel, dkernel/dparameter>: whatever the number of parameters,
        two products with the compressed response.
        """
        pieces = [
            self._slopes(chunk, smooth) for chunk in torch.split(self.tensor(coordinates), CHUNK)
        ]
        losses, slopes = zip(*pieces, strict=True)
        return to_numpy(torch.cat(losses)), to_numpy(torch.cat(slopes))

    def hessian(self, coordinates: npt.ArrayLike, *, smooth: bool = False) -> FloatArray:
        """Returns the second derivatives (n, d, d) by autograd."""
        function = self.smooth_loss if smooth else self.loss
        pieces = []
        for chunk in torch.split(self.tensor(coordinates), CHUNK):
            at = chunk.requires_grad_()
            (slopes,) = torch.autograd.grad(function(at).sum(), at, create_graph=True)
            # The points are independent: the sum's derivatives are each point's own.
            rows = [
                torch.autograd.grad(column.sum(), at, retain_graph=True)[0]
                for column in slopes.unbind(-1)
            ]
            pieces.append(torch.stack(rows, dim=-1))
        return to_numpy(torch.cat(pieces))

    @cached_property
    def _kernel_loss(self) -> KernelLoss:
        device = self.experiment.torch_device()
        target = torch.tensor(self.coordinates(self.target)[None], dtype=self.dtype, device=device)
        experiment = self.experiment
        # cos(-u + psi) = cos(u + psi) at every u where sin(psi) = 0.
        is_even = "psi" not in self.names and theta_period(experiment.psi) == math.pi
        compressed = experiment.everywhere_even if is_even else experiment.everywhere
        return KernelLoss(
            compressed.to(self.dtype, device),
            self.kernels(target),
            self.loss_definition,
            self.experiment.target_noise > 0,
        )

    def _whole(self, kernels: Tensor, *, smooth: bool = False) -> Tensor:
        assert self._direct is not None
        return self._direct.loss_of(kernels, smooth=smooth)

    def _arguments(self, coordinates: Tensor) -> dict[str, float | Tensor]:
        moved = {
            name: torch.exp(column) if name in self.logs else column
            for name, column in zip(self.names, coordinates.unbind(-1), strict=True)
        }
        return {**self._fixed, **moved}

    def _slopes(self, coordinates: Tensor, smooth: bool) -> tuple[Tensor, Tensor]:
        arguments = self._arguments(coordinates)
        size, dtype = self.experiment.kernel_size, coordinates.dtype
        kernels = gabor_kernel(**arguments, kernel_size=size, dtype=dtype).requires_grad_()
        if self._direct is not None:
            losses = self._whole(kernels, smooth=smooth)
        elif smooth:
            losses = self._kernel_loss.smooth_loss(kernels)
        else:
            losses = self._kernel_loss.loss(kernels)
        (cotangents,) = torch.autograd.grad(losses.sum(), kernels)
        partials = gabor_partials(**arguments, kernel_size=size, dtype=dtype, names=self.names)
        columns = []
        for name in self.names:
            column = (cotangents * partials[name]).sum(dim=(-2, -1))
            # dvalue/dcoordinate of a logarithm is the value.
            columns.append(column * arguments[name] if name in self.logs else column)
        return losses.detach(), torch.stack(columns, dim=-1)


def _parameter(experiment: Experiment, name: str, learned: Sequence[str]) -> Parameter:
    """The parameter's range; a turn by pi is a whole period only where the phase stays at 0."""
    parameter = experiment.parameter(name)
    if name != "theta" or "psi" not in learned:
        return parameter
    return replace(parameter, low=-math.pi, high=math.pi, period=2 * math.pi)
