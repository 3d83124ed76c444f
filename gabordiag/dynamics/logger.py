"""A log of a training loop, which `gabordiag explain` reads."""

from __future__ import annotations

import contextlib
import csv
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from gabordiag.errors import InputError, OutputError, UsageError
from gabordiag.own.modules import labels
from gabordiag.results import LOG_COLUMNS

Source = Tensor | Callable[[], Tensor]
_PLACE = "Call log.step(loss, lr=lr) between loss.backward() and optimizer.step()."


class TrajectoryLogger:
    """Writes one row a step: `step, <parameters>, loss, grad, [grad_<others>,] update, lr`.

    For one parameter these are the columns of gabordiag's own trajectories, in full precision.
    `grad` and `update` belong to the first parameter; the others' updates are the differences of
    their values.

    A row is written, and flushed, at once, so that it is there when the loop crashes. Its `update`,
    what the optimizer did at this step, is known only later: it stands as `nan` until the next
    step, or the end of the block, fills it in. After an exception it stays `nan`: whether
    the optimizer still moved is unknown.

    Args:
        path: Of the CSV file; an existing one is replaced.
        parameters: By name: a parameter such as `layer.theta`, of which every element gets a
            column, `theta[0,1]`, if there are several; elements of a larger parameter, such as
            `layer.theta[0]`; or a function without arguments that returns one of these, for
            parameters that are replaced during training.

    Raises:
        UsageError: No parameter, or a name that is a column already.
        InputError: Not real numbers, or computed from a parameter instead of being one.
        OutputError: The file cannot be written.

    Example:
        >>> import torch, gabordiag as gd
        >>> theta = torch.tensor(0.3, requires_grad=True)
        >>> optimizer = torch.optim.SGD([theta], lr=0.1)
        >>> with gd.TrajectoryLogger("run.csv", theta=theta) as log:
        ...     for _ in range(100):
        ...         optimizer.zero_grad()
        ...         loss = torch.sin(theta) ** 2
        ...         loss.backward()
        ...         log.step(loss, lr=0.1)
        ...         optimizer.step()
        >>> gd.explain("run.csv", target=0.0).verdict
        'healthy'
    """

    def __init__(self, path: str | Path, **parameters: Source) -> None:
        if not parameters:
            raise UsageError(
                "a log needs a parameter to follow.", "Write TrajectoryLogger(path, theta=...)."
            )
        for name in parameters:
            if name in LOG_COLUMNS or name.startswith("grad_"):
                raise UsageError(
                    f"'{name}' is a column of the log already.", "Choose another name."
                )
        self.path = Path(path)
        self._sources = {name: _source(name, source) for name, source in parameters.items()}
        self._first = next(iter(self._sources.values()))
        self._names = [
            label for name, get in self._sources.items() for label in labels(name, get().shape)
        ]
        self._file: BinaryIO | None = None
        self._step = 0
        # Where the last row begins, and its cells, for when its update is known.
        self._last: tuple[int, list[str]] | None = None

    @property
    def columns(self) -> list[str]:
        """The header."""
        names = self._names
        others = [f"grad_{name}" for name in names[1:]]
        return ["step", *names, "loss", "grad", *others, "update", "lr"]

    @property
    def owner(self) -> Tensor:
        """The first parameter, or the one of which it is an element, as optimizers hold it."""
        return _owner(self._first())

    def __enter__(self) -> TrajectoryLogger:
        try:
            self._file = self.path.open("wb")
            self._file.write(_line(self.columns))
            self._file.flush()
        except OSError as error:
            self._close()
            raise self._trouble(error, "Choose another path, in a folder that exists.") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is None and self._last is not None:
                self._write(None, _read([self._first()])[0])
        finally:
            self._close()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            # Every row was flushed; a failure was reported then.
            with contextlib.suppress(OSError):
                file.close()

    def step(self, loss: Tensor | float, lr: Any = math.nan) -> None:
        """Logs the state before an optimizer step: value, loss, gradient, learning rate.

        A gradient that did not arrive (None) is written as 0, which is what it does.

        Args:
            loss: As a tensor with one element, or a number. Its graph is not kept.
            lr: The learning rate of this step. Default: `nan`.

        Raises:
            UsageError: Outside the `with` block.
            InputError: The loss or lr is not one number.
            OutputError: The disk is full, or the file is gone.
        """
        if self._file is None:
            raise UsageError("the log is not open.", "Write: with TrajectoryLogger(...) as log:")
        tensors = [source() for source in self._sources.values()]
        numbers = [_number("the loss", loss), _number("lr", lr)]
        # All in one transfer: reading single numbers would wait for the device once for each.
        *values, loss_value, rate = _read([*tensors, *map(_gradient, tensors), *numbers])
        count = len(values) // 2
        row = [*values[:count], loss_value, *values[count:], math.nan, rate]
        self._write([str(self._step), *(repr(number) for number in row)], values[0])
        self._step += 1

    def _write(self, row: list[str] | None, value: float) -> None:
        """Writes the last row's update, to the first parameter's value, and then any new row."""
        assert self._file is not None
        lines = b""
        try:
            if self._last is not None:
                start, cells = self._last
                lines = _line([*cells[:-2], repr(value - float(cells[1])), cells[-1]])
                self._file.seek(start)
            if row is not None:
                self._last = (self._file.tell() + len(lines), row)
                lines += _line(row)
            self._file.write(lines)
            # The update may take fewer characters than the nan that it replaces.
            self._file.truncate()
            self._file.flush()
        except OSError as error:
            raise self._trouble(error) from error

    def _trouble(self, error: OSError, *advice: str) -> OutputError:
        return OutputError(f"{self.path} cannot be written: {error.strerror or error}.", *advice)


