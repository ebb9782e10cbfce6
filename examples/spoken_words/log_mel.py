"""Logarithmic mel spectrogram, from torch alone."""

import torch
from torch import Tensor, nn

QUIETEST = 1e-6


class LogMel(nn.Module):
    """Turns signals into log mel energies, relative to the mean over the clip: loudness drops out.

    Arguments: samples a second, length of a window and step between windows in samples, and the
    number of mel bands.
    """

    def __init__(
        self, sample_rate: int, window_length: int, hop_length: int, number_of_mels: int
    ) -> None:
        super().__init__()
        self.hop_length = hop_length
        self.register_buffer("window", torch.hann_window(window_length))
        self.register_buffer("bands", mel_bands(sample_rate, window_length, number_of_mels))

    def forward(self, signals: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return features of shape [batch, mels, frames] and a mask of shape [batch, 1, frames].

        `signals` has shape [batch, samples]; `lengths`, shape [batch], is the share of it that
        is not padding. The mask is one in the frames of the clip and zero in those of padding.
        """
        # The energies of speech span more than the digits of half precision.
        with torch.autocast(signals.device.type, enabled=False):
            spectrum = torch.stft(
                signals,
                n_fft=len(self.window),
                hop_length=self.hop_length,
                window=self.window,
                pad_mode="constant",
                return_complex=True,
            )
            energies = torch.matmul(self.bands, spectrum.abs().square())
            features = torch.log(energies + QUIETEST)

            samples = (lengths * signals.shape[-1]).round()
            frames = samples // self.hop_length + 1
            position = torch.arange(features.shape[-1], device=signals.device)
            mask = (position < frames.unsqueeze(1)).unsqueeze(1).float()
            loudness = (features.mean(dim=1, keepdim=True) * mask).sum(dim=-1, keepdim=True)
            mean = loudness / mask.sum(dim=-1, keepdim=True)
            return (features - mean) * mask, mask


def mel_bands(sample_rate: int, window_length: int, number_of_mels: int) -> Tensor:
    """Triangular filters, evenly spaced in mel, of shape [mels, window_length // 2 + 1]."""
    highest_mel = 2595 * torch.log10(torch.tensor(1 + sample_rate / 2 / 700))
    corners = 700 * (10 ** (torch.linspace(0, highest_mel, number_of_mels + 2) / 2595) - 1)
    frequencies = torch.linspace(0, sample_rate / 2, window_length // 2 + 1)
    low, centre, high = (corners[i : i + number_of_mels].unsqueeze(1) for i in range(3))
    rising = (frequencies - low) / (centre - low)
    falling = (high - frequencies) / (high - centre)
    return torch.minimum(rising, falling).clamp(min=0)
