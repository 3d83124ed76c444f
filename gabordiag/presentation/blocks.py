"""What a result says, as blocks, which terminal, Markdown and HTML render each in its own way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gabordiag.landscape.sweep import Sweep


@dataclass(frozen=True)
class Heading:
    """A section's title."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """Plain text."""

    text: str


@dataclass(frozen=True)
class Verdict:
    """The sentence that matters most, its verdict, and whether nothing has to be fixed."""

    text: str
    word: str
    good: bool


@dataclass(frozen=True)
class Listing:
    """Items, one a line."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table of text; `outcome_column` is the index of the one that holds outcome names."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    outcome_column: int | None = None


@dataclass(frozen=True)
class Picture:
    """The place of the figure or animation of this file stem; a terminal leaves it out."""

    stem: str


@dataclass(frozen=True)
class Mark:
    """A value on a sketch, what is there, and whether it is the target."""

    value: float
    words: str
    good: bool = False


@dataclass(frozen=True)
class Sketch:
    """The landscape in a few letters, with marks, for terminals; reports have figures."""

    sweep: Sweep = field(compare=False)
    marks: tuple[Mark, ...]


def outcome_of(cell: str) -> str:
    """Returns the outcome that a cell of a table shows: `local_minimum` of "local minimum"."""
    return cell.split(" (")[0].replace(" ", "_")


Block = Heading | Paragraph | Verdict | Listing | Table | Picture | Sketch

_CAPTIONS = {
    "sweep": "The loss over the parameter, its gradient three ways, and how far they disagree",
    "surface": "The loss over two parameters, with the direction downhill",
    "surface-in-space": "The loss over two parameters as a surface in space",
    "network": "The loss on the plane, with the run's path; each moment in its true loss's colour",
    "network-in-space": "The plane as a surface in space, with the path at its true losses",
    "network-path": "The loss along the run and as drawn, and the path's variance by direction",
    "barriers": "The loss along straight lines between ends, at the places where it was evaluated",
    "pairs": "The runs on planes of two parameters each, through the first run's end",
    "plane": "Which starts of the plane reach the target",
    "logged": "The steps that were logged",
    "log": "The logged loss against the step; jumps in orange",
    "run": "The run: loss and parameter against the step, and its path on the landscape",
    "optimize": "The runs: loss and parameter against the step, and their path on the landscape",
    "animation": "The run, step by step; jumps in orange",
    "basins": "Where every start ends at every learning rate",
    "bifurcation": "Where the iterates end up, by learning rate, with the Lyapunov exponent",
    "rates": "Where trainings with each learning rate end, a point for each seed",
    "bank": "The filters before and after the training, with each orientation as a line",
    "lines": "The loss along the failing elements, everything else frozen: before and after",
    "gradients": "The training's loss, and each watched parameter's share of the gradient",
    "comparison": "One symptom, two causes",
    "atlas": "What becomes of filters by their shape, with each loss",
}


def caption(file_name: str) -> str:
    """Returns what a figure file, or a stem of one, shows."""
    stem = file_name.split(".", 1)[0]
    if stem in _CAPTIONS:
        return _CAPTIONS[stem]
    case, _, kind = stem.rpartition("-")
    if case == "atlas":
        return f"{_CAPTIONS[case]} (phase {kind.replace('deg', '°')})"
    text = _CAPTIONS.get(kind, kind)
    return f"{text} ({case} filter)" if case else text
