"""A training run as a subject: a module, its batches and its loss; and the loss along its elements.

The user's module itself is trained, so that closures and tied tensors behave as in the user's own
loop; `kept` puts back everything that a training changes. Losses along elements, and over all that
is learned as one vector, are computed by `torch.func.functional_call` with everything else frozen,
many values at once where torch can do that. `BatchStream` is batches whose place a run that was
killed finds again; `seen_filters`, a layer's filters as the model itself computes them.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gabordiag.errors import GabordiagError, InputError, UsageError
from gabordiag.objective.space import FloatArray
from gabordiag.own.evaluation import graph_nodes
from gabordiag.own.loading import RandomStreams, user_code
from gabordiag.own.modules import HOW_TO_BUILD, Element, attributes_kept, find_elements, to_tensor
from gabordiag.results import as_column

Batch = tuple[Any, Any]
State = Mapping[str, Tensor]
# Bytes of activations that one batched evaluation may hold, and the most values at once.
_BATCH_BYTES, _MOST_AT_ONCE = 128 * 2**20, 64
# Values one by one and at once agree to so many roundings of the loss.
_AGREES = 1e3
# Bytes of activations, and of vectors, that are evaluated at once: on a CPU more is no faster.
_ROOM, _VECTOR_ROOM = 4 * 2**20, 256 * 2**20


@dataclass(frozen=True, eq=False)
class Training:
    """A real training run: what is trained, on what, by which loss.

    Attributes:
        model: Any module. It comes back as it was.
        batches: Pairs (input, target), an iterable that can be iterated again: a list, a
            DataLoader. A tuple as input holds the arguments of forward in order, a dictionary those
            by name.
        loss: Function of (output, target) that returns one number (0-dim tensor).
        metric: Function of (output, target) that returns a number to report beside the loss, such
            as the accuracy; None for none.

    Raises:
        UsageError: An argument of another kind.
        InputError: There are no batches, or they are not pairs.

    Example:
        >>> import torch, gabordiag as gd
        >>> layer = gd.GaborConv2d(1, 4, 5)
        >>> model = torch.nn.Sequential(layer, torch.nn.Flatten(), torch.nn.LazyLinear(3))
        >>> batches = [(torch.randn(8, 1, 9, 9), torch.arange(8) % 3) for _ in range(2)]
        >>> with torch.no_grad():
        ...     _ = model(batches[0][0])
        >>> training = gd.Training(model, batches, torch.nn.functional.cross_entropy)
        >>> found = gd.diagnose(training, params=["0.theta"], lr=1e-3, steps=20)
        >>> len(found.elements)
        4
    """

    model: nn.Module
    batches: Iterable[Any]
    loss: Callable[[Any, Any], Tensor]
    metric: Callable[[Any, Any], Any] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):
            raise UsageError(f"a {type(self.model).__name__} cannot be trained.", HOW_TO_BUILD)
        for what, function in (("loss", self.loss), ("metric", self.metric)):
            if not (callable(function) or (what == "metric" and function is None)):
                kind = type(function).__name__
                raise UsageError(f"the {what} is a {kind}, not a function.", HOW_TO_BUILD)
        if not isinstance(self.batches, Iterable):
            kind = type(self.batches).__name__
            raise UsageError(f"a {kind} holds no batches that can be iterated.", HOW_TO_BUILD)
        if isinstance(self.batches, Iterator):
            raise UsageError(
                "the batches can be iterated only once, and several trainings are made.",
                "Give a list or a DataLoader instead of a generator.",
            )

    @cached_property
    def device(self) -> torch.device:
        """Where the model's parameters live."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    def epoch(self, first: int = 0) -> Iterator[Batch]:
        """Yields the batches once, of which there is at least one.

        A list begins with the `first`; a DataLoader has its own order.
        """
        batches = self.batches
        if first and isinstance(batches, Sequence) and len(batches):
            first %= len(batches)
            batches = [*batches[first:], *batches[:first]]
        iterator = iter(batches)
        for count in itertools.count():
            with user_code("reading a batch"):
                batch = next(iterator, None)
            if batch is None and not count:
                raise InputError("The batches are empty.", HOW_TO_BUILD)
            if batch is None:
                return
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                size = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
                raise InputError(
                    f"A batch is a {type(batch).__name__}{size}, not a pair (input, target).",
                    "Let the batches yield pairs; several inputs can be a tuple.",
                )
            yield _moved(batch[0], self.device), _moved(batch[1], self.device)

    def fixed(self, count: int) -> tuple[Batch, ...]:
        """Returns the first batches of an epoch, at most `count`."""
        return tuple(itertools.islice(self.epoch(), count))

    def compare(self, run: Callable[..., Any], batch: Batch) -> tuple[Tensor, Any]:
        """Returns the loss (0-dim) of a batch, and the output; `run` calls the model."""
        source, target = batch
        with user_code("running the module"):
            if isinstance(source, Mapping):
                output = run(**source)
            else:
                output = run(*source) if isinstance(source, (tuple, list)) else run(source)
        with user_code("computing the loss"):
            loss = self.loss(output, target)
        if not isinstance(loss, Tensor) or loss.numel() != 1 or loss.is_complex():
            shape = f" of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else ""
            raise InputError(
                f"The loss is a {type(loss).__name__}{shape}, not one real number.",
                "Return the mean over the batch, for example.",
            )
        return loss.reshape(()), output

    def refuse_broadcasting(self, loss: Tensor, output: Any, target: Any) -> None:
        """Refuses a loss in which every output meets every target, as (n, 1) and (n,) do.

        It is lowest where all outputs are the targets' mean.
        """
        if not isinstance(output, Tensor) or not isinstance(target, Tensor):
            return
        shapes, count = (tuple(output.shape), tuple(target.shape)), output.numel()
        if shapes[0] == shapes[1] or target.numel() != count or not target.is_floating_point():
            return
        try:
            with torch.no_grad():
                both = np.broadcast_shapes(*shapes)
                every = self.loss(output.expand(both), target.expand(both))
                each = self.loss(output, target.reshape(output.shape))
                # Then it does not matter whose target is whose.
                moved = self.loss(output, target.flatten().roll(1).reshape(target.shape))
                same = [torch.allclose(other, loss) for other in (every, moved, each)]
        except Exception:
            # Shapes that do not broadcast, or a loss that takes no others.
            return
        if same == [True, True, False]:
            raise InputError(
                f"The loss compares each of {count} outputs with all {count} targets: the shapes "
                f"{shapes[0]} and {shapes[1]} broadcast.",
                "Give both one shape: target.reshape(output.shape), for example.",
            )

    def score(self, batches: Sequence[Batch]) -> tuple[float, float | None]:
        """Returns mean loss and mean metric of the model as it stands; None without a metric."""
        losses, metrics = [], []
        with torch.no_grad():
            for batch in batches:
                loss, output = self.compare(self.model, batch)
                losses.append(loss.item())
                if self.metric is not None:
                    with user_code("computing the metric"), torch.no_grad():
                        metrics.append(float(self.metric(output, batch[1])))
        return float(np.mean(losses)), float(np.mean(metrics)) if metrics else None

    @contextmanager
    def kept(self, seed: int) -> Iterator[None]:
        """Puts the module back as it was, and draws from a seeded stream, in the block."""
        tensors = self.tensors().values()
        saved = [(t, t.detach().clone(), t.grad, t.requires_grad) for t in tensors]
        for tensor in tensors:
            tensor.grad = None
        with RandomStreams(seed, self.device)(), attributes_kept(self.model):
            try:
                yield
            finally:
                for tensor, values, gradient, learned in saved:
                    tensor.requires_grad_(learned)
                    tensor.grad = None
                    _write(tensor, values)
                    tensor.grad = gradient

    def tensors(self) -> dict[str, Tensor]:
        """Returns all parameters and buffers by name."""
        return dict((*self.model.named_parameters(), *self.model.named_buffers()))

    def state(self) -> dict[str, Tensor]:
        """Returns copies of all parameters and buffers by name."""
        return {name: tensor.detach().clone() for name, tensor in self.tensors().items()}

    def fingerprint(self) -> str:
        """Returns what distinguishes the model, its modules and their values, from another."""
        digest = hashlib.blake2b(str(self.model).encode(), digest_size=16)
        for name, tensor in self.state().items():
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def load(self, state: State) -> None:
        """Copies values into the module."""
        for name, tensor in self.tensors().items():
            _write(tensor, state[name])


