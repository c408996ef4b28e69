"""Read and transform images as tensors, one sample at a time."""

import torch
from torch.utils.data import Dataset

from hw1.data.augment.plain_transforms import Transform
from hw1.data.image_set import ImageSet
from hw1.data.image_source import FileSource, ImageSource

SampleKey = tuple[int, int]
"""(epoch, index): the index chooses the image, both decide on its augmentation."""
Sample = tuple[torch.Tensor, int, int]
"""uint8 tensor [S, S, 3], RGB; label, -1 in a set without labels; index."""


class ImageDataset(Dataset[Sample]):
    """Transformed images by `SampleKey`.

    A sample depends on the source, the transform, the seed and its key only, whichever process computes it.

    Args:
        images: The images.
        transform: Applied to each image.
        seed: The run's seed.
        source: Where the images are read from; None reads the files.
    """

    def __init__(self, images: ImageSet, transform: Transform, seed: int, source: ImageSource | None = None) -> None:
        self.images = images
        self.transform = transform
        self.seed = seed
        self.source = source or FileSource(images, transform.smallest_side)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: SampleKey) -> Sample:
        """Read and transform a sample.

        Raises:
            RunError: The image can no longer be decoded (files are checked before a run); names the file.
        """
        epoch, index = key
        tensor = torch.from_numpy(self.transform(self.source.read(index), (self.seed, epoch, index)))
        return tensor, -1 if self.images.labels is None else int(self.images.labels[index]), index
