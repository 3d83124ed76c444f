"""Planes through all weights, against plain loops, NumPy and the two-parameter sweep."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.interpolate import RegularGridInterpolator
from torch import nn
from torch.nn import functional

import gabordiag as gd
from gabordiag.cli.main import run
from gabordiag.dynamics import checkpoint
from gabordiag.errors import InputError, UsageError
from gabordiag.landscape.network import resolve
from gabordiag.presentation.registry import KINDS

MOMENTS = 61


class Normed(nn.Module):
    """Convolution, normalisation, dropout: what planes have to leave alone."""

    def __init__(self, drop: float = 0.2) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.drop, self.head = nn.Dropout(drop), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(torch.relu(self.norm(self.conv(x))).mean(dim=(2, 3))))


class Scale(nn.Module):
    """One weight."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x.flatten(1)


def perceptron(*sizes: int, activation: type[nn.Module] = nn.Tanh) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    for wide, thin in itertools.pairwise(sizes):
        layers += [nn.Linear(wide, thin), activation()]
    return nn.Sequential(*layers[:-1])


def made(
    model: Callable[[], nn.Module], dtype: torch.dtype = torch.float64, count: int = 3
) -> gd.Training:
    torch.manual_seed(0)
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(12 * count, 1, 5, 5, generator=draw, dtype=torch.float64)
    y = (x[:, 0, 0, 0] + x[:, 0, 1, 1] > 0).long() + (x[:, 0, 2, 2] > 0.7).long()
    batches = list(zip(x.to(dtype).split(12), y.split(12), strict=True))
    return gd.Training(model().to(dtype), batches, functional.cross_entropy)


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [p for p in model.parameters() if p.requires_grad]


