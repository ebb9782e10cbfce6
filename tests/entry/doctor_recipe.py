"""A recipe that doctor is asked about, and what its answers say."""

from pathlib import Path

RECIPE = """\
import sys
import torch
import speechbrain as sb
from hyperpyyaml import load_hyperpyyaml


class MyBrain(sb.Brain):
    def compute_forward(self, batch, stage):
        return self.modules.model(batch[0].to(self.device))

    def compute_objectives(self, predictions, batch, stage):
        return predictions.sum()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        if stage == sb.Stage.VALID:
            stats = {"WER": 1.0}
            stats["CER"] = 2.0
            self.checkpointer.save_and_keep_only(meta=stats, min_keys=["WER"])


if __name__ == "__main__":
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    sb.utils.distributed.ddp_init_group(run_opts)
    with open(hparams_file) as file:
        hparams = load_hyperpyyaml(file, overrides)
    brain = MyBrain(hparams["modules"], hparams["opt_class"], hparams, run_opts=run_opts)
    brain.fit(hparams["epochs"], [1], [2])
"""

HPARAMS = """\
lr: 0.1
data_folder: !PLACEHOLDER
precision: bf16
model: !new:torch.nn.Linear [1, 1]
modules:
    model: !ref <model>
opt_class: !name:torch.optim.SGD
    lr: !ref <lr>
epochs: !new:speechbrain.utils.epoch_loop.EpochCounter
    limit: 2
checkpointer: !new:speechbrain.utils.checkpoints.Checkpointer
    checkpoints_dir: save
"""


def places(findings):
    return [(Path(each["file"]).name, each["line"]) for each in findings]
