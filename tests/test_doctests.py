"""Each public function and class has an example in its docstring that runs as it stands."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

import gabordiag as gd

PUBLIC = sorted(set(gd.__all__) - {"__version__"})
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", PUBLIC)
def test_example(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    thing = getattr(gd, name)
    (example,) = doctest.DocTestFinder(recurse=False).find(thing, name, module=False, globs={})
    assert example.examples, f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    report: list[str] = []
    assert runner.run(example, out=report.append).failed == 0, "".join(report)
