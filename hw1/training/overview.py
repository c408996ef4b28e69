"""The first lines of a training: what is trained, on what, how, and where the results will be."""

import torch

from hw1.config.recipe import base_lr
from hw1.data.image_set import TrainingData
from hw1.runs.folder import RunFolder
from hw1.runtime import distributed as dist
from hw1.runtime.cpu import default_num_workers
from hw1.runtime.device import amp_dtype, device_name, precision_name
from hw1.training.train_state import TrainState


def describe_run(run: RunFolder, state: TrainState, data: TrainingData) -> list[str]:
    """Describe a run in a few lines, before its first step."""
    recipe, device, num = state.recipe, state.device, dist.world_size()
    total, trained = count_parameters(state.model)
    size, accum = recipe.data.batch_size, recipe.train.grad_accum
    where = device_name(device) if num == 1 else f"{num} processes, each with {device_name(device)}"
    step = f", {accum} in a step of {size * accum}" if accum > 1 else ""
    workers = default_num_workers(device) if recipe.data.num_workers is None else recipe.data.num_workers
    hours = "" if recipe.train.hours is None else f", within {recipe.train.hours:g} h"
    return [
        f"model: {recipe.model.name}, {trained / 1e6:.1f} of {total / 1e6:.1f} M parameters trained, "
        f"in {precision_name(amp_dtype(recipe.train, device))} on {where}",
        f"data: {len(data.train)} images to train on, {len(data.val)} to validate on, {data.classes.num_classes} classes; "
        f"{workers or 'no'} worker process{'' if workers == 1 else 'es'}{'' if num == 1 else ' each'}",
        f"batches: {size} images of {recipe.aug.size} x {recipe.aug.size}{step}; {recipe.optim.name}, rate {base_lr(recipe):g}, "
        f"{recipe.sched.name}; {recipe.train.epochs} epochs of {state.steps_per_epoch} batches{hours}",
        f"run: {run.path}; {run.samples.name} in it shows the images as the model gets them, from the first step on",
    ]


def count_parameters(model: torch.nn.Module) -> tuple[int, int]:
    """Count all parameters, and those that are trained."""
    return sum(p.numel() for p in model.parameters()), sum(p.numel() for p in model.parameters() if p.requires_grad)
