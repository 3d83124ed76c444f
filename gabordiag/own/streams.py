"""The random numbers that a user's code draws, from streams of its own."""

from __future__ import annotations

import random
from collections.abc import Iterator
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
        self._state = generator.get_state(), legacy.get_state(), python.getstate(), cuda

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

    def plain(self) -> dict[str, Any]:
        """Returns where the global streams stand, as tensors and numbers."""
        cpu, (kind, keys, *rest), python, cuda = self.current()
        legacy = kind, torch.from_numpy(keys.astype(np.int64)), *rest
        return {"torch": cpu, "numpy": legacy, "python": python, "cuda": cuda}

    def go_to_plain(self, state: dict[str, Any]) -> None:
        """Puts the global streams to where `plain` found them."""
        kind, keys, *rest = state["numpy"]
        legacy = kind, keys.numpy().astype(np.uint32), *rest
        self.go_to((state["torch"], legacy, state["python"], state["cuda"]))

    def current(self) -> tuple[Any, ...]:
        """Returns where the global streams stand."""
        legacy = np.random.get_state()  # noqa: NPY002 - user code may draw from it
        cuda = torch.cuda.get_rng_state(self._device) if self._on_cuda else None
        return torch.get_rng_state(), legacy, random.getstate(), cuda

    def go_to(self, state: tuple[Any, ...]) -> None:
        """Puts the global streams to where they stood."""
        torch.set_rng_state(state[0])
        np.random.set_state(state[1])  # noqa: NPY002
        random.setstate(state[2])
        if state[3] is not None:
            torch.cuda.set_rng_state(state[3], self._device)
