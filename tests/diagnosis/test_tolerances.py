"""The table of tolerances in the docs of `diagnosis` says what the code says, and all of it."""

from __future__ import annotations

import math
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import gabordiag.diagnosis

ROW = re.compile(
    r"^\| ([a-z_.]+) (_?[A-Z][A-Z_0-9]*) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE
)
DOCS = Path(gabordiag.diagnosis.__file__).with_name("README.md").read_text(encoding="utf-8")
ROWS = ROW.findall(DOCS)
# Modules whose numbers decide verdicts.
MODULES = (
    "diagnosis.causes", "diagnosis.log.comparison", "diagnosis.log.explain", "diagnosis.evidence",
    "diagnosis.log.measures", "diagnosis.log.readers",
    "diagnosis.remedies", "diagnosis.verdict", "dynamics.bifurcation", "dynamics.rates",
    "dynamics.run", "dynamics.outcomes", "dynamics.theory", "dynamics.windows",
    "landscape.critical", "landscape.proof", "landscape.surface",
    "landscape.points", "landscape.sweep",
    "objective.space", "own.parameters", "own.plain_loop", "checks.gradient", "checks.verify",
    "charting.atlas", "diagnosis.readout", "dynamics.network",
    "diagnosis.training.causes", "diagnosis.training.facts", "diagnosis.training.kernels",
    "diagnosis.training.lines", "diagnosis.training.measured", "diagnosis.training.remedies",
)  # fmt: skip
# Numbers in these that decide nothing: how much is tried or searched, and how finely.
EFFORTS = {
    "charting.atlas": {"_BINS_PER_OCTAVE"},
    "diagnosis.readout": {
        "RATE", "STEPS", "BATCH", "_SAMPLE", "_CANDIDATES", "_SEARCH", "_FIT_STEPS", "_FEW_STEPS",
        "_GAIN", "_SOLVED",
    },
    # How far a remedy goes; the range and the places that are looked at.
    "diagnosis.training.causes": {"_ARRIVED"},
    "diagnosis.training.lines": {"_FACTOR", "_BESIDE", "_PASSES_PER_STEP", "_MOST_BATCHES"},
    "diagnosis.training.kernels": {"_MOST_BYTES"},
    "diagnosis.training.remedies": {"_STEPS_FACTOR", "_LOWER_RATES", "_COARSE_SIGMA"},
    "dynamics.network": {
        "DEFAULT_POINTS", "_MOMENTS", "_PATH_BYTES", "_MARGIN", "_LEAST", "_RESOLVED", "_LARGEST",
        "_PLACES", "_SHARES", "_EIGENVALUES", "_CURVED",
    },
    "diagnosis.causes": {"NUDGE", "_AGAIN"},
    "diagnosis.log.comparison": {"_MOST_ROWS", "_LARGEST"},
    "dynamics.bifurcation": {"DEFAULT_TAIL"},
    "dynamics.rates": {"_TIMED", "_FEWEST", "_LISTED"},
    "dynamics.run": {"_LONGEST_STEP", "_LAST_STEP"},
    # Adam's own.
    "dynamics.theory": {"_ADAM_BETA1"},
    "diagnosis.evidence": {
        "_LOOKED_AT", "_ANYWHERE", "_SEARCH_SHARE", "TRIED_STEPS", "RANDOM_STARTS", "_MEASURED_AT",
        "MULTI_START_GRID", "_MOST_STEPS", "_MORE_AT_ONCE", "_HALVINGS",
        "_MORE_BESIDE",
    },
    "dynamics.windows": {
        "SCAN_STEPS", "_LOWEST", "_HIGHEST", "_SUITED", "_ROOM", "_MOST_DECADES",
    },
    "landscape.points": {"PLAIN_LIMIT"},
    "landscape.critical": {
        "_NEWTON_REACH", "_GRID", "_MOST_DIPS", "_RIPPLES", "_BETWEEN", "_BESIDE_KINK", "_ZOOMS",
        "_RIGHT_BESIDE",
    },
    "landscape.proof": {"_TAYLOR_ORDER", "_MAX_DEPTH", "_MAX_CELLS"},
    "landscape.sweep": {"DEFAULT_POINTS", "MOST_SURVEYED", "_POINTS_EXPENSIVE"},
    "own.plain_loop": {"_COMPARED"},
    "landscape.surface": {"DEFAULT_POINTS", "_NEWTON_STEPS", "_LONGEST_STEP", "_LAST_STEP",
                          "_ROWS_AT_ONCE", "PAIR_POINTS", "_FEW_POINTS", "_MOST_SHOWN", "_LOWEST"},
    # Where a period is guessed, no verdict is given; `tests/own/test_custom.py` tests the guesses.
    "own.parameters": {"_TYPED", "_NOISE_FACTOR", "_NEAR", "_CONSTANT", "_VALUE_ROUNDINGS",
                         "_ARGUMENT_ROUNDINGS"},
    "checks.gradient": {"_STEPPED"},
    "objective.space": {"_MOST_PERIODS", "_ROUNDED"},
    "checks.verify": {"DEFAULT_SIZE", "_STEP", "_DEGREE", "COMPLEX_STEP"},
}  # fmt: skip


def module_of(name: str) -> ModuleType:
    return import_module(f"gabordiag.{name}")


def numbers_of(module: ModuleType) -> set[str]:
    """Numbers that a module defines itself, at its top."""
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    names = {
        name
        for line in source.splitlines()
        if (match := re.match(r"^((?:_?[A-Z][A-Z_0-9]*(?:, )?)+)(?:: [^=]+)? = ", line))
        for name in match[1].split(", ")
    }
    return {n for n in names if type(getattr(module, n, None)) in (int, float)}


def test_table_is_there() -> None:
    assert len(ROWS) > 40


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}.{row[1]}")
def test_value_in_the_table_is_the_codes(row: tuple[str, ...]) -> None:
    place, name, value, *_ = row
    stated = float(value.split()[0])
    assert math.isclose(float(getattr(module_of(place), name)), stated, rel_tol=1e-5)


@pytest.mark.parametrize("name", MODULES)
def test_no_number_is_left_out(name: str) -> None:
    told = {constant for place, constant, *_ in ROWS if place == name}
    assert numbers_of(module_of(name)) - told == EFFORTS.get(name, set())
