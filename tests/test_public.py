"""The public names: there, lazy, and without side effects."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import gabordiag as gd
from gabordiag.errors import UsageError

NAMES = {
    "GaborConv2d",
    "GaborParameters",
    "gabor_kernel",
    "gabor_partials",
    "Experiment",
    "sweep",
    "optimize",
    "basins",
    "bifurcate",
    "rates",
    "diagnose",
    "explain",
    "check",
    "Training",
    "TrajectoryLogger",
}


def test_all_names_are_there() -> None:
    assert set(gd.__all__) >= NAMES
    for name in NAMES:
        assert callable(getattr(gd, name)), name


def test_import_and_help_load_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys, gabordiag; from gabordiag.cli.commands import app; "
        "print(sorted(set(sys.modules) & {'torch', 'matplotlib', 'numpy'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_one_version() -> None:
    project = Path(__file__).parents[1] / "pyproject.toml"
    assert "_version.__version__" in project.read_text(encoding="utf-8")
    assert gd.__version__.count(".") == 2


@pytest.mark.long
def test_nothing_global_is_touched(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 the global state itself is what is looked at
    before = (torch.get_rng_state().clone(), torch.get_default_dtype(), np.geterr())
    legacy = np.random.get_state()[1].copy()  # noqa: NPY002
    image = np.random.default_rng(0).standard_normal((40, 40))
    experiment = gd.Experiment(image=image, kernel_size=9, sigma=2, wavelength=6, loss="mse")
    result = gd.diagnose(experiment, lr=1e-3, steps=100)
    assert result.plot() is not None
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == torch.get_default_dtype()
    assert before[2] == np.geterr()
    assert (legacy == np.random.get_state()[1]).all()  # noqa: NPY002
    assert list(tmp_path.iterdir()) == []


def test_results_are_read_only() -> None:
    image = np.random.default_rng(0).standard_normal((40, 40))
    sweep = gd.sweep(gd.Experiment(image=image, kernel_size=9, sigma=2, wavelength=6), points=11)
    for array in (sweep.values, sweep.loss, sweep.grad_analytic):
        assert not array.flags.writeable


def test_a_result_shows_itself_in_a_few_lines() -> None:
    swept = gd.sweep(gd.Experiment(image="noise", kernel_size=9, wavelength=5, sigma=2))
    lines = repr(swept).splitlines()
    shown = " ".join(line.strip() for line in lines)
    assert shown.startswith("Sweep(parameter='theta', unit='rad', ")
    assert len(lines) <= 6
    assert max(map(len, lines)) <= 88
    assert f" target={math.pi / 4:.6g}, " in shown
    assert f" critical_points=<{len(swept.to_dict()['critical_points'])} items>, " in shown


def test_function_as_objective() -> None:
    def loss(x: torch.Tensor) -> torch.Tensor:
        return (x - 1) ** 2

    result = gd.diagnose(loss, range=(0, 2), start=0.1, target=1.0, optimizer="sgd", lr=0.1)
    assert result.verdict == "healthy"
    assert math.isclose(result.run.final, 1.0, abs_tol=0.02)


def test_what_is_public_is_listed() -> None:
    assert set(dir(gd)) >= NAMES
    assert "annotations" not in dir(gd)


@pytest.mark.parametrize("array", [np.array, torch.tensor, list], ids=["array", "tensor", "list"])
def test_several_of_anything_may_be_an_array(array) -> None:
    board = np.indices((40, 40)).sum(axis=0) // 8 % 2
    experiment = gd.Experiment(board, kernel_size=11)
    rates, starts = [0.25, 0.5], [[0.25, 3.0], [0.5, 4.0]]
    runs = gd.optimize(experiment, lr=array(rates), start=array([0.25, 0.5]), steps=2).runs
    assert [(r.settings.lr, r.trajectory.values[0, 0]) for r in runs] == [
        (lr, start) for lr in rates for start in (0.25, 0.5)
    ]
    runs = gd.optimize(experiment, start=array(starts), over=("theta", "sigma"), steps=2).runs
    assert [list(run.trajectory.values[0]) for run in runs] == starts
    made = gd.atlas(experiment, loss="mse", wavelength=6, sigma=array([1.5, 3.0]), starts=4)
    assert list(made.columns["sigma"]) == [1.5, 3.0]


def test_an_experiment_takes_no_keywords_of_a_function() -> None:
    experiment = gd.Experiment(image="noise", kernel_size=9)
    with pytest.raises(UsageError, match="an experiment takes no range, period"):
        gd.sweep(experiment, range=(0, 1), period=1.0)


def test_a_kernel_is_checked_by_itself() -> None:
    def kernel(theta, wavelength, sigma, psi, gamma, kernel_size):
        # The textbook's, turned the other way.
        return gd.gabor_kernel(-theta, wavelength, sigma, psi, gamma, kernel_size=kernel_size)

    def named_otherwise(theta, Lambda, sigma, psi, gamma, kernel_size):  # noqa: N803
        return gd.gabor_kernel(theta, Lambda, sigma, psi, gamma, kernel_size=kernel_size)

    assert gd.check(kernel=named_otherwise).ok
    found = gd.check(kernel=kernel)
    assert not found.ok
    assert found.user.best_match == "opposite_rotation"
    with pytest.raises(UsageError, match="two checks"):
        gd.check(kernel=kernel, derivative="cos(theta)")


def test_several_rates_are_several_runs() -> None:
    def bowl(v):
        return v**2

    well = {"range": (-2.0, 2.0), "start": 0.1}
    assert len(gd.optimize(bowl, lr=[0.1, 0.2], steps=2, **well).runs) == 2
    with pytest.raises(UsageError, match="one learning rate"):
        gd.diagnose(bowl, lr=[0.1, 0.2], **well)
    for nothing in ({"lr": []}, {"start": []}):
        with pytest.raises(UsageError, match="holds no"):
            gd.optimize(bowl, **{**well, **nothing})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"lr": None}, "learning rate None is not a number"),
        ({"lr": {"v": "fast"}}, "learning rate 'fast' is not a number"),
        ({"lr": 0.1, "momentum": [0.9]}, r"momentum \[0.9\] is not a number"),
        ({"lr": 0.1, "start": "here"}, "start 'here' is not a number"),
    ],
)
def test_what_is_no_number_is_named(given, words) -> None:
    for run in (gd.optimize, gd.diagnose):
        with pytest.raises(UsageError, match=words):
            run(lambda v: v**2, **{"range": (-2.0, 2.0), "start": 0.1, **given})


@pytest.mark.parametrize("lr", [0.1, (0.1, 1.0), (0.1, 1.0, 3.5), "0.1:1:5", None])
def test_a_scan_is_two_rates_and_how_many(lr) -> None:
    well = {"range": (-2.0, 2.0), "start": 0.1, "lr": lr}
    for scan in (gd.basins, gd.bifurcate):
        with pytest.raises(UsageError, match="not a valid scan of learning rates"):
            scan(lambda v: v**2, **well)


@pytest.mark.long
@pytest.mark.parametrize("switched_off", [torch.no_grad, torch.inference_mode])
def test_gradients_switched_off_outside_are_there_inside(switched_off) -> None:
    def bowl(v: torch.Tensor) -> torch.Tensor:
        return (v - 1) ** 2

    def cut(v: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return bowl(v)

    board = np.indices((32, 32)).sum(axis=0) // 8 % 2
    filters = {"kernel_size": 11, "wavelength": 6, "sigma": 2, "loss": "mse", "theta0": 0}
    experiment, well = gd.Experiment(board, **filters), {"range": (-3, 3), "start": 0.0, "lr": 0.1}
    with switched_off():
        (run,) = gd.optimize(bowl, **well, steps=2).runs
        verdicts = [gd.diagnose(f, **well, target=1.0, steps=60).verdict for f in (bowl, cut)]
        verdicts.append(gd.diagnose(experiment, lr=0.01, steps=50).verdict)
        assert not torch.is_grad_enabled()
    np.testing.assert_allclose(run.trajectory.gradients[:, 0], [-2.0, -1.6, -1.28])
    assert verdicts == ["healthy", "no_gradient", "healthy"]
