"""All training loops that are compared, ours and the peers', by one name each."""

import fnmatch
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import nn

from benchmarks.training import ours, peers
from benchmarks.training.case import Case
from hw1.data.loader.base import Batch
from hw1.errors import UserError


class Loop(Protocol):
    model: nn.Module
    channels_last: bool

    def begin(self) -> None:
        """Sets the process's switches as this loop wants them: at the start of each of its turns."""

    def step(self, batch: Batch) -> None:
        """Trains on one batch. The device may still be at work when it returns."""

    def first_loss(self, batch: Batch) -> float:
        """Of the model as it is on this batch, nothing drawn at random."""

    def why_not_as_asked(self) -> str | None:
        """After some steps: what of its way it did not do; None where it did all."""


LABELS: dict[str, str] = ours.OURS | peers.PEERS


def why_not(key: str, device: torch.device) -> str | None:
    """Why a loop cannot run here; None where it can."""
    return ours.why_not(key, device) if key in ours.OURS else peers.why_not(key, device)


def is_compiled(key: str) -> bool:
    """Whether `torch.compile` has a part in it."""
    if key in ours.OURS:
        return ours.WAYS[key.partition("/")[2]].compile
    return key != "report" and peers.TIMM[key.partition("/")[2]].compile_mode is not None


def build_loop(key: str, case: Case, device: torch.device) -> Loop:
    if key in ours.OURS:
        return ours.OurLoop(case, key, device)
    return peers.builder_of(key)(case, device)


def choose(patterns: Sequence[str], default: Sequence[str]) -> list[str]:
    """The loops that `--loop` names; `default` where there are none. Raises UserError for a pattern that names none."""
    return match("--loop", patterns or default, list(LABELS))


def match(option: str, patterns: Sequence[str], known: Sequence[str]) -> list[str]:
    """Those of `known` that shell patterns name, in the order of the patterns. Raises UserError for a pattern that names none."""
    chosen: list[str] = []
    for pattern in patterns:
        found = fnmatch.filter(known, pattern)
        if not found:
            raise UserError(f"{option} {pattern}: names none of {', '.join(known)}")
        chosen += [key for key in found if key not in chosen]
    return chosen
