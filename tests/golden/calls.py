"""Calls of the command line whose numbers are kept, and the files that they read.

Every image, log and array is made of integers and of single correctly rounded operations, so that
it is the same to the last bit on every machine.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent

# Options whose names may change, in one place.
LOG_SCALE = "--log-scale"
FROM_LOG = "--from-log"

# The photograph costs more than a small image, so it is taken where a call is cheap.
ROUND = ["--sigma", "3", "--gamma", "1"]
SMALL = ["--image", "small.npy", "--kernel-size", "9", "--wavelength", "5", "--sigma", "2"]
SMALL_ROUND = [*SMALL[:-1], "1.5", "--gamma", "1"]
MSE = [*SMALL, "--loss", "mse"]
SMOOTH = ["--objective", "objectives.py:smooth", "--range", "-2:2", "--target", "-1.036"]
KINK = ["--objective", "objectives.py:kink", "--range", "-1:2", "--target", "0.5"]
WAVE = ["--objective", "objectives.py:periodic", "--range", "0:pi", "--period", "pi"]
STEEP = ["--objective", "objectives.py:steep", "--range", "-1:1", "--target", "0"]
LAYER = ["--param", "theta", "--input", "layer-input.npy", "--target", "pi/4", "--range",
         "-pi/2:pi/2", "--period", "pi"]  # fmt: skip
MODULE = ["--objective", "objectives.py:Layer", *LAYER]
TWO = ["--learn", "theta", "--learn", "sigma"]
FOUR = ["--learn", "theta", "--learn", "wavelength", "--learn", "sigma", "--learn", "psi"]
NEAR = ["--start", "38deg"]

ENVELOPE = "e^(-(x'^2 + gamma^2 y'^2)/(2 sigma^2))"
PHASE = "(2 pi x'/wavelength + psi)"

CALLS: dict[str, list[str]] = {
    # Landscapes along each parameter, of both filters.
    "sweep-theta-photograph": ["sweep"],
    "sweep-theta-photograph-round": ["sweep", *ROUND],
    "sweep-theta-rmse": ["sweep", *SMALL],
    "sweep-theta-round": ["sweep", *SMALL_ROUND],
    "sweep-theta-mse": ["sweep", *MSE],
    "sweep-theta-cosine": ["sweep", *SMALL, "--loss", "cosine"],
    "sweep-wavelength": ["sweep", *SMALL, "--over", "wavelength"],
    "sweep-wavelength-round": ["sweep", *SMALL_ROUND, "--over", "wavelength:3:8:101"],
    "sweep-sigma": ["sweep", *SMALL, "--over", "sigma"],
    "sweep-sigma-round": ["sweep", *SMALL_ROUND, "--over", "sigma"],
    "sweep-psi": ["sweep", *SMALL, "--over", "psi"],
    "sweep-psi-round": ["sweep", *SMALL_ROUND, "--over", "psi"],
    "sweep-gamma": ["sweep", *SMALL, "--over", "gamma"],
    "sweep-gamma-round": ["sweep", *SMALL_ROUND, "--over", "gamma"],
    "sweep-circular-standardized": [
        "sweep", *SMALL, "--padding", "circular", "--normalize", "standardize"],
    "sweep-same-scaled": ["sweep", *SMALL, "--padding", "same", "--pixel-scale", "255"],
    "sweep-noisy-target": ["sweep", *MSE, "--target-noise", "0.05", "--seed", "3"],
    "sweep-images": ["sweep", *MSE[2:], "--images", "images"],
    "sweep-float32": ["sweep", *MSE, "--dtype", "float32"],
    "sweep-function-smooth": ["sweep", *SMOOTH],
    "sweep-function-kink": ["sweep", *KINK],
    "sweep-function-periodic": ["sweep", *WAVE],
    "sweep-module": ["sweep", *MODULE, "--loss", "mse"],
    "surface-theta-wavelength": [
        "sweep", *MSE, "--over", "theta", "--over", "wavelength:3:8:21"],
    "surface-sigma-gamma": [
        "sweep", *SMALL, "--over", "sigma:1:3:11", "--over", "gamma:0.3:1.2:11"],
    # Runs.
    "optimize-photograph": ["optimize", *ROUND, "--lr", "1", "--steps", "100"],
    "optimize-sgd-rates": ["optimize", *MSE, "--lr", "0.003", "--lr", "0.03", "--steps", "120"],
    "optimize-sgd-rmse": ["optimize", *SMALL, "--lr", "0.3", "--steps", "120"],
    "optimize-chaotic": ["optimize", *MSE, "--lr", "0.5", "--steps", "300"],
    "optimize-cosine-loss": ["optimize", *SMALL, "--loss", "cosine", "--lr", "0.1", *NEAR],
    "optimize-momentum": ["optimize", *MSE, "--momentum", "0.9", "--lr", "0.003", "--steps", "150"],
    "optimize-nesterov": [
        "optimize", *MSE, "--momentum", "0.8", "--nesterov", "--lr", "0.01", "--steps", "150"],
    "optimize-adaptive": [
        "optimize", *MSE, "--optimizer", "adam", "--optimizer", "rmsprop", "--optimizer", "rprop",
        "--lr", "0.02", "--steps", "80"],
    "optimize-lbfgs": ["optimize", *MSE, "--optimizer", "lbfgs", "--lr", "0.1", "--steps", "30"],
    "optimize-step-schedule": [
        "optimize", *MSE, "--schedule", "step", "--lr", "0.05", "--steps", "90"],
    "optimize-exponential-schedule": [
        "optimize", *SMALL, "--schedule", "exponential", "--lr", "0.05", "--steps", "90", *NEAR],
    "optimize-cosine-schedule": [
        "optimize", *SMALL, "--schedule", "cosine", "--lr", "0.05", "--steps", "90", *NEAR],
    "optimize-one-cycle-schedule": [
        "optimize", *MSE, "--schedule", "one-cycle", "--lr", "0.05", "--steps", "90"],
    "optimize-starts-direct": [
        "optimize", *MSE, "--direct", "--start", "0", "--start", "50deg", "--steps", "40"],
    "optimize-sigma": [
        "optimize", *MSE, "--learn", "sigma", "--start", "1.2", "--lr", "0.05", "--steps", "100",
        "--target", "2"],
    "optimize-float32": ["optimize", *MSE, *NEAR, "--dtype", "float32", "--steps", "60"],
    "optimize-noisy-target": [
        "optimize", *MSE, *NEAR, "--target-noise", "0.05", "--seed", "3", "--steps", "60"],
    "optimize-images": ["optimize", *MSE[2:], "--images", "images", *NEAR, "--steps", "60"],
    "optimize-batches": [
        "optimize", *MSE[2:], "--images", "images", "--batch-size", "2", *NEAR, "--steps", "60",
        "--seed", "4"],
    "optimize-function": ["optimize", *SMOOTH, "--start", "1.5", "--lr", "0.02", "--steps", "80"],
    "optimize-function-kink": ["optimize", *KINK, "--start", "0", "--lr", "0.07", "--steps", "80"],
    "optimize-module": [
        "optimize", *MODULE, "--loss", "mse", "--start", "0.5", "--lr", "0.01", "--steps", "40"],
    # Runs of several parameters.
    "optimize-two": ["optimize", *MSE, *TWO, *NEAR, "--steps", "100"],
    "optimize-two-own-rates": [
        "optimize", *MSE, *TWO, "--lr", "theta=0.01", "--lr", "sigma=0.1", "--start", "theta=50deg",
        "--start", "sigma=2.4", "--steps", "100"],
    "optimize-two-logarithm": [
        "optimize", *MSE, "--learn", "theta", "--learn", "wavelength", LOG_SCALE, "wavelength",
        "--start", "theta=40deg", "--start", "wavelength=5.5", "--steps", "100"],
    "optimize-four-adam": [
        "optimize", *MSE, *FOUR, "--optimizer", "adam", "--lr", "0.02", "--start", "theta=40deg",
        "--start", "wavelength=5.3", "--steps", "100"],
    # Maps.
    "basins-sgd-mse": [
        "basins", *MSE, "--lr", "1e-3:1:9", "--starts", "-pi/2:pi/2:9", "--steps", "150"],
    "basins-sgd-rmse": [
        "basins", *SMALL, "--lr", "1e-3:1:7", "--starts", "-pi/2:pi/2:9", "--steps", "150"],
    "basins-momentum": [
        "basins", *MSE, "--momentum", "0.9", "--lr", "1e-3:0.02:5", "--starts", "-pi/2:pi/2:9",
        "--steps", "150"],
    "basins-adam": [
        "basins", *MSE, "--optimizer", "adam", "--lr", "1e-3:1:5", "--starts", "-pi/2:pi/2:7",
        "--steps", "150"],
    "basins-function": [
        "basins", *SMOOTH, "--start", "1.5", "--lr", "1e-3:1:7", "--starts", "-2:2:9",
        "--steps", "100"],
    "basins-plane": [
        "basins", *MSE, "--lr", "0.01", "--starts", "theta,sigma:5", "--steps", "80"],
    "bifurcate-mse": ["bifurcate", *MSE, *NEAR, "--lr", "1e-2:1:13", "--steps", "300"],
    "bifurcate-function": [
        "bifurcate", *SMOOTH, "--start", "0.5", "--lr", "1e-2:0.6:13", "--steps", "300"],
    # Verdicts.
    "diagnose-wrong-basin": ["diagnose", *MSE, "--lr", "0.01", "--steps", "120"],
    "diagnose-chaotic": ["diagnose", *SMALL_ROUND, "--lr", "6", "--steps", "120"],
    "diagnose-healthy": ["diagnose", *MSE, *NEAR, "--lr", "0.02", "--steps", "200"],
    "diagnose-step-too-small": ["diagnose", *MSE, *NEAR, "--lr", "1e-5", "--steps", "100"],
    "diagnose-kink": ["diagnose", *SMALL, *NEAR, "--lr", "0.05", "--steps", "100"],
    "diagnose-momentum": [
        "diagnose", *MSE, "--momentum", "0.9", "--lr", "0.003", "--steps", "150"],
    "diagnose-adam": [
        "diagnose", *MSE, *NEAR, "--optimizer", "adam", "--lr", "1e-4", "--steps", "120"],
    "diagnose-two": ["diagnose", *MSE, *TWO, *NEAR, "--lr", "0.03", "--steps", "150"],
    "diagnose-log": [
        "diagnose", *STEEP, "--start", "0.7", FROM_LOG, "steep.csv"],
    "diagnose-function-step-too-large": [
        "diagnose", *STEEP, "--start", "0.7", "--lr", "0.021", "--steps", "120"],
    "diagnose-function-kink": ["diagnose", *KINK, "--start", "0", "--lr", "0.07", "--steps", "120"],
    "diagnose-function-periodic": [
        "diagnose", *WAVE, "--start", "1.4", "--target", "4.02deg", "--lr", "0.02", "--steps",
        "120"],
    "diagnose-module": [
        "diagnose", *MODULE, "--loss", "mse", "--start", "0.5", "--lr", "0.05", "--steps", "120"],
    "diagnose-module-float32": [
        "diagnose", "--objective", "objectives.py:single", *LAYER, "--loss", "mse", "--start",
        "0.5", "--lr", "0.05", "--steps", "120"],
    "diagnose-module-cut": [
        "diagnose", "--objective", "objectives.py:CutLayer", *LAYER, "--start", "0.5"],
    # Formulas.
    "check": ["check"],
    "check-expression-right": [
        "check", "--wrt", "gamma", "--derivative-expr",
        f"-{ENVELOPE} cos{PHASE} gamma y'^2/sigma^2"],
    "check-expression-scaled": [
        "check", "--wrt", "sigma", "--derivative-expr",
        f"{ENVELOPE} cos{PHASE} (x'^2 + gamma^2 y'^2)/sigma^2"],
    "check-expression-sign": [
        "check", "--wrt", "psi", "--derivative-expr", f"{ENVELOPE} sin{PHASE}"],
    "check-expression-degrees": [
        "check", "--wrt", "wavelength", "--derivative-expr", f"{ENVELOPE} cos{PHASE} x'"],
    "check-kernel": ["check", "--kernel", "user_gabor.py:kernel"],
    "check-kernel-transposed": ["check", "--kernel", "user_gabor.py:transposed"],
    "check-derivative": [
        "check", "--wrt", "sigma", "--derivative", "user_gabor.py:along_sigma"],
    "check-derivative-wrong": [
        "check", "--derivative", "user_gabor.py:along_theta_without_carrier"],
    # Logs.
    "explain-sawtooth": ["explain", "sawtooth.csv", "--target", "0"],
    "explain-cycle": ["explain", "cycle.jsonl"],
    "explain-noisy-descent": [
        "explain", "noisy.csv", "--value-column", "distance", "--loss-column", "train_loss"],
    "explain-step-too-large": ["explain", "steep.csv", "--target", "0"],
    "explain-periodic": ["explain", "turning.json", "--period", "pi", "--target", "0"],
    "explain-slow": ["explain", "slow.csv", "--target", "0"],
    "explain-nonfinite": ["explain", "nonfinite.csv"],
    "explore": ["explore", *MSE, "--lr", "0.3", "--steps", "50"],
    "reproduce": ["reproduce"],
}  # fmt: skip

# Calls that take more than a second or two, where others cover the default run.
SLOW = {
    "diagnose-wrong-basin", "diagnose-module-float32", "sweep-function-kink",
    "sweep-theta-photograph-round", "optimize-photograph", "optimize-batches",
    "diagnose-adam", "diagnose-chaotic", "diagnose-function-kink", "diagnose-function-periodic",
    "diagnose-function-step-too-large", "diagnose-kink", "diagnose-log", "diagnose-momentum",
    "diagnose-step-too-small", "explore", "reproduce",
}  # fmt: skip


def write_inputs(folder: Path) -> None:
    """Writes everything that the calls read into a folder."""
    for name in ("objectives.py", "user_gabor.py"):
        shutil.copy(HERE / name, folder / name)
    _write_images(folder)
    _write_logs(folder)


def texture(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """(rows, columns) in [0, 1]: a texture with energy at every orientation."""
    r, c = np.mgrid[:rows, :columns]
    chirp = (7 * r * r + (3 + seed) * r * c + 5 * c * c + 11 * r) % 64
    ramp = 2 * ((3 * r + (2 + seed) * c) % 37)
    return (chirp + ramp) / 137


def _write_images(folder: Path) -> None:
    np.save(folder / "small.npy", texture(40, 34, 0))
    np.save(folder / "layer-input.npy", texture(18, 17, 1))
    (folder / "images").mkdir()
    for seed in range(4):
        np.save(folder / "images" / f"{seed}.npy", texture(30 + seed, 28, seed))


def _write_logs(folder: Path) -> None:
    def table(name: str, head: str, rows: list[list[float]]) -> None:
        lines = [head, *(",".join(repr(value) for value in row) for row in rows)]
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")

    # Ten times down a slope and back up in one step.
    saw = [2 - (step % 12) / 8 for step in range(120)]
    table("sawtooth.csv", "step,theta,loss,grad,lr",
          [[i, x, x * x, 2 * x, 0.0625] for i, x in enumerate(saw)])  # fmt: skip
    pair = [0.5 if step % 2 else -0.75 for step in range(60)]
    (folder / "cycle.jsonl").write_text(
        "".join(
            json.dumps({"step": i, "theta": x, "loss": x * x}) + "\n" for i, x in enumerate(pair)
        ),
        encoding="utf-8",
    )
    # Down to a level, with noise.
    noise = [(i * i * 37 + 11 * i) % 101 / 1010 for i in range(200)]
    table(
        "noisy.csv",
        "step,distance,train_loss",
        [[i, 1 / (i + 1), 40 / (i + 10) + n] for i, n in enumerate(noise)],
    )
    # Descent on 50 x^2: a rate of 0.021 multiplies x by -1.1 each step.
    steep, x = [], 0.7
    for step in range(120):
        steep.append([step, x, 50 * x * x, 100 * x, 0.021])
        x = x - 0.021 * (100 * x)
    table("steep.csv", "step,theta,loss,grad,lr", steep)
    # It ends a whole period (3.14159...) from where it should.
    turning = [3.141592653589793 + 1 / (1 + step) for step in range(80)]
    (folder / "turning.json").write_text(
        json.dumps({"step": list(range(80)), "theta": turning,
                    "loss": [1 / (1 + step) / (1 + step) for step in range(80)]}),
        encoding="utf-8",
    )  # fmt: skip
    table("slow.csv", "step,theta,loss,grad,lr",
          [[i, 5 - i / 1024, 25 - i / 128, 10.0, 0.0001] for i in range(100)])  # fmt: skip
    table("nonfinite.csv", "step,theta,loss",
          [[i, 1.0 * 4**i, 16.0**i if i < 12 else float("nan")] for i in range(20)])  # fmt: skip
