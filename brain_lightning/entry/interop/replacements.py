"""The table of what replaces what: SpeechBrain's names, and ours for them.

While a recipe runs under ``brain-lightning run``, each name of ``REPLACED`` is ours wherever it is
looked up. ``KEPT`` names the rest of those modules, with the reason why SpeechBrain's own stays; a
test proves that together they have every public name.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_RANKS = "brain_lightning.ground.ranks"
_CHECKPOINTS = "brain_lightning.parts.checkpoints"
_DATA = "brain_lightning.parts.data"

Table = Mapping[str, Mapping[str, str]]
"""A module of SpeechBrain's -> a name in it -> a place of ours (``module:name``), or a reason."""


def _from(home: str, *names: str) -> dict[str, str]:
    return {name: f"{home}:{name}" for name in names}


REPLACED: Table = MappingProxyType(
    {
        "speechbrain": {
            "parse_arguments": "brain_lightning.facade.command_line:parse_arguments",
        },
        "speechbrain.core": {
            **_from("brain_lightning.facade.brain", "Brain"),
            **_from("brain_lightning.facade.experiment", "create_experiment_directory"),
            **_from("brain_lightning.ground.stage", "Stage"),
            # SpeechBrain 1.0 has it here.
            "parse_arguments": "brain_lightning.facade.command_line:parse_arguments",
        },
        "speechbrain.utils.run_opts": _from(
            "brain_lightning.parts.options.run_options", "RunOptions"
        ),
        "speechbrain.utils.checkpoints": {
            **_from(f"{_CHECKPOINTS}.checkpoint", "Checkpoint", "ckpt_recency"),
            **_from(f"{_CHECKPOINTS}.checkpointer", "Checkpointer"),
            **_from(f"{_CHECKPOINTS}.averaging", "average_checkpoints", "average_state_dicts"),
            **_from(
                f"{_CHECKPOINTS}.hooks",
                "DEFAULT_LOAD_HOOKS",
                "DEFAULT_SAVE_HOOKS",
                "DEFAULT_TRANSFER_HOOKS",
                "convert_torch_save_hooks_to_once_per_node",
                "get_default_hook",
                "mark_as_loader",
                "mark_as_saver",
                "mark_as_transfer",
                "register_checkpoint_hooks",
            ),
            **_from(
                f"{_CHECKPOINTS}.torch_hooks",
                "torch_parameter_transfer",
                "torch_patched_state_dict_load",
                "torch_recovery",
                "torch_save",
                "torch_save_once_per_node",
            ),
            **_from(
                f"{_CHECKPOINTS}.key_mapping",
                "KEYS_MAPPING",
                "hook_on_loading_state_dict_checkpoint",
                "map_old_state_dict_weights",
            ),
        },
        "speechbrain.utils.distributed": {
            # Functions that SpeechBrain decorated while it was imported find these at each call.
            "MainProcessContext": f"{_RANKS}:alone",
            "OncePerNodeContext": f"{_RANKS}:alone",
            **_from(
                _RANKS,
                "ddp_all_reduce",
                "ddp_barrier",
                "ddp_broadcast",
                "ddp_prevent_block",
                "get_local_rank",
                "get_rank",
                "if_main_process",
                "infer_device",
                "is_distributed_initialized",
                "is_local_rank_zero",
                "main_process_only",
                "once_per_node",
                "rank_prefixed_message",
                "run_on_main",
                "run_once_per_node",
            ),
            **_from("brain_lightning.ground.process_group", "ddp_init_group"),
        },
        "speechbrain.utils.epoch_loop": _from(
            "brain_lightning.parts.epochs.epoch_counter", "EpochCounter", "EpochCounterWithStopper"
        ),
        # Recipes ask whether a context is one.
        "speechbrain.utils.autocast": _from(
            "brain_lightning.parts.precision.autocast", "TorchAutocast"
        ),
        "speechbrain.dataio.dataloader": {
            **_from(f"{_DATA}.looped_loader", "LoopedLoader"),
            **_from(f"{_DATA}.make_dataloader", "distributed_loader_specifics", "make_dataloader"),
            **_from(f"{_DATA}.saveable_loader", "SaveableDataLoader"),
        },
        # Recipes ask of which kind the sampler is that Brain made.
        "speechbrain.dataio.sampler": _from(
            f"{_DATA}.samplers", "DistributedSamplerWrapper", "ReproducibleRandomSampler"
        ),
        "speechbrain.dataio.batch": {
            **_from(f"{_DATA}.batch_size", "BatchsizeGuesser"),
            **_from(f"{_DATA}.padded_batch", "PaddedBatch", "PaddedData"),
        },
    }
)

_SAME_VALUE = "Equal to ours; a constant."
_LIBRARY = "SpeechBrain's own affair, of no meaning to a recipe."

KEPT: Table = MappingProxyType(
    {
        "speechbrain": {
            "deprecations": _LIBRARY,
            "make_deprecated_redirections": _LIBRARY,
            "version": "The version of the SpeechBrain that is installed.",
        },
        "speechbrain.core": {
            "DEFAULT_LOG_CONFIG": "A file; our create_experiment_directory takes it as well.",
            "INTRA_EPOCH_CKPT_FLAG": _SAME_VALUE,
            "PYTHON_VERSION_MAJOR": _LIBRARY,
            "PYTHON_VERSION_MINOR": _LIBRARY,
            # SpeechBrain 1.0
            "run_opt_defaults": "The defaults of SpeechBrain 1.0: they hold, see interop.defaults.",
        },
        "speechbrain.utils.run_opts": {
            "HELP_TEXTS": "The texts of SpeechBrain's --help; ours are declared with the options.",
        },
        "speechbrain.utils.checkpoints": {
            "CKPT_PREFIX": _SAME_VALUE,
            "METAFNAME": _SAME_VALUE,
            "PARAMFILE_EXT": _SAME_VALUE,
        },
        "speechbrain.utils.distributed": {
            "MAIN_PROC_ONLY": "A count that only MainProcessContext changes, which is ours.",
            "NODE_ONCE_ONLY": "A count that only OncePerNodeContext changes, which is ours.",
        },
        "speechbrain.utils.epoch_loop": {},
        "speechbrain.utils.autocast": {
            "AMPConfig": "A dtype by the name of a precision; no part of Brain is one.",
            "fwd_default_precision": "A decorator for modules; it works unchanged.",
        },
        "speechbrain.dataio.dataloader": {
            "WDS_AVAILABLE": "Whether webdataset is installed; its classes are known by name here.",
            "WDS_CLASS": "A class of webdataset; known by name here.",
        },
        "speechbrain.dataio.sampler": dict.fromkeys(
            [
                "BalancingDataSampler",
                "ConcatDatasetBatchSampler",
                "DynamicBatchSampler",
                "ReproducibleWeightedRandomSampler",
            ],
            "Brain makes none of its own; SpeechBrain's works unchanged.",
        ),
        "speechbrain.dataio.batch": {},
    }
)

OURS_WHEN_PORTED: Table = MappingProxyType(
    {
        "speechbrain.utils.train_logger": _from(
            "brain_lightning.parts.train_log.file_train_logger", "FileTrainLogger"
        ),
    }
)
"""More names that are ours under ``import brain_lightning as sb``.

A recipe that runs as it stands keeps SpeechBrain's train logger, which works unchanged and which
recipes subclass.
"""
