"""`diagnose` of a real training: the run is the plain loop's, and the user's module stays."""

from __future__ import annotations

import ast
import copy
import csv
import inspect
import json
import math
import random
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import gabordiag as gd
from gabordiag.cli.main import run
from gabordiag.diagnosis import readout
from gabordiag.diagnosis.training import causes
from gabordiag.diagnosis.training.verdict import TrainingDiagnosis
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.training import rates_of, run_training
from gabordiag.errors import InputError, UsageError
from gabordiag.images import load_image
from gabordiag.own.training import Evaluation, find_watched
from gabordiag.presentation.phrases import parameter_of
from gabordiag.presentation.registry import blocks_of

FILTERS = 4
TRUE = [0.1 + i * math.pi / FILTERS for i in range(FILTERS)]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def bank(theta: list[float], **options: object) -> gd.GaborConv2d:
    settings: dict = {"wavelength": 6, "sigma": 3, "psi": 0, "gamma": 0.5, "bias": False}
    return gd.GaborConv2d(1, FILTERS, 9, theta=theta, **(settings | options))


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    x = noise(32, 1, 13, 13)
    with torch.no_grad():
        y = bank(TRUE)(x)
    return [(x[i : i + 16], y[i : i + 16]) for i in (0, 16)]


def training(shifts: tuple[float, ...] = (0.15,) * FILTERS, **options: object) -> gd.Training:
    start = [true + shift for true, shift in zip(TRUE, shifts, strict=True)]
    model = nn.Sequential(bank(start, **({"learn": ("theta", "sigma")} | options)))
    return gd.Training(model, batches(), functional.mse_loss)


@cache
def found() -> TrainingDiagnosis:
    """Filter 2 begins in the basin of another minimum than the one that made the target."""
    made = training((0.15, 0.15, 1.02, 0.15), learn=("theta",))
    return gd.diagnose(made, params=["0.theta"], optimizer="adam", lr=0.02, steps=120)