def flat(tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([t.detach().reshape(-1) for t in tensors])


def place(model: nn.Module, vector: torch.Tensor) -> None:
    with torch.no_grad():
        for tensor, part in zip(
            weights(model), vector.split([p.numel() for p in weights(model)]), strict=True
        ):
            tensor.copy_(part.reshape(tensor.shape))


def mean_loss(training: gd.Training) -> float:
    with torch.no_grad():
        losses = [float(training.loss(training.model(x), y)) for x, y in training.batches]
    return float(np.mean(losses))


def plain_path(training: gd.Training, lr: float, steps: int) -> torch.Tensor:
    """All weights at the moments of a plain loop (k, m); the model stays at the end."""
    optimizer = torch.optim.SGD(training.model.parameters(), lr=lr)
    kept = set(np.unique(np.linspace(0, steps, MOMENTS).round().astype(int)).tolist())
    path = []
    for step in range(steps + 1):
        if step in kept:
            path.append(flat(weights(training.model)))
        x, y = training.batches[step % len(training.batches)]
        optimizer.zero_grad()
        training.loss(training.model(x), y).backward()
        if step < steps:
            optimizer.step()
    return torch.stack(path)


@pytest.mark.each(6)
@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("plane", ["random", "pca", "gradient"])
def test_the_grid_is_that_of_a_plain_loop(plane: str, dtype: torch.dtype, within: float) -> None:
    training = made(lambda: Normed(drop=0.0), dtype)
    found = gd.sweep(training, plane=plane, points=(7, 5), lr=0.2, steps=20)
    assert found.loss.shape == (7, 5)
    end = plain_path(training, 0.2, 20)[-1]
    assert torch.equal(found.origin[: len(end)], end)
    first, second = found.directions
    for i, a in enumerate(found.a):
        for j, b in enumerate(found.b):
            place(training.model, end + float(a) * first + float(b) * second)
            assert math.isclose(mean_loss(training), found.loss[i, j], rel_tol=within)


def test_dropout_and_shuffled_batches_draw_the_same_at_every_place() -> None:
    training = made(lambda: Normed(drop=0.5))
    data = torch.utils.data.TensorDataset(*map(torch.cat, zip(*training.batches, strict=True)))
    loader = torch.utils.data.DataLoader(data, batch_size=12, shuffle=True)
    training = gd.Training(training.model, loader, training.loss)
    found = gd.sweep(training, plane="random", points=6, lr=0.1, steps=9)
    with training.kept(0):
        batches = training.fixed(8)
    state = training.state()
    for i, j in itertools.product((0, 3, 5), (1, 4)):
        place(training.model, found.origin[: found.directions.shape[1]])
        moved = found.a[i] * found.directions[0] + found.b[j] * found.directions[1]
        place(training.model, flat(weights(training.model)) + moved)
        losses = []
        for index, (x, y) in enumerate(batches):
            torch.manual_seed(index)
            losses.append(float(training.loss(training.model(x), y).detach()))
        assert found.loss[i, j] == pytest.approx(np.mean(losses), rel=1e-12)
    training.load(state)


def test_random_directions_are_as_long_as_the_filters() -> None:
    training = made(Normed)
    found = gd.sweep(training, plane="random", points=3, lr=0.1, steps=5)
    model = training.model
    place(model, found.origin[: found.directions.shape[1]])
    ends = {name: p.detach().clone() for name, p in model.named_parameters()}
    for direction in found.directions:
        place(model, direction)
        for name, moved in model.named_parameters():
            if name in ("conv.weight", "head.weight"):
                lengths = [t.flatten(1).norm(dim=1) for t in (moved.detach(), ends[name])]
                torch.testing.assert_close(*lengths)
            else:
                assert not moved.any(), name


@pytest.mark.long
def test_main_directions_are_those_of_the_svd() -> None:
    training = made(lambda: perceptron(25, 6, 3))
    found = gd.sweep(training, plane="pca", points=3, lr=0.3, steps=100)
    path = plain_path(training, 0.3, 100).numpy()
    around = path - path.mean(axis=0)
    _, sizes, rows = np.linalg.svd(around, full_matrices=False)
    shares = sizes**2 / (sizes**2).sum()
    np.testing.assert_allclose(found.variance[:10], shares[:10], atol=1e-12)
    assert math.isclose(found.captured, shares[:2].sum(), rel_tol=1e-10)
    along = np.abs(found.directions.numpy() @ rows[:2].T)
    np.testing.assert_allclose(along, np.eye(2), atol=1e-7)
    assert found.path[0, 0] > 0
    np.testing.assert_allclose(found.path, (path - path[-1]) @ found.directions.numpy().T)


def hessian_of(training: gd.Training) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradient and Hessian of the mean loss by torch.func, where the model stands."""
    names = [name for name, p in training.model.named_parameters() if p.requires_grad]
    shapes = [p.shape for p in weights(training.model)]

    def loss(vector: torch.Tensor) -> torch.Tensor:
        parts = vector.split([math.prod(shape) for shape in shapes])
        given = {n: t.reshape(s) for n, t, s in zip(names, parts, shapes, strict=True)}
        losses = [
            training.loss(torch.func.functional_call(training.model, given, (x,)), y)
            for x, y in training.batches
        ]
        return torch.stack(losses).mean()

    at = flat(weights(training.model))
    hessian = torch.autograd.functional.hessian(loss, at)
    return torch.func.grad(loss)(at), hessian


@pytest.mark.long
def test_gradient_and_sharpest_direction() -> None:
    training = made(lambda: perceptron(25, 4, 3))
    found = gd.sweep(training, plane="gradient", points=3, lr=0.3, steps=30)
    plain_path(training, 0.3, 30)
    slope, hessian = hessian_of(training)
    first, second = found.directions
    torch.testing.assert_close(first, slope / slope.norm())
    sharpest = torch.linalg.eigh(hessian)[1][:, -1]
    rest = sharpest - (sharpest @ first) * first
    assert math.isclose(abs(float(second @ rest)) / float(rest.norm()), 1, abs_tol=1e-5)


def test_axes_are_the_sweep_over_two_parameters() -> None:
    image = np.random.default_rng(0).standard_normal((30, 31))
    experiment = gd.Experiment(image, kernel_size=9, wavelength=6, sigma=2, loss="mse")
    swept = gd.sweep(experiment, over=("theta", "sigma"), points=(25, 9))

    class Filter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.theta = nn.Parameter(torch.tensor(-math.pi / 4, dtype=torch.float64))
            self.sigma = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            kernel = gd.gabor_kernel(self.theta, 6, self.sigma, kernel_size=9, dtype=torch.float64)
            return functional.conv2d(x, kernel[None, None])

    x = torch.tensor(image)[None, None]
    with torch.no_grad():
        model = Filter()
        model.theta.fill_(math.pi / 4)
        y = model(x)
    training = gd.Training(Filter(), [(x, y)], functional.mse_loss)
    ends = [(float(axis[0]), float(axis[-1])) for axis in (swept.a, swept.b)]
    settings: dict = {"points": (25, 9), "lr": 1e-4, "steps": 20, "range": ends}
    found = gd.sweep(training, over=("theta", "sigma"), **settings)
    np.testing.assert_allclose(found.loss, swept.loss, rtol=0, atol=1e-9 * swept.loss.max())
    # Nothing else is learned: the plane holds the whole path, which begins at the start.
    assert found.captured == pytest.approx(1)
    np.testing.assert_allclose(found.path[0], [-math.pi / 4, 2.0], atol=1e-12)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], str, float, int]] = {
    "straight": (lambda: perceptron(25, 3), "pca", 0.05, 60),
    "deep": (lambda: perceptron(25, 12, 8, 3, activation=nn.ReLU), "pca", 0.3, 200),
    "bouncing": (lambda: perceptron(25, 12, 3), "pca", 6.0, 120),
    "any plane": (lambda: perceptron(25, 12, 3), "random", 0.5, 150),
    "steepest": (lambda: perceptron(25, 8, 3, activation=nn.ReLU), "gradient", 0.3, 100),
}


@pytest.mark.each(5)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_sentence_agrees_with_a_direct_measurement(name: str) -> None:
    model, plane, lr, steps = NETWORKS[name]
    training = made(model)
    found = gd.sweep(training, plane=plane, points=41, lr=lr, steps=steps)
    path, directions = plain_path(training, lr, steps), found.directions.numpy()
    moved = (path - path[-1]).numpy()
    at = np.linalg.lstsq(directions.T, moved.T, rcond=None)[0].T
    near, true = at @ directions, []
    for vector in path:
        place(training.model, vector)
        true.append(mean_loss(training))
    np.testing.assert_allclose(found.path_loss, true, rtol=1e-10)

    # The share in the plane: 1 - what is left beside it.
    def spread(places: np.ndarray) -> float:
        return float(((places - places.mean(axis=0)) ** 2).sum())

    captured = 1 - spread(moved - near) / spread(moved)
    assert found.captured == pytest.approx(captured, abs=1e-9)
    drawn = RegularGridInterpolator((found.a, found.b), found.loss)(at)
    apart = np.abs(drawn - true).max() / np.ptp(true)
    assert found.to_dict()["path_mismatch"] == pytest.approx(apart, rel=1e-8)
    shows = captured >= 0.8 and apart <= 0.1
    assert found.headline.startswith(f"This picture {'shows' if shows else 'does not show'} ")
    # The picture is fine enough: the loss itself, at the path's nearest places, says so too.
    exact = []
    for offset in near:
        place(training.model, path[-1] + torch.tensor(offset))
        exact.append(mean_loss(training))
    apart = np.abs(np.array(exact) - true).max() / np.ptp(true)
    assert (captured >= 0.8 and apart <= 0.1) == shows


@pytest.mark.long
def test_both_answers_occur() -> None:
    answers = {
        name: gd.sweep(made(model), plane=plane, points=21, lr=lr, steps=steps).shows
        for name, (model, plane, lr, steps) in NETWORKS.items()
        if name in ("straight", "any plane")
    }
    assert answers["straight"]
    assert not answers["any plane"]


@pytest.mark.long
def test_lines_between_ends_and_seeds_against_dense_plain_ones() -> None:
    model = lambda: perceptron(25, 10, 3)  # noqa: E731 - made thrice
    found = gd.sweep(made(model), plane="pca", points=3, lr=1.0, steps=90, seeds=2)
    training, other = made(model), made(model)
    path = plain_path(training, 1.0, 90)
    # Another seed begins with the next batch of a list.
    other.batches[:] = [*other.batches[1:], *other.batches[:1]]
    ends = [(path[0], path[-1]), (path[-1], plain_path(other, 1.0, 90)[-1])]
    dense = np.linspace(0, 1, 801)
    for line, (start, end) in zip(found.lines, ends, strict=True):
        losses = []
        for t in dense:
            place(training.model, start + float(t) * (end - start))
            losses.append(mean_loss(training))
        np.testing.assert_allclose(line.loss[[0, -1]], [losses[0], losses[-1]], rtol=1e-9)
        apart = np.abs(np.interp(dense, line.t, line.loss) - losses)
        assert apart.max() <= line.error <= 0.01 * np.ptp(losses)
        heights = losses - ((1 - dense) * losses[0] + dense * losses[-1])
        said = line.to_dict()
        assert said["barrier"] == pytest.approx(heights.max(), abs=line.error + 1e-12)
    assert (found.lines[1].start, found.lines[1].end) == ("seed 0", "seed 1")


@pytest.mark.parametrize("width", [0.3, 0.05, 0.01])
def test_a_line_is_resolved_where_it_bends(width: float) -> None:
    def loss(t: np.ndarray) -> np.ndarray:
        return np.tanh((t - 0.4) / width)

    t, losses, error = resolve(loss, 0.01)
    dense = np.linspace(0, 1, 100_001)
    apart = np.abs(np.interp(dense, t, losses) - loss(dense)).max()
    assert apart <= error <= 0.02
    assert len(t) < 80
    # Fewer evaluations than evenly spaced ones that are as good.
    even = np.linspace(0, 1, len(t))
    assert width > 0.1 or apart < np.abs(np.interp(dense, even, loss(even)) - loss(dense)).max()


@pytest.mark.long
def test_the_largest_eigenvalues_are_those_of_the_whole_hessian() -> None:
    training = made(lambda: perceptron(25, 4, 3))
    found = gd.sweep(training, plane="random", points=3, lr=0.4, steps=30, params="3.weight")
    sharp = found.sharpness
    path = plain_path(training, 0.4, 30)
    hessian = hessian_of(training)[1]
    true = torch.linalg.eigvalsh(hessian).flip(0)
    np.testing.assert_allclose(sharp.eigenvalues, true[:3], atol=1e-3 * float(true[0]))
    # Of a symmetric matrix an eigenvalue is known to the square of the residual.
    assert sharp.eigenvalues[0] == pytest.approx(float(true[0]), rel=1e-6)
    assert sharp.error <= 1e-4 * float(true.abs().max())
    head = slice(26 * 4, 26 * 4 + 12)
    own = torch.linalg.eigvalsh(hessian[head, head]).flip(0)
    np.testing.assert_allclose(sharp.watched, own[:3], atol=1e-3 * float(own[0]))
    for step, largest in zip(sharp.steps, sharp.sharpness, strict=True):
        place(training.model, path[step])
        assert largest == pytest.approx(float(torch.linalg.eigvalsh(hessian_of(training)[1])[-1]))


def quadratic() -> tuple[gd.Training, float]:
    """A linear model and its constant sharpness, 2 X^T X / n."""
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.manual_seed(0)
    model = nn.Linear(5, 1, bias=False).double()
    training = gd.Training(model, [(x, x.sum(1, keepdim=True))], functional.mse_loss)
    return training, float(torch.linalg.eigvalsh(2 * x.T @ x / len(x))[-1])


@pytest.mark.parametrize(
    ("settings", "rate", "edge", "limit"),
    [
        ({}, 0.8, "below", 2),
        ({}, 1.95, "at", 2),
        ({}, 2.6, "above", 2),
        ({"momentum": 0.5}, 2.6, "at", 3),
        ({"optimizer": "adam"}, 0.1, None, None),
        ({"schedule": "cosine"}, 0.1, None, 2),
    ],
)
def test_the_edge_of_stability(
    settings: dict, rate: float, edge: str | None, limit: float | None
) -> None:
    training, sharpness = quadratic()
    found = gd.sweep(
        training, plane="pca", points=2, steps=12, lr=rate / sharpness, **settings
    ).to_dict()["curvature"]
    assert found["eigenvalues"][0] == pytest.approx(sharpness)
    assert found["edge"] == edge
    assert found["limit"] == limit
    if edge is None:
        assert found["reason"]
    else:
        assert found["of_limit"] == pytest.approx(rate / limit)
        assert found["stable_lr"] == pytest.approx(limit / sharpness)


def test_a_loss_without_second_derivatives() -> None:
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, slope):
            return slope

    training, _ = quadratic()
    training = gd.Training(
        training.model, training.batches, lambda out, y: Once.apply(out - y).square().mean()
    )
    found = gd.sweep(training, plane="pca", points=3, steps=5, lr=1e-3)
    assert not found.sharpness.eigenvalues
    assert "once_differentiable" in found.sharpness.reason
    with pytest.raises(InputError, match="once_differentiable"):
        gd.sweep(training, plane="gradient", points=3, steps=5, lr=1e-3)


def everything(training: gd.Training) -> list[object]:
    state = {name: t.clone() for name, t in training.model.state_dict().items()}
    return [state, [m.training for m in training.model.modules()], torch.get_rng_state()]


@pytest.mark.slow
def test_nothing_is_touched_and_a_seed_gives_one_picture() -> None:
    training = made(Normed)
    training.model.drop.eval()
    before = everything(training)
    settings: dict = {"points": 5, "lr": 0.1, "steps": 12, "plane": "random"}
    found, again, other = (gd.sweep(training, seed=seed, **settings) for seed in (3, 3, 4))
    after = everything(training)
    assert before[1] == after[1]
    torch.testing.assert_close(before, after, rtol=0, atol=0)
    assert all(p.grad is None for p in training.model.parameters())
    np.testing.assert_array_equal(found.loss, again.loss)
    assert (found.loss != other.loss).any()


@pytest.mark.slow
def test_an_interrupted_plane_goes_on(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(checkpoint, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "_PART", 1e9)
    settings: dict = {"plane": "random", "points": 12, "lr": 0.1, "steps": 45, "seeds": 2}
    whole = gd.sweep(made(Normed), **settings)
    kept = {**settings, "checkpoint": tmp_path / "run.pt"}
    for stage, after in (("training", 20), ("drawing", 64)):

        def stop(done: int, total: int, what: str, stage: str = stage, after: int = after) -> None:
            if what.startswith(stage) and done >= after:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            gd.sweep(made(Normed), progress=stop, **kept)
        assert (tmp_path / "run.pt").exists()
        begun: list[str] = []
        again = gd.sweep(
            made(Normed), progress=lambda d, t, what, to=begun: to.append(f"{what} {d}"), **kept
        )
        assert not any(line.endswith(" 0") for line in begun if line.startswith(stage))
        for name in ("loss", "path", "path_loss", "path_drawn"):
            np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
        assert not list(tmp_path.iterdir())


def test_what_is_refused() -> None:
    training = made(lambda: perceptron(25, 3))
    with pytest.raises(UsageError, match="plane 'best' is unknown"):
        gd.sweep(training, plane="best")  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="axes are two watched numbers, not 1"):
        gd.sweep(training, over="1.weight[0,0]")
    frozen = made(lambda: perceptron(25, 4, 3))
    frozen.model[1].weight.requires_grad_(False)  # type: ignore[index, union-attr, operator]
    with pytest.raises(UsageError, match="requires_grad"):
        gd.sweep(frozen, over=("1.weight[0,0]", "1.bias[0]"))
    watched = gd.sweep(frozen, plane="pca", params=["1.weight[0,0]", "1.bias"], points=2, steps=9)
    assert watched.directions.shape == (2, 4 + 4 * 3 + 3)
    assert len(watched.sharpness.watched) == 3
    with pytest.raises(UsageError, match="at least 2 learned"):
        gd.sweep(made(lambda: Scale()), plane="pca")
    with pytest.raises(UsageError, match="over is for"):
        gd.sweep(training, over="1.weight", plane="pca")
    with pytest.raises(UsageError, match="is of a training"):
        gd.sweep(lambda v: v**2, plane="pca")
    with pytest.raises(InputError, match="no finite path"):
        gd.sweep(training, plane="pca", lr=1e300, steps=5)


def test_runs_that_end_early_and_paths_outside_the_picture() -> None:
    training, _ = quadratic()
    assert len(gd.sweep(training, plane="pca", points=2, steps=1).path) == 2
    away = gd.sweep(training, plane="pca", points=3, lr=1e3, steps=60)
    assert 1 < len(away.steps) < 61
    assert f"the path ends at step {away.steps[-1]}" in away.headline
    window = [(5.0, 6.0), (5.0, 6.0)]
    found = gd.sweep(training, plane="random", points=3, steps=10, range=window)
    assert found.outside == 11
    assert not found.shows
    assert found.to_dict()["path_error"] is None
    assert "outside the picture at 11 of 11 moments" in found.headline


TRAIN = """
import os, torch, gabordiag as gd
from torch import nn

def loss(output, target):
    loss.left -= 1
    if not loss.left:
        raise KeyboardInterrupt
    return nn.functional.mse_loss(output, target)

def build():
    torch.manual_seed(0)
    x = torch.randn(20, 4)
    loss.left = int(os.environ.get("STOP", 0))
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))
    return gd.Training(model, [(x, x.sum(1, keepdim=True))], loss)
