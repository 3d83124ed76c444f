"""`TrajectoryLogger` for loops that are not your own: Lightning, Hugging Face's Trainer, others.

Each follows whole parameters, logs in the process of rank 0 alone, before the optimizer moves, with
the gradients of the loss itself (not of what a GradScaler made of it), and waits for the device
once a step. None of the libraries has to be installed until its callback is made.

    trainer = lightning.Trainer(callbacks=[lightning_callback("run.csv", theta=model.gabor.theta)])
    trainer = transformers.Trainer(..., callbacks=[trainer_callback("run.csv", theta=model.theta)])
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gabordiag.dynamics.logger import Source, TrajectoryLogger
from gabordiag.results import imported


class StepLog(TrajectoryLogger):
    """A log for loops with hooks: `open()`, `on_step(...)` before each optimizer step, `close()`.

    As a context manager it opens and closes itself.

    Args:
        path: Of the CSV file; an existing one is replaced.
        parameters: As `TrajectoryLogger` takes them.

    Raises:
        UsageError, InputError: As `TrajectoryLogger` does.

    Example:
        >>> import torch, gabordiag as gd
        >>> from gabordiag.callbacks import StepLog
        >>> theta = torch.nn.Parameter(torch.tensor([0.3, -0.2]))
        >>> optimizer = torch.optim.SGD([theta], lr=0.1)
        >>> with StepLog("run.csv", theta=theta) as log:
        ...     for _ in range(50):
        ...         optimizer.zero_grad()
        ...         loss = torch.sin(theta).square().sum()
        ...         loss.backward()
        ...         log.on_step(loss, optimizer)
        ...         optimizer.step()
        >>> gd.explain("run.csv", target=0.0, value_column="theta[0]").verdict
        'healthy'
    """

    def open(self, is_first: bool = True) -> None:
        """Begins the file, unless another process is the first.

        Args:
            is_first: Whether the loop takes this process for the first.

        Raises:
            OutputError: The file cannot be written.
        """
        group = torch.distributed
        is_other = group.is_available() and group.is_initialized() and group.get_rank() != 0
        if is_first and not is_other and self._file is None:
            super().__enter__()

    def close(self) -> None:
        """Ends the file; a second time does nothing."""
        self.__exit__(None)

    def __enter__(self) -> StepLog:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._file is not None:
            super().__exit__(kind, *error)

    def on_step(self, loss: Tensor | float, optimizer: Any = None, scaler: Any = None) -> None:
        """Logs a step, after `backward()` and just before the optimizer's, or the scaler's, step.

        Args:
            loss: Not scaled.
            optimizer: Whose learning rate is logged: that of the first parameter's group. A step of
                one that does not hold the parameter is not logged.
            scaler: A `torch.amp.GradScaler` whose `step(optimizer)` comes next. The gradients are
                unscaled here unless they are already.

        Raises:
            OutputError: The disk is full.
        """
        if self._file is None:
            return
        rate: Any = float("nan")
        if optimizer is not None:
            owner = self.owner
            held = [g for g in optimizer.param_groups if any(p is owner for p in g["params"])]
            if not held:
                return
            rate = held[0]["lr"]
        if scaler is not None and scaler.is_enabled():
            # A second time is refused; then they are unscaled, as before clipping.
            with contextlib.suppress(RuntimeError):
                scaler.unscale_(optimizer)
        self.step(loss, lr=rate)


def lightning_callback(path: str | Path, **parameters: Source) -> Any:
    """Returns a callback for `lightning.Trainer` (or `pytorch_lightning`'s) that logs each step.

    The loss is the mean over the batches that a step accumulates.

    Args:
        path: Of the CSV file; an existing one is replaced.
        parameters: As `TrajectoryLogger` takes them, such as `theta=model.theta`.

    Raises:
        InputError: Lightning is not installed.
    """
    base = imported("lightning.pytorch", "pytorch_lightning").Callback
    log = StepLog(path, **parameters)
    losses: list[Tensor] = []

    def on_train_start(self: Any, trainer: Any, module: Any) -> None:
        log.open(trainer.is_global_zero)

    def on_before_backward(self: Any, trainer: Any, module: Any, loss: Tensor) -> None:
        # Divided by the number of batches, and scaled where there is a scaler.
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        scale = 1.0 if scaler is None else scaler.scale(torch.ones_like(loss))
        losses.append(loss.detach() / scale)

    def on_before_optimizer_step(self: Any, trainer: Any, module: Any, optimizer: Any) -> None:
        # Lightning has unscaled the gradients by now, unless the optimizer itself would.
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        log.on_step(sum(losses) if losses else float("nan"), optimizer, scaler)
        losses.clear()

    def finish(self: Any, trainer: Any, module: Any, *error: Any) -> None:
        log.close()

    hooks = (on_train_start, on_before_backward, on_before_optimizer_step)
    ends = {"on_train_end": finish, "on_exception": finish}
    return type("TrajectoryCallback", (base,), {h.__name__: h for h in hooks} | ends)()


def trainer_callback(path: str | Path, **parameters: Source) -> Any:
    """Returns a callback for Hugging Face's `transformers.Trainer` that logs each step.

    The gradients are those that the optimizer gets, clipped where the Trainer clips them
    (`max_grad_norm`). The Trainer hands no loss to callbacks: it is the mean of what the model
    itself returned as `loss` since the last step, `nan` if it returned none.

    Args:
        path: Of the CSV file; an existing one is replaced.
        parameters: As `TrajectoryLogger` takes them, such as `theta=model.theta`.

    Raises:
        InputError: transformers is not installed.
    """
    base = imported("transformers").TrainerCallback
    log = StepLog(path, **parameters)
    losses: list[Tensor] = []
    watching = contextlib.ExitStack()

    def keep(module: torch.nn.Module, arguments: Any, output: Any) -> None:
        loss = output.get("loss") if hasattr(output, "get") else getattr(output, "loss", None)
        if module.training and isinstance(loss, Tensor):
            losses.append(loss.detach().mean())

    def on_train_begin(self: Any, args: Any, state: Any, control: Any, **given: Any) -> None:
        log.open(state.is_world_process_zero)
        watching.callback(given["model"].register_forward_hook(keep).remove)

    def on_pre_optimizer_step(self: Any, args: Any, state: Any, control: Any, **given: Any) -> None:
        # Accelerate's wrapper knows the scaler, which knows the optimizer inside.
        optimizer = given["optimizer"]
        scaler = getattr(optimizer, "scaler", None)
        inner = getattr(optimizer, "optimizer", optimizer)
        loss = torch.stack(losses).mean() if losses else float("nan")
        log.on_step(loss, inner, scaler)
        losses.clear()

    def on_train_end(self: Any, args: Any, state: Any, control: Any, **given: Any) -> None:
        watching.close()
        log.close()

    hooks = (on_train_begin, on_pre_optimizer_step, on_train_end)
    return type("TrajectoryCallback", (base,), {hook.__name__: hook for hook in hooks})()