class Classifier(nn.Module):
    """Everything that a training changes: buffers, dropout, a counter among plain attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.gabor = gd.GaborConv2d(1, 4, 5)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(4, 3)
        self.calls = 0
        self.seen: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.seen.append(len(x))
        y = functional.relu(self.norm(self.gabor(x)))
        return self.head(self.drop(y.mean(dim=(2, 3))))


def labelled() -> tuple[torch.Tensor, torch.Tensor]:
    return noise(48, 1, 10, 10), torch.arange(48) % 3


def test_the_run_is_that_of_the_plain_loop() -> None:
    made = training()
    model = copy.deepcopy(made.model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.003, momentum=0.9)
    losses, thetas, slopes, norms = [], [], [], []
    pairs = list(made.batches)
    for step in range(13):
        x, y = pairs[step % len(pairs)]
        optimizer.zero_grad()
        loss = functional.mse_loss(model(x), y)
        loss.backward()
        losses.append(loss.item())
        thetas.append(model[0].theta.tolist())
        slopes.append(model[0].theta.grad.tolist())
        norms.append(model[0].log_sigma.grad.norm().item())
        optimizer.step()
    watched = find_watched(made.model, "0.theta")
    settings = OptimizerSettings("sgd", 0.003, 0.9, steps=12)
    rates = rates_of(made, watched, 0.003, 0.01)
    steps: list = []
    result, _, _ = run_training(made, watched, settings, rates, listener=steps.append)
    assert result.losses.tolist() == losses
    assert result.values.tolist() == thetas
    assert result.gradients.tolist() == slopes
    assert result.sizes["0.log_sigma"] == pytest.approx(norms, rel=1e-6)
    assert [step.step for step in steps] == list(range(13))
    assert steps[3].values + steps[3].updates == pytest.approx(thetas[4])
    assert math.isnan(steps[-1].updates[0])


def test_module_and_random_state_come_back() -> None:
    model = Classifier()
    model.gabor.theta.grad = torch.ones(4)
    model.drop.eval()
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 the global stream is what is looked at
    states = torch.get_rng_state().clone(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    loader = DataLoader(TensorDataset(*labelled()), batch_size=16, shuffle=True)

    def accuracy(output: torch.Tensor, target: torch.Tensor) -> float:
        return float((output.argmax(1) == target).float().mean())

    made = gd.Training(model, loader, functional.cross_entropy, accuracy)
    result = gd.diagnose(made, params=["gabor.theta", "gabor.sigma"], lr=0.05, steps=12, seeds=1)
    assert len(result.elements) == 8
    assert 0 <= result.metric <= 1
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert model.gabor.theta.grad.tolist() == [1.0] * 4
    assert model.head.weight.grad is None
    assert (model.calls, model.seen, model.training, model.drop.training) == (0, [], True, False)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()  # noqa: NPY002


@pytest.mark.long
def test_the_same_seed_gives_the_same_training() -> None:
    loader = DataLoader(TensorDataset(*labelled()), batch_size=16, shuffle=True)
    made = gd.Training(Classifier(), loader, functional.cross_entropy)
    one, same, other = (
        gd.diagnose(made, params="gabor.theta", steps=8, seeds=0, seed=seed) for seed in (0, 0, 1)
    )
    assert one.run.losses.tolist() == same.run.losses.tolist()
    assert one.run.losses.tolist() != other.run.losses.tolist()


def test_lines_are_losses_with_one_number_replaced() -> None:
    model = Classifier()
    made = gd.Training(model, [labelled()], functional.cross_entropy)
    watched = find_watched(model, ["gabor.sigma", "gabor.theta"])
    state = made.state()
    values = np.linspace(0.2, 1.2, 5)
    evaluation = Evaluation(made, made.fixed(1), 0)
    (losses,) = evaluation.losses(state, [(watched[2], values)])
    assert evaluation.count == 5
    for value, loss in zip(values, losses[:, 0], strict=True):
        with made.kept(0), torch.no_grad():
            model.gabor.log_sigma[2] = float(value)
            x, y = labelled()
            torch.manual_seed(0)
            assert loss == pytest.approx(functional.cross_entropy(model(x), y).item(), rel=1e-5)


def test_lines_of_code_that_torch_cannot_batch() -> None:
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.theta = nn.Parameter(torch.tensor([0.2, 0.5]))
            self.conv = nn.Conv2d(1, 2, 5, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            kernels = gd.gabor_kernel(self.theta, 5.0, 2.0, 0.0, 1.0, kernel_size=5)
            self.conv.weight.data.copy_(kernels[:, None])
            return self.conv(x)

    x = noise(4, 1, 9, 9)
    made = gd.Training(Written(), [(x, torch.zeros(4, 2, 5, 5))], functional.mse_loss)
    result = gd.diagnose(made, params="theta", steps=10, seeds=0)
    assert [e.verdict for e in result.elements] == ["no_gradient"] * 2
    where = result.elements[0].findings[0].evidence["where"]
    assert where["kind"] == "data_write"
    assert "self.conv.weight.data.copy_" in where["code"]
    assert "gets no gradient" in result.headline or "get no gradient" in result.headline
    assert not result.elements[0].line_final.is_flat


def test_a_frozen_parameter_is_said_to_be() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1))
    model[0].requires_grad_(False)
    x = torch.linspace(-1, 1, 16)[:, None]
    made = gd.Training(model, [(x, 3 * x)], functional.mse_loss)
    result = gd.diagnose(made, params="0.weight", lr=0.01, steps=20, seeds=0)
    for element in result.elements:
        assert element.verdict == "no_gradient"
        assert element.findings[0].evidence["where"]["kind"] == "frozen"
        assert element.judgement.helps == "call 0.weight.requires_grad_()"
    assert "requires_grad = False" in result.headline


@pytest.mark.slow
def test_a_lower_minimum_is_named_and_the_remedy_frees_the_filter() -> None:
    result = found()
    verdicts = [element.verdict for element in result.elements]
    assert verdicts == ["healthy", "healthy", "wrong_basin", "healthy"]
    stuck = result.elements[2]
    assert math.remainder(stuck.value(stuck.goal) - TRUE[2], math.pi) == pytest.approx(0, abs=0.03)
    assert result.headline.startswith("3 of your 4 filters have converged; filter 2 sits beside")
    remedy = next(r for r in result.remedies if r.plan.name == "another start")
    assert remedy.works
    assert remedy.freed == ("0.theta[2]",)
    assert remedy.after.losses.max() < 0.1 * remedy.before.losses.min()


def two_layers(*params: str, steps: int = 4) -> tuple[nn.Module, TrainingDiagnosis]:
    layers = (gd.GaborConv2d(1, 3, 5), gd.GaborConv2d(3, 3, 5))
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    x, y = noise(16, 1, 10, 10), torch.arange(16) % 2
    made = gd.Training(model, [(x, y)], functional.cross_entropy)
    return model, gd.diagnose(made, params=params, lr=0.001, steps=steps, seeds=0)


def test_filters_of_several_layers_are_kept_apart() -> None:
    model, result = two_layers("1.theta", "0.theta")
    assert "of your 6 filters" in result.headline
    kernels = {str(index): model[index].kernels().detach().numpy() for index in (0, 1)}
    filters = result.elements[0].facts.filters
    assert list(filters) == [("1", 3, 1), ("0", 3, 0)]
    for (layer, _, _), (before, _) in filters.items():
        # The responses to n channels are added, over the root of n.
        scale = math.sqrt(before.shape[1])
        np.testing.assert_allclose(scale * before[:, 0], kernels[layer], rtol=1e-6)
    faults = [e for e in result.elements if e.verdict != "healthy"]
    assert faults
    for element in faults:
        layer, row = element.watched.layer, element.watched.row
        (clause,) = (
            part
            for part in result.headline.removesuffix(".").split("; ")
            if any(f" of layer {layer} {words}" in part for words in causes.FAULTS[element.verdict])
            and re.search(rf"\b{row}\b", part.partition(" of layer")[0])
        )
        assert clause.startswith("theta of filter")


@pytest.mark.long
def test_only_what_makes_a_kernel_is_called_a_filter() -> None:
    for path, what in (("4.bias", "2 elements"), ("4.weight", "2 rows")):
        _, result = two_layers(path)
        words = result.headline + result._repr_html_()
        assert f"All {what} have" in words or f"of your {what}" in words
        assert "filter" not in words
        assert all(e["filter"] is None for e in result.to_dict()["elements"])
        assert result.bank is None


class Energy(nn.Module):
    """Pairs of cosine and sine along x: three wave numbers, a gain each; shifts and a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.wave = nn.Parameter(torch.tensor([0.5, 1.0, 1.5]))
        self.gain = nn.Parameter(torch.ones(3))
        self.shift = nn.Parameter(torch.zeros(2))
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        phases = self.wave[:, None] * torch.arange(-3.0, 4.0)
        kernels = torch.cat([phases.cos(), phases.sin()])[:, None]
        cosine, sine = functional.conv1d(x, kernels).square().mean(2).chunk(2, 1)
        return self.scale * (self.gain * (cosine + sine)).sum(1) + self.shift.sum()


