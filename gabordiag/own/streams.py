"""The random numbers that a user's code draws, from streams of its own."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


class RandomStreams:
    """The objective's own place in torch's, NumPy's and Python's global random streams.

    Whatever an evaluation draws, it draws from streams that start at a seed, None for where the
    program's stand now, and go on from one evaluation to the next; the program's own streams stand
    still meanwhile. The device's is looked after beside the CPU's.
    """

    def __init__(self, seed: int | None, device: torch.device) -> None:
        self._device = device
        if seed is None:
            self._state = self.current()
            return
        legacy = np.random.RandomState(seed)
        cuda = torch.Generator(device).manual_seed(seed).get_state() if self._on_cuda else None
        generator = torch.Generator().manual_seed(seed)
        python = random.Random(seed)
        self._state = _plain(generator.get_state(), legacy.get_state(), python.getstate(), cuda)

    @property
    def _on_cuda(self) -> bool:
        return self._device.type == "cuda"

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Draws from the objective's streams in the block."""
        outside = self.current()
        self.go_to(self._state)
        try:
            yield
        finally:
            self._state = self.current()
            self.go_to(outside)

    def current(self) -> dict[str, Any]:
        """Returns where the global streams stand, as tensors and numbers."""
        legacy = np.random.get_state()  # noqa: NPY002 - user code may draw from it
        cuda = torch.cuda.get_rng_state(self._device) if self._on_cuda else None
        return _plain(torch.get_rng_state(), legacy, random.getstate(), cuda)

    def go_to(self, state: Mapping[str, Any]) -> None:
        """Puts the global streams to where they stood."""
        kind, keys, *rest = state["numpy"]
        torch.set_rng_state(state["torch"])
        np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
        random.setstate(state["python"])
        if state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"], self._device)


def _plain(
    cpu: torch.Tensor, legacy: Any, python: Any, cuda: torch.Tensor | None
) -> dict[str, Any]:
    kind, keys, *rest = legacy
    numpy = kind, torch.from_numpy(keys.astype(np.int64)), *rest
    return {"torch": cpu, "numpy": numpy, "python": python, "cuda": cuda}
