"""Cases rebuilt small from public questions (tests/cases), as their users type them.

What stands under "right" was worked out with a plain loop or a dense grid, not with the program.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from gabordiag.cli.main import run

CASES = Path(__file__).parent / "cases"
# Folder, command line, verdicts of which one is right, words that the headline must hold.
QUICK = [
    (".", "explain hover_noise.csv --target 0.3", "healthy", "noise"),
    (".", "explain hover_noise2.csv --target 1", "healthy", "noise"),
    (".", "explain hover_pose.csv --value-column tx --target 0.05", "healthy", "noise"),
    ("right/34", "explain long.csv --value-column theta1 --target 1", "step_too_small", ""),
    ("right/34", "explain blow.csv", "step_too_large", ""),
    ("right/34", "explain blow.csv --value-column theta1 --target 1", "step_too_large", ""),
    (
        ".",
        "explain settled_half.csv --target 0",
        "wrong_basin target_unreachable",
        r"0\.5 away",
    ),
    ("right/33", "explain metrics.csv --target 0 --period pi", "step_too_large", ""),
    (
        "right/33",
        "explain metrics.csv --value-column theta --loss-column train_loss --target 0 --period pi",
        "step_too_large",
        "",
    ),
    (
        ".",
        "diagnose --objective zero.py:zero --range 0:1 --start 0.3 --lr 0.1",
        "flat_objective",
        "",
    ),
    (
        ".",
        "diagnose --objective zero.py:two --range 0:1 --start 0.3 --lr 0.1",
        "flat_objective",
        "",
    ),
    (
        ".",
        "diagnose --objective own_loss.py:Own --param w --range -2:4 --target 1 --lr 0.3",
        "healthy",
        "",
    ),
    (
        ".",
        "diagnose --objective frozen.py:loss --range -2:2 --start 0.98 --target -1 --lr 0.1",
        "no_gradient",
        "detach",
    ),
    (
        ".",
        "diagnose --objective cached_angle.py:TurnStacked --param angle --input angle_points.npy "
        "--target 0.6 --loss mse --lr 0.01 --steps 100",
        "no_gradient",
        r"^(?!.*with the right one)",
    ),
    (
        ".",
        "diagnose --objective volume.py:Volume --param volume --range 1000:6000 --lr 1e-3 "
        "--steps 200",
        "step_too_small",
        "float32 is 0.00024",
    ),
]
SLOW = [
    (
        ".",
        "diagnose --objective own_loss.py:Own --param w --range -2:4 --target 1.5 --lr 0.1",
        "target_unreachable",
        r"1 \(0\.3\)",
    ),
    (
        ".",
        "diagnose --objective own_loss.py:same --start 0 --range -2:4 --target 1.5 --lr 0.1",
        "target_unreachable",
        r"1 \(0\.3\)",
    ),
    (
        ".",
        "diagnose --objective jump.py:loss --range 0:2 --start 0 --lr 0.1",
        "target_unreachable wrong_basin",
        r"jumps at 0\.8",
    ),
    (
        ".",
        "diagnose --objective process_length.py:loss --range 0.01:1 --start 0.1 --lr 1e-4",
        "healthy",
        r"0\.371",
    ),
    (
        ".",
        # None of 241 rates from 100 to 1e7 leads a plain loop to within 50 of the target; from
        # inside its basin, at 1037.3, 500 steps of 0.1 end at 1036.6.
        "diagnose --objective sine_mae.py:loss --range 50:5000 --start 1800 --target 1000 --lr 0.1",
        "no_working_lr",
        "+wrong_basin at 1819.3 ",
    ),
    (
        ".",
        "diagnose --objective square.py:arc --start 0 --target 0.8 --lr 0.03",
        "kink",
        r"clamp|1 - cos|lr",
    ),
    (
        ".",
        "diagnose --objective square.py:arc_squared --start 0 --target 0.8 --lr 0.03",
        "nonfinite_gradient",
        "clamp",
    ),
    (
        ".",
        "diagnose --objective square.py:arc_squared --start 0.8 --target 0.8 --lr 0.03",
        "nonfinite_gradient",
        "clamp",
    ),
    (
        "right/25",
        "diagnose --objective case.py:Score --param pole --input x.npy --target 0.9 --range -1:1 "
        "--loss mse --lr 0.5",
        "nonfinite_gradient",
        r"sqrt\(x \+ 1e-12\)",
    ),
]
# The same, of folders under cases/right: options that all share, then one line a call.
RIGHT = {
    "02": (
        "--param theta --input image.npy --target 0.8 --loss mse --lr 0.5",
        [("Rotate", "", "no_gradient", "line 13"), ("RotateRight", "", "healthy", "")],
    ),
    "05": (
        "--param dilation --input signal.npy --target 6 --range 1:10 --loss mse --lr 0.1",
        [("Dilated", "", "no_gradient", "line 13"), ("DilatedRound", "", "no_gradient", "line 22")],
    ),
    "06": (
        "--param rate --input xs.npy --target 1.5 --range 0:3 --loss mse --lr 0.5",
        [("OdeRnn", "", "no_gradient", "line 21"), ("OdeRnnPart", "", "wrong_gradient", "line 31")],
    ),
    "07": (
        "--param scale --input signal.npy --target 8 --range 1:14 --loss mse --lr 0.5",
        [("Wavelet", "", "no_gradient", "line 13"), ("WaveletTorch", "", "healthy", "")],
    ),
    "12": (
        "--param azimuth --target 0.5 --loss mse",
        [
            ("Camera", "--lr 0.5 --optimizer adam --steps 300", "wrong_basin", ""),
            ("Camera", "--lr 1", "wrong_basin", ""),
        ],
    ),
    "14": (
        "--param a --input x.npy --loss mse --lr 1e-4 --steps 300",
        [
            (
                "Fit",
                "--target-output narrow.npy --range 0:2 --target 0.583",
                "step_too_small",
                "",
            ),
            ("Fit", "--target-output narrow.npy --range 0:2", "step_too_small", ""),
            ("FitWide", "--range 0.3:1 --target 0.583", "wrong_basin", ""),
        ],
    ),
    "16": (
        "--param line.weight --input t.npy --target-output y.npy --loss mse --lr 0.01 --steps 1000 "
        "--range -1:12",
        [("Sine", "", "wrong_basin", ""), ("Sine", "--target 6.283", "wrong_basin", "")],
    ),
    "19": (
        "--range 0.3:4 --start 3 --target 1.5 --lr 0.01",
        [("loss", "", "no_working_lr", "+wrong_basin"), ("short", "", "healthy", "")],
    ),
    "21": (
        "--range 5:600 --start 200 --target 300 --steps 500",
        [
            ("loss", "--lr 1000", "target_unreachable", "100"),
            ("loss", "--optimizer adam --lr 1", "target_unreachable", ""),
            ("loss_right", "--optimizer adam --lr 1", "healthy", ""),
        ],
    ),
    "24": (
        "--param weight --input x.npy --lr 0.1",
        [
            ("Gate", "--range -1:2", "flat_objective", ""),
            ("Root", "--range -1:3", "nonfinite_gradient", ""),
            ("Root", "--range -1:3 --start 2 --target 1", "kink", ""),
        ],
    ),
    "25": (
        "--param pole --input x.npy --target 0.9 --range -1:1 --loss mse --lr 0.5",
        [("ScoreRight", "", "healthy", "")],
    ),
    "26": (
        "--lr 0.1",
        [
            ("loss", "--range 0.001:2 --start 1 --target 0.0332", "step_too_large", ""),
            ("loss_log", "--range -6:1 --start 0 --target -3.406", "healthy", ""),
        ],
    ),
    "28": (
        "--param turn --input x.npy --target 0.785 --loss mse --lr 0.1",
        [
            ("Lattice", "", "healthy", ""),
            ("LatticeWrong", "", "healthy", "+wrong_gradient line 38"),
        ],
    ),
    "29": (
        "--param shift --input x.npy --range -15:15 --loss mse --lr 0.1",
        [("Shift", "--target 3", "healthy", ""), ("Shift", "--target 3.4", "healthy", "")],
    ),
    "30": (
        "--range 0:3 --start 1.3 --target 1 --lr 0.05",
        [("loss", "", "healthy", "+wrong_gradient line 11")],
    ),
    "36": (
        "--start 12 --target 1 --lr 0.1",
        [
            ("loss", "", "equivalent_solution", ""),
            ("loss", "--range 0:20 --period 0", "wrong_basin", ""),
        ],
    ),
    "37": (
        "--range -1:2.5 --start 0 --target 1.0986 --lr 1",
        [("loss", "--steps 100", "healthy", ""), ("loss", "--steps 1000", "healthy", "")],
    ),
    "45": (
        "--target 0.8 --lr 0.03",
        [("loss", "--start 0", "kink", ""), ("loss", "--start 0.8", "nonfinite_gradient", "")],
    ),
}
SLOW += [
    (
        f"right/{folder}",
        f"diagnose --objective case.py:{name} {shared} {options}",
        verdict,
        words,
    )
    for folder, (shared, calls) in RIGHT.items()
    for name, options, verdict, words in calls
]
# What cannot be judged as given: the exit code, and what the message must say.
REFUSED = [
    (
        "diagnose --objective interfaces.py:Two --param scale --input x.npy --input emb.npy "
        "--target 1 --lr 0.1",
        2,
        "--range LO:HI",
    ),
    ("diagnose --objective frameworks.py:Pole --param z --lr 0.1", 2, "real and imaginary part"),
    (
        "diagnose --objective frameworks.py:Spectrum --param shift --input signal64.npy "
        "--target 0.2 --loss mse --lr 0.01",
        3,
        "view_as_real",
    ),
    ("explain lr_find_nan.csv", 3, "range test"),
    ("explain lr_find_flat.csv", 3, "range test"),
    (
        "diagnose --objective interfaces.py:Labels --param temperature --input logits.npy "
        "--target-output labels.npy --range 0.2:6",
        3,
        "gd.Training",
    ),
    (
        "diagnose --objective interfaces.py:Dict --param temperature --input batch.npy "
        "--range 0.2:6",
        3,
        "output['loss']",
    ),
    (
        "diagnose --objective interfaces.py:Pair --param temperature --input batch.npy "
        "--range 0.2:6",
        3,
        "loss",
    ),
    ("diagnose --objective two_angles.py:loss --start 0.6", 3, "--start A,B"),
    ("diagnose --objective right/26/case.py:loss --start 1 --lr 0.1", 2, "--range"),
]


def _called(
    folder: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, list[str]]:
    monkeypatch.chdir(CASES / folder)
    arguments = shlex.split(line)
    if arguments[0] != "explain":
        arguments.append("--no-plots")
    return run([*arguments, "--out", str(tmp_path / "run"), "--json"]), arguments


@pytest.mark.each(11)
@pytest.mark.parametrize(
    ("folder", "line", "verdicts", "words"),
    [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
)
def test_verdict(
    folder: str,
    line: str,
    verdicts: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _ = _called(folder, line, tmp_path, monkeypatch)
    out, err = capsys.readouterr()
    assert code == 0, err
    result: dict[str, Any] = json.loads(out)["result"]
    assert result["verdict"] in verdicts.split()
    if words.startswith("+"):
        cause, _, words = words[1:].partition(" ")
        (finding,) = [f for f in result["findings"] if f["cause"] == cause]
        assert finding["role"] == "contributing"
        assert words in finding["explanation"]
    else:
        assert re.search(words, result["headline"])


@pytest.mark.parametrize(("line", "expected", "words"), REFUSED)
def test_refusal(
    line: str,
    expected: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _ = _called(".", line, tmp_path, monkeypatch)
    _, err = capsys.readouterr()
    assert (code, words in " ".join(err.split())) == (expected, True), err
