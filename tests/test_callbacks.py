"""Logs of other libraries' loops hold what a plain loop's hold.

The libraries' own loops are replaced by small ones that call hooks in the same order, with torch's
own optimizers and GradScaler: Lightning's `loops/optimization/automatic.py` and
`plugins/precision/amp.py`; transformers' `Trainer._inner_training_loop` with accelerate's
`AcceleratedOptimizer`.
"""

from __future__ import annotations

import copy
import csv
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.amp import GradScaler
from torch.utils._python_dispatch import TorchDispatchMode

import gabordiag as gd
from gabordiag.callbacks import StepLog, lightning_callback, trainer_callback
from gabordiag.errors import InputError

BATCHES = [torch.tensor([0.5 + 0.1 * i, 1.0 - 0.05 * i]) for i in range(8)]
RATE = 0.05


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.theta = torch.nn.Parameter(torch.tensor([[0.3], [-0.4]]))
        self.other = torch.nn.Parameter(torch.tensor(0.2))

    def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        wave = torch.sin(self.theta[:, 0] * batch + self.other)
        return {"loss": (wave - 1).square().sum()}


def optimizer_of(model: Model) -> torch.optim.Optimizer:
    groups = [{"params": [model.other], "lr": 0.5}, {"params": [model.theta], "lr": RATE}]
    return torch.optim.SGD(groups)


def reference(accumulated: int = 1, clip: float = 0.0) -> dict[str, np.ndarray]:
    """Returns what a plain loop without any scaler meets before each step."""
    model = Model()
    optimizer = optimizer_of(model)
    rows = []
    for start in range(0, len(BATCHES), accumulated):
        optimizer.zero_grad()
        losses = [model(batch)["loss"] for batch in BATCHES[start : start + accumulated]]
        loss = torch.stack(losses).mean()
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        assert model.theta.grad is not None
        rows.append([*model.theta[:, 0].tolist(), loss.item(), *model.theta.grad[:, 0].tolist()])
        optimizer.step()
    last = float(model.theta.detach()[0, 0])
    table = np.array(rows, dtype=np.float64)
    return {
        "theta[0,0]": table[:, 0],
        "theta[1,0]": table[:, 1],
        "loss": table[:, 2],
        "grad": table[:, 3],
        "grad_theta[1,0]": table[:, 4],
        "update": np.diff(table[:, 0], append=last),
        "lr": np.full(len(rows), RATE),
    }


def assert_logged(path: Path, expected: dict[str, np.ndarray]) -> None:
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"step", *expected}
    for name, column in expected.items():
        logged = np.array([float(row[name]) for row in rows])
        np.testing.assert_allclose(logged, column, rtol=2e-5, atol=1e-7, err_msg=name)


def scaler_of(is_scaled: bool) -> GradScaler | None:
    # A scale that no rounding hides.
    return GradScaler("cpu", init_scale=1024.0) if is_scaled else None


# --- Lightning ------------------------------------------------------------------------------------


class Callback:
    """Lightning's base class: every hook, each of which does nothing."""

    def on_train_start(self, trainer: Any, module: Any) -> None: ...
    def on_before_backward(self, trainer: Any, module: Any, loss: Any) -> None: ...
    def on_after_backward(self, trainer: Any, module: Any) -> None: ...
    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None: ...
    def on_train_end(self, trainer: Any, module: Any) -> None: ...
    def on_exception(self, trainer: Any, module: Any, error: BaseException) -> None: ...


def fit(
    model: Model,
    callback: Any,
    scaler: GradScaler | None = None,
    accumulated: int = 1,
    is_fused: bool = False,
    is_first: bool = True,
    fail: int = -1,
) -> None:
    trainer = SimpleNamespace(
        is_global_zero=is_first, precision_plugin=SimpleNamespace(scaler=scaler)
    )
    optimizer = optimizer_of(model)

    def closure(index: int) -> None:
        loss = model(BATCHES[index])["loss"] / accumulated
        if index % accumulated == 0:
            optimizer.zero_grad()
        loss = loss if scaler is None else scaler.scale(loss)
        callback.on_before_backward(trainer, model, loss)
        loss.backward()
        callback.on_after_backward(trainer, model)

    def wrapped(index: int) -> None:
        closure(index)
        callback.on_before_optimizer_step(trainer, model, optimizer)

    callback.on_train_start(trainer, model)
    try:
        for index in range(len(BATCHES)):
            if index == fail:
                raise KeyError(index)
            if (index + 1) % accumulated:
                closure(index)
            elif scaler is None:
                optimizer.step(partial(wrapped, index))  # type: ignore[arg-type]
            else:
                closure(index)
                if not is_fused:
                    scaler.unscale_(optimizer)
                callback.on_before_optimizer_step(trainer, model, optimizer)
                scaler.step(optimizer)
                scaler.update()
    except KeyError as error:
        callback.on_exception(trainer, model, error)
        raise
    callback.on_train_end(trainer, model)


