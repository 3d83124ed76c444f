"""Custom objectives of several parameters, against what paper or a plain torch loop says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from torch import nn

import gabordiag as gd
from gabordiag.api import as_objective_of
from gabordiag.errors import InputError, UsageError
from gabordiag.landscape.critical import find_critical_points
from gabordiag.landscape.surface import sweep_surface
from gabordiag.own.custom import own_objective
from gabordiag.own.evaluation import CustomObjective
from gabordiag.presentation.words import points_found

# A quadratic (v - C)' H (v - C) / 2.
CENTER = np.array([0.3, -0.2, 0.5])
HESSIAN = np.array([[2.0, 0.5, 0.0], [0.5, 3.0, -0.4], [0.0, -0.4, 1.0]])


def bowl(v):
    apart = v - torch.tensor(CENTER)
    return apart @ torch.tensor(HESSIAN) @ apart / 2


def make_bowl(function=bowl, **options) -> CustomObjective:
    options = {"start": (-0.5, 0.6, 0.1), "target": tuple(CENTER), "range": (-1, 1)} | options
    return own_objective(function, **options)


class Wave(nn.Module):
    """sum_i a_i cos(f x + p_i): three parameters of different shapes, and one that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.frequency = nn.Parameter(torch.tensor(1.1, dtype=torch.float64))
        self.phase = nn.Parameter(torch.tensor([0.3, -0.4], dtype=torch.float64))
        self.inner = nn.Module()
        self.inner.height = nn.Parameter(torch.tensor([[1.0, 0.5]], dtype=torch.float64))
        self.unused = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, x):
        return (self.inner.height * torch.cos(self.frequency * x[:, None] + self.phase)).sum(1)


X = torch.linspace(0, 3, 17, dtype=torch.float64)


def plain_loop(loss, tensors, lr, steps, optimizer=torch.optim.SGD, **settings):
    """Returns the values (steps + 1, d) of a loop written out; `tensors` are its leaves."""
    made = optimizer(tensors, lr=lr, **settings)
    path = []
    for step in range(steps + 1):
        path.append(torch.cat([t.detach().reshape(-1).clone() for t in tensors]).numpy())
        made.zero_grad()
        if step < steps:
            loss().backward()
            made.step()
    return np.array(path)


