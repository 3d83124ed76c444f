"""The program's numbers are those that were recorded, call by call (see README.md)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.golden.calls import CALLS, SLOW, write_inputs
from tests.golden.comparing import mismatches
from tests.golden.record import DATA, produced


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    write_inputs(folder)
    return folder


def _parameters() -> list[object]:
    return [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in CALLS]


@pytest.mark.parametrize("name", _parameters())
def test_numbers_are_those_recorded(
    name: str, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(inputs)
    expected = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
    found = mismatches(name, expected, produced(name))
    assert not found, f"{len(found)} fields of {name} differ:\n" + "\n".join(map(str, found))


def test_every_recorded_file_belongs_to_a_call() -> None:
    assert {path.stem for path in DATA.glob("*.json")} == set(CALLS)
