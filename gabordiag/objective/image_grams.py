"""The Gram matrices of many images in one basis, kept one by one.

The loss over many images needs only their mean. Each image's own landscape, and the loss over a
mini-batch, need the matrix of each: r x r numbers, 21 kB for the kernels of every theta.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gabordiag.errors import InputError
from gabordiag.objective.response import CompressedResponse, factor_gram

# Of all images; beyond, only the mean is kept.
_MOST_BYTES = 2**28


class ImageGrams:
    """Collects the Gram matrices of one image after the other."""

    def __init__(self) -> None:
        self._grams: list[Tensor] = []
        self._basis: Tensor | None = None
        self.is_complete = True

    def add(self, gram: Tensor, basis: Tensor) -> None:
        """Keeps the next image's matrix, or drops all of them when they become too many."""
        if not self.is_complete:
            return
        self._basis = basis
        self._grams.append(gram)
        if len(self._grams) * gram.nbytes > _MOST_BYTES:
            self._grams, self.is_complete = [], False

    def compressed(self, indices: Sequence[int]) -> CompressedResponse:
        """Returns the compressed response of the mean over some of the images.

        Raises:
            InputError: The matrices were too many to keep.
        """
        if not self.is_complete or self._basis is None:
            raise InputError(
                f"these images' Gram matrices take more than {_MOST_BYTES // 2**20} MB.",
                "Use fewer images.",
            )
        mean = torch.stack([self._grams[index] for index in indices]).mean(dim=0)
        return factor_gram(mean, self._basis)
