"""The handwritten digits that scikit-learn ships, split for training, validation and test."""

import torch
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

# The split never changes, whatever the seed of the experiment.
SPLIT_SEED = 0
VALID_SIZE = 300
TEST_SIZE = 300
HIGHEST_PIXEL = 16.0


def prepare_digits() -> dict[str, TensorDataset]:
    """Return the data sets "train", "valid" and "test" of (image, digit).

    An image is a float tensor of shape [1, 8, 8] with values from 0 to 1.
    """
    pixels, digits = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) / HIGHEST_PIXEL
    labels = torch.tensor(digits, dtype=torch.long)

    generator = torch.Generator().manual_seed(SPLIT_SEED)
    order = torch.randperm(len(labels), generator=generator)
    parts = {
        "valid": order[:VALID_SIZE],
        "test": order[VALID_SIZE : VALID_SIZE + TEST_SIZE],
        "train": order[VALID_SIZE + TEST_SIZE :],
    }
    return {name: TensorDataset(images[part], labels[part]) for name, part in parts.items()}