@pytest.mark.parametrize(
    ("params", "subjects"),
    [
        (["wave"], "3 filters"),
        (["wave", "gain"], "3 filters"),
        (["gain"], "3 elements"),
        (["wave", "shift"], "5 elements"),
        (["gain", "shift", "scale"], "6 elements"),
        (["wave", "gain", "scale"], "7 elements"),
    ],
)
def test_what_is_counted_is_what_the_tensors_are_of(params: list[str], subjects: str) -> None:
    made = gd.Training(Energy(), [(noise(8, 1, 20), torch.full((8,), 9.0))], functional.mse_loss)
    result = gd.diagnose(made, params=params, lr=1e-5, steps=3, seeds=0)
    assert f"of your {subjects} " in result.headline
    # Six kernels are no picture of three filters.
    assert result.bank is None


def test_values_of_no_known_range_are_shown() -> None:
    element = {"name": "w", "period": None, "unit": "", "start": 0.0}
    shown = [parameter_of(element).show(value, 1) for value in (-0.38458, 4.0, 0.0)]
    assert shown == ["-0.385", "4", "0"]


def test_every_verdict_has_its_words() -> None:
    said = set()
    for node in ast.walk(ast.parse(inspect.getsource(causes))):
        match node:
            case ast.Call(func=ast.Name(id="Judgement"), args=[verdict, *_]):
                said.add(ast.literal_eval(verdict))
    for node in ast.walk(ast.parse(inspect.getsource(readout._reason))):
        match node:
            case ast.Return(value=ast.Tuple(elts=[verdict, *_])):
                said.add(ast.literal_eval(verdict))
    assert said - {"healthy"} == causes.FAULTS.keys()


@pytest.mark.long
def test_json_and_files() -> None:
    result = found()
    shown = json.loads(json.dumps(result.to_dict()))
    assert {"verdict", "headline", "run", "elements", "remedies"} <= set(shown)
    element = shown["elements"][2]
    assert {"name", "verdict", "outcome", "start", "final", "moved"} <= set(element)
    assert {"gradient_share", "line", "findings", "remedies"} <= set(element)
    assert {"start", "final"} == set(element["line"])
    assert {"value", "loss", "curvature", "kind"} <= set(element["line"]["final"][0])
    assert "another start" in element["remedies"]
    assert {"loss_before", "loss_after", "evidence"} <= set(shown["remedies"][0])
    data = result.data()
    table = data["trajectory-000.csv"]
    assert list(table)[:3] == ["step", "0.theta[0]", "0.theta[1]"]
    assert len(table["step"]) == 121
    assert data["bank.npz"]["kernels"].shape == (2, FILTERS, 9, 9)
    text = " ".join(str(block) for block in blocks_of("diagnose", result.view()))
    assert "wrong basin" in text
    assert result.plot() is not None