def _write(tensor: Tensor, values: Tensor) -> None:
    """Copies values into a tensor, but for an expanded one, such as a grid of `meshgrid`.

    Several of its numbers are one in memory: torch refuses to write there, whoever asks.
    """
    pairs = zip(tensor.stride(), tensor.shape, strict=True)
    if not any(stride == 0 and size > 1 for stride, size in pairs):
        with torch.no_grad():
            tensor.copy_(values)


class BatchStream:
    """Batches without end, epoch after epoch, whose place can be found again.

    A place is where the random streams stood when its epoch began, and how many of the epoch's
    batches are over: they are read again on the way there.
    """

    def __init__(self, training: Training, first: int = 0) -> None:
        self._training, self._first = training, first
        self._streams = RandomStreams(None, training.device)
        self._epoch: Iterator[Batch] = iter(())
        self._begun: dict[str, Any] = {}
        self._over = 0

    def __next__(self) -> Batch:
        batch = next(self._epoch, None)
        if batch is None:
            self._begin()
            batch = next(self._epoch)
        self._over += 1
        return batch

    def _begin(self) -> None:
        own = self._own_generator
        self._begun = self._streams.current() | {"own": None if own is None else own.get_state()}
        self._epoch, self._over = self._training.epoch(self._first), 0

    @property
    def _own_generator(self) -> torch.Generator | None:
        """That of a DataLoader that was given one."""
        found = getattr(self._training.batches, "generator", None)
        return found if isinstance(found, torch.Generator) else None

    def place(self) -> dict[str, Any]:
        """Returns the place, and where the random streams stand now."""
        return {"begun": self._begun, "over": self._over, "now": self._streams.current()}

    def go_to(self, place: Mapping[str, Any]) -> None:
        """Goes to a place, and puts the random streams to where they stood there."""
        if begun := place["begun"]:
            self._streams.go_to(begun)
            if self._own_generator is not None:
                self._own_generator.set_state(begun["own"])
            self._begin()
            for _ in range(place["over"]):
                next(self)
        self._streams.go_to(place["now"])


