"""What doctor says of recipes that go around the wrappers of DDP; runs are in test_corners."""

import pytest
from torch.nn.parallel import DistributedDataParallel

from brain_lightning.entry.doctor.entries_around_ddp import names_of_the_wrapper
from brain_lightning.entry.doctor.source_files import SourceTree

from .doctor_recipe import HPARAMS, RECIPE, places

ENCODER = """\
class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.LSTM(1, 1)


"""

AROUND_DDP = {
    "a part": ("model.rnn(x)", "rnn"),
    "a method": ("model.encode(x)", "encode"),
    "by the entry's name as text": ("self.modules['model'].encode(x)", "encode"),
    "by a variable": ("one = self.modules.model; one.encode(x)", "encode"),
    "an attribute": ("x * self.modules.model.size", "size"),
    "an item": ("self.modules.model[0](x)", "[0]"),
    "an item by its name": ("one = self.modules['model']; one['rnn'](x)", "['rnn']"),
}


def recipe_with(line, model="!new:train.Encoder"):
    """RECIPE with a line in compute_forward, and HPARAMS with a model."""
    line = line if "self." in line else f"self.modules.{line}"
    recipe = RECIPE.replace("class MyBrain", f"{ENCODER}class MyBrain")
    end = "        return self.modules"
    recipe = recipe.replace(end, f"        {line}\n{end}")
    return {"train.py": recipe, "h.yaml": HPARAMS.replace("!new:torch.nn.Linear [1, 1]", model)}


@pytest.mark.parametrize("case", AROUND_DDP)
def test_what_ddps_wrapper_does_not_have_is_named(doctor, case):
    line, attribute = AROUND_DDP[case]

    status, report = doctor(recipe_with(line))

    assert status == 0
    strategies = report["brains"][0]["strategies"]
    assert not strategies["ddp"]["possible"]
    part = f"modules.model{attribute if '[' in attribute else f'.{attribute}'} (train.py:15)"
    assert f"{part} would not be there" in strategies["ddp"]["why"]
    assert strategies["fsdp2"]["possible"]
    assert strategies["whole_module_ddp"]["possible"]
    assert doctor({}, "--trainer.strategy=ddp")[0] == 0  # no file of hyperparameters
    status, report = doctor(recipe_with(line), "--trainer.strategy=ddp")
    assert status == 1
    assert part in report["refused"][0]["message"]


THROUGH_DDP = [
    "model(x).rnn",
    "model.parameters()",
    "model.no_sync()",
    "model.training",
    "model.module.encode(x)",
    "x = self.modules.model.encode(x) if not hasattr(self.modules.model, 'module') else 1",
    "x = self.modules.model.encode(x) if not self.distributed_launch else 1",
    "self.modules.model.size = 3; self.modules.model.size",
    "self.modules.model = Encoder(); self.modules.model.rnn(x)",
    "one = self.modules.model; one = Encoder(); one.rnn(x)",
]


@pytest.mark.parametrize("line", THROUGH_DDP)
def test_what_the_wrapper_has_and_what_looks_for_it_is_left_alone(doctor, line):
    _, report = doctor(recipe_with(line))

    assert report["brains"][0]["strategies"]["ddp"]["possible"]
    assert len(report["notes"]) == 1  # --data_folder


@pytest.mark.parametrize(
    ("model", "is_noted"),
    [
        ("!new:speechbrain.processing.features.InputNormalization", False),
        ("!new:torch.nn.Dropout", False),
        ("!new:train.Encoder {freeze: True}", True),
        ("!new:nowhere.Encoder", True),
        ("!apply:train.make_encoder", True),
    ],
)
def test_an_entry_that_may_have_nothing_to_train(doctor, model, is_noted):
    _, report = doctor(recipe_with("model.encode(x)", model))

    assert report["brains"][0]["strategies"]["ddp"]["possible"]
    messages = [each["message"] for each in report["notes"] if each["line"] == 15]
    assert [("if modules.model has something" in each) for each in messages] == [True] * is_noted


def test_what_two_classes_inherit_is_noted_once(doctor):
    files = recipe_with("model.encode(x)", "!new:nowhere.Encoder")
    files["train.py"] += "class A(MyBrain): pass\nclass B(MyBrain): pass\nA().fit(1, [])\n"

    _, report = doctor(files)

    assert len(report["brains"]) == 3
    assert [each["line"] for each in report["notes"]].count(15) == 1


@pytest.mark.parametrize(
    ("model", "trains"),
    [
        ("!new:speechbrain.lobes.models.CRDNN.CRDNN", True),
        ("!new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN", True),
        ("!new:speechbrain.lobes.models.transformer.TransformerASR.TransformerASR", True),
        ("!new:speechbrain.lobes.features.Fbank", False),  # freeze=True is its default
        ("!new:speechbrain.integrations.huggingface.wav2vec2.Wav2Vec2", False),  # downloaded
    ],
)
def test_models_of_speechbrains(doctor, model, trains):
    _, report = doctor(recipe_with("model.encode(x)", model))

    assert report["brains"][0]["strategies"]["ddp"]["possible"] == (not trains)
    assert any("if modules.model has" in each["message"] for each in report["notes"]) != trains


@pytest.mark.parametrize(
    ("line", "is_noted"),
    [
        ("self.hparams.model(x)", True),
        ("self.hparams.other(x)", False),
        ("if stage == sb.Stage.VALID: self.hparams.model(x)", False),
    ],
)
def test_an_entry_that_is_called_without_its_wrapper(doctor, line, is_noted):
    files = recipe_with(line)
    files["h.yaml"] += "other: !new:train.Encoder\n"

    _, report = doctor(files)

    noted = [each for each in report["notes"] if "without DDP's wrapper" in each["message"]]
    assert places(noted) == [("train.py", 15)] * is_noted


def test_the_wrappers_names_are_those_of_torchs(tmp_path):
    (tmp_path / "train.py").write_text("", encoding="utf-8")

    names = names_of_the_wrapper(SourceTree(tmp_path / "train.py"))

    assert {name for name in dir(DistributedDataParallel) if not name.startswith("_")} <= names
    assert {"module", "require_backward_grad_sync", "training"} <= names
    assert names.isdisjoint({"encode", "rnn", "size", "output", "name", "param"})
