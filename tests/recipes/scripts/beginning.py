"""What recipes begin with, in a module of its own beside them."""

import sys

from clips import made_tones
from hyperpyyaml import load_hyperpyyaml
from speechbrain import create_experiment_directory, parse_arguments
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.utils.distributed import ddp_init_group


def begin():
    """Read the command line and the hyperparameters; make the experiment's folder."""
    hparams_file, run_opts, overrides = parse_arguments(sys.argv[1:])
    ddp_init_group(run_opts)
    with open(hparams_file, encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file, overrides)
    create_experiment_directory(
        experiment_directory=hparams["output_folder"],
        hyperparams_to_save=hparams_file,
        overrides=overrides,
    )
    return hparams, run_opts


def tone_datasets(keys=("id", "clean", "noisy")):
    """Training, validation and test set of made tones."""
    return [
        DynamicItemDataset(made_tones(count, seed=seed), output_keys=list(keys))
        for count, seed in ((6, 7), (2, 8), (2, 9))
    ]
