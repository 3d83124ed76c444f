"""The command line, called in-process through its real entry point."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
from PIL import Image

from gabordiag._version import __version__
from gabordiag.cli.commands import app
from gabordiag.cli.main import run
from gabordiag.dynamics import run as run_module
from gabordiag.dynamics.optimizers import SCHEDULES
from gabordiag.explorer.exploration import OFFERED
from gabordiag.objective.gabor_line import ShortcutObjective
from gabordiag.objective.losses import LOSSES
from gabordiag.presentation.figures.sheets import SHEETS
from gabordiag.presentation.registry import KINDS

TOP_LEVEL = {
    "schema", "command", "version", "config", "environment", "seconds", "files", "result",
}  # fmt: skip
FILTER = ["--kernel-size", "9", "--wavelength", "5", "--sigma", "2", "--gamma", "1"]
COMMANDS = (
    "reproduce", "sweep", "optimize", "basins", "bifurcate", "rates", "diagnose", "report", "runs",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Default run folders must not land in the working tree."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("images") / "small.png"
    pixels = np.random.default_rng(2).integers(0, 256, (40, 44), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


@pytest.fixture
def small(image: str) -> list[str]:
    """Options of an experiment that takes no time."""
    return ["--image", image, "--loss", "mse", *FILTER]


def _call(capsys: pytest.CaptureFixture[str], arguments: Sequence[str]) -> tuple[int, str, str]:
    code = run(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, (int, float)):
        yield value


def _reject(token: str) -> float:
    raise AssertionError(f"{token} is no JSON number")


CALLS = {
    "sweep": ["sweep"],
    "optimize": ["optimize", "--steps", "30", "--lr", "0.001", "--lr", "0.01"],
    "basins": ["basins", "--lr", "1e-3:1:9", "--starts", "-pi/2:pi/2:7", "--steps", "60"],
    "bifurcate": ["bifurcate", "--lr", "1e-2:1:9", "--steps", "300"],
    "diagnose": ["diagnose", "--steps", "200", "--lr", "0.01"],
}
KEYS = {
    "sweep": {"parameter", "range", "period", "points", "critical_points", "certified",
              "gradient_check"},
    "optimize": {"runs"},
    "basins": {"fractions", "start", "working_lr", "escape_lr", "hold_lr", "best_lr",
               "reachable_share", "failure_below", "failure_above"},
    "bifurcate": set(),
    "diagnose": {"verdict", "headline", "findings", "run", "critical_points", "working_lr",
                 "escape_lr", "hold_lr", "gradient_check", "remedies"},
}  # fmt: skip
DATA = {
    "sweep": {"sweep.csv"},
    "optimize": {"trajectory-000.csv", "trajectory-001.csv"},
    "basins": {"basins.npz"},
    "bifurcate": {"bifurcation.npz"},
    "diagnose": {"trajectory-000.csv"},
}
RUN_KEYS = {
    "optimizer", "lr", "momentum", "loss", "start", "steps", "outcome", "period", "final",
    "final_loss", "best", "best_loss", "distance_to_target", "turns", "n_jumps", "jumps",
    "lyapunov", "trajectory",
}  # fmt: skip


@pytest.mark.each(3)
@pytest.mark.parametrize("command", CALLS)
def test_json_is_one_object_and_the_folder_holds_it(
    capsys: pytest.CaptureFixture[str], small: list[str], command: str, tmp_path: Path
) -> None:
    code, out, err = _call(
        capsys, [*CALLS[command], *small, "--json", "--out", "made", "--no-plots"]
    )
    assert code == 0
    shown = json.loads(out, parse_constant=_reject)
    assert all(math.isfinite(number) for number in _numbers(shown))
    assert set(shown) >= TOP_LEVEL
    assert shown["schema"] == 1
    assert shown["command"] == command
    assert shown["version"] == __version__
    assert shown["seconds"] > 0
    assert set(shown["result"]) >= KEYS[command]
    # Text for people is on stderr, and there is some.
    assert err.strip()
    assert "Traceback" not in err
    folder = tmp_path / "made"
    present = {entry.name for entry in folder.iterdir()}
    assert {"config.toml", "result.json"} | DATA[command] <= present
    assert set(shown["files"]) <= present
    assert DATA[command] <= set(shown["files"])
    assert json.loads((folder / "result.json").read_text(encoding="utf-8")) == shown
    assert not any(name.startswith(".") for name in present)


@pytest.mark.each(3)
@pytest.mark.parametrize("command", ["optimize", "basins", "diagnose"])
def test_config_repeats_the_run(
    capsys: pytest.CaptureFixture[str], small: list[str], command: str
) -> None:
    options = [*small, "--seed", "3", "--target-noise", "0.01", "--theta0", "20deg"]
    _, first, _ = _call(capsys, [*CALLS[command], *options, "--json", "--no-plots", "--out", "one"])
    code, second, err = _call(
        capsys,
        [command, "--config", "one/config.toml", "--json", "--no-plots", "--out", "two"],
    )
    assert code == 0, err
    one, two = json.loads(first), json.loads(second)
    assert one["config"] == two["config"]
    assert one["result"] == two["result"]
    for name in DATA[command]:
        if name.endswith(".csv"):
            assert Path("one", name).read_bytes() == Path("two", name).read_bytes()
    one, two = (tomllib.loads(Path(n, "config.toml").read_text("utf-8")) for n in ("one", "two"))
    assert one == two


def test_config_holds_defaults_and_options_given_win(
    capsys: pytest.CaptureFixture[str], small: list[str]
) -> None:
    _call(capsys, ["optimize", *small, "--steps", "5", "--out", "one", "--no-plots"])
    settings = tomllib.loads(Path("one/config.toml").read_text(encoding="utf-8"))
    # The interface's defaults, none of them given.
    assert settings["psi"] == 0
    assert settings["padding"] == "valid"
    assert settings["target_theta"] == pytest.approx(math.pi / 4)
    assert settings["lr"] == [0.01]
    assert settings["pixel_scale"] == 1
    code, out, _ = _call(
        capsys,
        ["optimize", "--config", "one/config.toml", "--lr", "0.002", "--json", "--no-plots",
         "--out", "two"],
    )  # fmt: skip
    assert code == 0
    shown = json.loads(out)
    assert shown["config"]["lr"] == [0.002]
    assert shown["config"]["steps"] == 5
    assert shown["result"]["runs"][0]["lr"] == 0.002


def test_run_fields_of_optimize(capsys: pytest.CaptureFixture[str], small: list[str]) -> None:
    _, out, _ = _call(
        capsys,
        ["optimize", *small, "--optimizer", "sgd", "--optimizer", "adam", "--lr", "0.01",
         "--lr", "0.02", "--start", "0", "--start", "pi/8", "--steps", "12", "--json",
         "--no-plots", "--out", "made"],
    )  # fmt: skip
    runs = json.loads(out)["result"]["runs"]
    assert len(runs) == 8
    assert all(set(entry) >= RUN_KEYS for entry in runs)
    combinations = {(r["optimizer"], r["lr"], round(r["start"], 6)) for r in runs}
    assert len(combinations) == 8
    for entry in runs:
        lines = Path("made", entry["trajectory"]).read_text().splitlines()
        assert lines[0] == "step,theta,loss,grad,update,lr"
        assert len(lines) == 1 + 13
        number, theta, *_ = lines[1].split(",")
        assert number == "0"
        assert float(theta) == entry["start"]
        # Full precision: what is printed is what was computed.
        assert float(lines[-1].split(",")[1]) == entry["final"]


def test_data_of_basins(capsys: pytest.CaptureFixture[str], small: list[str]) -> None:
    _call(capsys, [*CALLS["basins"], *small, "--quiet", "--no-plots", "--out", "made"])
    with np.load("made/basins.npz", allow_pickle=False) as saved:
        np.testing.assert_allclose(saved["lr"], np.logspace(-3, 0, 9))
        np.testing.assert_allclose(saved["starts"], np.linspace(-np.pi / 2, np.pi / 2, 7))
        assert saved["outcome"].shape == (9, 7)
        assert np.issubdtype(saved["outcome"].dtype, np.integer)
        assert saved["outcome"].max() < len(saved["outcome_names"])
        assert "reached" in saved["outcome_names"]


def test_data_of_bifurcate(capsys: pytest.CaptureFixture[str], small: list[str]) -> None:
    _call(capsys, [*CALLS["bifurcate"], *small, "--quiet", "--no-plots", "--out", "made"])
    with np.load("made/bifurcation.npz", allow_pickle=False) as saved:
        assert saved["values"].shape[0] == 9
        assert saved["lyapunov"].shape == saved["period"].shape == saved["lr"].shape == (9,)


@pytest.mark.slow
def test_a_surface_over_two_parameters(
    capsys: pytest.CaptureFixture[str], small: list[str]
) -> None:
    pair = ["--over", "theta", "--over", "wavelength:3:8:21"]
    code, out, err = _call(capsys, ["sweep", *pair, *small, "--json", "--out", "made"])
    assert code == 0, err
    shown = json.loads(out, parse_constant=_reject)
    result = shown["result"]
    assert result["parameters"] == ["theta", "wavelength"]
    assert result["minimum"] == result["local_minima"][0]
    assert result["minimum"]["theta"] == pytest.approx(math.pi / 4)
    assert result["minimum"]["wavelength"] == pytest.approx(5)
    assert result["points"] == [181, 21]
    with np.load("made/surface.npz", allow_pickle=False) as saved:
        assert set(saved.files) == {"a", "b", "loss", "grad_a", "grad_b"}
        np.testing.assert_allclose(saved["a"], np.linspace(-np.pi / 2, np.pi / 2, 181))
        np.testing.assert_allclose(saved["b"], np.linspace(3, 8, 21))
        assert saved["loss"].shape == saved["grad_a"].shape == saved["grad_b"].shape == (181, 21)
        # The slopes are those of the loss, as far as differences tell.
        inner = np.gradient(saved["loss"], saved["a"], saved["b"], edge_order=2)
        for mine, numeric in zip((saved["grad_a"], saved["grad_b"]), inner, strict=True):
            assert np.abs(mine - numeric).max() < 0.05 * np.abs(mine).max()
    assert {"surface.npz", "surface.png", "surface-in-space.png"} <= set(shown["files"])
    assert "theta over -90.0° … 90.0° and wavelength over 3 px … 8 px" in " ".join(err.split())
    code, _, err = _call(capsys, ["report", "made", "--out", "again"])
    assert code == 0, err
    for name in ("surface.png", "surface-in-space.png", "report.md"):
        assert Path("again", name).read_bytes() == Path("made", name).read_bytes()
    code, again, err = _call(
        capsys, ["sweep", "--config", "made/config.toml", "--json", "--no-plots", "--out", "two"]
    )
    assert code == 0, err
    assert json.loads(again)["result"] == result


@pytest.mark.long
def test_figures_unless_unwanted(capsys: pytest.CaptureFixture[str], small: list[str]) -> None:
    _call(capsys, ["sweep", *small, "--out", "with", "--quiet"])
    _call(capsys, ["sweep", *small, "--out", "without", "--quiet", "--no-plots"])
    assert list(Path("with").glob("*.png"))
    assert not list(Path("without").glob("*.png"))


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str], small: list[str]) -> None:
    assert _call(capsys, ["sweep", *small, "--quiet", "--no-plots"]) == (0, "", "")
    code, out, err = _call(capsys, ["sweep", *small, "--quiet", "--no-plots", "--json"])
    assert (code, err) == (0, "")
    assert set(json.loads(out)) >= TOP_LEVEL


def test_default_folder_is_below_runs(capsys: pytest.CaptureFixture[str], small: list[str]) -> None:
    for _ in range(2):
        assert _call(capsys, ["sweep", *small, "--no-plots", "--quiet"])[0] == 0
    folders = sorted(Path("runs").iterdir())
    assert len(folders) == 2
    assert all("sweep" in folder.name for folder in folders)


@pytest.mark.slow
def test_runs_lists_when_command_and_verdict(
    capsys: pytest.CaptureFixture[str], small: list[str]
) -> None:
    assert _call(capsys, ["runs"])[0] == 0
    _call(capsys, [*CALLS["diagnose"], *small, "--no-plots", "--quiet"])
    _call(capsys, ["optimize", *small, "--steps", "5", "--no-plots", "--quiet"])
    code, out, _ = _call(capsys, ["runs", "--json"])
    assert code == 0
    listed = json.loads(out)["runs"]
    assert [entry["command"] for entry in listed] == ["diagnose", "optimize"]
    assert [entry["status"] for entry in listed] == ["finished", "finished"]
    saved = json.loads(Path(listed[0]["run"], "result.json").read_text(encoding="utf-8"))
    assert listed[0]["verdict"] == saved["result"]["verdict"]
    code, out, _ = _call(capsys, ["runs"])
    assert code == 0
    assert "diagnose" in out
    assert "optimize" in out


@pytest.mark.slow
def test_report_redraws_the_same_text(capsys: pytest.CaptureFixture[str], small: list[str]) -> None:
    _call(capsys, ["sweep", *small, "--out", "made", "--quiet", "--no-plots"])
    before = Path("made/report.md").read_text(encoding="utf-8")
    _call(capsys, ["report", "made", "--out", "again", "--quiet"])
    again = Path("again/report.md").read_text(encoding="utf-8")
    settings = [text[text.index("| theta0 |") :] for text in (before, again)]
    assert settings[0] == settings[1]


@pytest.mark.slow
def test_report_redraws_from_the_folder_alone(
    capsys: pytest.CaptureFixture[str], small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _call(capsys, ["sweep", *small, "--out", "made", "--quiet"])
    pictures = {path.name for path in Path("made").glob("*.png")}
    for path in (*Path("made").glob("*.png"), Path("made/report.md")):
        path.unlink()

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(ShortcutObjective, "loss", refuse)
    monkeypatch.setattr(ShortcutObjective, "gradient", refuse)
    code, _, err = _call(capsys, ["report", "made"])
    assert code == 0, err
    assert {path.name for path in Path("made").glob("*.png")} == pictures
    assert Path("made/report.md").stat().st_size > 0


@pytest.mark.slow
def test_check_exits_by_health(capsys: pytest.CaptureFixture[str], small: list[str]) -> None:
    base = ["diagnose", *small, "--start", "20deg", "--no-plots", "--quiet", "--steps", "200"]
    assert _call(capsys, [*base, "--lr", "0.01", "--check"])[0] == 0
    assert _call(capsys, [*base, "--lr", "1e-9", "--check", "--out", "sick"])[0] == 1
    # Without --check the command did its work, whatever the verdict; with it, too.
    assert _call(capsys, [*base, "--lr", "1e-9"])[0] == 0
    assert Path("sick/result.json").exists()


def _assert_refused(code: int, out: str, err: str, expected: int) -> None:
    assert code == expected, err
    assert out == ""
    lines = err.splitlines()
    assert 1 <= len(lines) <= 2, err
    assert len(lines[0]) > 10
    assert "Traceback" not in err
    assert "Internal error" not in err
    assert not Path("runs").exists() or not list(Path("runs").iterdir())
    assert not Path("made").exists()


WRONG_USAGE = [
    ["sweep", "--nonsense"],
    ["sweep", "--sigma", "wide"],
    ["sweep", "--theta0", "abc"],
    ["sweep", "--target", "pi/0"],
    ["sweep", "--loss", "mae"],
    ["sweep", "--padding", "reflect"],
    ["sweep", "--dtype", "float16"],
    ["sweep", "--device", "tpu"],
    ["sweep", "--normalize", "minmax"],
    ["sweep", "--pixel-scale", "nan"],
    ["sweep", "--over", "colour"],
    ["sweep", "--over", "theta:1"],
    ["sweep", "--over", "theta:2:1"],
    ["sweep", "--over", "theta:0:1:1"],
    ["sweep", "--over", "theta:0:1e9"],
    ["sweep", "--over", "sigma:0:3"],
    ["sweep", "--over", "theta", "--over", "theta"],
    ["sweep", "--over", "theta", "--over", "psi", "--over", "sigma"],
    ["sweep", "--over", "theta", "--over", "colour"],
    ["sweep", "--over", "theta", "--over", "sigma:3:2"],
    ["sweep", "--over", "theta", "--over", "sigma:-1:2:9"],
    ["sweep", "--over", "theta", "--over", "sigma", "--objective", "math:cos"],
    ["optimize", "--optimizer", "muon"],
    ["optimize", "--optimizer", "none-such"],
    ["optimize", "--lr", "0"],
    ["optimize", "--lr", "-1"],
    ["optimize", "--lr", "nan"],
    ["optimize", "--steps", "0"],
    ["optimize", "--momentum", "1"],
    ["optimize", "--optimizer", "adam", "--momentum", "0.9"],
    ["optimize", "--nesterov"],
    ["optimize", "--schedule", "none-such"],
    ["optimize", "--learn", "colour"],
    ["basins", "--lr", "1:2"],
    ["basins", "--lr", "2:1:5"],
    ["basins", "--lr", "0:1:5"],
    ["basins", "--lr", "1e-3:1:1"],
    ["basins", "--starts", "0:1"],
    ["basins", "--optimizer", "lbfgs"],
    ["bifurcate", "--steps", "10"],
    ["bifurcate", "--optimizer", "lbfgs"],
    ["diagnose", "--optimizer", "sgdd"],
    ["diagnose", "--period", "pi"],
    ["frobnicate"],
]


@pytest.mark.long
@pytest.mark.parametrize("arguments", WRONG_USAGE, ids=" ".join)
def test_wrong_usage_is_2(
    capsys: pytest.CaptureFixture[str], image: str, arguments: list[str]
) -> None:
    options = [] if arguments[0] == "frobnicate" else ["--image", image, *FILTER]
    # What is under test comes last: it wins over what all calls share.
    _assert_refused(*_call(capsys, [arguments[0], *options, *arguments[1:]]), 2)


BAD_INPUT = [
    ["sweep", "--image", "missing.png"],
    ["sweep", "--sigma", "0"],
    ["sweep", "--sigma", "-1"],
    ["sweep", "--sigma", "nan"],
    ["sweep", "--wavelength", "0"],
    ["sweep", "--wavelength", "inf"],
    ["sweep", "--gamma", "0"],
    ["sweep", "--kernel-size", "10"],
    ["sweep", "--kernel-size", "0"],
    ["sweep", "--kernel-size", "99"],
    ["sweep", "--target-noise", "-1"],
    ["sweep", "--target-noise", "nan"],
    ["optimize", "--image", "missing.npy"],
    ["diagnose", "--sigma", "0"],
    ["basins", "--kernel-size", "8"],
    ["bifurcate", "--gamma", "nan"],
]


@pytest.mark.parametrize("arguments", BAD_INPUT, ids=" ".join)
def test_bad_input_is_3(
    capsys: pytest.CaptureFixture[str], image: str, arguments: list[str]
) -> None:
    pairs = {"--image": image, **dict(zip(FILTER[::2], FILTER[1::2], strict=True))}
    options = [f"{n}={v}" for n, v in pairs.items() if n not in arguments]
    _assert_refused(*_call(capsys, [arguments[0], *options, *arguments[1:]]), 3)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "content"),
    [("text.png", b"this is no image"), ("empty.png", b""), ("broken.npy", b"\x93NUMPY?")],
)
def test_unreadable_image_is_3(
    capsys: pytest.CaptureFixture[str], name: str, content: bytes
) -> None:
    Path(name).write_bytes(content)
    _assert_refused(*_call(capsys, ["sweep", "--image", name, *FILTER]), 3)


def test_array_with_nan_is_3(capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(0).random((30, 30))
    pixels[3, 4] = np.nan
    np.save("nan.npy", pixels)
    _assert_refused(*_call(capsys, ["sweep", "--image", "nan.npy", *FILTER]), 3)


def test_out_that_is_a_file_is_3(capsys: pytest.CaptureFixture[str], small: list[str]) -> None:
    Path("taken").write_text("mine")
    code, out, err = _call(capsys, ["sweep", *small, "--out", "taken"])
    _assert_refused(code, out, err, 3)
    assert Path("taken").read_text() == "mine"


def test_out_that_is_not_empty_is_3(capsys: pytest.CaptureFixture[str], small: list[str]) -> None:
    Path("full").mkdir()
    Path("full/mine").write_text("mine")
    code, out, err = _call(capsys, ["sweep", *small, "--out", "full"])
    _assert_refused(code, out, err, 3)
    assert [entry.name for entry in Path("full").iterdir()] == ["mine"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unwritable for root")
def test_out_without_permission_is_3(capsys: pytest.CaptureFixture[str], small: list[str]) -> None:
    Path("locked").mkdir(mode=0o500)
    _assert_refused(*_call(capsys, ["sweep", *small, "--out", "locked/made"]), 3)
    assert not list(Path("locked").iterdir())


def test_out_below_a_file_is_3(capsys: pytest.CaptureFixture[str], small: list[str]) -> None:
    # Unwritable for everybody, root included.
    Path("file").write_text("mine")
    _assert_refused(*_call(capsys, ["sweep", *small, "--out", "file/below"]), 3)


@pytest.mark.parametrize(
    "content", ["sigma = ", "\x00", "surprise = 1", 'command = "sweep"'], ids=repr
)
def test_config_that_does_not_fit_is_refused(
    capsys: pytest.CaptureFixture[str], content: str
) -> None:
    Path("config.toml").write_text(content)
    code, out, err = _call(capsys, ["optimize", "--config", "config.toml"])
    assert code in (2, 3)
    _assert_refused(code, out, err, code)


@pytest.mark.parametrize("folder", ["absent", "empty", "damaged"])
def test_report_of_no_run_is_3(capsys: pytest.CaptureFixture[str], folder: str) -> None:
    if folder != "absent":
        Path(folder).mkdir()
    if folder == "damaged":
        Path(folder, "result.json").write_text('{"schema": 1, "comm')
    _assert_refused(*_call(capsys, ["report", folder]), 3)


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], image: str) -> None:
    code, _, err = _call(capsys, ["sweep", "--image", image, "--sigma", "0", "--debug"])
    assert code == 3
    assert "Traceback" in err


def test_interrupted_run_keeps_what_was_logged(
    capsys: pytest.CaptureFixture[str], small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = ShortcutObjective.losses_and_gradients, 0

    def interrupted(self: ShortcutObjective, values: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise KeyboardInterrupt
        return original(self, values)

    monkeypatch.setattr(ShortcutObjective, "losses_and_gradients", interrupted)
    code, out, err = _call(capsys, ["optimize", *small, "--steps", "50", "--out", "made"])
    assert code == 130
    assert out == ""
    folder, ended = err.splitlines()
    assert folder.startswith("The folder is made; ")
    assert ended == "Interrupted; what was logged is on disk."
    rows = Path("made/trajectory-000.csv").read_text().splitlines()
    # The eighth evaluation never returned: seven states were seen, 0 to 6.
    assert [row.split(",")[0] for row in rows] == ["step", *map(str, range(7))]
    status = json.loads(Path("made/status.json").read_text())
    assert status["status"] == "interrupted"
    assert not Path("made/result.json").exists()
    assert Path("made/config.toml").exists()


def test_failure_of_the_program_itself_is_told_in_two_lines(
    capsys: pytest.CaptureFixture[str], small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("something nobody thought of")

    monkeypatch.setattr(run_module, "judge", broken)
    code, out, err = _call(capsys, ["optimize", *small, "--steps", "5", "--out", "made"])
    assert code == 3
    assert out == ""
    assert "something nobody thought of" in err
    assert len(err.splitlines()) <= 2
    assert json.loads(Path("made/status.json").read_text())["status"] == "failed"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _call(capsys, ["--version"])
    assert code == 0
    assert __version__ in out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = _call(capsys, [command, "--help"])
    assert code == 0
    assert f"gabordiag {command}" in out
    if command not in ("report", "runs"):
        for option in ("--out", "--json", "--quiet", "--no-plots", "--seed", "--config"):
            assert option in out


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _call(capsys, ["--help"])
    assert code == 0
    # In panels: the first word of a row.
    rows = [line.strip("│ ").split() for line in out.splitlines() if line.startswith("│ ")]
    assert set(COMMANDS) <= {row[0] for row in rows if row}


@pytest.mark.parametrize(
    ("command", "option", "names"),
    [
        ("optimize", "schedule", SCHEDULES),
        ("diagnose", "schedule", SCHEDULES),
        ("sweep", "loss", LOSSES),
        ("sweep", "figure_size", SHEETS),
        ("explore", "optimizer", {kind for _, kind, _ in OFFERED.values()}),
    ],
)
def test_help_of_an_option_names_every_choice(
    command: str, option: str, names: Collection[str]
) -> None:
    group: Any = typer.main.get_command(app)
    (found,) = [p for p in group.commands[command].params if p.name == option]
    assert names
    assert set(names) <= set(re.findall(r"[\w-]+", found.help))


def test_every_command_that_makes_a_run_says_what_came_of_it() -> None:
    group: Any = typer.main.get_command(app)
    makers = {n for n, c in group.commands.items() if "no_plots" in {p.name for p in c.params}}
    assert {name.split()[0] for name in KINDS} == makers


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "wanted", "heavy"),
    [
        (["--help"], 0, {"torch", "matplotlib", "numpy"}),
        (["--version"], 0, {"torch", "matplotlib", "numpy"}),
        (["diagnose", "--help"], 0, {"torch", "matplotlib", "numpy"}),
        (["sweep", "--image", "nowhere.png"], 3, {"torch", "matplotlib"}),
        (["atlas", "--image", "hopper", "--image", "nowhere.png"], 3, {"torch", "matplotlib"}),
    ],
)
def test_help_and_wrong_names_do_not_wait_for_torch(
    arguments: list[str], wanted: int, heavy: set[str]
) -> None:
    code = (
        "import sys\n"
        "from gabordiag.cli.main import run\n"
        f"code = run({arguments!r})\n"
        f"loaded = {heavy!r} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == wanted, done.stderr


@pytest.mark.long
def test_module_runs_like_the_script() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gabordiag", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert __version__ in done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "gabordiag", "sweep", "--nonsense"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stdout == ""


@pytest.mark.slow
def test_a_page_of_many_images_is_named_after_their_folder(
    capsys: pytest.CaptureFixture[str], image: str
) -> None:
    Path("photos").mkdir()
    for index in range(2):
        pixels = np.random.default_rng(index).integers(0, 256, (30, 34), dtype=np.uint8)
        Image.fromarray(pixels).save(f"photos/{index}.png")
    options = ["--images", "photos", "--loss", "mse", *FILTER]
    code, _, err = _call(capsys, ["explore", *options, "--quiet", "--out", "page.html"])
    assert code == 0, err
    assert "the images of photos" in Path("page.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_page_below_a_file_is_3(capsys: pytest.CaptureFixture[str], small: list[str]) -> None:
    Path("file").write_text("mine")
    code, out, err = _call(capsys, ["explore", *small, "--out", "file/page.html"])
    _assert_refused(code, out, err, 3)
    assert "Cannot write file: " in err
    assert Path("file").read_text() == "mine"
