"""The atlas on disk: a Zarr store that xarray opens, written as results come.

A quantity is one array over the grid, in chunks of the images that are computed together. `done`
is written last: what it marks is whole, whenever the process ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from gabordiag._version import __version__
from gabordiag.charting.grid import DIMENSIONS, Grid, Task
from gabordiag.charting.landscapes import QUANTITIES
from gabordiag.errors import InputError, OutputError
from gabordiag.objective.space import FloatArray
from gabordiag.results import read_only

NAME = "atlas.zarr"
# Bytes on disk of a landscape, at most: a number in double precision for each quantity.
BYTES = 8 * len(QUANTITIES) + 1


class Store:
    """Quantities over a grid, in memory and, with a path, on disk; goes on with what is there.

    Raises:
        InputError: The path holds an atlas of another grid or of other settings.
    """

    def __init__(self, grid: Grid, path: Path | None = None) -> None:
        for name in ("xarray", "zarr"):
            if find_spec(name) is None:
                raise InputError(
                    f"an atlas needs {name}, which is not installed.",
                    "Install it with: pip install 'gabordiag[atlas]'",
                )
        import zarr

        self.grid = grid
        self.done = np.zeros(grid.shape, dtype=np.bool_)
        self.values = {name: np.full(grid.shape, np.nan) for name in QUANTITIES}
        self._group: Any = None
        # Of the images' blocks, those with results that are not on disk yet.
        self._pending: set[tuple[int, ...]] = set()
        self._path = path
        if path is None:
            return
        if not path.exists():
            with self._writing():
                self._create(path)
        try:
            self._group = zarr.open_group(path, mode="r+")
            self._require_same(path)
            self.done[...] = self._group["done"][...]
            for name, array in self.values.items():
                array[...] = np.where(self.done, self._group[name][...], np.nan)
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{path} is damaged, or no atlas ({type(error).__name__}).", "Give another folder."
            ) from None

    def _create(self, path: Path) -> None:
        chunks = (self.grid.images_at_once, *self.grid.shape[1:])
        arrays = {**self.values, "done": self.done}
        # Whole or absent; what a kill leaves is overwritten.
        part = path.with_name(f".{path.name}")
        made = self.dataset().assign(done=(DIMENSIONS, self.done))
        made.assign_attrs(pixels=self.grid.fingerprint()).to_zarr(
            part,
            mode="w",
            zarr_format=2,
            encoding={name: {"chunks": chunks} for name in arrays},
        )
        part.rename(path)

    def _require_same(self, path: Path) -> None:
        attributes = dict(self._group.attrs)
        kept = {name: self._group[name][...].tolist() for name in DIMENSIONS}
        asked = self.grid.coordinates
        differ = [name for name in DIMENSIONS if kept[name] != asked[name]]
        settings = json.loads(attributes.get("settings", "{}"))
        wanted = json.loads(json.dumps(self.grid.settings()))
        differ += [name for name in wanted if settings.get(name) != wanted[name]]
        if attributes.get("pixels", pixels := self.grid.fingerprint()) != pixels:
            differ.append("pixels")
        if differ:
            raise InputError(
                f"{path} holds another atlas: its {', '.join(differ)} differ.",
                "Give another folder.",
            )

    def open_tasks(self, images: tuple[int, ...]) -> Iterator[Task]:
        """Yields what is left to do on some images."""
        for index in self.grid.filters():
            if not self.done[images, :, *index].all():
                yield Task(images, index)

    def add(self, task: Task, quantities: FloatArray) -> None:
        """Takes the quantities (quantities, images, losses) of a task."""
        place = (slice(task.images[0], task.images[-1] + 1), slice(None), *task.filter)
        for name, values in zip(QUANTITIES, quantities, strict=True):
            self.values[name][place] = values
        self.done[place] = True
        self._pending.add(task.images)

    def flush(self) -> None:
        """Writes what was added since the last time.

        Raises:
            OutputError: It cannot, for want of space, say.
        """
        with self._writing():
            for images in self._pending if self._group is not None else ():
                rows = slice(images[0], images[-1] + 1)
                for name, array in {**self.values, "done": self.done}.items():
                    self._group[name][rows] = array[rows]
        self._pending.clear()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"Cannot write {self._path}: {error.strerror or error}.",
                "What was written before is kept.",
            ) from None

    def dataset(self) -> Any:
        """Returns the quantities as an xarray Dataset, with units and what they are."""
        import xarray

        made = xarray.Dataset(
            {name: (DIMENSIONS, array) for name, array in self.values.items()},
            coords=self.grid.coordinates,
            attrs={
                "title": "Which Gabor filters gradient descent can learn",
                "gabordiag": __version__,
                "settings": json.dumps(self.grid.settings()),
            },
        )
        for name, (unit, text, _) in QUANTITIES.items():
            made[name].attrs.update(units=unit, long_name=text)
        return made

    def columns(self) -> dict[str, Any]:
        """Returns coordinates and quantities by name, read-only."""
        along = {n: read_only(np.array(v)) for n, v in self.grid.coordinates.items()}
        return along | {name: read_only(array) for name, array in self.values.items()}
