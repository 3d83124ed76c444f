"""The program's numbers are those that were recorded, call by call (see README.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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


@pytest.mark.each(2)
@pytest.mark.parametrize("name", _parameters())
def test_numbers_are_those_recorded(
    name: str, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(inputs)
    found = mismatches(name, _read(name), produced(name))
    assert not found, f"{len(found)} fields of {name} differ:\n" + "\n".join(map(str, found))


def test_every_recorded_file_belongs_to_a_call() -> None:
    assert {path.stem for path in DATA.glob("*.json")} == set(CALLS)


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
    return found


def test_every_difference_is_reported_at_once() -> None:
    expected, got = _read("diagnose-wrong-basin"), _read("diagnose-wrong-basin")
    assert mismatches("diagnose-wrong-basin", expected, got) == []
    got["result"]["run"]["final"] *= 1 + 1e-10
    got["result"]["verdict"] = "healthy"
    got["result"]["critical_points"].pop()
    got["data"]["trajectory-000.csv"]["loss"]["samples"]["1"] *= 1 + 1e-11
    del got["result"]["hold_lr"]
    paths = {found.path for found in mismatches("diagnose-wrong-basin", expected, got)}
    assert paths == {
        "result.run.final", "result.verdict", "result.critical_points.length", "result.hold_lr",
        "data.trajectory-000.csv.loss.1",
    }  # fmt: skip


def test_of_a_chaotic_run_the_beginning_counts() -> None:
    expected, got = _read("optimize-chaotic"), _read("optimize-chaotic")
    (run,) = got["result"]["runs"]
    run["final"] += 1
    run["n_jumps"] += 5
    losses = got["data"]["trajectory-000.csv"]["loss"]["samples"]
    losses["300"] += 1
    assert mismatches("optimize-chaotic", expected, got) == []
    losses["1"] *= 1 + 1e-10
    assert len(mismatches("optimize-chaotic", expected, got)) == 1
