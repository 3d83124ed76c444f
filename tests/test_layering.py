"""Imports run in one direction, and libraries live in their own rooms.

The order is the package's story: what is minimised, what it looks like, what an optimizer does on
it, why, and how a person sees it. An import against it, wherever it stands in a file, fails here;
so do modules of one room that import each other.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name

import pytest

import gabordiag

PACKAGE = "gabordiag"
FOLDER = Path(gabordiag.__file__).parent

# Rooms of one row may not import each other; lower rows may be imported by all higher ones.
ORDER = (
    {"choices", "errors", "wording"},
    {"results"},
    {"gabor", "images"},
    {"gabor_fit", "gabor_layer"},
    {"objective"},
    {"own"},
    {"checks"},
    {"landscape"},
    {"dynamics"},
    {"callbacks"},
    {"charting"},
    {"diagnosis"},
    {"runs"},
    {"presentation"},
    {"explorer"},
    {"api"},
    {"cli"},
    {"__main__"},
)
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
# The package's front hands out public names lazily, whatever room they come from.
FRONT = {"__init__", "_version"}

LIBRARY_HOMES = {
    "matplotlib": ("presentation",),
    "bokeh": ("explorer",),
    "rich": ("presentation.console", "cli"),
    "jinja2": ("presentation.page", "explorer"),
    "typer": ("cli",),
    "torch.optim": ("dynamics",),
    "distributed": ("charting",),
    "zarr": ("charting",),
}


def module_name(path: Path) -> str:
    """Returns the dotted name inside the package, such as `objective.losses`."""
    parts = path.relative_to(FOLDER).with_suffix("").parts
    if len(parts) > 1 and parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts)


def imported_names(module: str, source: str, *, is_package: bool = False) -> Iterator[str]:
    """Yields the dotted names that a source imports or reaches, as far as the text tells."""
    inside = [PACKAGE, *module.split(".")]
    if not is_package:
        inside = inside[:-1]
    tree = ast.parse(source)
    stand_ins = dict(named_late(tree))
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=origin, names=names, level=level):
                start = inside[: len(inside) - level + 1] if level else []
                base = ".".join([*start, *([origin] if origin else [])])
                yield from (f"{base}.{alias.name}" for alias in names)
            case ast.Attribute(value=ast.Name(id="torch"), attr="optim"):
                yield "torch.optim"
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__")
                | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name
            case ast.Call(func=ast.Name(id="Late"), args=[ast.Constant(value=str(path))]):
                # What it stands for is there, which a type checker does not see.
                assert resolve_name(f"{PACKAGE}.{path}")
                yield f"{PACKAGE}.{path}"
            case ast.Attribute() if stand_ins:
                root, _, rest = ast.unparse(node).partition(".")
                if root in stand_ins:
                    assert callable(resolve_name(f"{PACKAGE}.{stand_ins[root]}.{rest}"))


def named_late(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yields the names of a module's stand-ins (`Late`), and what they stand for."""
    for node in tree.body:
        match node:
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.Call(func=ast.Name(id="Late"), args=[ast.Constant(value=str(path))]),
            ):
                yield name, path


def within(name: str, home: str) -> bool:
    return name == home or name.startswith(home + ".")


def wrong_arrow(room: str, name: str) -> str | None:
    """Returns what is wrong with a room's import of a dotted name, or None."""
    if not within(name, PACKAGE):
        return None
    other = name.split(".")[1] if "." in name else "__init__"
    if other == "_version" or name == f"{PACKAGE}.__version__":
        return None
    if other not in RANK:
        return f"{room} imports {name}, which is no room of the house"
    if room == other or RANK[other] < RANK[room]:
        return None
    return f"{room} imports {name}, against the order"


