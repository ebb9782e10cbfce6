"""Clusters of features by SpeechBrain's k-means: no Brain; its loader is saved by its own names."""

import pathlib
import sys

import speechbrain as sb
import torch
from clips import audio_datasets
from hyperpyyaml import load_hyperpyyaml
from record import record
from speechbrain.dataio.dataloader import make_dataloader
from speechbrain.lobes.features import Fbank
from speechbrain.utils.distributed import ddp_init_group
from speechbrain.utils.kmeans import fetch_kmeans_model, save_model, train


class Layers(torch.nn.Module):
    """Stands for a network trained by self-supervision: layers of features."""

    def __init__(self):
        super().__init__()
        self.features, self.linear = Fbank(n_mels=6), torch.nn.Linear(6, 6)

    def forward(self, wavs, lengths=None):
        features = self.features(wavs)
        return torch.stack([features, self.linear(features)])


@sb.utils.data_pipeline.takes("wav")
@sb.utils.data_pipeline.provides("part")
def part(wav):
    record("read", file=pathlib.Path(wav).name)
    return sb.dataio.dataio.read_audio(wav)[4000:12000]


def main():
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    ddp_init_group(run_opts)
    hparams = load_hyperpyyaml(pathlib.Path(hparams_file).read_text(encoding="utf-8"), overrides)
    sb.create_experiment_directory(hparams["output_folder"], hparams_file, overrides)
    folder = pathlib.Path(hparams["save_folder"])
    folder.mkdir(exist_ok=True)
    clips = audio_datasets(hparams["data_folder"], ("id", "part"), (part,))[0]
    loader = make_dataloader(clips, batch_size=2, shuffle=True, collate_fn=as_sig)
    place = folder / "dataloader-TRAIN.ckpt"
    if place.exists():
        loader._speechbrain_load(str(place), False)
    model = fetch_kmeans_model(
        n_clusters=4,
        init="k-means++",
        max_iter=10,
        batch_size=20,
        tol=0.0,
        max_no_improvement=10,
        n_init=1,
        reassignment_ratio=0.0,
        random_state=1,
        checkpoint_path=str(folder / "kmeans.pt"),
    )
    with torch.no_grad():
        train(model, loader, Layers(), str(folder), 1, 40, run_opts["device"], 2)
    save_model(model, str(folder / "kmeans.pt"))
    record("clusters", centers=torch.tensor(model.cluster_centers_), saved=place.read_text())


def as_sig(clips):
    return sb.dataio.batch.PaddedBatch([{"sig": clip["part"]} for clip in clips])


if __name__ == "__main__":
    main()
