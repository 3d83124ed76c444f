"""Calls that type checkers refuse, each for the reason at its end; never run."""

import torch

import gabordiag as gd


def well(v: torch.Tensor) -> torch.Tensor:
    return (v**2 - 1) ** 2


layer = torch.nn.Linear(1, 1)
training = gd.Training(layer, [(torch.ones(1, 1), torch.ones(1, 1))], torch.nn.MSELoss())
gd.Experiment(loss="rsme")  # arg-type
gd.Experiment(padding="circle")  # arg-type
gd.Experiment(normalize="centre")  # arg-type
gd.Experiment(dtype="float16")  # arg-type
gd.Experiment(device="gpu")  # arg-type
gd.Experiment(wave_length=6)  # call-arg
gd.Experiment(sigma="2")  # arg-type
gd.sweep(well, rang=(0, 2))  # call-overload
gd.optimize(well, optimizer="adamm")  # arg-type
gd.optimize(well, optimizer=["sgd", "adamm"])  # list-item
gd.optimize(well, schedule="onecycle")  # arg-type
gd.optimize(well, learning_rate=0.1)  # call-arg
gd.optimize(well, lr="0.1")  # arg-type
outcome = gd.optimize(well).runs[0].outcomes  # attr-defined
gd.basins(well, optimizer="sgdm")  # arg-type
gd.basins(well, targets=1.0)  # call-arg
gd.bifurcate(well, "momentum")  # arg-type
gd.diagnose(well, optimizer="SGD")  # call-overload
gd.diagnose(well, targt=1.0)  # call-overload
gd.diagnose(layer, param="weight", loss="l1")  # call-overload
elements = gd.diagnose(well).elements  # attr-defined
findings = gd.diagnose(training).findings  # attr-defined
gd.check(wrt="lambda")  # arg-type
gd.explain("run.csv", targets=0.0)  # call-arg
