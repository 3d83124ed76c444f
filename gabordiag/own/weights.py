"""All that a training learns as one vector, and the loss on fixed batches as its function."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gabordiag.errors import InputError
from gabordiag.objective.space import FloatArray
from gabordiag.own.loading import user_code
from gabordiag.own.training import Batch, Evaluation, State, Training, Watched

# Bytes of activations, and of vectors, that are evaluated at once: on a CPU more is no faster.
_ROOM, _VECTOR_ROOM = 4 * 2**20, 256 * 2**20


class Weights:
    """The layout of a vector (m,): learned parameters, `count` numbers, then running statistics.

    The shapes are those of the tensors by name, in order.
    """

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
        first = sum(self.sizes[: list(self.shapes).index(watched.element.name)])
        size = 2 if watched.kind == "vector" else 1
        return [first + size * watched.element.index + i for i in range(size)]


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
        """Returns the losses (n,) at origin (m,) + coordinates (n, k) @ directions (k, m).

        Directions may be of the learned part alone.
        """
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
            for batch in evaluation.batches:
                loss = evaluation.loss({**frozen, **given}, batch)
                slopes = _derived(loss, leaves, keep=is_second)
                if direction is not None:
                    along = self.weights.tensors(direction).values()
                    inner = sum((s * v.to(s)).sum() for s, v in zip(slopes, along, strict=True))
                    assert isinstance(inner, Tensor)
                    _require_second(inner)
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


def _require_second(value: Tensor) -> None:
    """Refuses gradients of once-differentiable functions: torch would take them as zero."""
    seen, left = set(), [value.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name().endswith("autograd::Error"):
            raise InputError("A function of the model or loss is once_differentiable.")
        left += [following for following, _ in node.next_functions]
