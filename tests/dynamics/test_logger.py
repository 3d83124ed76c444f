"""The log of one's own loop: what is in it, whatever happens to the loop."""

from __future__ import annotations

import csv
import gc
import math
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from gabordiag.diagnosis.log.readers import read_log
from gabordiag.dynamics.logger import TrajectoryLogger
from gabordiag.errors import InputError, OutputError, UsageError


class Layer(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.full(shape, 0.3, dtype=torch.float64))
        self.sigma = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def train(layer: Layer, log: TrajectoryLogger, steps: int, lr: float = 0.1, fail: int = -1) -> None:
    optimizer = torch.optim.SGD(layer.parameters(), lr=lr)
    for step in range(steps):
        optimizer.zero_grad()
        loss = (layer.theta.flatten()[0] ** 2) * layer.sigma
        loss.backward()
        log.step(loss, lr=lr)
        if step == fail:
            raise RuntimeError("out of memory")
        optimizer.step()


def test_what_is_written(tmp_path):
    layer = Layer()
    layer.sigma.requires_grad_(False)
    with TrajectoryLogger(tmp_path / "log.csv", theta=layer.theta) as log:
        train(layer, log, 4)
    assert (tmp_path / "log.csv").read_text().splitlines()[0] == "step,theta,loss,grad,update,lr"
    # theta <- theta - 0.1 * 4 theta, by hand.
    theta = 0.3
    for step, row in enumerate(rows(tmp_path / "log.csv")):
        assert row["step"] == str(step)
        assert float(row["theta"]) == theta
        assert float(row["loss"]) == theta**2 * 2
        assert float(row["grad"]) == pytest.approx(4 * theta, rel=1e-15)
        after = theta - 0.1 * float(row["grad"])
        assert float(row["update"]) == after - theta
        assert float(row["lr"]) == 0.1
        theta = after
    assert step == 3
    assert layer.theta.item() == theta


def test_full_precision(tmp_path):
    layer = Layer()
    with torch.no_grad():
        layer.theta.fill_(math.pi / 7)
    with TrajectoryLogger(tmp_path / "log.csv", theta=layer.theta) as log:
        log.step(1 / 3, lr=torch.tensor(0.1, dtype=torch.float64))
    row = rows(tmp_path / "log.csv")[0]
    assert row["theta"] == repr(math.pi / 7)
    assert row["loss"] == repr(1 / 3)
    assert row["lr"] == "0.1"


def test_every_row_is_there_at_once(tmp_path):
    layer, path = Layer(), tmp_path / "log.csv"
    with TrajectoryLogger(path, theta=layer.theta) as log:
        assert path.read_text() == "step,theta,loss,grad,update,lr\n"
        for count in range(1, 4):
            log.step(1.0, lr=0.1)
            table = rows(path)
            assert len(table) == count
            assert math.isnan(float(table[-1]["update"]))
            assert all(float(row["update"]) == 0.5 for row in table[:-1])
            with torch.no_grad():
                layer.theta.add_(0.5)
    assert float(rows(path)[-1]["update"]) == 0.5


def test_a_crash_of_the_loop(tmp_path):
    layer, path = Layer(), tmp_path / "log.csv"
    with (
        pytest.raises(RuntimeError, match="out of memory"),
        TrajectoryLogger(path, theta=layer.theta) as log,
    ):
        train(layer, log, 10, fail=3)
    table = rows(path)
    assert [row["step"] for row in table] == ["0", "1", "2", "3"]
    assert not any(math.isnan(float(row["update"])) for row in table[:-1])
    # Nobody knows whether the optimizer still moved.
    assert math.isnan(float(table[-1]["update"]))


def test_several_parameters(tmp_path):
    layer, path = Layer(), tmp_path / "log.csv"
    with TrajectoryLogger(path, theta=layer.theta, sigma=layer.sigma) as log:
        train(layer, log, 2)
    assert path.read_text().splitlines()[0] == "step,theta,sigma,loss,grad,grad_sigma,update,lr"
    first, second = rows(path)
    assert float(first["grad"]) == pytest.approx(2 * 0.3 * 2)
    assert float(first["grad_sigma"]) == pytest.approx(0.3**2)
    assert float(first["update"]) == pytest.approx(-0.12)
    assert float(second["sigma"]) == pytest.approx(2 - 0.1 * 0.09)


@pytest.mark.parametrize("wrap", [lambda get: get(), lambda get: get], ids=["tensor", "function"])
@pytest.mark.parametrize(
    ("shape", "index"), [((3,), (0,)), ((2, 3), (0, 0)), ((1,), (0,)), ((2, 2), (slice(0, 1), 0))]
)
def test_one_element_of_a_larger_parameter(tmp_path, wrap, shape, index):
    layer, path = Layer(*shape), tmp_path / "log.csv"
    with TrajectoryLogger(path, theta=wrap(lambda: layer.theta[index])) as log:
        train(layer, log, 3)
    values = [float(row["theta"]) for row in rows(path)]
    slopes = [float(row["grad"]) for row in rows(path)]
    assert values[0] == 0.3
    assert slopes[0] == pytest.approx(2 * 0.3 * 2)
    assert values[1] == pytest.approx(0.3 - 0.1 * slopes[0])


def test_another_element_gets_its_own_gradient(tmp_path):
    parameter = nn.Parameter(torch.arange(6.0).reshape(2, 3))
    (parameter**2).sum().backward()
    with TrajectoryLogger(tmp_path / "log.csv", a=parameter[1, 2], b=parameter.t()[0, 1]) as log:
        log.step(0.0)
    row = rows(tmp_path / "log.csv")[0]
    assert (float(row["a"]), float(row["grad"])) == (5.0, 10.0)
    assert (float(row["b"]), float(row["grad_b"])) == (3.0, 6.0)
    assert math.isnan(float(row["lr"]))


