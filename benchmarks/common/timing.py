"""Rates of things measured side by side: they alternate, so that a machine that drifts drifts for all of them."""

import time
from collections.abc import Callable, Mapping
from typing import TypedDict

import cv2
import numpy as np
import torch

Clock = Callable[[], float]


class Result(TypedDict):
    images_per_second: list[float]
    """One a round."""
    median: float
    quartiles: tuple[float, float]
    ratio: float
    """Median over the rounds of this rate over the base's in the same round."""
    ratio_quartiles: tuple[float, float]


def use_one_thread() -> None:
    """OpenCV, torch and OpenMP compute in the calling thread alone."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def time_rounds(
    work: Mapping[str, Callable[[int, int], object]], num: int, *, rounds: int, chunk: int, clock: Clock = time.perf_counter
) -> dict[str, list[float]]:
    """Images/s in each of `rounds`, after one more that does not count (it compiles, loads and fills caches).

    A round calls each of `work` once with (round, index) for every index below `num`: `chunk` images by one, the same by the next;
    images are shuffled for each round, turns for each chunk, always the same way. `clock` gives seconds.
    """
    rng = np.random.default_rng(0)
    rates: dict[str, list[float]] = {key: [] for key in work}
    for number in range(rounds + 1):
        seconds = dict.fromkeys(work, 0.0)
        for part in np.array_split(rng.permutation(num), -(-num // chunk)):
            indices = part.tolist()
            for key in rng.permutation(list(work)).tolist():
                seconds[key] += _time(work[key], number, indices, clock)
        if number:
            for key, value in seconds.items():
                rates[key].append(num / value)
    return rates


def summarise(rates: Mapping[str, list[float]], bases: Mapping[str, str]) -> dict[str, Result]:
    """`bases`: key -> key of what it is compared with."""
    return {key: _summarise(np.array(values), np.array(rates[bases[key]])) for key, values in rates.items()}


def _time(function: Callable[[int, int], object], number: int, indices: list[int], clock: Clock) -> float:
    start = clock()
    for index in indices:
        function(number, index)
    return clock() - start


def _summarise(rates: np.ndarray, base: np.ndarray) -> Result:
    low, median, high = np.percentile(rates, (25, 50, 75))
    ratio_low, ratio, ratio_high = np.percentile(rates / base, (25, 50, 75))
    return {
        "images_per_second": [_rounded(rate) for rate in rates],
        "median": _rounded(median),
        "quartiles": (_rounded(low), _rounded(high)),
        "ratio": round(float(ratio), 3),
        "ratio_quartiles": (round(float(ratio_low), 3), round(float(ratio_high), 3)),
    }


def _rounded(rate: float) -> float:
    """To a tenth, of small rates to four digits."""
    return round(float(rate), 1) if rate >= 100 else float(f"{rate:.4g}")
