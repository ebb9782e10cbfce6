"""Data sets of the clips, on SpeechBrain's data pipeline; imported by the recipes beside it."""

import json
from pathlib import Path

import speechbrain as sb
import torch

VALID = ("spk1_snt4", "spk2_snt4")
TEST = ("spk1_snt5", "spk2_snt5")


def read_clips(folder):
    """The annotation of the clips, by name."""
    clips = json.loads((Path(folder) / "clips.json").read_text(encoding="utf-8"))
    for clip in clips.values():
        clip["wav"] = str(Path(folder) / clip["wav"])
    return clips


def split(clips):
    """Training, validation and test clips."""
    train = {name: clip for name, clip in clips.items() if name not in VALID + TEST}
    valid = {name: clips[name] for name in VALID}
    return train, valid, {name: clips[name] for name in TEST}


@sb.utils.data_pipeline.takes("wav")
@sb.utils.data_pipeline.provides("sig")
def audio(wav):
    return sb.dataio.dataio.read_audio(wav)


def audio_datasets(folder, outputs=("id", "sig"), items=()):
    """Three DynamicItemDatasets with the waveform and whatever `items` provide."""
    datasets = [
        sb.dataio.dataset.DynamicItemDataset(annotation) for annotation in split(read_clips(folder))
    ]
    sb.dataio.dataset.add_dynamic_item(datasets, audio)
    for item in items:
        sb.dataio.dataset.add_dynamic_item(datasets, item)
    sb.dataio.dataset.set_output_keys(datasets, list(outputs))
    return datasets


def label_encoder(folder, save_folder):
    """SpeechBrain's CTCTextEncoder over the phones of all clips, kept in a file."""
    encoder = sb.dataio.encoder.CTCTextEncoder()
    phones = [clip["phn"].split() for clip in read_clips(folder).values()]
    encoder.load_or_create(
        path=str(Path(save_folder) / "label_encoder.txt"),
        from_iterables=[phones],
        special_labels={"blank_label": 0, "bos_label": 1, "eos_label": 2},
        sequence_input=True,
    )
    return encoder


def phone_items(encoder):
    """The dynamic item that makes token sequences of a clip's phones."""

    @sb.utils.data_pipeline.takes("phn")
    @sb.utils.data_pipeline.provides("phones", "tokens", "tokens_bos", "tokens_eos")
    def text(phn):
        phones = phn.strip().split()
        yield phones
        tokens = encoder.encode_sequence(phones)
        yield torch.LongTensor(tokens)
        yield torch.LongTensor(encoder.prepend_bos_index(tokens))
        yield torch.LongTensor(encoder.append_eos_index(tokens))

    return text


def made_tones(count, length=1200, seed=7):
    """Noisy tones and their clean versions, for recipes that need no real speech."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(length) / 8000
    examples = {}
    for index in range(count):
        pitch = 100 + 400 * torch.rand(1, generator=generator)
        clean = 0.3 * torch.sin(2 * torch.pi * pitch * time)
        noisy = clean + 0.1 * torch.randn(length, generator=generator)
        examples[f"tone{index}"] = {"clean": clean, "noisy": noisy, "pitch": float(pitch)}
    return examples
