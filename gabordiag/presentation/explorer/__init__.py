"""`gabordiag explore`: one interactive HTML page that needs nothing but itself.

Bokeh draws, the JavaScript files beside this one compute: `landscape.js` evaluates the series,
`optimizers.js` descends on it, `outcomes.js` judges, `basins.js` maps, `verdict.js` says it in words,
`pictures.js` shows kernels and responses, `page.js` holds the controls together. All of it, Bokeh's
own script and the data are written into the page, whose content security policy forbids the browser
any request.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from importlib import resources
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from gabordiag._version import __version__
from gabordiag.errors import InputError
from gabordiag.presentation.style import OUTCOME_COLORS
from gabordiag.results import View
from gabordiag.runs import clean

SCRIPTS = (
    "landscape.js", "optimizers.js", "outcomes.js", "verdict.js", "basins.js", "pictures.js",
    "page.js",
)  # fmt: skip
# How every page begins, by which one is known again.
MARK = "<!doctype html>\n<!-- gabordiag explore -->\n"
_FOLDER = resources.files(__package__) / "assets"


def require_bokeh() -> None:
    """Says what to do where Bokeh is missing.

    Raises:
        InputError: It is.
    """
    if find_spec("bokeh") is None:
        raise InputError(
            "The page is drawn by Bokeh, which is not installed.",
            "Install it with: pip install 'gabordiag[explore]'",
        )


def make_page(view: View) -> str:
    """Returns the page of an `Exploration`, live or saved.

    Args:
        view: Its JSON, and `pictures.npz` where there are pictures.

    Raises:
        InputError: Bokeh is missing.
    """
    require_bokeh()
    import jinja2
    from bokeh.resources import Resources

    from gabordiag.presentation.explorer.figures import make_figures

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(_read("page.html"))
    bokeh = Resources(mode="inline", components=["bokeh"]).render_js()
    return MARK + template.render(
        bokeh=_trusted(bokeh),
        style=_trusted(_read("page.css")),
        scripts=_trusted("\n".join(_read(name) for name in SCRIPTS)),
        data=_trusted(_embed(_page_data(view))),
        items=_trusted(_embed(make_figures(view.result))),
        result=view.result,
        title=_title(view.result),
        version=__version__,
    )


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _trusted(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)


def _embed(value: Any) -> str:
    """Returns JSON that cannot end the script element it stands in."""
    text = json.dumps(clean(value), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _title(result: Mapping[str, Any]) -> str:
    landscape = result["losses"][result["loss"]]["landscape"]
    if result["filter"] is None:
        return f"Gradient descent on {result['parameter']}"
    target = math.degrees(landscape["target"])
    return f"Can gradient descent turn a Gabor kernel to {target:.4g}°?".replace("-", "\N{MINUS SIGN}")


def _page_data(view: View) -> dict[str, Any]:
    data: dict[str, Any] = {**view.result, "colors": OUTCOME_COLORS}
    if "pictures.npz" in view.data:
        data["pictures"] = {**view.result["pictures"], **_packed(view.data["pictures.npz"])}
    return data


def _packed(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """Returns the pictures as base64 of bytes, row by row."""
    target = np.asarray(arrays["target"], dtype=np.float64)
    low, high = float(target.min()), float(target.max())
    step = (high - low) / 255 or 1.0
    rows, columns = target.shape
    return {
        "rows": rows,
        "columns": columns,
        "scales": arrays["scales"],
        "cosines": arrays["cosines"],
        "sines": arrays["sines"],
        "components": _base64(arrays["components"].astype(np.int8)),
        "image": _base64(arrays["image"].astype(np.uint8)),
        "target": _base64(np.round((target - low) / step).astype(np.uint8)),
        "target_levels": {"low": low, "step": step},
    }


def _base64(array: npt.NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
