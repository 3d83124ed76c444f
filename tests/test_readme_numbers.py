"""Every figure that README states, against a fresh run; it is read from the text itself."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xarray

import gabordiag as gd
from gabordiag.cli.values import parse_angle
from gabordiag.diagnosis import reproduction
from gabordiag.dynamics.outcomes import OUTCOME_NAMES
from gabordiag.dynamics.run import Run
from gabordiag.dynamics.windows import DEFAULT_SCAN, SCAN_STEPS

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
TEXT = " ".join(README.split())
START = -math.pi / 4


@pytest.fixture(scope="module")
def elongated() -> gd.Experiment:
    return gd.Experiment()


@pytest.fixture(scope="module")
def question_s_run(elongated: gd.Experiment) -> Run:
    lr, steps = numbers(r"With rmse and lr ([\d.]+) the loss fell .*? times in (\d+) steps")
    return gd.optimize(elongated, lr=lr, steps=int(steps)).runs[0]


def round_filter(**settings: Any) -> gd.Experiment:
    """The second filter, as README describes it."""
    sigma, gamma = numbers(r"With a round filter \(sigma ([\d.]+), gamma ([\d.]+)\)")
    return gd.Experiment(sigma=sigma, gamma=gamma, **settings)


def numbers(pattern: str) -> list[float]:
    match = re.search(pattern, TEXT)
    assert match is not None, pattern
    return [float(group) for group in match.groups()]


def photograph() -> npt.NDArray[np.float64]:
    from matplotlib import cbook, image

    with cbook.get_sample_data("grace_hopper.jpg") as file:
        pixels = image.imread(file)
    # Luma of ITU-R BT.601.
    return np.asarray(pixels @ [0.299, 0.587, 0.114] / 255)


@pytest.mark.slow
def test_numbers_of_the_answer(elongated: gd.Experiment) -> None:
    sweep = gd.sweep(elongated)
    check = sweep.gradient_check
    autograd, numeric = numbers(
        r"differs from autograd by less than (\S+) of its .*? finite differences by less than "
        r"(\S+)\. Its"
    )
    assert check.analytic_vs_autograd is not None
    assert check.analytic_vs_autograd < autograd
    assert check.analytic_vs_numeric is not None
    assert check.analytic_vs_numeric < numeric
    start, lr = numbers(r"from (\d+)°, mse and lr ([\d.]+) reach the target")
    (run,) = gd.optimize(gd.Experiment(loss="mse"), lr=lr, start=math.radians(start)).runs
    assert run.outcome == "reached"
    (spurious,) = numbers(r"a second one at (-[\d.]+)°")
    minima = [math.degrees(p.value) for p in sweep.landscape.attractors]
    assert [round(value, 3) for value in minima] == [spurious, 45.0]
    assert sweep.landscape.certificate.certified


@pytest.mark.slow
def test_rates_of_the_answer(elongated: gd.Experiment) -> None:
    rates = gd.basins(elongated, lr=DEFAULT_SCAN, starts=2).windows
    escape, hold, factor = numbers(
        r"With its root \(rmse\), it is ([\d.]+) against ([\d.]+): (\d+) times less"
    )
    assert rates.working_lr == []
    assert rates.escape_lr == pytest.approx(escape, rel=5e-3)
    assert rates.hold_lr == pytest.approx(hold, rel=5e-3)
    assert rates.escape_lr / rates.hold_lr == pytest.approx(factor, rel=5e-3)
    smooth = gd.basins(gd.Experiment(loss="mse"), lr=DEFAULT_SCAN, starts=2).windows
    escape, hold = numbers(
        r"leaving the start's basin takes ([\d.]+) or more, staying at the target ([\d.]+) or less"
    )
    assert smooth.escape_lr == pytest.approx(escape, rel=5e-3)
    assert smooth.hold_lr == pytest.approx(hold, rel=5e-3)


def test_bounds_from_the_curvature() -> None:
    spurious, target = numbers(
        r"With the mean squared error \(mse\) 2 / L'' is ([\d.]+) at -46.343° and ([\d.]+) at the "
        r"target"
    )
    # The loss on the whole image by FFT, differenced twice: no series, no shortcut.
    image = photograph()
    spectrum = np.fft.rfft2(image)

    def loss(degrees: float) -> float:
        difference = gd.gabor_kernel(math.radians(degrees)) - gd.gabor_kernel(math.radians(45))
        turned = np.fft.rfft2(difference.numpy(), image.shape).conj()
        response = np.fft.irfft2(spectrum * turned, image.shape)
        return float(np.mean(response[:-30, :-30] ** 2))

    for degrees, bound in ((-46.343, spurious), (45.0, target)):
        low, middle, high = (loss(degrees + by) for by in (-0.1, 0.0, 0.1))
        curvature = (low - 2 * middle + high) / math.radians(0.1) ** 2
        assert 2 / curvature == pytest.approx(bound, rel=5e-3)


@pytest.mark.slow
def test_symptom_count_of_the_answer(question_s_run: Run) -> None:
    (count,) = numbers(r"was back above 60% one step later about (\d+) times")
    # Chaotic: rounding decides single jumps, not how many there are.
    assert question_s_run.symptoms == pytest.approx(count, rel=0.15)


@pytest.mark.slow
def test_advice_of_the_answer_followed_literally() -> None:
    start, lr = numbers(r"`--start ([\d.]+)deg --lr ([\d.]+)`")
    (run,) = gd.optimize(gd.Experiment(), lr=lr, start=math.radians(start), steps=2000).runs
    assert run.outcome == "reached"
    lr, steps = numbers(r"`--normalize whiten --lr ([\d.]+) --steps (\d+)`")
    (run,) = gd.optimize(gd.Experiment(normalize="whiten"), lr=lr, steps=int(steps)).runs
    assert run.outcome == "reached"


@pytest.mark.slow
def test_random_starts(elongated: gd.Experiment) -> None:
    lr, steps, count, percent = numbers(
        r"keep the best: `--lr ([\d.]+) --steps (\d+)`\. Of (\d+) starts at least one lies in the "
        r"target's basin with a probability above (\d+)%"
    )
    target = next(p for p in gd.sweep(elongated).landscape.attractors if p.is_target)
    assert target.basin is not None
    share = (target.basin[1] - target.basin[0]) / math.pi
    assert 100 * (1 - (1 - share) ** count) > percent
    starts = np.random.default_rng(0).uniform(-math.pi / 2, math.pi / 2, int(count))
    outcomes, _ = gd.basins(elongated, lr=(lr, 2 * lr, 2), starts=starts, steps=int(steps)).outcomes
    inside = (starts - target.basin[0]) % math.pi < share * math.pi
    assert inside.any()
    assert ((outcomes == OUTCOME_NAMES.index("reached")) == inside).all()


def test_setting_of_the_answer(elongated: gd.Experiment) -> None:
    stated = numbers(
        r"`hopper` that matplotlib ships \((\d+) x (\d+), kernel (\d+) x \3, wavelength (\d+)\), "
        r"plain gradient descent from (-?\d+)° towards (\d+)°"
    )
    image = photograph()
    assert stated[:2] == list(image.shape)
    assert stated[2:4] == [elongated.kernel_size, elongated.wavelength]
    assert [math.radians(angle) for angle in stated[4:]] == [
        elongated.theta0, elongated.target_theta
    ]  # fmt: skip
    sigma, gamma = numbers(r"elongated filter \(sigma ([\d.]+), gamma ([\d.]+)\)")
    assert (elongated.sigma, elongated.gamma) == (sigma, gamma)


def test_second_minimum_lies_so_far_from_the_start(elongated: gd.Experiment) -> None:
    (apart,) = numbers(r"a second one at -46.343°, ([\d.]+)° from the start")
    spurious = gd.sweep(elongated).landscape.attractors[0].value
    assert round(abs(math.degrees(spurious - START)), 1) == apart


def test_photograph_has_more_energy_along_its_axes() -> None:
    assert "more energy along horizontals and verticals than along diagonals" in TEXT
    # Energy of the spectrum about one wave in ten pixels, by its direction.
    image = photograph()
    rows, columns = np.meshgrid(*map(np.fft.fftfreq, image.shape), indexing="ij")
    energy = np.abs(np.fft.fft2(image - image.mean())) ** 2
    ring = np.abs(np.hypot(rows, columns) - 0.1) < 0.05
    angle = np.degrees(np.arctan2(rows, columns)) % 90
    axes = energy[ring & ((angle < 10) | (angle > 80))].mean()
    diagonals = energy[ring & (np.abs(angle - 45) < 10)].mean()
    assert axes > 2 * diagonals


def test_flattened_spectrum_has_one_minimum() -> None:
    assert "With the image's spectrum flattened it is gone." in TEXT
    landscape = gd.sweep(gd.Experiment(normalize="whiten")).landscape
    assert landscape.certificate.certified
    assert [round(math.degrees(p.value), 3) for p in landscape.attractors] == [45.0]


@pytest.mark.slow
def test_scan_of_the_answer(elongated: gd.Experiment) -> None:
    count, low, high = numbers(r"Of (\d+) rates from (\S+) to (\d+) none does")
    assert (low, high, int(count)) == DEFAULT_SCAN
    momentum, largest = numbers(
        r"Momentum ([\d.]+) does not help, nor does Adam with rates up to ([\d.]+)\."
    )
    for loss in ("rmse", "mse"):
        for beta in (0.0, momentum):
            settings = {"lr": DEFAULT_SCAN, "starts": 2, "momentum": beta}
            assert gd.basins(gd.Experiment(loss=loss), **settings).windows.working_lr == []
    scan = (DEFAULT_SCAN[0], largest, 60)
    assert gd.basins(elongated, "adam", lr=scan, starts=2).windows.working_lr == []


@pytest.mark.slow
def test_round_filter_of_the_answer() -> None:
    low, high, first, last = numbers(
        r"mse reaches the target with every scanned rate from ([\d.]+) to ([\d.]+), rmse only from "
        r"([\d.]+) to ([\d.]+) and with some single rates above"
    )
    assert len(gd.sweep(round_filter()).landscape.attractors) == 1
    (window,) = gd.basins(round_filter(loss="mse"), lr=DEFAULT_SCAN, starts=2).windows.working_lr
    assert window == pytest.approx((low, high), rel=0.02)
    (window, *strays) = gd.basins(round_filter(), lr=DEFAULT_SCAN, starts=2).windows.working_lr
    assert window == pytest.approx((first, last), rel=0.02)
    # Single rates, above it.
    assert 1 <= len(strays) <= 6
    assert all(high < 1.2 * low for low, high in strays)


def test_animation_s_caption() -> None:
    lr, degrees = numbers(
        r"at lr ([\d.]+) it descends for eight steps before one step of ([\d.]+)° throws it past "
        r"the target"
    )
    scenario = next(s for s in reproduction.SCENARIOS if s.name == "round")
    assert lr == scenario.lr
    (run,) = gd.optimize(round_filter(), lr=lr, steps=20).runs
    path = run.trajectory
    assert (np.diff(path.losses[:9]) < 0).all()
    assert path.losses[9] > path.losses[8]
    assert round(abs(math.degrees(path.updates[8, 0])), 1) == degrees
    assert path.values[8, 0] < math.pi / 4 < path.values[9, 0]


@pytest.mark.slow
def test_settles_up_to_two_over_the_curvature(elongated: gd.Experiment) -> None:
    assert (
        "Up to 2 / L'' of the minimum at -46.3° the run settles there, then it flips between two"
    ) in TEXT
    spurious = gd.sweep(elongated).landscape.attractors[0]
    assert spurious.curvature is not None
    bound = 2 / spurious.curvature
    below, above = gd.optimize(elongated, lr=[0.95 * bound, 1.02 * bound], steps=600).runs
    assert below.outcome == "local_minimum"
    assert math.degrees(below.final) == pytest.approx(-46.3, abs=0.05)
    assert (above.outcome, above.period) == ("cycle", 2)


@pytest.mark.slow
def test_trusted_steps(question_s_run: Run) -> None:
    steps, lr = numbers(r"`trusted_steps`: about (\d+) for the question's run at lr (\d+)")
    assert question_s_run.settings.lr == lr
    assert question_s_run.trusted_steps == pytest.approx(steps, abs=1)


@pytest.mark.slow
def test_theta_and_sigma_have_so_many_minima(elongated: gd.Experiment) -> None:
    assert "theta and sigma have five minima, one of them the target" in TEXT
    minima = gd.sweep(elongated, ("theta", "sigma")).minima
    assert len(minima) == 5
    assert sum(point.is_target for point in minima) == 1


@pytest.mark.slow
def test_four_parameters_at_once() -> None:
    command = re.search(r"`gabordiag optimize (--learn theta .*?)`", TEXT)
    assert command is not None
    words = command[1].split()
    options = list(zip(words[::2], words[1::2], strict=True))
    learned = [value for name, value in options if name == "--learn"]
    given = dict(options)
    theta, psi = numbers(r"ends at (-?\d+)° with psi (\d+)")
    done = gd.optimize(
        gd.Experiment(loss=given["--loss"]),
        given["--optimizer"],
        float(given["--lr"]),
        steps=int(given["--steps"]),
        over=learned,
    )
    final = dict(zip(learned, done.runs[0].final, strict=True))
    assert math.degrees(final["theta"]) == pytest.approx(theta, abs=1)
    assert math.degrees(final["psi"]) == pytest.approx(psi, abs=1)


def test_basis_of_the_shortcut(elongated: gd.Experiment) -> None:
    (dimensions,) = numbers(r"span a space of some (\d+) dimensions")
    angles = np.linspace(-math.pi, math.pi, 1500, endpoint=False)
    kernels = [gd.gabor_kernel(a, 10.0, 4.0, gamma=0.5).numpy().ravel() for a in angles]
    singular = np.linalg.svd(np.array(kernels), compute_uv=False)
    rank = int((singular > 1e-15 * singular[0]).sum())
    assert rank == pytest.approx(dimensions, abs=2)
    check = gd.sweep(elongated).gradient_check
    assert "agree to some 1e-14" in TEXT
    assert check.shortcut_vs_direct is not None
    assert 1e-16 < check.shortcut_vs_direct < 1e-13


def test_size_of_the_map() -> None:
    starts, rates, steps = numbers(r"Where (\d+) starts end at (\d+) rates, (\d+) steps each")
    assert starts == reproduction.MAP_STARTS
    assert (rates, steps) == (DEFAULT_SCAN[2], SCAN_STEPS)


def test_no_green_on_the_line_of_the_start(elongated: gd.Experiment) -> None:
    assert "nothing on the line at -45° is green" in TEXT
    starts = np.array([START - math.radians(0.5), START, START + math.radians(0.5)])
    map_ = gd.basins(elongated, starts=starts)
    assert map_.outcomes.shape == (DEFAULT_SCAN[2], len(starts))
    assert OUTCOME_NAMES.index("reached") not in map_.outcomes[:, 1]


def test_angles_of_the_commands() -> None:
    (sentence,) = re.findall(r"Angles are (.*?)\. ", TEXT)
    examples = re.findall(r"`([^`]+)`", sentence)
    expected = (0.8, math.pi / 4, math.pi / 4)
    assert [parse_angle(example) for example in examples] == pytest.approx(expected)


def test_numbers_of_the_atlas() -> None:
    """From the committed landscapes alone, in plain NumPy."""
    store = xarray.open_zarr(Path(__file__).parents[1] / "runs/gallery/atlas.zarr")
    images, landscapes = numbers(r"On (\d+) photographs \((\d+) landscapes")
    assert (store.sizes["image"], store.minima.size) == (images, landscapes)
    assert (store.certified == 1).all()
    learned = (store.window_high >= 2 * store.window_low).squeeze("psi")
    rmse, mse, wavelength = numbers(
        r"learns on (\d+) of 13 with rmse, on (\d+) with mse \(at wavelength (\d+)"
    )
    asked = learned.sel(wavelength=wavelength, gamma=0.5, sigma=4).sum("image")
    assert asked.sel(loss="rmse") == rmse
    assert asked.sel(loss="mse") == mse
    others = (learned.sum("image") - learned) / (images - 1)
    right, share = (others > 0.5) == learned, learned.mean("image")
    border = right.where((share >= 0.2) & (share <= 0.8))
    most = max(learned.mean(), 1 - learned.mean())
    stated = numbers(r"other images, (\d+)% .*? alone: (\d+)%\), (\d+)% where")
    assert stated == [round(100 * float(x)) for x in (right.mean(), most, border.mean())]