def test_names_and_rates() -> None:
    model = nn.Sequential(gd.GaborConv2d(1, 3, 7, orientation="vector"), nn.Flatten())
    made = gd.Training(model, [(noise(2, 1, 7, 7), torch.zeros(2, 3))], functional.mse_loss)
    watched = find_watched(model, ["0.theta", "0.sigma[1]"])
    assert [w.label for w in watched] == ["0.theta[0]", "0.theta[1]", "0.theta[2]", "0.sigma[1]"]
    assert [w.kind for w in watched] == ["vector"] * 3 + ["log"]
    assert watched[2].coordinate(made.state()) == pytest.approx(-math.pi / 3)
    rates = rates_of(made, watched, {"0.theta": 0.5, "others": 0.02}, 0.01)
    assert (rates["0.vector"], rates["0.psi"]) == (0.5, 0.02)
    assert rates_of(made, watched, {"0": 0.5, "0.sigma": 0.1}, 0.01)["0.log_sigma"] == 0.1
    with pytest.raises(UsageError, match="not a parameter"):
        rates_of(made, watched, {"theta": 0.5}, 0.01)
    with pytest.raises(UsageError, match="not a positive"):
        rates_of(made, watched, {"0.theta": -0.5}, 0.01)
    with pytest.raises(UsageError, match="named twice"):
        find_watched(model, ["0.sigma", "0.sigma[0]"])
    with pytest.raises(UsageError, match="names of what to watch"):
        find_watched(model, [])


def test_an_orientation_as_a_vector_is_watched_as_an_angle() -> None:
    made = training(orientation="vector")
    result = gd.diagnose(made, params="0.theta", optimizer="adam", lr=0.05, steps=100, seeds=0)
    assert [element.verdict for element in result.elements] == ["healthy"] * FILTERS
    for element, true in zip(result.elements, TRUE, strict=True):
        assert math.remainder(element.final - true, math.pi) == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": lambda x: x}, "cannot be trained"),
        ({"loss": "mse"}, "not a function"),
        ({"metric": 3}, "not a function"),
        ({"batches": 5}, "no batches"),
        ({"batches": iter([])}, "only once"),
    ],
)
def test_arguments_that_cannot_be(arguments: dict, words: str) -> None:
    made = {"model": nn.Linear(1, 1), "batches": [], "loss": functional.mse_loss} | arguments
    with pytest.raises(UsageError, match=words):
        gd.Training(**made)


@pytest.mark.parametrize(
    ("pairs", "loss", "words"),
    [
        ([], functional.mse_loss, "batches are empty"),
        ([torch.zeros(2, 1)], functional.mse_loss, "not a pair"),
        ([(torch.zeros(2, 1), torch.zeros(2, 1))], lambda a, b: a - b, "not one real number"),
        ([(torch.zeros(2, 3), torch.zeros(2, 1))], functional.mse_loss, "running the module"),
    ],
)
def test_trainings_that_cannot_run(pairs: list, loss, words: str) -> None:
    made = gd.Training(nn.Linear(1, 1), pairs, loss)
    with pytest.raises(InputError, match=words):
        gd.diagnose(made, params="weight", steps=3)