class TestFunction:
    def test_loss_gradient_and_hessian(self):
        objective = make_bowl()
        points = np.array([[0.1, 0.2, 0.3], [-0.7, 0.5, 0.9]])
        losses, slopes = objective.loss_and_gradient(points)
        apart = points - CENTER
        np.testing.assert_allclose(losses, ((apart @ HESSIAN) * apart).sum(1) / 2, rtol=1e-13)
        np.testing.assert_allclose(slopes, apart @ HESSIAN, rtol=1e-13)
        np.testing.assert_allclose(objective.hessian(points), [HESSIAN] * 2, rtol=1e-13)

    def test_names_ranges_starts_and_targets(self):
        objective = make_bowl(range=((-1, 1), (-2, 1), (0, 3)), period=0)
        assert objective.space.names == ("v[0]", "v[1]", "v[2]")
        parameters = objective.space.parameters
        assert [(p.low, p.high) for p in parameters] == [(-1, 1), (-2, 1), (0, 3)]
        np.testing.assert_array_equal(objective.space.start, [-0.5, 0.6, 0.1])
        np.testing.assert_array_equal(objective.goals, CENTER[None])

    @pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
    def test_numbers_may_be_arrays_and_tensors(self, kind):
        objective = make_bowl(start=kind([-0.5, 0.6, 0.1]), target=kind(CENTER.tolist()))
        np.testing.assert_allclose(objective.space.start, [-0.5, 0.6, 0.1])

    def test_without_a_target_there_is_no_goal(self):
        assert make_bowl(target=None).goals.shape == (0, 3)

    def test_a_periodic_component(self):
        def loss(v):
            return 1 - torch.cos(v[0] - 0.4) + (v[1] - 1) ** 2

        objective = own_objective(loss, start=(0.0, 0.5), range=((-math.pi, math.pi), (0, 2)))
        first, second = objective.space.parameters
        assert first.period == pytest.approx(2 * math.pi)
        assert second.period is None
        run = gd.optimize(
            loss,
            start=(3.9, 0.5),
            target=(0.4 + 2 * math.pi, 1),
            range=((-math.pi, math.pi), (0, 2)),
            lr=0.3,
            steps=200,
        ).runs[0]
        assert run.outcome == "reached"
        np.testing.assert_allclose(run.final, [0.4 + 2 * math.pi, 1.0], atol=1e-6)

    def test_a_period_is_found_where_the_loss_at_the_start_does_not_depend_on_it(self):
        # At the start, v[1] = 0, v[0] has no effect.
        objective = own_objective(lambda v: v[0] * v[1], start=(0.0, 0.0), range=(-2, 2))
        assert [p.period for p in objective.space.parameters] == [None, None]

    @pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 0.1), ("adam", 0.05)])
    def test_a_run_is_a_plain_loop(self, optimizer, lr):
        made = gd.optimize(
            bowl, optimizer, lr, start=(-0.5, 0.6, 0.1), target=tuple(CENTER), range=(-1, 1),
            steps=50,
        )  # fmt: skip
        v = torch.tensor([-0.5, 0.6, 0.1], dtype=torch.float64, requires_grad=True)
        kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
        expected = plain_loop(lambda: bowl(v), [v], lr, 50, kind)
        np.testing.assert_allclose(made.runs[0].trajectory.values, expected, rtol=1e-12)
        assert made.notes == ()

    def test_a_list_holds_several_starts(self):
        starts = [(0.0, 0.0, 0.0), (0.5, 0.5, 0.5)]
        made = gd.optimize(bowl, lr=0.3, start=starts, target=tuple(CENTER), range=(-1, 1))
        np.testing.assert_array_equal([run.start for run in made.runs], starts)
        assert {run.outcome for run in made.runs} == {"reached"}

    @pytest.mark.long
    def test_a_saddle_is_where_equal_starts_lead(self):
        # cos a cos b from a = b runs along the diagonal, and ends where both slopes are zero.
        run = gd.optimize(
            lambda v: torch.cos(v[0]) * torch.cos(v[1]), start=(0.6, 0.6), lr=0.1, steps=2000
        ).runs[0]
        np.testing.assert_allclose(run.final, [math.pi / 2] * 2, atol=1e-6)
        assert not run.hessian["is_minimum"]
        np.testing.assert_allclose(run.hessian["eigenvalues"], [-1, 1], atol=1e-6)

    def test_a_component_that_no_gradient_reaches(self):
        def cut(v):
            return (v[0] - 0.5) ** 2 + (v[1].item() - 0.5) ** 2

        made = gd.optimize(cut, start=(0.1, 0.1), target=(0.5, 0.5), range=(0, 1), lr=0.2)
        np.testing.assert_allclose(made.runs[0].final, [0.5, 0.1], atol=1e-9)
        objective = made.runs[0].objective
        # The derivatives of what the values show are those of both.
        _, slopes = objective.loss_and_gradient([[0.1, 0.2]], smooth=True)
        np.testing.assert_allclose(slopes, [[-0.8, -0.6]], rtol=1e-6)
        hessian = objective.hessian([[0.1, 0.2]], smooth=True)[0]
        np.testing.assert_allclose(hessian, 2 * np.eye(2), atol=1e-5)

    def test_no_gradient_at_all(self):
        objective = own_objective(
            lambda v: torch.tensor(v[0].item() ** 2 + v[1].item() ** 2),
            start=(0.1, 0.1), range=(-1, 1),
        )  # fmt: skip
        losses, slopes = objective.step_gradient(objective.tensor([[0.3, 0.4]]))
        assert slopes is None
        np.testing.assert_allclose(losses, 0.25)

    def test_a_root_is_seen_at_the_target(self):
        root = make_bowl(lambda v: bowl(v).sqrt())
        assert root.is_root
        assert not make_bowl().is_root
        point = [[0.1, 0.2, 0.3]]
        plain, squared = make_bowl(), root.squared()
        np.testing.assert_allclose(squared.loss_at(point), plain.loss_at(point), rtol=1e-12)
        at_zero = squared.hessian(CENTER[None], smooth=True)[0]
        np.testing.assert_allclose(at_zero, HESSIAN, atol=1e-4)

    def test_a_logarithm(self):
        def loss(v):
            return (torch.log(v[0]) - 1) ** 2 + v[1] ** 2

        options = {"start": (1.0, 0.5), "target": (math.e, 0.0), "range": ((0.1, 5), (-1, 1))}
        run = gd.optimize(loss, lr=0.1, steps=30, log_scale=["v[0]"], **options).runs[0]
        # The coordinate c = log v[0] obeys c <- c - 0.2 (c - 1), v[1] <- 0.8 v[1].
        t = np.arange(31)
        np.testing.assert_allclose(run.trajectory.values[:, 0], np.exp(1 - 0.8**t), rtol=1e-10)
        np.testing.assert_allclose(run.trajectory.values[:, 1], 0.5 * 0.8**t, rtol=1e-10)
        with pytest.raises(UsageError, match="logarithm"):
            gd.optimize(loss, log_scale=["v[1]"], **options)

    def test_a_learning_rate_each(self):
        run = gd.optimize(
            lambda v: v[0] ** 2 + v[1] ** 2, start=(1.0, 1.0), range=(-2, 2),
            lr={"v[0]": 0.1, "v[1]": 0.2}, steps=10,
        ).runs[0]  # fmt: skip
        np.testing.assert_allclose(run.final, [0.8**10, 0.6**10], rtol=1e-10)

    @pytest.mark.long
    def test_the_same_seed_draws_the_same_noise(self):
        def noisy(v):
            return (v**2).sum() + 0.1 * torch.randn(())

        paths = [
            gd.optimize(noisy, start=(0.5, 0.5), range=(-1, 1), steps=5).runs[0].trajectory.losses
            for _ in range(2)
        ]
        np.testing.assert_array_equal(*paths)

    def test_what_cannot_be(self):
        with pytest.raises(UsageError, match="components differ"):
            own_objective(bowl, start=(0, 0, 0), target=(1, 1))
        with pytest.raises(UsageError, match="outside the range"):
            make_bowl(start=(0, 0, 3))
        with pytest.raises(UsageError, match=r"(?s)not a parameter.*v\[0\], v\[1\], v\[2\]"):
            make_bowl().line("w")
        with pytest.raises(InputError, match=r"(?s)shape \(2,\).*starts as a list"):
            own_objective(lambda v: v**2, start=(0.1, 0.2), range=(0, 1))
        with pytest.raises(UsageError, match="as one vector"):
            own_objective(lambda a, b: a + b, start=(0.1, 0.2))

    @pytest.mark.parametrize(
        "function",
        [
            lambda v: torch.cos(v[0]) * torch.cos(v[1]),
            lambda v: sum(x**2 for x in v),
            lambda v: v[:2].sum(),
            lambda v: v[..., 0] + len(v),
        ],
    )
    def test_a_function_of_a_vector_given_one_number_says_so(self, function):
        with pytest.raises(InputError, match=r"--start A,B"):
            own_objective(function, start=0.6, range=(0, 1))