@dataclass(frozen=True)
class Watched(Element):
    """One number of a module that is watched while everything is trained.

    It is labelled as reports name it, such as `gabor.theta[3]`. The group is the parameter as it
    was asked for, such as `gabor.sigma`; the kind, `value`, `log` where the module keeps the
    logarithm, `log_sigma` for `sigma`, or `vector` where it keeps (cos 2 theta, sin 2 theta) for
    `theta`, as `GaborConv2d` does. The row is the index along the tensor's first dimension that is
    longer than 1: which filter; None of a single number.
    """

    group: str
    kind: str
    row: int | None

    @property
    def layer(self) -> str:
        """The path of the module that keeps the number; empty for the model itself."""
        return self.name.rpartition(".")[0]

    @property
    def place(self) -> slice:
        """Where the number, or its vector, lies in the flattened tensor."""
        size = 2 if self.kind == "vector" else 1
        return slice(size * self.index, size * (self.index + 1))

    def coordinate(self, tensors: State) -> float:
        """Returns the number itself, its logarithm or its angle, as the module keeps it."""
        kept = tensors[self.name].detach().reshape(-1)[self.place].tolist()
        return float(np.arctan2(kept[1], kept[0]) / 2) if self.kind == "vector" else float(kept[0])

    def stretch(self, tensors: State) -> float:
        """Returns the square of the coordinate's change by a step of length 1 of the optimizer."""
        if self.kind != "vector":
            return 1.0
        length = tensors[self.name].detach().reshape(-1)[self.place].norm()
        return 1 / (4 * max(float(length), 1e-12) ** 2)

    def placed(self, base: Tensor, coordinates: npt.ArrayLike | Tensor) -> Tensor:
        """Returns copies (n, *shape) of a tensor with this number at the coordinates (n,)."""
        values = torch.as_tensor(coordinates, dtype=base.dtype, device=base.device)[:, None]
        flat = base.detach().reshape(-1).repeat(len(values), 1)
        if self.kind == "vector":
            length = flat[0, self.place].norm()
            values = length * torch.cat([torch.cos(2 * values), torch.sin(2 * values)], dim=1)
        flat[:, self.place] = values
        return flat.reshape(len(values), *base.shape)


