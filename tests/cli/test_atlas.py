"""`gabordiag atlas`: its plan, its run, its report, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray

from gabordiag.cli.main import run

SMALL = [
    "atlas", "--image=a.npy", "--image=b.npy", "--kernel-size=9", "--wavelength=4:6:2",
    "--sigma=1.5,2", "--gamma=1", "--loss=mse", "--starts=3", "--steps=100",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chance = np.random.default_rng(8)
    np.save("a.npy", chance.random((33, 29)))
    np.save("b.npy", chance.random((28, 35)))


@pytest.mark.long
def test_run_report_and_store(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*SMALL, "--workers=1", "--out=one", "--json", "--ask", "sigma=2"]) == 0
    out, err = capsys.readouterr()
    assert "8 landscapes: about" in err
    result = json.loads(out)["result"]
    assert result["axes"]["image"] == ["a.npy", "b.npy"]
    assert result["axes"]["wavelength"] == [4, 6]
    assert result["places"][0]["asked"] == {"psi": 0, "wavelength": 10, "gamma": 0.5, "sigma": 2}
    stored = xarray.open_zarr("one/atlas.zarr")
    assert stored.done.values.all()
    assert stored.basin_width.attrs["units"] == "rad"
    (picture,) = Path("one").glob("*.png")
    before = picture.read_bytes()
    picture.unlink()
    assert run(["report", "one"]) == 0
    assert picture.read_bytes() == before
    assert result["places"][0]["sentence"][:40] in Path("one/report.md").read_text("utf-8")
    assert run(["runs"]) == 0
    # The same settings give the same numbers.
    assert run(["atlas", "--config", "one/config.toml", "--workers=1", "--out=two", "--quiet"]) == 0
    assert xarray.open_zarr("two/atlas.zarr").identical(stored)


def test_plan_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(Path().rglob("*"))
    assert run([*SMALL, "--plan", "--workers=2"]) == 0
    assert "8 landscapes: about" in capsys.readouterr().out
    assert run([*SMALL, "--plan", "--workers=2", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)["result"]
    assert (planned["landscapes"], planned["left"], planned["workers"]) == (8, 8, 2)
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("more", "problem", "code"),
    [
        (["--sigma=2:1"], "--sigma", 2),
        (["--sigma=two"], "--sigma", 2),
        (["--sigma=0,1"], "sigma", 3),
        (["--loss=huber"], "huber", 2),
        (["--starts=1"], "starts", 2),
        (["--ask", "theta=3"], "--ask", 2),
        (["--dtype=float32"], "--dtype", 2),
        (["--workers=0"], "--workers", 2),
        (["--workers=2", "--scheduler=tcp://127.0.0.1:1"], "--scheduler", 2),
        (["--kernel-size=31"], "kernel", 3),
    ],
)
def test_what_cannot_be_is_refused(
    more: list[str], problem: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = [o for o in SMALL if o.split("=")[0] not in {m.split("=")[0] for m in more}]
    assert run([*kept, *more]) == code
    err = capsys.readouterr().err
    assert problem in err
    assert len(err.strip().splitlines()) <= 2
    assert not Path("runs").exists()
