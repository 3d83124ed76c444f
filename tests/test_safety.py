"""Nothing that is read is ever run, and what is shown is shown as text.

The package's source is searched for every way in which Python runs or unpickles what it reads; the
one place that may run code is where the user names the file to be run.
"""

from __future__ import annotations

import ast
import importlib.util
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import gabordiag
from gabordiag.checks.expressions import parse_expression
from gabordiag.cli.main import run
from gabordiag.errors import GabordiagError
from gabordiag.images import load_image

FOLDER = Path(gabordiag.__file__).parent
SOURCES = sorted(FOLDER.rglob("*.py"))
# module of the package -> what it may do that others may not: `--objective FILE.py:NAME`.
ALLOWED = {"own/loading.py": {"exec_module", "import_module"},
           # ffmpeg; no shell, nothing that was read among the arguments.
           "presentation/animation/film.py": {"subprocess"},
           # The package's own modules, by names that stand in the source.
           "__init__.py": {"import_module"},
           # pandas and xarray; the training loop's own library.
           "results.py": {"import_module"}}  # fmt: skip
# Names that run text or objects; as a call, bare or as an attribute.
RUNNERS = {"eval", "exec", "compile", "__import__", "execfile", "import_module", "exec_module",
           "run_path", "run_module", "system", "popen", "Popen", "spawnl", "spawnv", "execv",
           "execvp", "startfile", "check_output", "literal_eval_unsafe", "runcode"}  # fmt: skip
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml",
           "subprocess", "jsonpickle", "code", "codeop", "runpy", "xml", "telnetlib", "socket",
           "urllib", "requests", "http"}  # fmt: skip


def dangers(source: str) -> Iterator[str]:
    """Yields what a source does that could run what it reads."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (a.name for a in names if a.name.split(".")[0] in MODULES)
            case ast.ImportFrom(module=str(module), level=0) if module.split(".")[0] in MODULES:
                yield module
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
                yield from _dangers_of_call(node, name)


def _dangers_of_call(call: ast.Call, name: str) -> Iterator[str]:
    keywords = {k.arg: k.value for k in call.keywords}
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    of = owner.id if isinstance(owner, ast.Name) else ""
    if name in RUNNERS and of not in ("re", "platform"):
        yield name
    for flag in ("allow_pickle", "shell"):
        if flag in keywords and not _is(keywords[flag], False):
            yield flag
    if of in ("np", "numpy") and name == "load" and not _is(keywords.get("allow_pickle"), False):
        yield "np.load without allow_pickle=False"
    if of == "torch" and name == "load" and not _is(keywords.get("weights_only"), True):
        yield "torch.load without weights_only=True"


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(FOLDER)))
def test_nothing_read_is_run(path: Path) -> None:
    allowed = ALLOWED.get(path.relative_to(FOLDER).as_posix(), set())
    assert set(dangers(path.read_text(encoding="utf-8"))) <= allowed


@pytest.mark.parametrize(
    "source",
    ["eval(x)", "exec(x)", "import pickle", "from pickle import loads", "import yaml",
     "os.system(x)", "subprocess.run(x, shell=True)", "np.load(x)", "np.load(x, allow_pickle=True)",
     "np.load(x, allow_pickle=flag)", "torch.load(x)", "torch.load(x, weights_only=False)",
     "importlib.import_module(x)", "__import__(x)", "builtins.exec(x)", "f(shell=flag)"],
)  # fmt: skip
def test_the_search_finds_them(source: str) -> None:
    assert list(dangers(source))


def test_the_search_lets_the_harmless_pass() -> None:
    harmless = "np.load(x, allow_pickle=False)\nre.compile(x)\njson.loads(x)\nmodel.eval\n"
    assert not list(dangers(harmless))


class _Touch:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("owned"),)  # type: ignore[return-value]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_pickled_arrays_are_not_unpickled(here: Path) -> None:
    np.save("image.npy", np.array([[_Touch()]], dtype=object), allow_pickle=True)
    Path("pickle.npy").write_bytes(pickle.dumps(_Touch()))
    for name in ("image.npy", "pickle.npy"):
        with pytest.raises(GabordiagError):
            load_image(name)
    # The trap is set: whoever unpickles it leaves the file.
    assert not Path("owned").exists()
    np.load("image.npy", allow_pickle=True)
    assert Path("owned").exists()


CODE = "__import__('pathlib').Path('owned').touch()"


@pytest.mark.parametrize(
    "arguments",
    [
        ["sweep", "--config", "settings.toml"],
        ["explain", "log.csv"],
        ["explain", "log.jsonl"],
        ["check", "--derivative-expr", CODE],
        ["sweep", "--image", CODE],
        ["sweep", "--over", CODE],
        ["optimize", "--start", CODE],
        ["sweep", "--objective", CODE],
        ["report", "run"],
    ],
)
def test_no_text_is_run(here: Path, arguments: list[str]) -> None:
    Path("settings.toml").write_text(f'image = "{CODE}"\nseed = 3\n')
    Path("log.csv").write_text(f"step,{CODE},loss\n" + f"0,{CODE},1\n1,2,3\n" * 20)
    Path("log.jsonl").write_text(f'{{"{CODE}": 1, "loss": "{CODE}"}}\n' * 20)
    Path("run").mkdir()
    Path("run/result.json").write_text(
        f'{{"schema": 1, "command": "sweep", "config": {{}}, "files": ["{CODE}"], "result": {{}}}}'
    )
    assert run([*arguments, *([] if arguments[0] == "report" else ["--no-plots"])]) in (0, 2, 3)
    assert not Path("owned").exists()


@pytest.mark.parametrize("text", [CODE, "().__class__.__bases__", "theta.__class__", "open('x')"])
def test_formulas_are_formulas(text: str) -> None:
    with pytest.raises(GabordiagError):
        parse_expression(text)


def test_reports_show_markup_as_text(here: Path) -> None:
    nasty = "<script>alert(1)</script>"
    rows = "".join(f"{t},{t / 9},{1 / (t + 1)}\n" for t in range(40))
    Path("log.csv").write_text(f"step,{nasty},loss\n{rows}")
    assert run(["explain", "log.csv", "--out", "run", "--quiet", "--no-plots"]) == 0
    report = Path("run/report.md").read_text()
    assert "<script>" not in report.replace("\\<script", "")


AUDIT = Path(__file__).parents[1] / ".ci" / "audit.py"


@pytest.mark.parametrize(
    ("out", "err", "code", "says"),
    [
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "CVE-1"}]}]}', "", 1,
         "CVE-1"),
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', "", 0, "1 packages"),
        ('{"dependencies": [{"name": "a", "skip_reason": "unknown"}]}', "", 0, "skipped"),
        ("", "first\nConnectionError: no network", 0, "skipped: ConnectionError: no network"),
        ("[]", "", 0, "skipped"),
    ],
)  # fmt: skip
def test_audit_fails_only_for_a_vulnerability(
    capsys: pytest.CaptureFixture[str], out: str, err: str, code: int, says: str
) -> None:
    spec = importlib.util.spec_from_file_location("audit", AUDIT)
    assert spec is not None
    assert spec.loader is not None
    audit = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(audit)
    assert audit.judge(out, err) == code
    assert says in capsys.readouterr().out
