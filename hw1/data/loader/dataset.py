"""Image files to tensors, one sample at a time."""

import torch
from torch.utils.data import Dataset

from hw1.data.augment.transforms import Transform
from hw1.data.image_set import ImageSet
from hw1.data.image_source import FileSource, ImageSource

Sample = tuple[torch.Tensor, int, int]


class ImageDataset(Dataset[Sample]):
    """Transformed images, keyed by (epoch, index): both decide the augmentation, `index` the image.

    An item is (uint8 tensor [S, S, 3] RGB, label or -1 where the set has no labels, index). It is a function of the source, the transform,
    the seed and its key, wherever it is computed.
    """

    def __init__(self, images: ImageSet, transform: Transform, seed: int, source: ImageSource | None = None) -> None:
        self.images = images
        self.transform = transform
        self.seed = seed
        self.source = source or FileSource(images, transform.smallest_side)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Raises RunError, naming the file, where it cannot be decoded (any more: files are checked before a run)."""
        epoch, index = key
        tensor = torch.from_numpy(self.transform(self.source.read(index), (self.seed, epoch, index)))
        return tensor, -1 if self.images.labels is None else int(self.images.labels[index]), index