class TestSome:
    def test_a_line_is_one_of_todays_objectives(self):
        line = make_bowl(period=0).line("v[1]")
        # Where the others stand, the minimum over v[1] solves 3 (x - C1) + 0.5 a - 0.4 c = 0.
        a, c = -0.5 - CENTER[0], 0.1 - CENTER[2]
        landscape = find_critical_points(line)
        (point,) = landscape.points
        assert point.value == pytest.approx(CENTER[1] - (0.5 * a - 0.4 * c) / 3, abs=1e-9)
        assert point.curvature == pytest.approx(3.0)
        assert line.held_fixed == "v[0] is held at -0.5, v[2] is held at 0.1"
        assert line.parameter.start == 0.6

    def test_a_line_elsewhere(self):
        line = make_bowl().line("v[0]", at=CENTER)
        np.testing.assert_allclose(line.loss_at([0.7]), [0.4**2])

    def test_sweep_over_one(self):
        swept = gd.sweep(bowl, "v[2]", 11, start=(-0.5, 0.6, 0.1), range=(-1, 1), period=0)
        expected = [make_bowl().loss_at([[-0.5, 0.6, v]])[0] for v in np.linspace(-1, 1, 11)]
        np.testing.assert_allclose(swept.loss, expected, rtol=1e-12)

    def test_which_of_them_is_asked(self):
        with pytest.raises(UsageError, match=r"3 parameters: v\[0\], v\[1\], v\[2\]"):
            gd.sweep(bowl, start=(-0.5, 0.6, 0.1), range=(-1, 1))

    def test_a_surface_without_a_target_is_drawn(self):
        surface = gd.sweep(bowl, ("v[0]", "v[2]"), 9, start=(-0.5, 0.6, 0.1), range=(-1, 1))
        axes = surface.plot()
        words = [text.get_text() for text in axes.figure.findobj(Text)]
        assert "minimum" in words
        assert not any("target" in text for text in words)
        (place, *_) = points_found(surface.to_dict())
        assert "target" not in place.text

    def test_a_surface_over_two_is_a_grid(self):
        surface = gd.sweep(
            bowl, ("v[0]", "v[2]"), (21, 31), start=(-0.5, 0.6, 0.1), range=(-1, 1), period=0
        )
        a, b = np.linspace(-1, 1, 21), np.linspace(-1, 1, 31)
        grid = np.stack(np.meshgrid(a, [0.6], b, indexing="ij"), axis=-1)[:, 0] - CENTER
        np.testing.assert_allclose(surface.loss, ((grid @ HESSIAN) * grid).sum(-1) / 2, atol=1e-13)
        np.testing.assert_allclose(surface.grad_b, (grid @ HESSIAN)[..., 2], atol=1e-13)
        # Held at v[1] = 0.6: the two slopes vanish together at one place.
        block = HESSIAN[np.ix_([0, 2], [0, 2])]
        at = CENTER[[0, 2]] - np.linalg.solve(block, HESSIAN[[0, 2], 1] * (0.6 - CENTER[1]))
        (point,) = surface.points
        assert point.kind == "minimum"
        np.testing.assert_allclose(point.values, at, atol=1e-9)

    def test_two_of_three_are_learned(self):
        made = gd.optimize(
            bowl, start=(-0.5, 0.6, 0.1), range=(-1, 1), over=("v[0]", "v[2]"), lr=0.3, steps=300
        )
        (note,) = made.notes
        assert "v[1] is held at 0.6" in note
        block = HESSIAN[np.ix_([0, 2], [0, 2])]
        at = CENTER[[0, 2]] - np.linalg.solve(block, HESSIAN[[0, 2], 1] * (0.6 - CENTER[1]))
        np.testing.assert_allclose(made.runs[0].final, at, atol=1e-9)

    def test_one_of_three_is_a_run_of_one(self):
        made = gd.optimize(
            bowl, start=(-0.5, 0.6, 0.1), range=(-1, 1), over="v[1]", lr=0.1, period=0
        )
        assert made.sweep is not None
        assert made.runs[0].outcome == "reached"
        assert "v[0] is held at -0.5" in made.notes[0]

    def test_a_vector_of_one_component_is_a_run_of_one(self):
        run = gd.optimize(lambda v: ((v - 0.5) ** 2).sum(), start=(0.1,), range=(0, 1)).runs[0]
        assert run.space.names == ("v[0]",)
        assert run.landscape is not None

    @pytest.mark.slow
    def test_a_diagnosis_names_the_cause(self):
        stiff = make_bowl(lambda v: 10 * v[0] ** 2 + v[1] ** 2 + v[2] ** 2, target=(0, 0, 0))
        # 2 / 20 is the largest stable rate.
        found = gd.diagnose(stiff, lr=0.11, steps=100)
        assert found.verdict == "step_too_large"
        assert found.findings[0].evidence["bound"] == pytest.approx(0.1)


