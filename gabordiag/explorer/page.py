"""`gabordiag explore`: one self-contained interactive HTML page.

Bokeh draws, the JavaScript files in `assets` compute: `landscape.js` evaluates the series,
`optimizers.js` descends on it, `outcomes.js` classifies runs, `basins.js` fills the map,
`windows.js` scans learning rates, `verdict.js` finds the cause of a failure, `pictures.js` shows
kernels and responses, `plots.js` fills the figures, `page.js` connects them. Bokeh, the scripts and
the data are written into the page, whose content security policy forbids the browser any request.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gabordiag._version import __version__
from gabordiag.errors import InputError, OutputError
from gabordiag.objective.space import Parameter
from gabordiag.presentation.colors import OUTCOME_COLORS
from gabordiag.presentation.figures.axis import ParameterAxis
from gabordiag.results import View
from gabordiag.runs.formats import clean

SCRIPTS = (
    "landscape.js", "optimizers.js", "outcomes.js", "basins.js", "windows.js", "verdict.js",
    "pictures.js", "plots.js", "page.js",
)  # fmt: skip
# Every page begins with this, by which it is recognized.
MARK = "<!doctype html>\n<!-- gabordiag explore -->\n"
_FOLDER = resources.files(__package__) / "assets"


def require_bokeh() -> None:
    """Checks that Bokeh is installed."""
    if find_spec("bokeh") is None:
        raise InputError(
            "The page is drawn by Bokeh, which is not installed.",
            "Install it with: pip install 'gabordiag[explore]'",
        )


def require_replaceable(path: Path | None) -> None:
    """Checks that a path is free, or holds a page that gabordiag wrote."""
    if path is None or not path.exists():
        return
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            ours = file.read(len(MARK)) == MARK
    except OSError as error:
        raise OutputError(f"Cannot read {path}: {error.strerror}.", "Give another name.") from None
    if not ours:
        raise OutputError(
            f"{path} exists and was not written by gabordiag, so it is not overwritten.",
            "Give another name with --out.",
        )


def page_files(command: str, view: View) -> dict[str, bytes]:
    """Returns a result's interactive page as file name -> content; nothing where it has none.

    Without Bokeh only `explore` insists.
    """
    if command == "explore":
        return {"page.html": make_page(view).encode("utf-8")}
    is_plane = command == "sweep" and "plane" in view.result
    if find_spec("bokeh") is None or not (is_plane or command == "atlas"):
        return {}
    from gabordiag.explorer.one_plot import make_atlas_page, make_plane_page

    if is_plane:
        return {"plane.html": make_plane_page(view).encode("utf-8")}
    return {"page.html": make_atlas_page(view).encode("utf-8")}


def make_page(view: View) -> str:
    """Returns the page of an `Exploration`, computed now or saved."""
    require_bokeh()
    from gabordiag.explorer.figures import make_figures
    from gabordiag.explorer.one_plot import render_page

    parameter = Parameter.from_dict(view.result["losses"][view.result["loss"]]["landscape"])
    show, target = ParameterAxis.of(parameter).show, parameter.target
    data: dict[str, Any] = {**view.result, "colors": OUTCOME_COLORS}
    if "pictures.npz" in view.data:
        data["pictures"] = {**view.result["pictures"], **_packed(view.data["pictures.npz"])}
    return MARK + render_page(
        _read("page.html"),
        ["bokeh"],
        style=_read("page.css"),
        scripts="\n".join(_read(name) for name in SCRIPTS),
        data=clean(data),
        items=clean(make_figures(view.result)),
        result=view.result,
        ends=(show(parameter.start), "" if target is None else show(target)),
        version=__version__,
    )


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _packed(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """Returns the pictures as base64 of bytes, row by row."""
    target = np.asarray(arrays["target"], dtype=np.float64)
    low, high = float(target.min()), float(target.max())
    step = (high - low) / 255 or 1.0
    rows, columns = target.shape
    pictures = {
        "components": arrays["components"].astype(np.int8),
        "image": arrays["image"].astype(np.uint8),
        "target": np.round((target - low) / step).astype(np.uint8),
    }
    return {
        **{name: arrays[name] for name in ("scales", "cosines", "sines")},
        **{n: base64.b64encode(p.tobytes()).decode("ascii") for n, p in pictures.items()},
        "rows": rows,
        "columns": columns,
        "target_levels": {"low": low, "step": step},
    }