def problems(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """Returns everything that is wrong with one module's imports."""
    room = module.split(".")[0]
    if room in FRONT:
        return []
    if room not in RANK:
        return [f"{module} has no place in the order"]
    found = []
    for name in imported_names(module, source, is_package=is_package):
        arrow = wrong_arrow(room, name)
        found += [arrow] if arrow else []
        found += [
            f"{module} imports {name}, which lives in {' and '.join(homes)}"
            for library, homes in LIBRARY_HOMES.items()
            if within(name, library) and not any(within(module, home) for home in homes)
        ]
    return found


MODULES = sorted(path for path in FOLDER.rglob("*.py") if path.parent.name != "examples")


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_keep_the_order(path):
    source = path.read_text(encoding="utf-8")
    assert problems(module_name(path), source, is_package=path.name == "__init__.py") == []


def in_circles(imports: dict[str, set[str]]) -> list[str]:
    """Returns the modules that import each other, however far around."""
    reached = dict(imports)
    for middle in imports:
        reached = {
            module: others | reached[middle] if middle in others else others
            for module, others in reached.items()
        }
    return sorted(module for module, others in reached.items() if module in others)


def all_imports() -> dict[str, set[str]]:
    """Returns which modules each one names, for types alone or to run."""
    names = {module_name(path): path for path in MODULES}
    loaded = {}
    for module, path in names.items():
        source = path.read_text(encoding="utf-8")
        found = imported_names(module, source, is_package=path.name == "__init__.py")
        inside = [name.removeprefix(f"{PACKAGE}.") for name in found]
        loaded[module] = {
            name if name in names else name.rpartition(".")[0]
            for name in inside
            if module not in FRONT
        } & names.keys() - FRONT
    return loaded


def test_no_modules_import_each_other():
    assert in_circles(all_imports()) == []


def test_a_circle_is_found():
    assert in_circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == ["b", "c"]


def test_the_whole_package_is_looked_at():
    names = {module_name(path) for path in MODULES}
    assert {"errors", "gabor", "images", "objective.experiment", "landscape.critical"} <= names
    assert names >= FRONT


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("objective.losses", "from gabordiag.landscape.series import build_series"),
        ("objective.losses", "import gabordiag.landscape"),
        ("objective.losses", "from gabordiag import landscape"),
        ("objective.losses", "from gabordiag import sweep"),
        ("objective.losses", "import gabordiag"),
        ("objective.losses", "from ..dynamics import descent"),
        ("objective.losses", "from .. import cli"),
        ("errors", "from . import gabor"),
        ("gabor", "from gabordiag.images import load_image"),
        ("images", "from gabordiag.gabor import gabor_kernel"),
        (
            "landscape.sweep",
            "def plot():\n    import gabordiag.presentation.registry as f",
        ),
        ("landscape.sweep", "if TYPE_CHECKING:\n    from gabordiag.dynamics import descent"),
        ("landscape.sweep", "import_module('gabordiag.presentation.registry')"),
        ("landscape.sweep", "importlib.import_module('gabordiag.presentation.registry')"),
        ("diagnosis.verdict", "from gabordiag.runs import create"),
        ("runs", "from gabordiag.presentation.registry import save"),
        ("presentation.figures.style", "from gabordiag.cli.main import main"),
        ("results", "from gabordiag.landscape.critical import Landscape"),
        ("results", "import_module('gabordiag.presentation.registry')"),
        ("somewhere", "x = 1"),
        ("landscape.sweep", "import matplotlib.pyplot as plt"),
        ("cli.main", "from matplotlib import pyplot"),
        ("diagnosis.report", "from bokeh.plotting import figure"),
        ("dynamics.tabulate", "import bokeh"),
        ("presentation.figures.style", "from rich.console import Console"),
        ("presentation.console", "import typer"),
        ("presentation.report", "from jinja2 import Environment"),
        ("landscape.critical", "import torch.optim"),
        ("landscape.critical", "from torch import optim"),
        ("landscape.critical", "from torch.optim import SGD"),
        ("landscape.critical", "import torch\nstep = torch.optim.SGD"),
        ("objective.own", "from torch.optim.lr_scheduler import StepLR"),
    ],
)
def test_the_checker_catches(module, source):
    assert len(problems(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("landscape.sweep", "from gabordiag.objective.objective import Line"),
        ("landscape.sweep", "from gabordiag.landscape.critical import Landscape"),
        ("landscape.sweep", "from .critical import Landscape"),
        ("landscape.sweep", "from . import critical"),
        ("landscape.sweep", "from ..errors import UsageError"),
        ("runs", "from gabordiag import __version__"),
        ("runs", "from gabordiag._version import __version__"),
        ("cli.main", "import typer\nimport rich\nfrom gabordiag.presentation import report"),
        ("presentation.console", "from rich.table import Table"),
        ("explorer.figures", "import bokeh"),
        ("dynamics.optimizers", "import torch\ntorch.optim.SGD"),
        ("objective.own", "import torch\nfrom torch import Tensor\nimport richer"),
        ("images", "importlib.util.find_spec('matplotlib')"),
        ("__init__", "from gabordiag.cli.main import main"),
    ],
)
def test_the_checker_lets_pass(module, source):
    assert problems(module, source) == []


def test_relative_imports_of_a_room_itself_are_resolved():
    source = "from .critical import Landscape\nfrom ..dynamics import descent"
    (problem,) = problems("landscape", source, is_package=True)
    assert "gabordiag.dynamics" in problem


def test_the_package_itself_imports_nothing_heavy():
    heavy = ("torch", "numpy", "matplotlib", "bokeh", "rich", "typer")
    script = f"import sys, gabordiag; print([name for name in {heavy} if name in sys.modules])"
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd="/"
    )
    assert out.stdout.strip() == "[]"
