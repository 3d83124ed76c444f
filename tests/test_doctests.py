"""Each public function and class has an example in its docstring that runs as it stands."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

import gabordiag as gd
from tests.test_public import NAMES

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", sorted(NAMES))
def test_example(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(getattr(gd, name), name, module=False, globs={})
    assert example.examples, f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    report: list[str] = []
    assert runner.run(example, out=report.append).failed == 0, "".join(report)
