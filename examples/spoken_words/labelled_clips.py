"""A folder of labelled wav files: finding, splitting and reading them."""

import hashlib
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import soundfile
import torch
from torch.utils.data import Dataset

LAYOUT = (
    "Expected are wav files as FOLDER/<label>/*.wav or as FOLDER/<label>_*.wav, "
    "of two labels or more, with three clips or more of each"
)
FEWEST_CLIPS = 3  # one for each of training, validation and test
HELD_OUT_SHARE = 0.1


class ClipFolderError(ValueError):
    """The folder that the user named has too few clips; the message says what it should have."""


class Clip(NamedTuple):
    """A wav file and what it is an example of."""

    path: Path
    label: str


class LabelledClips(Dataset):
    """Reads clips as examples with the keys id, signal (float tensor, shape [samples]) and label.

    Channels are averaged. Raises ValueError for a file with another sample rate.
    """

    def __init__(self, clips: list[Clip], labels: list[str], sample_rate: int) -> None:
        self.clips = clips
        self.label_numbers = {label: number for number, label in enumerate(labels)}
        self.sample_rate = sample_rate

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict:
        clip = self.clips[index]
        signal, sample_rate = soundfile.read(clip.path, dtype="float32", always_2d=True)
        if sample_rate != self.sample_rate:
            raise ValueError(
                f"{clip.path} has {sample_rate} samples a second, the recipe expects "
                f"{self.sample_rate}: convert the file, or give --sample_rate {sample_rate}"
            )
        return {
            "id": clip.path.stem,
            "signal": torch.from_numpy(signal).mean(dim=1),
            "label": self.label_numbers[clip.label],
        }


def find_clips(folder: str) -> list[Clip]:
    """Find the clips in a folder, in a fixed order.

    Raises ClipFolderError, which tells the layout expected, when they are too few to learn from.
    """
    if not folder:
        raise ClipFolderError(f"Name a folder of wav files: --data_folder FOLDER. {LAYOUT}.")
    if not Path(folder).is_dir():
        raise ClipFolderError(f"There is no folder {folder}. {LAYOUT}.")

    in_subfolders = [Clip(path, path.parent.name) for path in Path(folder).glob("*/*.wav")]
    flat = [Clip(path, path.name.split("_")[0]) for path in Path(folder).glob("[!_]*_*.wav")]
    clips = sorted(in_subfolders + flat)

    count = defaultdict(int)
    for clip in clips:
        count[clip.label] += 1
    if len(count) < 2 or min(count.values()) < FEWEST_CLIPS:
        found = ", ".join(f"{label} ({number})" for label, number in sorted(count.items()))
        raise ClipFolderError(f"The labels found in {folder} are: {found or 'none'}. {LAYOUT}.")
    return clips


def labels_of(clips: list[Clip]) -> list[str]:
    """Return the labels of the clips in alphabetical order, each once."""
    return sorted({clip.label for clip in clips})


def split_clips(clips: list[Clip]) -> dict[str, list[Clip]]:
    """Split the clips of each label into "train", "valid" and "test".

    The order within a label comes from a hash of the file names: it is the same on every machine
    and has nothing to do with who named the files how.
    """
    by_label = defaultdict(list)
    for clip in clips:
        by_label[clip.label].append(clip)

    parts = {"train": [], "valid": [], "test": []}
    for label in sorted(by_label):
        shuffled = sorted(by_label[label], key=_hash_of_name)
        held_out = max(1, round(HELD_OUT_SHARE * len(shuffled)))
        parts["valid"] += shuffled[:held_out]
        parts["test"] += shuffled[held_out : 2 * held_out]
        parts["train"] += shuffled[2 * held_out :]
    return parts


def _hash_of_name(clip: Clip) -> str:
    return hashlib.sha256(clip.path.name.encode()).hexdigest()