def module(name: str, **attributes: Any) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(attributes)
    return made


@pytest.fixture(params=["lightning.pytorch", "pytorch_lightning"])
def lightning(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "lightning", module("lightning"))
    monkeypatch.setitem(sys.modules, request.param, module(request.param, Callback=Callback))


@pytest.mark.usefixtures("lightning")
@pytest.mark.parametrize(("is_scaled", "is_fused"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("accumulated", [1, 4])
def test_lightning(tmp_path: Path, is_scaled: bool, is_fused: bool, accumulated: int) -> None:
    model, path = Model(), tmp_path / "run.csv"
    callback = lightning_callback(path, theta=model.theta)
    assert isinstance(callback, Callback)
    fit(model, callback, scaler_of(is_scaled), accumulated, is_fused)
    assert_logged(path, reference(accumulated))


@pytest.mark.usefixtures("lightning")
def test_lightning_ends_the_log_at_an_error(tmp_path: Path) -> None:
    model, path = Model(), tmp_path / "run.csv"
    with pytest.raises(KeyError):
        fit(model, lightning_callback(path, theta=model.theta), fail=5)
    assert_logged(path, {name: column[:5] for name, column in reference().items()})


@pytest.mark.usefixtures("lightning")
def test_lightning_logs_in_the_first_process_alone(tmp_path: Path) -> None:
    model = Model()
    fit(model, lightning_callback(tmp_path / "run.csv", theta=model.theta), is_first=False)
    assert list(tmp_path.iterdir()) == []


# --- Hugging Face ---------------------------------------------------------------------------------


class TrainerCallback:
    """The base class of transformers: every event, each of which does nothing."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None: ...
    def on_substep_end(self, args: Any, state: Any, control: Any, **given: Any) -> None: ...
    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None: ...
    def on_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None: ...
    def on_evaluate(self, args: Any, state: Any, control: Any, **given: Any) -> None: ...
    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None: ...


class AcceleratedOptimizer:
    def __init__(self, optimizer: torch.optim.Optimizer, scaler: GradScaler | None) -> None:
        self.optimizer, self.scaler = optimizer, scaler

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.optimizer.param_groups

    def step(self) -> None:
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()


def train(
    model: Model,
    callback: Any,
    scaler: GradScaler | None = None,
    accumulated: int = 1,
    clip: float = 0.0,
    is_first: bool = True,
) -> None:
    optimizer = AcceleratedOptimizer(optimizer_of(model), scaler)
    state = SimpleNamespace(is_world_process_zero=is_first, global_step=0)
    given = {"model": model, "optimizer": optimizer}
    callback.on_train_begin(None, state, None, **given)
    model.train()
    for index, batch in enumerate(BATCHES):
        loss = model(batch)["loss"] / accumulated
        (loss if scaler is None else scaler.scale(loss)).backward()
        if (index + 1) % accumulated:
            callback.on_substep_end(None, state, None, **given)
            continue
        if clip:
            if scaler is not None:
                scaler.unscale_(optimizer.optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        callback.on_pre_optimizer_step(None, state, None, **given)
        optimizer.step()
        callback.on_optimizer_step(None, state, None, **given)
        optimizer.optimizer.zero_grad()
        # An evaluation now and then, whose loss is none of the training's.
        model.eval()
        model(10 * batch)
        callback.on_evaluate(None, state, None, **given)
        model.train()
    callback.on_train_end(None, state, None, **given)


@pytest.fixture
def transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    made = module("transformers", TrainerCallback=TrainerCallback)
    monkeypatch.setitem(sys.modules, "transformers", made)


@pytest.mark.usefixtures("transformers")
@pytest.mark.parametrize("is_scaled", [False, True])
@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("clip", [0.0, 0.1])
def test_trainer(tmp_path: Path, is_scaled: bool, accumulated: int, clip: float) -> None:
    model, path = Model(), tmp_path / "run.csv"
    callback = trainer_callback(path, theta=model.theta)
    assert isinstance(callback, TrainerCallback)
    train(model, callback, scaler_of(is_scaled), accumulated, clip)
    assert_logged(path, reference(accumulated, clip))
    assert not model._forward_hooks


@pytest.mark.usefixtures("transformers")
def test_trainer_logs_in_the_first_process_alone(tmp_path: Path) -> None:
    model = Model()
    train(model, trainer_callback(tmp_path / "run.csv", theta=model.theta), is_first=False)
    assert list(tmp_path.iterdir()) == []


# --- Loops of one's own ---------------------------------------------------------------------------


def loop(
    model: Model,
    log: StepLog,
    scaler: GradScaler | None = None,
    before: Callable[[torch.optim.Optimizer], None] = lambda optimizer: None,
) -> None:
    optimizer = optimizer_of(model)
    for batch in BATCHES:
        optimizer.zero_grad()
        loss = model(batch)["loss"]
        (loss if scaler is None else scaler.scale(loss)).backward()
        before(optimizer)
        log.on_step(loss, optimizer, scaler)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()


@pytest.mark.parametrize("is_scaled", [False, True])
def test_a_plain_loop(tmp_path: Path, is_scaled: bool) -> None:
    model, path = Model(), tmp_path / "run.csv"
    with StepLog(path, theta=model.theta) as log:
        loop(model, log, scaler_of(is_scaled))
    assert_logged(path, reference())


def test_gradients_that_were_unscaled_already_stay(tmp_path: Path) -> None:
    model, path, scaler = Model(), tmp_path / "run.csv", scaler_of(True)
    assert scaler is not None
    with StepLog(path, theta=model.theta) as log:
        loop(model, log, scaler, before=scaler.unscale_)
    assert_logged(path, reference())


def test_logging_changes_nothing_of_the_training(tmp_path: Path) -> None:
    logged, free = Model(), Model()
    with StepLog(tmp_path / "run.csv", theta=logged.theta) as log:
        loop(logged, log, scaler_of(True))
    loop(free, SimpleNamespace(on_step=lambda *given: None), scaler_of(True))  # type: ignore[arg-type]
    for name, value in logged.state_dict().items():
        assert torch.equal(value, free.state_dict()[name])


def test_a_log_opens_and_closes_by_hand(tmp_path: Path) -> None:
    model, path = Model(), tmp_path / "run.csv"
    log = StepLog(path, theta=model.theta)
    # Before and after, steps are let pass.
    log.on_step(1.0)
    log.open()
    loop(model, log)
    log.close()
    log.close()
    log.on_step(1.0)
    assert_logged(path, reference())


def test_steps_of_another_optimizer_are_not_logged(tmp_path: Path) -> None:
    model, path = Model(), tmp_path / "run.csv"
    with StepLog(path, theta=model.theta) as log:
        log.on_step(1.0, torch.optim.SGD([model.other], lr=0.1))
        log.on_step(2.0, torch.optim.SGD([model.theta], lr=0.2))
    (row,) = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    assert (row["loss"], row["lr"]) == ("2.0", "0.2")


def test_another_rank_logs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    model = Model()
    with StepLog(tmp_path / "run.csv", theta=model.theta) as log:
        loop(model, log)
    assert list(tmp_path.iterdir()) == []


class Waits(TorchDispatchMode):
    """Counts the operations for which a device would have to be waited for."""

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        self.count += func.overloadpacket.__name__ in self.NAMES
        return func(*args, **(kwargs or {}))


@pytest.fixture
def transfers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lists the numbers that each transfer to Python has."""
    made: list[int] = []
    plain = torch.Tensor.tolist

    def counted(tensor: torch.Tensor) -> Any:
        made.append(tensor.numel())
        return plain(tensor)

    monkeypatch.setattr(torch.Tensor, "tolist", counted)
    return made


def test_a_step_waits_for_the_device_once(tmp_path: Path, transfers: list[int]) -> None:
    model = Model()
    optimizer = optimizer_of(model)
    loss = model(BATCHES[0])["loss"]
    loss.backward()
    rows = {"theta": model.theta, "one": model.theta[1, 0], "other": model.other}
    with StepLog(tmp_path / "run.csv", **rows) as log:
        for _ in range(3):
            transfers.clear()
            with Waits() as waits:
                log.on_step(loss, optimizer)
            # Four values and their gradients, the loss, the rate.
            assert transfers == [10]
            assert waits.count == 0
    # The counter counts.
    with Waits() as waits:
        float(model.other.detach())
    assert waits.count == 1


def test_elements_get_their_own_gradients(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3).t())
    weight.grad = 10 * weight.detach().clone(memory_format=torch.contiguous_format)
    path = tmp_path / "run.csv"
    with gd.TrajectoryLogger(path, all=weight, row=weight[1], turned=weight.t()[0, 1:]) as log:
        log.step(1.0)
    (row,) = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    for name in [n for n in row if n.startswith("grad_")]:
        assert float(row[name]) == 10 * float(row[name.removeprefix("grad_")]), name
    assert float(row["turned[1]"]) == weight[2, 0].item()


@pytest.mark.parametrize(
    ("make", "package"), [(lightning_callback, "lightning"), (trainer_callback, "transformers")]
)
def test_a_missing_library_is_named(
    monkeypatch: pytest.MonkeyPatch, make: Callable[..., Any], package: str
) -> None:
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=f"needs {package}; .*pip install {package}$"):
        make("run.csv", theta=copy.deepcopy(Model().theta))