class TestModule:
    def test_parameters_of_different_shapes(self):
        module = Wave()
        objective = own_objective(
            module, param=["frequency", "phase", "inner.height[0,1]"], input=X,
            target=(1.3, 0.1, 0.2, 0.9), range=((0, 3), (-4, 4), (-4, 4), (0, 2)), loss="mse",
        )  # fmt: skip
        names = ("frequency", "phase[0]", "phase[1]", "inner.height[0,1]")
        assert objective.space.names == names
        np.testing.assert_allclose(objective.space.start, [1.1, 0.3, -0.4, 0.5])
        assert objective.held_fixed == "inner.height[0,0] is held at 1"

        def output(f, p, q, h):
            return np.cos(f * X.numpy() + p) + h * np.cos(f * X.numpy() + q)

        expected = np.mean((output(0.9, 0.2, 0.3, 0.4) - output(1.3, 0.1, 0.2, 0.9)) ** 2)
        np.testing.assert_allclose(objective.loss_at([[0.9, 0.2, 0.3, 0.4]]), [expected])
        assert module.frequency.item() == 1.1

    def test_a_run_of_a_whole_tensor_is_a_plain_loop(self):
        target = Wave()
        target.phase.data[:] = torch.tensor([0.6, 0.1], dtype=torch.float64)
        goal = target(X).detach()
        made = gd.optimize(
            Wave(), lr=0.2, momentum=0.5, steps=40, param="phase", input=X, target=(0.6, 0.1),
            range=(-math.pi, math.pi), loss="mse",
        )  # fmt: skip
        module = Wave()
        expected = plain_loop(
            lambda: ((module(X) - goal) ** 2).mean(), [module.phase], 0.2, 40, momentum=0.5
        )
        np.testing.assert_allclose(made.runs[0].trajectory.values, expected, rtol=1e-10)

    def test_a_surface_of_a_module(self):
        surface = gd.sweep(
            Wave(), ("phase[1]", "frequency"), 7, param=["frequency", "phase"], input=X,
            target=(1.3, 0.1, 0.2), range=(-1, 2), loss="mse", period=0, start=(1.0, 0.2, 0.3),
        )  # fmt: skip
        axis = np.linspace(-1, 2, 7)
        goal = np.cos(1.3 * X.numpy() + 0.1) + 0.5 * np.cos(1.3 * X.numpy() + 0.2)
        for i, q in enumerate(axis):
            for j, f in enumerate(axis):
                output = np.cos(f * X.numpy() + 0.2) + 0.5 * np.cos(f * X.numpy() + q)
                assert surface.loss[i, j] == pytest.approx(np.mean((output - goal) ** 2))

    def test_hooks_change_what_the_optimizer_gets(self):
        class Hooked(nn.Module):
            def __init__(self):
                super().__init__()
                self.w = nn.Parameter(torch.tensor([1.0, 1.0], dtype=torch.float64))
                self.w.register_hook(lambda slope: slope * torch.tensor([1.0, 0.0]))

            def forward(self):
                return (self.w**2).sum()

        made = gd.optimize(Hooked(), lr=0.1, steps=10, param="w", range=(-2, 2))
        np.testing.assert_allclose(made.runs[0].final, [0.8**10, 1.0], rtol=1e-10)

    def test_a_module_that_returns_its_own_loss_has_its_target_from_the_values(self):
        class Own(nn.Module):
            def __init__(self):
                super().__init__()
                self.w = nn.Parameter(torch.zeros(2, dtype=torch.float64))

            def forward(self):
                return ((self.w - 1) ** 2).sum() + 0.3

        options = {"param": "w", "range": (-2, 4), "target": (1, 1)}
        run = gd.optimize(Own(), lr=0.3, **options).runs[0]
        assert run.outcome == "reached"
        assert run.final_loss == pytest.approx(0.3)
        with pytest.raises(UsageError, match="its loss"):
            own_objective(Own(), loss="mse", **options)

    def test_state_that_is_carried_from_step_to_step_is_put_back(self):
        class Counts(Wave):
            def __init__(self):
                super().__init__()
                self.calls = 0

            def forward(self, x):
                self.calls += 1
                return super().forward(x)

        module = Counts()
        gd.optimize(module, param="phase", input=X, target=(0, 0), steps=3, range=(-3, 3))
        assert module.calls == 0

    def test_the_same_number_twice(self):
        with pytest.raises(UsageError, match="named twice"):
            own_objective(Wave(), param=["phase", "phase[-1]"], input=X, target=(1, 2, 3))

    def test_too_many_numbers(self):
        with pytest.raises(UsageError, match="more than 256"):
            own_objective(nn.Linear(20, 20), param="weight", input=torch.ones(20), target=0.0)

    @pytest.mark.long
    def test_one_element_says_that_the_others_are_held(self):
        made = gd.optimize(
            Wave(), param="phase[0]", input=X, target=0.2, range=(-3, 3), lr=0.1, loss="mse"
        )
        assert "phase[1] is held at -0.4" in made.notes[0]
        alone = gd.optimize(
            Wave(), param="frequency", input=X, target=1.2, range=(0, 3), lr=0.1, loss="mse"
        )
        assert alone.notes == ()

    def test_a_diagnosis_of_one_element_says_so_too(self):
        found = gd.diagnose(
            bowl, start=(-0.5, 0.6, 0.1), range=(-1, 1), over="v[1]", lr=0.1, period=0
        )
        assert found.verdict == "healthy"
        assert "v[0] is held at -0.5, v[2] is held at 0.1" in found.headline

    def test_a_plane_is_shown_of_the_five_that_moved_most(self):
        layer = nn.Conv2d(1, 1, 3, bias=False).double()
        image = torch.randn(1, 1, 12, 12, generator=torch.Generator().manual_seed(0)).double()
        options = {"param": "weight", "input": image, "loss": "mse", "range": (-2, 2), "period": 0}
        made = gd.optimize(layer, lr=0.1, steps=100, target=np.full(9, 0.2), **options)
        assert made.runs[0].outcome == "reached"
        assert len(made.pairs) == 10

    def test_of_many_held_elements_the_number_is_given(self):
        objective = own_objective(
            nn.Linear(5, 2), param="weight[0,0]", input=torch.ones(5), target=0.1, range=(-1, 1)
        )
        assert objective.held_fixed == "the other 9 elements of weight are held at their values"


class TestJoint:
    def test_a_log_scale_of_a_line(self):
        options = {"start": (1.0, 0.5), "range": ((0.1, 5), (-1, 1)), "period": 0}
        joint = as_objective_of(
            lambda v: torch.log(v[0]) ** 2 + v[1], ["v[0]"], ["v[0]"], **options
        )
        assert joint.space.parameters[0].is_log

    def test_a_surface_in_values_of_what_moves_as_a_logarithm(self):
        objective = own_objective(
            lambda v: torch.log(v[0]) ** 2 + v[1] ** 2, start=(1.0, 0.5), range=(0.5, 3), period=0
        ).with_logs(["v[0]"])
        surface = sweep_surface(objective.in_values(), (5, 5))
        axis = np.linspace(0.5, 3, 5)
        expected = np.log(axis)[:, None] ** 2 + axis**2
        np.testing.assert_allclose(surface.loss, expected, rtol=1e-12)
