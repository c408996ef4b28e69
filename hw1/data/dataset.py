"""Image files to tensors, one sample at a time."""

import torch
from torch.utils.data import Dataset

from hw1.data.decode import BadImage, read_image
from hw1.data.folders import ImageSet
from hw1.data.listing import printable
from hw1.data.transforms import Transform
from hw1.errors import RunError

Sample = tuple[torch.Tensor, int, int]


class PictureDataset(Dataset[Sample]):
    """Decoded and transformed pictures, keyed by (epoch, index): both decide the augmentation, `index` the picture.

    An item is (uint8 tensor [S, S, 3] RGB, label or -1 where the set has no labels, index). It is a function of the files, the transform,
    the seed and its key, wherever it is computed.
    """

    def __init__(self, images: ImageSet, transform: Transform, seed: int) -> None:
        self.images = images
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Raises RunError, naming the file, where it cannot be decoded (any more: files are checked before a run)."""
        epoch, index = key
        path = self.images.path(index)
        try:
            picture = read_image(path)
        except BadImage as error:
            raise RunError(f"{printable(path)}: {error.reason}") from error
        tensor = torch.from_numpy(self.transform(picture, (self.seed, epoch, index)))
        return tensor, -1 if self.images.labels is None else int(self.images.labels[index]), index
