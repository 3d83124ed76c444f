"""The loss as a function of the kernel alone, through a compressed response.

What the kernel is a function of, one parameter or several, is for those who call it to know.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from gabordiag.objective.losses import Loss, find_loss
from gabordiag.objective.response import CompressedResponse

Parts = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class KernelLoss:
    """The loss between a kernel's response and the target kernel's.

    Attributes:
        compressed: From kernels to compressed responses, exact for every kernel that is asked for.
        target_kernel: (1, K, K), of the same type and on the same device.
        definition: Which loss.
        is_noisy: The target response has noise.
    """

    compressed: CompressedResponse
    target_kernel: Tensor
    definition: Loss
    is_noisy: bool

    @cached_property
    def target_response(self) -> Tensor:
        """Compressed form (r,) of the target response."""
        return self.compressed(self.target_kernel)[0] + self.compressed.extra

    def parts(self, kernels: Tensor) -> Parts:
        """Returns residual (n, r), response (n, r) and target response (r,) of kernels (n, K, K).

        The residual is that of the difference of kernels: near the target its digits survive.
        """
        residual = self.compressed(kernels - self.target_kernel) - self.compressed.extra
        # The sum loses digits where noise far above the response cancels in it.
        response = self.compressed(kernels) if self.is_noisy else residual + self.target_response
        return residual, response, self.target_response

    def loss(self, kernels: Tensor) -> Tensor:
        """Returns the loss (n,) of kernels (n, K, K), differentiable."""
        return self.definition.compressed(*self.parts(kernels))

    def smooth_loss(self, kernels: Tensor) -> Tensor:
        """Returns the loss without its root (n,)."""
        return find_loss(self.definition.squared).compressed(*self.parts(kernels))

    def slopes(self, kernels: Tensor, changes: Tensor) -> Tensor:
        """Returns the loss's derivatives (n,) along changes (n, K, K) of the kernels."""
        return self.definition.gradient(*self.parts(kernels), self.compressed(changes))