def square(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return ((output - target) ** 2).mean()


def ranked(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Compares differences of outputs with differences of targets (n,)."""
    return square(output - output.T, target[:, None] - target[None, :])


def squeezed(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return square(output[:, 0], target)


@pytest.mark.parametrize(
    ("loss", "is_refused"), [(square, True), (ranked, False), (squeezed, False)]
)
@pytest.mark.parametrize("door", [gd.diagnose, gd.rates])
def test_a_loss_in_which_every_output_meets_every_target_is_refused(
    door: Any, loss: Any, is_refused: bool
) -> None:
    pairs = [(torch.arange(6.0)[:, None], 3 * torch.arange(6.0))]
    model = nn.Linear(1, 1)
    made = gd.Training(model, pairs, loss)
    more = {"params": "bias", "seeds": 0} if door is gd.diagnose else {"lr": (1e-3, 1e-2, 3)}
    if not is_refused:
        door(made, steps=3, **more)
        return
    # Where the loss is least, all outputs are the targets' mean.
    with pytest.raises(
        InputError, match=r"each of 6 outputs with all 6 targets.*\(6, 1\) and \(6,\)"
    ):
        door(made, steps=3, **more)
    assert gd.diagnose(
        gd.Training(model, [(pairs[0][0], pairs[0][1][:, None])], loss), params="bias", steps=3
    )


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 0.02), ("adam", 0.02)])
def test_angles_learned_as_vectors_go_as_in_the_layer(optimizer: str, lr: float) -> None:
    x, y = batches()[0]
    start = [true + 0.3 for true in TRUE]
    layer = bank(start, learn=("theta",), orientation="vector")
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
    plain = make(layer.parameters(), lr=lr)
    for _ in range(40):
        plain.zero_grad()
        functional.mse_loss(layer(x), y).backward()
        plain.step()
    made = gd.Training(bank(start, learn=("theta",)), [(x, y)], functional.mse_loss)
    watched = find_watched(made.model, "theta")
    settings = OptimizerSettings(optimizer, steps=40)
    ran, *_ = run_training(made, watched, settings, {"theta": lr}, turning={"theta": 2})
    gap = torch.tensor(ran.values[-1]) - layer.values()["theta"].detach()
    assert float(torch.sin(gap).abs().max()) < 1e-4
    assert float(np.abs(np.sin(ran.values[-1] - start)).max()) > 0.1
    assert made.model.theta.tolist() == pytest.approx(start)


def test_a_training_that_breaks_off_is_tried_with_smaller_rates() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(bank(TRUE, learn=("theta",)), nn.Conv2d(FILTERS, 2, 1))
    x = noise(16, 1, 13, 13)
    made = gd.Training(model, [(x, noise(16, 2, 5, 5, seed=1))], functional.mse_loss)
    result = gd.diagnose(made, params="0.theta", optimizer="sgd", lr=0.5, steps=60, seeds=2)
    assert (result.outcome, result.bank) == ("nonfinite", None)
    assert f"not finite at step {len(result.run.losses) - 1}" in result.headline
    (smaller,) = [remedy for remedy in result.remedies if remedy.plan.name == "smaller rates"]
    assert smaller.works
    assert set(smaller.plan.rates.values()) == {0.05}
    assert np.isfinite(smaller.after.losses).all()


def test_a_network_that_needs_labels_is_refused_with_how_to_give_them() -> None:
    with pytest.raises(InputError, match=r"no input.*\n?.*gd\.Training\(model, batches, loss\)"):
        gd.diagnose(Classifier(), param="gabor.theta[0]", target=0.0)


def test_whoever_gives_labels_otherwise_is_shown_how() -> None:
    x, y = labelled()
    model = Classifier()
    for call in (
        lambda: gd.diagnose(model, params=["gabor.theta"]),
        lambda: gd.diagnose(model, batches=[(x, y)]),
        lambda: gd.diagnose((model, [(x, y)], functional.cross_entropy)),
        lambda: gd.diagnose(model, param="gabor.theta[0]", input=x, target_output=y),
    ):
        with pytest.raises((UsageError, InputError), match=r"gd\.Training\(model, batches, loss\)"):
            call()
    made = gd.Training(model, [(x, y)], functional.cross_entropy)
    with pytest.raises(UsageError, match="element by element"):
        gd.sweep(made)
    with pytest.raises(UsageError, match="takes no range"):
        gd.diagnose(made, params="gabor.theta", range=(0, 1))
    with pytest.raises(UsageError, match="as its model stands"):
        gd.diagnose(made, params="gabor.theta", start=1.0)


SCRIPT = """
import torch
from torch import nn
import gabordiag as gd

def build():
    torch.manual_seed(0)
    x = torch.randn(8, 1, 9, 9)
    model = nn.Sequential(gd.GaborConv2d(1, 3, 5, learn=("theta",), bias=False))
    return gd.Training(model, [(x, torch.zeros(8, 3, 5, 5))], nn.functional.mse_loss)
"""


@pytest.mark.long
def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    out = tmp_path / "out"
    call = ["diagnose", f"--objective={script}:build", "--param=0.theta", "--steps=20"]
    call += ["--optimizer=adam", "--lr=0.01", "--lr=0.theta=0.02"]
    assert run([*call, "--json", f"--out={out}"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert len(shown["result"]["elements"]) == 3
    assert shown["result"]["run"]["lr"] == 0.02
    with (out / "trajectory-000.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(21))
    assert float(rows[1]["lr_0.theta[0]"]) == 0.02
    assert {"gradients.png", "bank.png", "report.html"} <= {p.name for p in out.iterdir()}
    assert run(["report", str(out), "--quiet"]) == 0
    assert run([*call, "--range=0:1"]) == 2
    assert "no effect on a training" in capsys.readouterr().err
    assert run([*call[:2], "--steps=5"]) == 2
    assert "names of what to watch" in capsys.readouterr().err
    assert run(["sweep", call[1]]) == 2
    assert "gabordiag diagnose" in capsys.readouterr().err


@pytest.mark.slow
def test_a_coarse_envelope_first_leads_an_orientation_past_its_minima() -> None:
    image = torch.tensor(load_image("hopper")[:64, :64]).float()[None, None]
    names = ("theta", "wavelength", "sigma", "gamma")
    fine = {"wavelength": 6.0, "sigma": 6.0, "gamma": 0.5}

    def filter_at(theta: float, **values: float) -> gd.GaborConv2d:
        values = fine | {"psi": 0.0, "bias": False} | values
        return gd.GaborConv2d(1, 1, 21, learn=names, theta=theta, **values)

    with torch.no_grad():
        target = filter_at(math.pi / 4)(image)

    def trained(model: nn.Module, held: tuple[str, ...] = ()) -> float:
        rates = {"theta": 0.02} | dict.fromkeys(held, 0.0)
        optimizer = torch.optim.Adam(
            [{"params": [p], "lr": rates.get(n, 0.01)} for n, p in model.named_parameters()]
        )
        for _ in range(300):
            optimizer.zero_grad()
            functional.mse_loss(model(image), target).backward()
            optimizer.step()
        return functional.mse_loss(model(image), target).item()

    # By hand, with the same numbers: directly, and in two stages.
    assert trained(filter_at(-0.3)) > 0.1
    coarse = filter_at(-0.3, sigma=0.3 * 6.0, gamma=1.0)
    trained(coarse, held=("log_sigma", "log_gamma"))
    led = coarse.values()
    in_stages = trained(filter_at(led["theta"].item(), wavelength=led["wavelength"].item()))
    assert in_stages < 1e-6

    made = gd.Training(filter_at(-0.3), [(image, target)], functional.mse_loss)
    rates = {"theta": 0.02, "others": 0.01}
    diagnosis = gd.diagnose(made, params=names, optimizer="adam", lr=rates, steps=300, seeds=1)
    (remedy,) = (r for r in diagnosis.remedies if r.plan.name == "coarse to fine")
    assert remedy.works
    assert remedy.freed == ("theta",)
    assert remedy.after.losses[0] == pytest.approx(in_stages, abs=1e-9)
    # The user's module keeps its own envelope.
    assert made.model.values()["sigma"].item() == pytest.approx(6.0)


def test_a_grid_that_is_kept_expanded_comes_back() -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.theta = nn.Parameter(torch.tensor([0.2, 1.1]))
            x, y = torch.meshgrid(torch.arange(5.0), torch.arange(5.0), indexing="xy")
            self.register_buffer("x", x)
            self.register_buffer("y", y)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            theta = self.theta[:, None, None]
            kernels = torch.cos(self.x * torch.cos(theta) + self.y * torch.sin(theta))
            return functional.conv2d(image, kernels[:, None])

    model = Layer()
    assert 0 in model.x.stride()
    pairs = [(noise(4, 1, 9, 9), noise(4, 2, 5, 5, seed=1))]
    found = gd.diagnose(gd.Training(model, pairs, functional.mse_loss), params="theta", steps=30)
    assert len(found.elements) == 2
    assert model.theta.tolist() == pytest.approx([0.2, 1.1])
    assert torch.equal(model.x[0], torch.arange(5.0))


@pytest.mark.parametrize("batch_size", [64, 32])
def test_a_divergence_is_a_rate_above_the_bound_of_the_steepest_direction(batch_size: int) -> None:
    x = noise(64, 3)
    y = x @ torch.tensor([[1.0], [2.0], [-1.0]])
    # The mean squared error's Hessian is 2 X'X / n, and a step is stable up to 2 / its largest.
    largest = 2 * np.linalg.eigvalsh((x.T @ x / 64).numpy())[-1]
    model = nn.Linear(3, 1, bias=False)
    nn.init.zeros_(model.weight)
    pairs = list(zip(x.split(batch_size), y.split(batch_size), strict=True))
    made = gd.Training(model, pairs, functional.mse_loss)
    result = gd.diagnose(made, params="weight", lr=3 / largest, steps=200, seeds=1)
    assert result.outcome == "nonfinite"
    assert {element.verdict for element in result.elements} == {"step_too_large"}
    if batch_size == 64:
        for element in result.elements:
            evidence = element.findings[0].evidence
            assert evidence["lr_times_curvature"] == pytest.approx(3, rel=1e-3)
    assert next(r for r in result.remedies if r.plan.name == "own rate").works


def test_a_loss_without_end_below_is_no_rate_too_large() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    # -w^4 is steeper the farther w is: without a minimum, no rate is small enough.
    made = gd.Training(model, [(torch.ones(1, 1), torch.ones(1))], lambda out, _: -(out**4).mean())
    result = gd.diagnose(made, params="weight", lr=0.1, steps=60, seeds=0)
    assert result.outcome == "nonfinite"
    assert result.verdict != "step_too_large"


@pytest.mark.parametrize("lr", [0.005, 0.0005])
def test_a_minimum_beyond_the_range_is_no_goal_and_the_rate_leads_there(lr: float) -> None:
    # L = (w - 3)^2 c with c = mean x^2: after T steps (1 - 2 lr c)^T of the way is left.
    x = torch.linspace(-1, 1, 16)[:, None]
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    made = gd.Training(model, [(x, 3 * x)], functional.mse_loss)
    result = gd.diagnose(made, params="weight", lr=lr, steps=100, seeds=1)
    (element,) = result.elements
    assert (element.verdict, element.outcome) == ("step_too_small", "unfinished")
    shown = element.to_dict()
    assert shown["goal"] is None
    assert shown["line"] == {"start": [], "final": []}
    left = (1 - 2 * lr * float((x**2).mean())) ** 100
    factor = element.findings[0].evidence["factor"]
    assert factor == pytest.approx(math.log(0.01) / math.log(left), rel=0.01)
    own = next(r for r in result.remedies if r.plan.name == "own rate")
    assert own.works
    # A hundredth of the way is a ten-thousandth of the loss.
    assert own.after.losses[0] < 1.2e-4 * result.run.losses[0]


class Carried(nn.Module):
    """Errors 10 (near - far) and far - 5: near stands at its line's minimum, far + a trifle."""

    def __init__(self) -> None:
        super().__init__()
        self.near = nn.Parameter(torch.zeros(1))
        self.far = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.cat([10 * (self.near - self.far), self.far - 5])


@pytest.mark.parametrize(
    ("steps", "verdict"),
    [(300, "step_too_small"), pytest.param(12_000, "healthy", marks=pytest.mark.slow)],
)
def test_what_its_minimum_carries_along_has_not_converged(steps: int, verdict: str) -> None:
    # L = (100 (near - far)^2 + (far - 5)^2) / 2. The smaller eigenvalue is 1/2: of the way to 5
    # (1 - lr / 2)^steps is left, 86% and 0.25%, and near is 1/200 of that from its minimum.
    made = gd.Training(Carried(), [(torch.ones(1, 2), torch.zeros(1, 2))], functional.mse_loss)
    result = gd.diagnose(made, params="near", lr=0.001, steps=steps, seeds=0)
    (element,) = result.elements
    assert element.final == pytest.approx(5 * (1 - (1 - 0.0005) ** steps), rel=0.02)
    assert element.verdict == verdict
    assert ("still on its way" in result.headline) == (verdict == "step_too_small")


def test_a_filter_of_several_numbers_is_one_subject() -> None:
    x = noise(64, 3)
    # Centred, so that the bias's minimum stays at 0 whatever the weights are.
    x = x - x.mean(0)
    made = gd.Training(nn.Linear(3, 2), [(x, x @ torch.ones(3, 2))], functional.mse_loss)
    for params, subject in (
        ("weight", "rows 0 and 1 are still"),
        (["weight", "bias"], "weight of rows 0 and 1 are still"),
    ):
        torch.nn.init.zeros_(made.model.weight)
        torch.nn.init.zeros_(made.model.bias)
        result = gd.diagnose(made, params=params, lr=0.002, steps=60, seeds=0)
        assert subject in result.headline


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle", "exponential"])
@pytest.mark.parametrize("width", [1, 3])
def test_a_fall_that_its_schedule_ended_wants_a_larger_rate(schedule: str, width: int) -> None:
    x = noise(64, width)
    model = nn.Linear(width, 1, bias=False)
    nn.init.zeros_(model.weight)
    made = gd.Training(model, [(x, x @ torch.ones(width, 1))], functional.mse_loss)
    result = gd.diagnose(made, params="weight", lr=0.01, steps=100, schedule=schedule, seeds=0)
    for element in result.elements:
        assert element.verdict == "step_too_small"
        assert element.judgement.factor > 1


def test_advice_is_the_rate_to_give_whatever_a_schedule_makes_of_it() -> None:
    # Of two numbers one has arrived, and the other one, whose slopes are 1e4 times smaller, cannot.
    model = nn.Module()
    model.fast, model.slow = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    model.forward = lambda x: x * torch.cat([model.fast, 0.01 * model.slow])
    made = gd.Training(model, [(torch.ones(2), torch.tensor([1.0, 0.3]))], functional.mse_loss)
    result = gd.diagnose(
        made, params=["fast", "slow"], lr=0.9, steps=200, schedule="one-cycle", seeds=0
    )
    slow = result.elements[1]
    assert slow.verdict == "too_slow_beside_others"
    advised = float(slow.judgement.helps.removeprefix("a learning rate of ").split()[0])
    assert advised == pytest.approx(0.9 * slow.judgement.factor, rel=0.05)


class Values(nn.Module):
    """Numbers v, of which the model makes its output of x."""

    def __init__(self, start: list[float], use: Any = torch.mul) -> None:
        super().__init__()
        self.v, self.use = nn.Parameter(torch.tensor(start)), use

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.use(x, self.v)


def verdicts(model: nn.Module, y: torch.Tensor, **options: Any) -> list[str]:
    """The verdict of each number v of a model trained on three columns of noise."""
    made = gd.Training(model, [(noise(64, 3), y)], functional.mse_loss)
    found = gd.diagnose(made, params=["v"], **({"lr": 0.3, "steps": 100, "seeds": 0} | options))
    return [element.verdict for element in found.elements]


@pytest.mark.parametrize("highest", [15, 80])
def test_a_far_end_of_the_range_hides_no_minimum(highest: float) -> None:
    # The range goes to 15, where the loss is 15^30, and beyond float32 of 80; its rounding there is
    # larger than the loss at 6.
    x = torch.linspace(10, highest, 40)[:, None]
    model = Values([6.0], lambda x, v: x**v)
    made = gd.Training(model, [(x, x**6.5)], functional.mse_loss)
    found = gd.diagnose(
        made, params=["v"], optimizer="adam", lr=1e-4, steps=60, seeds=0
    )  # fmt: skip
    assert found.verdict == "step_too_small"


class Uphill(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: torch.Tensor) -> torch.Tensor:
        return v.clone()

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> torch.Tensor:
        return -slope


def test_a_derivative_of_the_wrong_sign_is_found_and_a_clipped_one_is_none() -> None:
    y, start = noise(64, 3), [0.5, 0.6, 0.7]
    wrong = Values(start, lambda x, v: x * Uphill.apply(v))
    assert verdicts(wrong, y, lr=0.03) == ["wrong_gradient"] * 3
    # As long as all are clipped each moves by 0.3 times 0.001 a step.
    clipped = Values(start)
    clipped.v.register_hook(lambda slope: slope.clamp(-1e-3, 1e-3))
    assert verdicts(clipped, y) == ["step_too_small"] * 3


@pytest.mark.parametrize("name", ["into.weight", "out.weight"])
def test_a_tied_tensor_is_watched_by_either_name(name: str) -> None:
    model = nn.Sequential()
    model.into, model.out = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    model.out.weight = model.into.weight
    made = gd.Training(model, [(noise(32, 3), noise(32, 3, seed=1))], functional.mse_loss)
    found = gd.diagnose(made, params=[name], lr=0.1, steps=20, seeds=0)
    assert len(found.elements) == 9
    with pytest.raises(UsageError, match="named twice"):
        gd.diagnose(made, params=["into.weight[0,0]", "out.weight[0,0]"], steps=20)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_what_a_normalization_takes_out_again_has_no_effect(optimizer: str) -> None:
    # Adam makes of the rounding that arrives steps as long as any.
    norm = nn.BatchNorm1d(3)
    model = Values([0.1, 0.2, 0.3], lambda x, v: norm(x + v))
    model.norm = norm
    found = verdicts(model, noise(64, 3, seed=1), optimizer=optimizer, lr=0.01)
    assert found == ["flat_objective"] * 3


def test_equal_numbers_that_should_be_equal_are_no_duplicates() -> None:
    shifted = Values([0.0, 0.5, -0.5], torch.add)
    assert verdicts(shifted, noise(64, 3) + 1) == ["healthy"] * 3


def test_numbers_that_are_right_from_the_start_are_healthy() -> None:
    exact = Values([1.0, 2.0, 3.0])
    assert verdicts(exact, noise(64, 3) * torch.tensor([1.0, 2.0, 3.0])) == ["healthy"] * 3


def test_what_makes_the_gradient_zero_is_named_though_the_line_is_level_or_is_not() -> None:
    y = 2 * noise(64, 3)
    # Of 0.2 the line is level up to 0.5, of 3.3 it has steps.
    rounded = Values([0.2, 0.3, 3.3], lambda x, v: x * v.round())
    assert verdicts(rounded, y) == ["no_gradient"] * 3
    masked = Values([1.0, 1.1, 1.2])
    masked.v.register_hook(lambda slope: slope * torch.tensor([1.0, 0.0, 1.0]))
    assert verdicts(masked, y) == ["healthy", "no_gradient", "healthy"]


def test_a_rate_too_small_for_all_of_a_model_is_not_blamed_on_a_rest() -> None:
    x = noise(512, 3)
    y = x @ torch.tensor([[2.0], [-1.0], [3.0]]) + noise(512, 1, seed=1)
    pairs = [(x[i : i + 4], y[i : i + 4]) for i in range(0, 512, 4)]
    torch.manual_seed(0)
    made = gd.Training(nn.Linear(3, 1), pairs, functional.mse_loss)
    found = gd.diagnose(made, params=["weight", "bias"], lr=1e-5, steps=120, seeds=0)
    assert {element.verdict for element in found.elements} <= {"step_too_small", "healthy"}
    assert found.verdict == "step_too_small"


def test_evaluations_are_all_that_the_lines_took() -> None:
    made = found()
    assert made.evaluations >= sum(len(e.line_final.values) for e in made.elements)
