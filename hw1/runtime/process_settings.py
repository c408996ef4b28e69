"""Settings that hold for the whole process, put back for a caller that goes on with its own work."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

VARIABLES = ("CUBLAS_WORKSPACE_CONFIG", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


@contextmanager
def restored_settings() -> Iterator[None]:
    """Put back, after the block, torch's threads, deterministic and cuDNN settings, random generators and `VARIABLES`.

    The allocator's thresholds (`hw1.runtime.device.keep_freed_memory`) cannot be read, and so stay.
    """
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    deterministic, warn_only = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    variables = {name: os.environ.get(name) for name in VARIABLES}
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.backends.cudnn.benchmark = benchmark
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            for name, value in variables.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