def find_watched(model: nn.Module, params: str | Sequence[str]) -> tuple[Watched, ...]:
    """Returns the elements that paths such as `gabor.theta` or `gabor.sigma[3]` name."""
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    asked = [params] if isinstance(params, str) else list(params)
    if not asked:
        example = f"Give params=[...] (--param); the model has {', '.join(sorted(names)[:8])}."
        raise UsageError("a training needs the names of what to watch.", example)
    found: list[Watched] = []
    for path in asked:
        group, bracket, index = path.strip().partition("[")
        owner, dot, last = group.rpartition(".")
        kind, kept = "value", group
        if group not in names and f"{owner}{dot}log_{last}" in names:
            kind, kept = "log", f"{owner}{dot}log_{last}"
        elif group not in names and last == "theta" and f"{owner}{dot}vector" in names:
            kind, kept = "vector", f"{owner}{dot}vector"
            index = index.replace("]", ",0]")
        for element in find_elements(model, kept + bracket + index):
            label, place = group + element.label[len(kept) :], element.index
            if kind == "vector":
                if not bracket and place % 2:
                    continue
                place //= 2
                label = f"{group}[{place}]"
            tensor = model.get_parameter(element.name)
            rows = row_count(tensor)
            row = element.index // (tensor.numel() // rows) if rows else None
            found.append(Watched(element.name, place, as_column(label), group, kind, row))
    # A tied tensor has several names.
    numbers = [(one.name, one.index) for one in found]
    for one, number in zip(found, numbers, strict=True):
        if numbers.count(number) > 1:
            raise UsageError(f"{one.label} is named twice.", "Name every number once.")
    return tuple(found)


def row_count(tensor: Tensor) -> int:
    """Returns the length of a tensor's first dimension that is longer than 1; 0 of one number."""
    return next((length for length in tensor.shape if length > 1), 0)


