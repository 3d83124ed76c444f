"""Calls that type checkers accept; never run."""

import math

import numpy as np
import torch

import gabordiag as gd
from gabordiag.landscape.sweep import Sweep


def well(v: torch.Tensor) -> torch.Tensor:
    return (v**2 - 1) ** 2


experiment = gd.Experiment(
    image=np.ones((40, 40)),
    wavelength=np.float32(6),
    sigma=torch.tensor(2.0),
    psi=0,
    kernel_size=np.int64(11),
    normalize="center",
    padding="same",
    loss="mse",
    dtype=torch.float32,
    device=torch.device("cpu"),
)
also = gd.Experiment("pink", dtype="float64", device="cuda", theta0=math.radians(20))
curve: Sweep = gd.sweep(experiment, over="theta", points=9)
surface = gd.sweep(experiment, over=("theta", "sigma"), points=(9, 9)).minima
runs = gd.optimize(
    experiment,
    optimizer=["sgd", "adam"],
    lr=[0.1, np.float64(0.2), torch.tensor(0.3)],
    momentum=np.float32(0.5),
    schedule="one-cycle",
).runs
several = gd.optimize(
    experiment, lr={"theta": 0.1, "sigma": np.float32(0.2)}, over=("theta", "sigma")
)
basins = gd.basins(well, "rmsprop", lr=(1e-3, 1, 9), starts=5, range=(-2, 2), target=1.0)
basins.to_dataframe().plot(x="start", y="lr")
bands = gd.bifurcate(well, lr=(0.1, np.float64(1), 9), start=torch.tensor(0.1), range=(-2, 2)).bands
found = gd.diagnose(well, range=(0, 2), start=0.1, target=torch.tensor(1.0), lr=0.1)
remedies = found.remedies
layer = torch.nn.Linear(1, 1)
module = gd.diagnose(
    layer, param="weight[0,0]", input=np.ones((1, 1)), target=0.5, loss=torch.nn.functional.mse_loss
)
training = gd.Training(layer, [(torch.ones(1, 1), torch.ones(1, 1))], torch.nn.MSELoss())
elements = gd.diagnose(training, "adam", lr=0.1, params=["weight"], seeds=2).elements
window = gd.rates(training, "adam", lr=(1e-4, np.float32(1), 9), goal=torch.tensor(0.1)).scans
right = gd.check(derivative="sin(theta)", wrt="psi").ok
verdict = gd.explain({"loss": [1.0, 0.5]}, target=np.float32(0.3)).verdict
