"""A network that gives a clip one of some labels."""

import torch
from torch import Tensor, nn

LEAST_VARIANCE = 1e-5


class ClipClassifier(nn.Module):
    """Convolutions over time, then mean and deviation over the frames of the clip, then a layer."""

    def __init__(self, number_of_features: int, channels: int, number_of_labels: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            [
                nn.Conv1d(number_of_features, channels, kernel_size=5, padding=2),
                nn.Conv1d(channels, channels, kernel_size=3, dilation=2, padding=2),
            ]
        )
        self.output = nn.Linear(2 * channels, number_of_labels)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return scores of shape [batch, labels].

        `features` has shape [batch, features, frames], `mask` [batch, 1, frames] is zero where
        frames are padding: these have no influence on the scores.
        """
        hidden = features
        for convolution in self.convolutions:
            hidden = torch.relu(convolution(hidden)) * mask
        frames = mask.sum(dim=-1)
        mean = hidden.sum(dim=-1) / frames
        variance = ((hidden - mean.unsqueeze(-1)).square() * mask).sum(dim=-1) / frames
        deviation = (variance + LEAST_VARIANCE).sqrt()
        return self.output(torch.cat([mean, deviation], dim=-1))