def test_a_replaced_parameter_is_followed_by_a_function(tmp_path):
    layer = Layer()
    with TrajectoryLogger(tmp_path / "log.csv", theta=lambda: layer.theta) as log:
        log.step(0.0, lr=0.1)
        layer.theta = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))
        log.step(0.0, lr=0.1)
    assert [float(row["theta"]) for row in rows(tmp_path / "log.csv")] == [0.3, 1.5]


def test_no_gradient_is_zero(tmp_path):
    layer = Layer()
    with TrajectoryLogger(tmp_path / "log.csv", theta=layer.theta) as log:
        log.step(1.0, lr=0.1)
    assert float(rows(tmp_path / "log.csv")[0]["grad"]) == 0.0


def test_not_a_number_is_kept(tmp_path):
    layer = Layer()
    layer.theta.grad = torch.tensor(math.nan, dtype=torch.float64)
    with TrajectoryLogger(tmp_path / "log.csv", theta=layer.theta) as log:
        log.step(math.inf, lr=0.1)
    row = rows(tmp_path / "log.csv")[0]
    assert (row["loss"], row["grad"]) == ("inf", "nan")


def test_the_graph_is_not_kept(tmp_path):
    layer = Layer()
    with TrajectoryLogger(tmp_path / "log.csv", theta=layer.theta) as log:
        loss = layer.theta**2
        node = weakref.ref(loss)
        log.step(loss, lr=0.1)
        del loss
        gc.collect()
        assert node() is None


def test_names_with_commas(tmp_path):
    layer = Layer(2, 2)
    with TrajectoryLogger(tmp_path / "log.csv", **{"theta[0,1]": layer.theta[0, 1]}) as log:
        log.step(0.0, lr=0.1)
    assert float(rows(tmp_path / "log.csv")[0]["theta[0,1]"]) == 0.3


@pytest.mark.parametrize(
    ("parameters", "error", "words"),
    [
        ({}, UsageError, "needs a parameter"),
        ({"loss": torch.zeros(1)}, UsageError, "'loss' is a column"),
        ({"grad_theta": torch.zeros(1)}, UsageError, "is a column"),
        ({"theta": 0.3}, InputError, "a float, not a tensor"),
        ({"theta": lambda: 0.3}, InputError, "a float, not a tensor"),
        ({"theta": torch.zeros(0)}, InputError, r"shape \(0,\)"),
        ({"theta": torch.zeros(1, requires_grad=True) * 2}, InputError, "is computed from"),
        ({"theta": torch.zeros(1, dtype=torch.complex64)}, InputError, "no real number"),
    ],
)
def test_what_cannot_be_followed(tmp_path, parameters, error, words):
    with pytest.raises(error, match=words):
        TrajectoryLogger(tmp_path / "log.csv", **parameters)
    assert not list(tmp_path.iterdir())


def test_wrong_use(tmp_path):
    layer = Layer()
    log = TrajectoryLogger(tmp_path / "log.csv", theta=layer.theta)
    with pytest.raises(UsageError, match="not open"):
        log.step(1.0)
    with log:
        with pytest.raises(InputError, match=r"the loss .* not one number"):
            log.step(torch.ones(2), lr=0.1)
        with pytest.raises(InputError, match="lr"):
            log.step(1.0, lr="fast")
    with pytest.raises(UsageError, match="not open"):
        log.step(1.0)
    with (
        pytest.raises(OutputError, match="cannot be written"),
        TrajectoryLogger(tmp_path / "nowhere" / "log.csv", theta=layer.theta),
    ):
        pass


@contextmanager
def room(size: int) -> Iterator[None]:
    """Lets no file grow beyond so many bytes: what a full disk does to one."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [10, 500])
def test_a_disk_without_room_is_told_and_the_file_closed(tmp_path, size):
    layer = Layer()
    log = TrajectoryLogger(tmp_path / "log.csv", theta=layer.theta)

    def fill() -> None:
        with room(size), log:
            for _ in range(100):
                log.step(1.0, lr=0.1)

    # At the header, or on the way; warnings of files left open are errors here.
    with pytest.raises(OutputError, match=r"log\.csv cannot be written: File too large"):
        fill()
    gc.collect()
    with pytest.raises(UsageError, match="not open"):
        log.step(1.0)
    whole = (tmp_path / "log.csv").read_text().split("\n")[:-1]
    assert all(line.count(",") == 5 for line in whole)
    assert len(whole) > 5 or size == 10


@pytest.mark.parametrize(
    "name",
    ["t", "rate", "time", "momentum", "val", "seconds", "epoch", "batch", "cost", "objective",
     "loss_scale", "lr_gain", "gradient", "w_mse"],
)  # fmt: skip
def test_any_name_is_read_as_the_parameter(tmp_path, name):
    """Of |x|, from -60 with rate 1, which is a whole number in every row."""
    path = tmp_path / "run.csv"
    x = torch.tensor(-60.0, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([x], lr=1.0)
    with TrajectoryLogger(path, **{name: x}) as log:
        for _ in range(50):
            optimizer.zero_grad()
            loss = x.abs()
            loss.backward()
            log.step(loss, lr=1.0)
            optimizer.step()
    read = read_log(path)
    assert read.value_name == name
    assert read.values.tolist() == [float(k) for k in range(-60, -10)]
    assert read.losses.tolist() == [float(-k) for k in range(-60, -10)]
    assert read.gradients.tolist() == [-1.0] * 50
    assert read.lrs.tolist() == [1.0] * 50
