"""What a training that was killed needs to go on, and to end with the same numbers to the last bit.

Kept are the model's tensors and plain attributes, the optimizer's and the schedule's state, the
random streams, the place among the batches, and what was recorded so far. Only tensors, numbers and
texts are written, so that reading a file runs no code of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gabordiag.errors import InputError, OutputError, UsageError

# Its name in a run's folder.
CHECKPOINT = "checkpoint.pt"
# A checkpoint is written so often, and takes at most this part of the time.
SAVE_SECONDS, _PART = 5.0, 0.02
_PLAIN = (bool, int, float, str, type(None), Tensor)


class Checkpoint:
    """The file of a training's state or of none, known by its settings; `content` if it exists."""

    def __init__(self, path: str | Path | None, what: Mapping[str, Any]) -> None:
        self._path, self._what = None if path is None else Path(path), dict(what)
        self._due = time.perf_counter() + SAVE_SECONDS
        self.content: dict[str, Any] | None = None
        if self._path is None or not self._path.exists():
            return
        try:
            content = torch.load(self._path, weights_only=True)
            known = content["what"]
        except Exception as error:
            # torch raises errors of many kinds for a damaged file.
            raise InputError(
                f"{self._path} is not a checkpoint, or damaged ({type(error).__name__}).",
                "Remove it, and the training begins anew.",
            ) from None
        changed = [name for name, value in self._what.items() if known.get(name) != value]
        if changed:
            raise UsageError(
                f"{self._path} is of a training with other {', '.join(changed)}.",
                "Take the same settings, or another file.",
            )
        self.content = content

    def save(self, content: Callable[[], Mapping[str, Any]], *, now: bool = False) -> None:
        """Writes the state, if it is time or has to be now; the file is whole or the former one."""
        began = time.perf_counter()
        if self._path is None or (not now and began < self._due):
            return
        part = self._path.with_name(f".{self._path.name}.part")
        try:
            torch.save({"what": self._what, **content()}, part)
            os.replace(part, self._path)
        except (OSError, RuntimeError) as error:
            raise OutputError(f"{self._path} cannot be written: {error}") from None
        ended = time.perf_counter()
        self._due = ended + max(SAVE_SECONDS, (ended - began) / _PART)


def beside(checkpoint: str | Path | None, what: str) -> Path | None:
    """Returns a file beside a checkpoint, for the state of a part of the work."""
    return None if checkpoint is None else Path(checkpoint).with_suffix(f".{what}.pt")


def remove(*checkpoints: str | Path | None) -> None:
    """Removes files that are no longer needed."""
    for file in checkpoints:
        if file is not None:
            Path(file).unlink(missing_ok=True)


def plain_attributes(model: nn.Module) -> dict[str, dict[str, Any]]:
    """Returns the numbers, texts, tensors and lists of them that modules have as attributes."""
    return {
        name: {k: v for k, v in vars(part).items() if not k.startswith("_") and _is_plain(v)}
        for name, part in model.named_modules()
    }


def restore_attributes(model: nn.Module, saved: Mapping[str, Mapping[str, Any]]) -> None:
    """Gives modules the attributes that `plain_attributes` returned."""
    for name, part in model.named_modules():
        part.__dict__.update(saved[name])


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    return all(map(_is_plain, value)) if type(value) in (list, tuple) else isinstance(value, _PLAIN)