class Evaluation:
    """The loss on fixed batches as a function of some tensors, everything else frozen.

    The model is run in the mode that it is in. Every batch has its own random numbers, the same at
    each evaluation. `room` is how many bytes of activations one batched evaluation may hold, and
    `count` the number of losses computed so far, each on all the batches.
    """

    def __init__(
        self, training: Training, batches: Sequence[Batch], seed: int, room: int = _BATCH_BYTES
    ) -> None:
        self.training, self.batches, self._seed = training, tuple(batches), seed
        self.count, self._room = 0, room
        # By the names of the tensors that are replaced: how many values go at once.
        self._at_once: dict[tuple[str, ...], int] = {}
        # Names of tensors -> whether functional_call reaches all that forward reads of them.
        self._reaches: dict[tuple[str, ...], bool] = {}

    @contextmanager
    def frozen(self, state: State) -> Iterator[dict[str, Tensor]]:
        """Yields the model's tensors at a state; the model is as it was after the block."""
        with self.training.kept(self._seed):
            self.training.load(state)
            _stop_tracking(self.training.model)
            yield {name: t.detach() for name, t in self.training.tensors().items()}

    def losses(
        self, state: State, places: Sequence[tuple[Watched, FloatArray]]
    ) -> list[FloatArray]:
        """Returns for each (element, coordinates (n,)) the losses (n, batches)."""
        with self.frozen(state) as frozen:
            return [self._all(frozen, {w.name: w.placed(frozen[w.name], at)}) for w, at in places]

    def at(self, state: State, stacked: State) -> FloatArray:
        """Returns the losses (n, batches) with tensors replaced by each of n, (n, *shape)."""
        with self.frozen(state) as frozen:
            # Running statistics that are not used are not there.
            return self._all(frozen, {k: t for k, t in stacked.items() if k in frozen})

    @torch.no_grad()
    def _all(self, frozen: State, stacked: State) -> FloatArray:
        count = len(next(iter(stacked.values())))
        self.count += count
        names = tuple(stacked)
        if names not in self._at_once and count > 1:
            self._at_once[names] = self._measure(frozen, _part(stacked, slice(3)))
        limit = self._at_once.get(names, 1)
        if not self._reached(frozen, stacked) or limit == 1:
            return np.array([self._one(frozen, _part(stacked, i)) for i in range(count)])
        starts = range(0, count, limit)
        parts = [self._many(frozen, _part(stacked, slice(i, i + limit))) for i in starts]
        return np.concatenate(parts)

    def _reached(self, frozen: State, stacked: State) -> bool:
        """Whether `functional_call` reaches all that forward reads of the tensors.

        A list, a dictionary or a closure that holds the module's own tensors is not.
        """
        names = tuple(stacked)
        if names not in self._reaches:
            apart = sum(
                (t - frozen[k]).abs().reshape(len(t), -1).sum(1) for k, t in stacked.items()
            )
            assert isinstance(apart, Tensor)
            if not apart.any():
                # The tensors' own values say nothing of it.
                return True
            farthest = _part(stacked, int(apart.argmax()))
            functional = self._one(frozen, farthest)
            self._reaches[names] = False
            direct = self._one(frozen, farthest)
            eps = max(float(torch.finfo(tensor.dtype).eps) for tensor in stacked.values())
            same = np.allclose(functional, direct, rtol=64 * eps, atol=0.0, equal_nan=True)
            self._reaches[names] = same
        return self._reaches[names]

    def _one(self, frozen: State, replaced: State) -> list[float]:
        """Returns the losses (batches) with some tensors replaced."""
        tensors, indices = {**frozen, **replaced}, range(len(self.batches))
        if self._reaches.get(tuple(replaced), True):
            return [self.loss(_copied(tensors), i).item() for i in indices]
        # A list or a closure may hold the module's own tensors.
        own, before = self.training.tensors(), {name: frozen[name].clone() for name in replaced}
        for name, tensor in replaced.items():
            _write(own[name], tensor)
        found = [self.loss(None, i).item() for i in indices]
        for name, tensor in before.items():
            _write(own[name], tensor)
        return found

    def _many(self, frozen: State, stacked: State) -> FloatArray:
        """Returns the losses (n, batches) with some tensors replaced by each of n."""

        def losses(tensors: State) -> Tensor:
            found = [self.loss({**frozen, **tensors}, i) for i in range(len(self.batches))]
            return torch.stack([loss.double() for loss in found])

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="There is a performance drop")
            found: Tensor = torch.func.vmap(losses, randomness="same")(stacked)
        return found.cpu().numpy()

    def loss(self, tensors: State | None, index: int) -> Tensor:
        """Returns the loss (0-dim) of one of the batches with these tensors, inside `frozen`.

        Without them the module's own are used.
        """

        def run(*args: Any, **named: Any) -> Any:
            if tensors is None:
                return self.training.model(*args, **named)
            return torch.func.functional_call(self.training.model, dict(tensors), args, named)

        # What one call keeps for the next, a kernel say, must not reach another value's.
        kept = attributes_kept(self.training.model)
        with kept, RandomStreams(self._seed + index, self.training.device)():
            return self.training.compare(run, self.batches[index])[0]

    def _measure(self, frozen: State, stacked: State) -> int:
        """Returns how many values go at once: 1 where torch cannot batch the user's code."""
        count = len(next(iter(stacked.values())))
        single = np.array([self._one(frozen, _part(stacked, i)) for i in range(count)])
        limit = int(max(1, min(_MOST_AT_ONCE, self._room // self._activation_bytes(frozen))))
        if limit == 1:
            return 1
        try:
            many = self._many(frozen, stacked)
        except Exception:
            # What torch cannot batch raises many kinds of errors; one by one it has just run.
            return 1
        eps = max(float(torch.finfo(tensor.dtype).eps) for tensor in stacked.values())
        # Writes into tensors that are not batched would show here.
        rtol = _AGREES * eps
        same = np.allclose(many, single, rtol, 1e-3 * rtol, equal_nan=True)
        return limit if same else 1

    def _activation_bytes(self, frozen: State) -> int:
        sizes = [1]

        def add(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                sizes.append(output.numel() * output.element_size())

        with nn.modules.module.register_module_forward_hook(add):
            self.loss(_copied(frozen), 0)
        return sum(sizes)


def _part(stacked: State, rows: int | slice) -> dict[str, Tensor]:
    return {name: tensor[rows] for name, tensor in stacked.items()}


def _copied(tensors: State) -> dict[str, Tensor]:
    """Returns copies, for a forward that may write into its tensors."""
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _stop_tracking(model: nn.Module) -> None:
    """Lets batch normalisation in training mode leave its running statistics alone."""
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._NormBase) and part.training:
            part.track_running_stats = False
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                if name in part._buffers:
                    part._buffers[name] = None


def _moved(value: Any, device: torch.device) -> Any:
    """Returns tensors on the device, in the same nesting."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _moved(item, device) for key, item in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_moved(item, device) for item in value)
    if isinstance(value, np.ndarray):
        return to_tensor(value).to(device)
    return value


def seen_filters(
    training: Training, start: State, final: State, batch: Batch, name: str
) -> tuple[int, Tensor, Tensor] | None:
    """Returns the filters (m, ...) that a tensor (n, ...) makes, as used at the two states.

    They are the first weight of a convolution that changes with the tensor, with its number; None
    without one. Of pairs in quadrature m is 2 n.
    """
    tensor = start[name]
    # By 1% to 2%, whatever the unit is, and zeros too; not along (cos, sin), nor all alike.
    share = torch.linspace(0.01, 0.02, tensor.numel()).reshape(tensor.shape).to(tensor)
    states = (start, {**start, name: tensor + share * (1 + tensor.abs())}, final)
    found = (_convolved(training, state, batch) for state in states)
    for number, (before, changed, after) in enumerate(zip(*found, strict=False)):
        if not torch.equal(before, changed):
            return number, before, after
    return None


def _convolved(training: Training, state: State, batch: Batch) -> list[Tensor]:
    found: list[Tensor] = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if getattr(func, "__name__", "") in ("conv1d", "conv2d"):
                weight = (kwargs or {}).get("weight", args[1] if len(args) > 1 else None)
                if isinstance(weight, Tensor):
                    found.append(weight.detach().clone())
            return func(*args, **(kwargs or {}))

    with suppress(GabordiagError), training.kept(0), torch.no_grad(), Watch():
        training.load(state)
        training.compare(training.model, batch)
    return found


class Weights:
    """The layout of a vector (m,): learned parameters, `count` numbers, then running statistics."""

    def __init__(self, training: Training) -> None:
        model = training.model
        learned = {name: p.shape for name, p in model.named_parameters() if p.requires_grad}
        buffers = {name: b.shape for name, b in model.named_buffers() if b.is_floating_point()}
        self.shapes = {**learned, **buffers}
        self.learned = tuple(learned)
        self.sizes = [math.prod(shape) for shape in self.shapes.values()]
        self.count = sum(self.sizes[: len(learned)])

    def vector(self, tensors: State) -> Tensor:
        """Returns a copy of the tensors as a vector (m,)."""
        return torch.cat([tensors[name].detach().reshape(-1) for name in self.shapes])

    def tensors(self, vectors: Tensor) -> dict[str, Tensor]:
        """Returns the tensors (..., *shape) of vectors (..., m), or of their learned part."""
        names = self.shapes if vectors.shape[-1] > self.count else self.learned
        parts = torch.split(vectors, self.sizes[: len(names)], dim=-1)
        lead = vectors.shape[:-1]
        shaped = zip(names, parts, strict=True)
        return {name: part.reshape((*lead, *self.shapes[name])) for name, part in shaped}

    def places(self, watched: Watched) -> list[int]:
        """Returns where in the vector a watched number is kept, or the two of its vector."""
        place, first = watched.place, sum(self.sizes[: list(self.shapes).index(watched.name)])
        return list(range(first + place.start, first + place.stop))


class WeightLoss:
    """The loss on fixed batches, the mean over them, at vectors of weights.

    The model stays in the mode that it is in, and tensors that no vector holds stay as in the
    state; random numbers are the same at every evaluation.
    """

    def __init__(
        self, training: Training, batches: Sequence[Batch], state: State, seed: int
    ) -> None:
        self.weights, self.state = Weights(training), state
        self._evaluation = Evaluation(training, batches, seed, _ROOM)

    def __call__(self, vectors: Tensor) -> FloatArray:
        """Returns the losses (n,) at vectors (n, m)."""
        parts = self.weights.tensors(vectors).items()
        stacked = {name: part.to(self.state[name]) for name, part in parts}
        losses: FloatArray = self._evaluation.at(self.state, stacked).mean(axis=1)
        return losses

    def on_grid(self, origin: Tensor, directions: Tensor, coordinates: FloatArray) -> FloatArray:
        """Returns the losses at origin (m,) + coordinates (n, k) @ directions (k, m or `count`)."""
        along = torch.tensor(coordinates, dtype=origin.dtype, device=origin.device)
        rows = max(1, int(_VECTOR_ROOM // (origin.numel() * origin.element_size())))
        found = []
        for part in torch.split(along, rows):
            vectors = origin.repeat(len(part), 1)
            for index, direction in enumerate(directions):
                vectors[:, : len(direction)].addcmul_(part[:, index, None], direction)
            found.append(self(vectors))
        return np.concatenate(found)

    def gradient(self, vector: Tensor, direction: Tensor | None = None) -> Tensor:
        """Returns the gradient (count,) at a vector (m,), or the Hessian times a direction.

        H v is the gradient of g(w) . v: one more backward pass (Pearlmutter 1994). User's code that
        cannot be differentiated, or not twice, is refused.
        """
        total = vector.new_zeros(self.weights.count)
        evaluation = self._evaluation
        with evaluation.frozen(self.state) as frozen, user_code("computing the gradient"):
            moved = self.weights.tensors(vector)
            frozen |= {k: t.to(frozen[k]) for k, t in moved.items() if k in frozen}
            leaves = [frozen[name].clone().requires_grad_() for name in self.weights.learned]
            given = dict(zip(self.weights.learned, leaves, strict=True))
            is_second = direction is not None
            for index in range(len(evaluation.batches)):
                loss = evaluation.loss({**frozen, **given}, index)
                slopes = _derived(loss, leaves, keep=is_second)
                if direction is not None:
                    along = self.weights.tensors(direction).values()
                    inner = sum((s * v.to(s)).sum() for s, v in zip(slopes, along, strict=True))
                    assert isinstance(inner, Tensor)
                    # Of once-differentiable functions torch would take the second as zero.
                    nodes = graph_nodes(inner.grad_fn)
                    if any(node.name().endswith("autograd::Error") for node in nodes):
                        raise InputError("A function of the model or loss is once_differentiable.")
                    slopes = _derived(inner, leaves)
                total += torch.cat([slope.reshape(-1) for slope in slopes]).to(total)
        if not bool(torch.isfinite(total).all()):
            raise InputError("The loss has no finite derivative here.", "Train with a smaller lr.")
        return total / len(evaluation.batches)


def _derived(value: Tensor, leaves: Sequence[Tensor], *, keep: bool = False) -> Sequence[Tensor]:
    if not value.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    return torch.autograd.grad(
        value, leaves, create_graph=keep, allow_unused=True, materialize_grads=True
    )