def _line(cells: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _source(name: str, source: Source) -> Callable[[], Tensor]:
    """Returns a function that gives the parameter, checked at every call."""

    def get() -> Tensor:
        tensor = source() if callable(source) and not isinstance(source, Tensor) else source
        if not isinstance(tensor, Tensor):
            raise InputError(
                f"{name} is a {type(tensor).__name__}, not a tensor.",
                f"Give the parameter itself: {name}=layer.{name}.",
            )
        if tensor.numel() == 0 or tensor.is_complex():
            what = f"has shape {tuple(tensor.shape)} and dtype {tensor.dtype}"
            raise InputError(f"{name} {what}, which is no real number.")
        if not _owner(tensor).is_leaf:
            raise InputError(
                f"{name} is computed from a parameter, so that it gets no gradient of its own.",
                f"Give the parameter itself, before {tensor.grad_fn}.",
            )
        return tensor

    get()
    return get


def _owner(tensor: Tensor) -> Tensor:
    """Returns the parameter of which a tensor is an element, or else the tensor."""
    base = tensor._base if tensor._is_view() else None
    return base if base is not None and base.is_leaf else tensor


def _gradient(tensor: Tensor) -> Tensor:
    """Returns the gradient (n,) of a parameter, or of elements of one; 0 where none arrived."""
    owner = _owner(tensor)
    if owner.grad is None:
        return torch.zeros_like(tensor).reshape(-1)
    gradient = owner.grad.to_dense().reshape(-1)
    if owner is tensor:
        return gradient
    # An element's place in memory says which element of the parameter it is.
    places = torch.empty_strided(owner.shape, owner.stride(), dtype=torch.int64)
    places.copy_(torch.arange(owner.numel()).reshape(owner.shape))
    offset = tensor.storage_offset() - owner.storage_offset()
    chosen = places.as_strided(tensor.shape, tensor.stride(), offset).reshape(-1)
    return gradient[chosen.to(gradient.device, non_blocking=True)]


def _read(tensors: Sequence[Tensor]) -> list[float]:
    """Returns all elements, which wait for their device once."""
    device = next((t.device for t in tensors if t.device.type != "cpu"), torch.device("cpu"))
    dtype = torch.float32 if device.type == "mps" else torch.float64
    flat = [tensor.detach().to(device=device, dtype=dtype).reshape(-1) for tensor in tensors]
    numbers: list[float] = torch.cat(flat).tolist()
    return numbers


def _number(what: str, value: Any) -> Tensor:
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
        return value
    try:
        return torch.tensor(float(value), dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"{what} given to log.step is not one number but a {type(value).__name__}.", _PLACE
        ) from None
