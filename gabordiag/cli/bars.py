"""Progress bars: one for what a command does, and below it one while images are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)


class Bars:
    """Bars on stderr that share one display, which is there while any of them is."""

    def __init__(self, hidden: bool) -> None:
        self._hidden = hidden
        self._images: dict[str, TaskID] = {}
        self._display = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            expand=True,
            disable=hidden,
        )

    @contextmanager
    def shown(self, text: str) -> Iterator[Callable[..., None]]:
        """Shows a bar; yields a function of (done, total), and of another text if there is one."""
        task = self._add(text)
        try:
            yield lambda done, total, what=text: self._display.update(
                task, completed=done, total=total, description=what
            )
        finally:
            self._remove(task)

    def tell_images(self, what: str, done: int, total: int) -> None:
        """Shows how many images are done, until all are."""
        for shown in [other for other in self._images if other != what or done == total]:
            self._remove(self._images.pop(shown))
        if done < total:
            if what not in self._images:
                self._images[what] = self._add(what)
            self._display.update(self._images[what], completed=done, total=total)

    def close(self) -> None:
        """Takes away whatever is shown."""
        self._images = {}
        for task in self._display.task_ids:
            self._remove(task)

    def _add(self, text: str) -> TaskID:
        self._display.start()
        return self._display.add_task(text, total=None)

    def _remove(self, task: TaskID) -> None:
        if task in self._display.task_ids:
            self._display.remove_task(task)
        # Old versions of rich end even a hidden display with an empty line.
        if not self._display.task_ids and not self._hidden:
            self._display.stop()
