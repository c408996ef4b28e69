"""Find the largest batch that fits the device: `data.batch_size: auto`."""

import gc
import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from hw1.config.recipe import FreezeConfig, Recipe, step_images
from hw1.data.image_set import ClassMap
from hw1.data.loader.base import Batch
from hw1.models.freeze import set_train_mode
from hw1.runtime import distributed as dist
from hw1.runtime.device import is_out_of_memory
from hw1.training.build_state import build_train_state
from hw1.training.train_step import train_step
from hw1.utils.console import say

SPARE = 0.05
"""Fraction of the GPU's memory that a trial leaves free: for the next batch, which is copied meanwhile, and for scattered blocks."""
MAX_GRAD_ACCUM = 4096


def choose_batch_size(recipe: Recipe, device: torch.device, num_classes: int) -> Recipe:
    """Return the recipe with numbers for `data.batch_size: auto`; as it is without. Call it in all processes.

    Neither the images of an optimizer step change, nor, with them, the learning rate: `train.grad_accum` makes up for smaller batches. On
    a CPU the batch is the recipe's own, as a system that is out of memory ends processes instead of telling them.
    """
    if not isinstance(recipe.data.batch_size, str):
        return recipe
    images = step_images(recipe)
    if device.type != "cuda":
        return with_batch_size(recipe, images // recipe.train.grad_accum)

    def fits_everywhere(size: int) -> bool:
        return all(dist.gather(fits(with_batch_size(recipe, size), device, num_classes)))

    chosen = with_batch_size(recipe, largest(possible_sizes(images, dist.world_size()), fits_everywhere))
    if dist.is_main():
        accum = chosen.train.grad_accum
        say(f"data.batch_size: auto is {chosen.data.batch_size} here, with train.grad_accum {accum}: a step has {images} images as before")
    return chosen


def with_batch_size(recipe: Recipe, size: int) -> Recipe:
    """Return the recipe with so many images in a batch, and as many in an optimizer step as before."""
    data = recipe.data.model_copy(update={"batch_size": size})
    return recipe.model_copy(
        update={"data": data, "train": recipe.train.model_copy(update={"grad_accum": step_images(recipe) // size})},
    )


def possible_sizes(images: int, num_processes: int) -> list[int]:
    """Return the batch sizes, rising, into which an optimizer step of so many images can be divided among the processes."""
    small = [size for size in range(1, math.isqrt(images) + 1) if images % size == 0]
    sizes = sorted({*small, *(images // size for size in small)})
    return [size for size in sizes if size >= num_processes and images // size <= MAX_GRAD_ACCUM] or [images]


def largest(sizes: Sequence[int], fits: Callable[[int], bool]) -> int:
    """Return the largest of the rising sizes that fits, the smallest if none does; whoever takes that one meets the error.

    Args:
        sizes: Rising.
        fits: Whether a size fits; where one does, all smaller ones do. It is asked about the largest first, then by halves.
    """
    if fits(sizes[-1]):
        return sizes[-1]
    low, high = 0, len(sizes) - 1  # sizes[high] does not fit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(sizes[middle]) else (low, middle)
    return sizes[low]


def fits(recipe: Recipe, device: torch.device, num_classes: int) -> bool:
    """Try two optimizer steps on random images; return whether the device has memory for them and some to spare.

    The second step finds what the first has left: gradients (with `train.grad_accum` above 1), moments and averages.
    """
    try:
        _train_two_steps(recipe, device, num_classes)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        gc.collect()  # the state is full of circles
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return True


def _train_two_steps(recipe: Recipe, device: torch.device, num_classes: int) -> None:
    accum = min(recipe.train.grad_accum, 2)
    train = recipe.train.model_copy(update={"grad_accum": accum, "compile": False, "cuda_graph": False})
    freeze = recipe.freeze if recipe.freeze.until_epoch is None else FreezeConfig(stages=())  # the largest that it comes to
    recipe = recipe.model_copy(update={"train": train, "freeze": freeze})
    size, count = recipe.aug.size, -(-recipe.data.batch_size // dist.world_size())
    whole = count * dist.world_size()
    labels = np.arange(num_classes)
    classes = ClassMap(tuple(map(str, labels)))
    state = build_train_state(recipe, device, classes, labels, "", 2 * accum, load_weights=False)
    state.guard.sync_buffers = lambda weight: None  # type: ignore[method-assign]  # a process that is out of memory would not answer
    set_train_mode(state.model, freeze)
    spare = _allocate_spare(state.model, device)
    image = torch.randn(count, recipe.model.in_chans, size, size, device=device)
    if recipe.train.channels_last:
        image = image.to(memory_format=torch.channels_last)
    batch = Batch(image, torch.arange(count, device=device) % num_classes, torch.arange(count))
    loader: Any = SimpleNamespace(num_batches=2 * accum, batch_size_of=lambda step: whole, local_batch_size_of=lambda step: count)
    for _ in range(2 * accum):
        train_step(state, batch, loader)
    state.sums.tolist()  # waits for the device
    del spare


def _allocate_spare(model: torch.nn.Module, device: torch.device) -> torch.Tensor:
    """Take the memory that is to stay free; several processes exchange gradients through buffers of the gradients' size."""
    num = int(SPARE * torch.cuda.mem_get_info(device)[1]) if device.type == "cuda" else 0
    if dist.world_size() > 1:
        num += sum(parameter.numel() * parameter.element_size() for parameter in model.parameters() if parameter.requires_grad)
    return torch.empty(num, dtype=torch.uint8, device=device)
