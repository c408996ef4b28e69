"""Dropout on the CPU, whose draws torch makes one by one, each from numbers of its own: two hundredths of a training step.

Measurements: benchmarks/NOTES.md, `python -m benchmarks.cpu_kernels`.
"""

import torch
from torch import Tensor, nn

NUM_LEVELS = 2**16
"""Of what is drawn for an element: its probability is rounded to a multiple of 1 / NUM_LEVELS."""


def use_fast_dropout(model: nn.Module) -> None:
    """Turn the model's dropout of single elements into `FastDropout`, in place; other kinds, of whole channels or paths, draw too few."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = FastDropout


class FastDropout(nn.Dropout):
    """A `torch.nn.Dropout` that on the CPU draws 64 bits for four elements from torch's generator.

    Elements are zero with the probability `p`, rounded to a multiple of 2^-16, and the others are scaled so that the mean stays.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Set elements of a tensor of any shape to zero at random in train mode; return it as it is in eval mode."""
        num_dropped = round(self.p * NUM_LEVELS)
        is_rest_for_torch = self.inplace or not 0 < num_dropped < NUM_LEVELS or torch.compiler.is_compiling()
        if not self.training or input.device.type != "cpu" or is_rest_for_torch:
            return super().forward(input)
        bits = torch.empty(-(-input.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        is_kept = bits[: input.numel()] >= num_dropped - NUM_LEVELS // 2
        scale = is_kept.to(input.dtype).mul_(NUM_LEVELS / (NUM_LEVELS - num_dropped))
        memory_order = torch.empty_like(input).stride()  # the input's, without gaps
        return input * scale.as_strided(input.shape, memory_order)