"""


@pytest.mark.slow
def test_the_command(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(TRAIN)
    call = ["sweep", "--objective", "train.py:build", "--steps", "40", "--lr", "0.05", "--json"]
    assert run([*call, "--plane", "pca", "--points", "9", "--out", "made"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result["files"]) >= {"surface.npz", "network.png", "network-path.png", "plane.html"}
    found = result["result"]
    assert found["plane"] == "pca"
    assert {"captured", "path_error", "second_plane", "headline"} <= set(found)
    with np.load(tmp_path / "made" / "surface.npz") as saved:
        assert saved["loss"].shape == (9, 9)
        height = np.ptp(saved["loss"])
        apart = np.abs(saved["path_loss"] - saved["path_drawn"]).max()
        assert saved["path"].shape == (len(saved["steps"]), 2)
    assert found["path_error"] == pytest.approx(apart / height)
    assert run(["sweep", "--config", "made/config.toml", "--json", "--no-plots"]) == 0
    again = json.loads(capsys.readouterr().out)["result"]
    for of in (found, again):
        del of["run"]["seconds"]
    assert again == found
    over = ["--over", "0.weight[0,0]:-1:1:5", "--over", "0.weight[0,1]"]
    assert run([*call, *over, "--out", "axes", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["result"]["points"] == [5, 41]


@pytest.mark.long
@pytest.mark.parametrize("stop", [25, 60])
def test_an_interrupted_command_goes_on(stop: int, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkpoint, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "_PART", 1e9)
    (tmp_path / "train.py").write_text(TRAIN)
    call = ["sweep", "--objective", "train.py:build", "--steps", "40", "--plane", "random"]
    call += ["--points", "11", "--no-plots", "--json"]
    assert run([*call, "--out", "whole"]) == 0
    monkeypatch.setenv("STOP", str(stop))
    assert run([*call, "--out", "part"]) == 130
    assert (tmp_path / "part" / "checkpoint.pt").exists()
    monkeypatch.delenv("STOP")
    capsys.readouterr()
    assert run(["sweep", "--resume", "part", "--json", "--no-plots"]) == 0
    assert not list(tmp_path.glob("part/*.pt"))
    whole, part = (
        json.loads((tmp_path / n / "result.json").read_text()) for n in ("whole", "part")
    )
    for of in (whole["result"], part["result"]):
        del of["run"]["seconds"]
    assert part["result"] == whole["result"]
    assert part["files"] == whole["files"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--objective", "train.py:build"], "Give plane (random"),
        (
            ["--objective", "train.py:build", "--plane", "pca", "--over", "x"],
            "--over has no",
        ),
        (["--objective", "train.py:build", "--plane", "pca", "--target", "1"], "--target"),
        (["--objective", "train.py:build", "--plane", "pca", "--points", "0"], "at least 2 values"),
        (["--objective", "train.py:build", "--plane", "pca", "--seeds", "0"], "and 1 seed"),
        (["--plane", "pca"], "is of a training"),
        (["--steps", "10"], "--steps has no effect"),
    ],
)
def test_options_without_effect(
    options: list, why: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(TRAIN)
    assert run(["sweep", *options, "--quiet"]) == 2
    assert why in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.long
def test_a_result_is_drawn_and_tabulated() -> None:
    pytest.importorskip("pandas")
    found = gd.sweep(made(lambda: perceptron(25, 3)), plane="random", points=4, steps=10)
    assert found.plot() is not None
    assert len(found.to_dataframe()) == 16
    assert dict(found.to_xarray().sizes) == {"a": 4, "b": 4}
    assert "path" in found._repr_html_()
    figure = KINDS["sweep of a network"].figures(found.view())["network-in-space"]()
    x, y, height = figure.axes[0].lines[0].get_data_3d()
    np.testing.assert_array_equal(np.stack([x, y]).T, found.path)
    # What is higher than the surface is cut off there.
    np.testing.assert_array_equal(height, np.minimum(found.path_loss, found.loss.max()))
