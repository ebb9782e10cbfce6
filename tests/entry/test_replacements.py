"""The table of what replaces what: complete, and true of the installed SpeechBrain."""

import ast
import importlib
import sys
from pathlib import Path

import pytest
import speechbrain
import torch
from speechbrain.utils.checkpoints import Checkpointer as ImportedUnderAnotherName
from speechbrain.utils.run_opts import RunOptions as TheirRunOptions

import brain_lightning
from brain_lightning.entry.interop.installation import installed_option_defaults
from brain_lightning.entry.interop.ours import object_at
from brain_lightning.entry.interop.replacements import KEPT, OURS_WHEN_PORTED, REPLACED
from brain_lightning.entry.interop.replacing import our_names_in_speechbrain
from brain_lightning.parts.options.declarations import default_values

# In other versions of SpeechBrain than the one that the tests run with.
ELSEWHERE = {("speechbrain.core", "parse_arguments"), ("speechbrain.core", "run_opt_defaults")}


def _public_names(module_name):
    """The names that a module itself defines, from its source."""
    tree = ast.parse(Path(importlib.import_module(module_name).__file__).read_text("utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node in tree.body:
            names.add(node.name)
    for node in _statements_at_the_top(tree.body):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in names if not name.startswith("_")} - {"logger"}


def _statements_at_the_top(body):
    for node in body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            yield node
        elif isinstance(node, (ast.Try, ast.If, ast.With)):
            yield from _statements_at_the_top(node.body)


@pytest.mark.parametrize("module_name", REPLACED)
def test_every_public_name_is_replaced_or_kept_for_a_reason(module_name):
    replaced, kept = set(REPLACED[module_name]), set(KEPT[module_name])
    elsewhere = {name for module, name in ELSEWHERE if module == module_name}

    assert not replaced & kept
    assert (replaced | kept) - elsewhere == _public_names(module_name)
    assert all(KEPT[module_name].values())


def test_the_tables_are_about_the_same_modules():
    assert REPLACED.keys() == KEPT.keys()


@pytest.mark.parametrize("table", [REPLACED, OURS_WHEN_PORTED])
def test_all_places_are_there(table):
    for names in table.values():
        for place in names.values():
            assert object_at(place) is not None


def test_kept_constants_are_equal_to_ours():
    from speechbrain import core
    from speechbrain.utils import checkpoints

    from brain_lightning.engine.checkpoints.interval_checkpoint import INTRA_EPOCH_CKPT_FLAG
    from brain_lightning.parts.checkpoints import checkpoint

    assert core.INTRA_EPOCH_CKPT_FLAG == INTRA_EPOCH_CKPT_FLAG
    for name in ("CKPT_PREFIX", "METAFNAME", "PARAMFILE_EXT"):
        assert getattr(checkpoints, name) == getattr(checkpoint, name)


def test_all_names_are_ours_meanwhile_and_theirs_afterwards():
    def names():
        return {
            (module_name, name): vars(sys.modules[module_name])[name]
            for module_name, table in REPLACED.items()
            for name in table
            if (module_name, name) not in ELSEWHERE
        }

    before = names()
    with our_names_in_speechbrain():
        meanwhile = names()
        assert speechbrain.Brain is speechbrain.core.Brain is brain_lightning.Brain
        assert speechbrain.Stage is brain_lightning.Stage
        # modules that had imported them, as SpeechBrain's own and this one
        assert ImportedUnderAnotherName is brain_lightning.Checkpointer
        assert speechbrain.dataio.encoder.mark_as_saver is brain_lightning.mark_as_saver

    for (module_name, name), value in meanwhile.items():
        assert value is object_at(REPLACED[module_name][name])
    assert names() == before
    assert all(before[key] is not meanwhile[key] for key in before)
    assert ImportedUnderAnotherName.__module__ == "speechbrain.utils.checkpoints"
    assert speechbrain.Brain is not brain_lightning.Brain


def test_the_sampler_that_brain_makes_is_of_the_kind_that_recipes_ask_for():
    with our_names_in_speechbrain():
        brain = speechbrain.Brain(run_opts={"device": "cpu"})
        brain.make_dataloader(["a", "b"], speechbrain.Stage.TRAIN, shuffle=True)
        sampler = brain.train_sampler
        assert isinstance(sampler, speechbrain.dataio.sampler.ReproducibleRandomSampler)


def test_the_contexts_of_a_brain_are_of_the_kind_that_recipes_ask_for():
    with our_names_in_speechbrain():
        brain = speechbrain.Brain(run_opts={"device": "cpu", "precision": "bf16"})
        assert isinstance(brain.training_ctx, speechbrain.utils.autocast.TorchAutocast)
        assert isinstance(brain.evaluation_ctx, speechbrain.core.TorchAutocast)


def test_names_are_theirs_again_after_an_error():
    with pytest.raises(RuntimeError, match="from the recipe"), our_names_in_speechbrain():
        raise RuntimeError("from the recipe")

    assert speechbrain.Brain.__module__ == "speechbrain.core"


def test_a_module_imported_meanwhile_has_ours_and_theirs_afterwards():
    name = "speechbrain.utils.parameter_transfer"
    sys.modules.pop(name, None)

    with our_names_in_speechbrain():
        module = importlib.import_module(name)
        assert module.get_default_hook.__module__.startswith("brain_lightning")

    assert module.get_default_hook.__module__ == "speechbrain.utils.checkpoints"


def test_speechbrains_option_defaults_hold_meanwhile():
    theirs = TheirRunOptions()
    ours_differ = installed_option_defaults()
    assert ours_differ == {"compile_mode": "default", "ckpt_interval_minutes": 0}

    with our_names_in_speechbrain():
        assert {name: getattr(speechbrain.RunOptions(), name) for name in ours_differ} == {
            name: getattr(theirs, name) for name in ours_differ
        }
        _, parsed, _ = speechbrain.parse_arguments(["h.yaml", "--device", "cpu"])
        assert parsed.compile_mode == "default"
        _, given, _ = speechbrain.parse_arguments(["h.yaml", "--compile_mode", "reduce-overhead"])
        assert given.compile_mode == "reduce-overhead"
        brain = speechbrain.Brain(run_opts={"device": "cpu"})
        assert (brain.ckpt_interval_minutes, brain.compile_mode) == (0, "default")

    brain = brain_lightning.Brain(run_opts={"device": "cpu"})
    assert brain.ckpt_interval_minutes == default_values()["ckpt_interval_minutes"] == 15.0
    assert brain_lightning.RunOptions().compile_mode == "reduce-overhead"


def test_classes_registered_either_way_can_be_saved_and_transferred(tmp_path):
    features = importlib.import_module("speechbrain.processing.features")
    normalize = features.InputNormalization()  # registered with theirs

    with our_names_in_speechbrain():

        @speechbrain.utils.checkpoints.register_checkpoint_hooks
        class Counted:
            value = 0

            @speechbrain.utils.checkpoints.mark_as_saver
            def save(self, path):
                Path(path).write_text(str(self.value), encoding="utf-8")

            @speechbrain.utils.checkpoints.mark_as_loader
            def load(self, path, end_of_epoch):
                self.value = int(Path(path).read_text(encoding="utf-8"))

        counted = Counted()
        counted.value = 5
        recoverables = {"counted": counted, "normalize": normalize}
        checkpointer = speechbrain.utils.checkpoints.Checkpointer(tmp_path / "save", recoverables)
        normalize(torch.rand(2, 5, 3), torch.ones(2))
        mean = normalize.glob_mean.clone()
        checkpoint = checkpointer.save_checkpoint()
        counted.value = 0
        normalize.glob_mean = mean + 1
        checkpointer.recover_if_possible()

        transferred = Counted()
        pretrainer = speechbrain.utils.parameter_transfer.Pretrainer(
            loadables={"counted": transferred},
            paths={"counted": str(checkpoint.paramfiles["counted"])},
            collect_in=tmp_path / "collected",
        )
        pretrainer.collect_files()
        pretrainer.load_collected()

    assert counted.value == transferred.value == 5
    assert torch.equal(normalize.glob_mean, mean)
