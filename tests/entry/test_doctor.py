"""`brain-lightning doctor`: what it says, where, and that a run does what it said."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from speechbrain.core import Brain as SpeechBrainsBrain

from brain_lightning.entry.command_line import main
from brain_lightning.entry.doctor.brain_interface import ATTRIBUTES, METHODS
from brain_lightning.facade.brain import Brain
from brain_lightning.ground import launch_detection
from brain_lightning.ground.launch_detection import VARIABLES
from brain_lightning.parts.options.declarations import option_fields
from brain_lightning.parts.recipe_rules.optimization_rules import AUTOMATIC_CALLBACKS

from ..recipes.recipe_rows import HERE, SPEECH, read_rows
from .doctor_recipe import HPARAMS, RECIPE, places


def test_an_ordinary_recipe(doctor):
    status, report = doctor({"train.py": RECIPE, "h.yaml": HPARAMS})

    assert status == 0
    assert report["verdict"] == "runs"
    (brain,) = report["brains"]
    assert (brain["name"], brain["line"], brain["optimizers"]) == ("MyBrain", 7, 1)
    assert brain["overrides"] == {
        "compute_forward": "train.py:8",
        "compute_objectives": "train.py:11",
        "on_stage_end": "train.py:14",
    }
    assert brain["reads"] == ["checkpointer", "device", "modules"]
    assert brain["optimization"]["mode"] == "manual"
    assert brain["automatic"]["possible"]
    possible = {name for name, choice in brain["strategies"].items() if choice["possible"]}
    assert {"ddp", "whole_module_ddp", "fsdp2"} <= possible
    assert report["run_options"]["precision"]["value"] == "bf16"
    assert report["run_options"]["precision"]["line"] == 3
    assert report["replaced"]["speechbrain.utils.checkpoints.Checkpointer"]["line"] == 11
    assert (
        report["replaced"]["speechbrain.core.Brain"]["by"] == "brain_lightning.facade.brain.Brain"
    )
    assert report["monitor"] == ["train_loss", "valid_loss", "CER", "WER"]
    assert report["start_with"][:2] == ["brain-lightning", "run"]
    assert "--data_folder must be given" in report["notes"][0]["message"]


def test_keys_of_the_json_are_the_documented_ones(doctor):
    from brain_lightning.entry.doctor import json_report

    _, whole = doctor({"train.py": RECIPE, "h.yaml": HPARAMS})
    _, broken = doctor({"train.py": "def"})

    assert whole.keys() == broken.keys()
    for key in [*whole, *whole["brains"][0], *whole["notes"][0]]:
        assert f"``{key}``" in json_report.__doc__


IMPORTS = [
    ("import speechbrain as sb", "sb.Brain"),
    ("import speechbrain as sb", "sb.core.Brain"),
    ("import speechbrain", "speechbrain.Brain"),
    ("import speechbrain.core as core", "core.Brain"),
    ("from speechbrain import core", "core.Brain"),
    ("from speechbrain.core import Brain as B", "B"),
    ("from speechbrain import *", "Brain"),
    ("import brain_lightning as sb", "sb.Brain"),
    ("from brain_lightning import Brain", "Brain"),
    ("import speechbrain as sb\nBase = sb.Brain", "Base"),
    ("import importlib\nsb = importlib.import_module('speechbrain')", "sb.core.Brain"),
    (
        "from importlib import import_module as load\nimport importlib",
        "importlib.import_module('speechbrain.core').Brain",
    ),
    ("core = __import__('speechbrain.core').core", "core.Brain"),
    ("import speechbrain", "getattr(speechbrain.core, 'Brain')"),
    ("import speechbrain as sb\nB = getattr(sb.core, 'Brain')", "B"),
    ("import importlib\nown = importlib.import_module('base')", "own.Base"),
    ("try:\n    from speechbrain.core import Brain\nexcept ImportError:\n    Brain = 1", "Brain"),
    ("import base", "base.Base"),
    ("from base import Base as Other", "Other"),
    ("from base import *", "Base"),
    ("from package import Base", "Base"),
    ("from package.inner import Base", "Base"),
    ("def f():\n    pass\nfrom base import Base\nclass Middle(Base): pass", "Middle"),
]


@pytest.mark.parametrize(("line", "base"), IMPORTS, ids=[f"{a};{b}" for a, b in IMPORTS])
def test_brain_is_found_however_it_is_imported(doctor, line, base):
    class_line = line.count("\n") + 2
    _, report = doctor(
        {
            "train.py": f"{line}\nclass Mine({base}):\n    def fit_batch(self, batch): pass\n",
            "base.py": "from speechbrain.core import Brain\nclass Base(Brain): pass\n",
            "package/__init__.py": "from .inner import Base\n",
            "package/inner.py": "from base import Base\n",
        }
    )

    mine = next(each for each in report["brains"] if each["name"] == "Mine")
    assert mine["line"] == class_line
    assert mine["overrides"] == {"fit_batch": f"train.py:{class_line + 1}"}
    assert report["start_with"][0] == ("python" if "brain_lightning" in line else "brain-lightning")


def test_what_is_inherited_within_the_recipe_counts(doctor):
    status, report = doctor(
        {
            "train.py": "from lib import Base\nclass A(Base): pass\nclass C: pass\nA()\n",
            "lib.py": "import speechbrain as sb\nclass Base(sb.Brain):\n"
            "    def fit_batch(self, batch):\n        self.loss(batch).backward()\n",
        },
        "--optimization=automatic",
    )

    assert status == 1
    (brain,) = report["brains"]  # Base itself is nothing but a base
    assert brain["name"] == "A"
    assert brain["overrides"] == {"fit_batch": "lib.py:3"}
    assert brain["optimization"]["mode"] == "none"
    assert places(report["refused"]) == [("lib.py", 3)]
    assert "A overrides fit_batch (lib.py:3)" in report["refused"][0]["message"]


def with_lines(text, before):
    """RECIPE with more lines in its class."""
    return RECIPE.replace("    def on_stage_end", f"{before}\n    def on_stage_end")


REFUSED = {
    "a loop of its own": (
        {"train.py": with_lines(RECIPE, "    def _fit_train(self): pass")},
        (),
        ("train.py", 14),
        "MyBrain defines _fit_train()",
    ),
    "a module and a Brain in one": (
        {"train.py": RECIPE.replace("(sb.Brain)", "(torch.nn.Module, sb.Brain)")},
        (),
        ("train.py", 7),
        "MyBrain is also a torch.nn.Module",
    ),
    "a module and a Brain in one, by a class of its own": (
        {
            "train.py": RECIPE.replace("(sb.Brain)", "(sb.Brain, Net)").replace(
                "import sys", "from net import Net"
            ),
            "net.py": "from torch import nn\nclass Net(nn.Linear): pass\n",
        },
        (),
        ("net.py", 2),
        "MyBrain is also a torch.nn.Linear",
    ),
    "calls SpeechBrain's loop": (
        {"train.py": RECIPE.replace("stats = {", "self._fit_train(1, 2, 3); stats = {")},
        (),
        ("train.py", 16),
        "calls _fit_train()",
    ),
    "no Python": ({"train.py": "x = 1\ndef f(:\n"}, (), ("train.py", 2), "this is not Python"),
    "a module that is no Python": (
        {"train.py": "import lib\n", "lib.py": "\n\nx ="},
        (),
        ("lib.py", 3),
        "this is not Python",
    ),
    "a null byte": ({"train.py": "x = 1\0"}, (), ("train.py", 1), "this is not Python"),
    "automatic, with two optimizers": (
        {
            "train.py": with_lines(
                RECIPE,
                "    def init_optimizers(self):\n        self.optimizers_dict = {'a': 1, 'b': 2}\n",
            )
        },
        ("--optimization=automatic",),
        ("train.py", 14),
        "MyBrain has 2 optimizers",
    ),
    "manual, with a callback that needs automatic": (
        {
            "h.yaml": f"{HPARAMS}trainer:\n    callbacks:\n"
            "        - !new:lightning.pytorch.callbacks.StochasticWeightAveraging\n"
        },
        ("--optimization=manual",),
        ("h.yaml", 15),
        "the callback StochasticWeightAveraging needs automatic",
    ),
    "automatic on a line of the file": (
        {
            "train.py": with_lines(RECIPE, "    def zero_grad(self, set_to_none=False): pass"),
            "h.yaml": f"{HPARAMS}optimization: automatic\n",
        },
        (),
        ("train.py", 14),
        "overrides zero_grad (train.py:14)",
    ),
    "no YAML": ({"h.yaml": "a: 1\nb: [1\nc: 2\n"}, (), ("h.yaml", 3), "this is not YAML"),
    "a list": ({"h.yaml": "- 1\n"}, (), ("h.yaml", 1), "lines of `key: value`"),
    "nothing": ({"h.yaml": ""}, (), ("h.yaml", 1), "lines of `key: value`"),
    "a key that stands twice": (
        {"h.yaml": f"{HPARAMS}lr: 0.2\n"},
        (),
        ("h.yaml", 13),
        "the key 'lr' stands here and in line 1",
    ),
    "a key that stands twice below": (
        {"h.yaml": f"{HPARAMS}more:\n    a: 1\n    a: 2\n"},
        (),
        ("h.yaml", 15),
        "'a' stands twice",
    ),
    "a reference to nothing": (
        {"h.yaml": f"{HPARAMS}more: !ref <nothing>/<lr>\n"},
        (),
        ("h.yaml", 13),
        "there is no key 'nothing'",
    ),
    "a copy of nothing": (
        {"h.yaml": f"{HPARAMS}more: !copy <model[x]> \nagain: !copy <no[x]>\n"},
        (),
        ("h.yaml", 14),
        "there is no key 'no'",
    ),
    "an include of nothing": (
        {"h.yaml": f"{HPARAMS}more: !include:other.yaml\n"},
        (),
        ("h.yaml", 13),
        "other.yaml",
    ),
    "a wrong included file": (
        {
            "h.yaml": f"{HPARAMS}more: !include:sub/other.yaml\n    b: 3\n",
            "sub/other.yaml": "b: 1\nc: !ref <d>\n",
        },
        (),
        ("other.yaml", 2),
        "there is no key 'd'",
    ),
    "a wrong value of an option": (
        {"h.yaml": f"{HPARAMS}grad_accumulation_factor: 0\n"},
        (),
        ("h.yaml", 13),
        "grad_accumulation_factor is 0",
    ),
    "both intervals": (
        {"h.yaml": f"{HPARAMS}ckpt_interval_minutes: 3\nckpt_interval_steps: 3\n"},
        (),
        ("h.yaml", 13),
        "only one of them",
    ),
    "fp16 on the CPU": (
        {"h.yaml": HPARAMS.replace("bf16", "fp16")},
        ("--device=cpu",),
        ("h.yaml", 3),
        "precision is fp16",
    ),
    "an unknown Trainer argument": (
        {"h.yaml": f"{HPARAMS}trainer:\n    max_steps: 1\n    max_step: 2\n"},
        (),
        ("h.yaml", 15),
        "Did you mean 'max_steps'?",
    ),
    "a Trainer argument that is a run option": (
        {"h.yaml": f"{HPARAMS}trainer: {{precision: 16}}\n"},
        (),
        ("h.yaml", 13),
        "Set 'precision' instead",
    ),
    "a Trainer argument of a wrong type": (
        {"h.yaml": f"{HPARAMS}trainer:\n    max_steps: abc\n"},
        (),
        ("h.yaml", 14),
        "max_steps is 'abc' (of type str); it must be an integer",
    ),
    "a callback that copies sharded modules": (
        {
            "h.yaml": f"{HPARAMS}trainer:\n    strategy: !new:brain_lightning.FSDP2\n"
            "    callbacks:\n        - !new:lightning.pytorch.callbacks.EMAWeightAveraging\n"
        },
        (),
        ("h.yaml", 16),
        "the callback EMAWeightAveraging copies the modules",
    ),
    "several processes that nobody connects": (
        {
            "train.py": RECIPE.replace("sb.utils.distributed.ddp_init_group(run_opts)", "pass"),
            "h.yaml": f"{HPARAMS}trainer: {{strategy: ddp}}\n",
        },
        (),
        ("h.yaml", 13),
        "nothing in the recipe calls ddp_init_group",
    ),
}


REFUSED |= {
    "a loop of SpeechBrain's that is put on a class": (
        {"train.py": f"{RECIPE}MyBrain._fit_train = None\n"},
        (),
        ("train.py", 28),
        "MyBrain defines _fit_train()",
    ),
    "a literal option of the constructor": (
        {
            "train.py": RECIPE.replace(
                "run_opts=run_opts", "run_opts={'precision': 'fp8', 'debug': debug}"
            )
        },
        (),
        ("train.py", 26),
        "precision is 'fp8'",
    ),
    "a literal option that there is not": (
        {"train.py": RECIPE.replace("run_opts=run_opts", "run_opts={'precison': 'bf16'}")},
        (),
        ("train.py", 26),
        "Did you mean 'precision'?",
    ),
    "a literal argument of the Trainer": (
        {
            "train.py": RECIPE.replace(
                "run_opts=run_opts", "trainer={'max_step': steps, 'max_steps': 'x'}"
            )
        },
        (),
        ("train.py", 26),
        "trainer: max_steps is 'x'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_file_and_line(doctor, case):
    files, arguments, place, words = REFUSED[case]

    status, report = doctor({"train.py": RECIPE, "h.yaml": HPARAMS, **files}, *arguments)

    assert status == 1
    assert report["verdict"] == "refused"
    assert places(report["refused"]) == [place]
    assert words in report["refused"][0]["message"]


@pytest.mark.parametrize("brain", [Brain, SpeechBrainsBrain])
@pytest.mark.parametrize("module_first", [False, True])
def test_a_brain_that_is_also_a_module_fails_in_both_libraries(brain, module_first):
    bases = (torch.nn.Module, brain) if module_first else (brain, torch.nn.Module)
    both = type("Both", bases, {})

    with pytest.raises((TypeError, AttributeError)):
        both(modules={"model": torch.nn.Linear(1, 1)}, run_opts={"device": "cpu"})


def test_what_holds_for_two_classes_is_refused_once(doctor):
    files = {
        "train.py": "import speechbrain as sb\nclass A(sb.Brain): pass\nclass B(sb.Brain): pass\n"
    }
    _, report = doctor(files, "--trainer.strategy=fsdp2")

    assert len(report["brains"]) == 2
    assert places(report["refused"]) == [("train.py", 2)]


def test_an_override_that_names_no_key(doctor):
    status, report = doctor({"train.py": RECIPE, "h.yaml": HPARAMS}, "--learning_rate=3")

    assert status == 1
    assert "'learning_rate'" in report["refused"][0]["message"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("precison=bf16", "--precision"),
        ("traner.devices=2", "--trainer.devices"),
        ("epoch=3", "--epochs"),
    ],
)
def test_an_override_that_is_almost_something(doctor, given, meant):
    _, report = doctor({"train.py": RECIPE, "h.yaml": HPARAMS}, f"--{given}")

    assert report["refused"][0]["message"].endswith(f"Did you mean {meant}?")


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("traner", "trainer"),
        ("ckpt_interval_minuts", "ckpt_interval_minutes"),
        ("devices", "device"),
        ("num_epochs", None),
        ("traner: 1\ntrainer", None),
        ("in_a_reference: !ref <traner>\ntraner", None),
        ("modul", None),
    ],
)
def test_a_key_that_is_almost_a_run_option(doctor, key, meant):
    recipe = f"{RECIPE}    print(hparams['modul'])\n"

    status, report = doctor({"train.py": recipe, "h.yaml": f"{HPARAMS}{key}:\n    a: 1\n"})

    found = [each for each in report["notes"] if "nothing uses" in each["message"]]
    assert status == (1 if "trainer" in key else 0)
    assert places(found) == [("h.yaml", 13)] * (meant is not None)
    assert all(f"Did you mean {meant!r}?" in each["message"] for each in found)


def test_a_key_that_the_recipe_uses_is_its_own(doctor):
    for use in ("hparams['traner']", "brain.hparams.traner", "f(traner=1)"):
        recipe = f"{RECIPE}    print({use})\n"
        _, report = doctor({"train.py": recipe, "h.yaml": f"{HPARAMS}traner: 1\n"})
        assert "nothing uses" not in str(report["notes"])


@pytest.mark.parametrize(
    ("files", "arguments"),
    [
        ({"h.yaml": f"{HPARAMS}trainer:\n    callbacks:\n    - !new:train.Own\n"}, ()),
        ({"h.yaml": f"{HPARAMS}trainer:\n    strategy: deepspeed_stage_2\n"}, ()),
        ({}, ("--trainer.strategy=deepspeed",)),
        ({"h.yaml": f"{HPARAMS}trainer: {{strategy: whole_module_ddp}}\n"}, ()),
        ({}, ("--optimization=automatic",)),
        ({"train.py": RECIPE.replace("run_opts=run_opts)", "trainer={'callbacks': Own()})")}, ()),
    ],
)
def test_automatic_is_predicted_from_what_asks_for_it(doctor, files, arguments):
    own = (
        "from lightning.pytorch.callbacks import GradientAccumulationScheduler as G\n"
        "class Base(G): pass\nclass Own(Base): pass\n"
    )
    files = {"train.py": RECIPE, "h.yaml": HPARAMS, **files}
    files["train.py"] = own + files["train.py"]

    _, report = doctor(files, *arguments)

    assert report["brains"][0]["optimization"]["mode"] == "automatic"


@pytest.mark.parametrize(
    ("more", "in_yaml", "strategy"),
    [
        ("    def fit_batch(self, batch): pass", "", "deepspeed"),
        ("    def fit_batch(self, batch): pass", "", "whole_module_ddp"),
        ("", "early: !new:torch.optim.SGD [!ref <model>]\n", "fsdp2"),
    ],
)
def test_a_strategy_that_the_recipe_prevents(doctor, more, in_yaml, strategy):
    _, report = doctor({"train.py": with_lines(RECIPE, more), "h.yaml": HPARAMS + in_yaml})

    choice = report["brains"][0]["strategies"][strategy]
    assert not choice["possible"]
    assert ("h.yaml:13" if in_yaml else "train.py:14") in choice["why"]


def test_torch_distributed_and_methods_put_on_objects_are_seen(doctor):
    _, report = doctor(
        {
            "train.py": RECIPE.replace("import torch\n", "import torch.distributed as dist\n")
            + "    dist.all_reduce(1)\n    brain.fit_batch = print\n",
            "h.yaml": HPARAMS,
        },
    )

    assert report["torch_distributed"]["torch.distributed.all_reduce"]["line"] == 28
    assert report["brains"][0]["overrides"]["fit_batch"] == "train.py:29"


@pytest.mark.parametrize("owner", ["sb.Brain", "sb.core.Brain", "core.Brain", "Own"])
def test_methods_put_on_brain_itself_are_in_every_class(doctor, owner):
    patched = RECIPE.replace(
        "import speechbrain as sb\n",
        "import speechbrain as sb\nimport speechbrain.core as core\nOwn = sb.Brain\n"
        f"{owner}.optimizers_step = print\n",
    )

    status, report = doctor({"train.py": patched, "h.yaml": HPARAMS}, "--optimization=automatic")

    assert status == 1
    assert report["brains"][0]["overrides"]["optimizers_step"] == "train.py:6"


INIT_OPTIMIZERS = {
    "a dictionary": ("self.optimizers_dict = {'a': self.a, 'b': self.b}", 2),
    "filled one by one": (
        "self.optimizers_dict = {}\n        self.optimizers_dict['a'] = 1\n"
        "        if True:\n            self.optimizers_dict['b'] = 2",
        2,
    ),
    "attributes": ("self.a = self.hparams.opt_class([])", 1),
    "nothing that can be counted": ("make(self)", None),
}


@pytest.mark.parametrize("case", INIT_OPTIMIZERS)
def test_optimizers_are_counted(doctor, case):
    body, number = INIT_OPTIMIZERS[case]
    method = f"    def init_optimizers(self):\n        {body}\n\n    def compute_forward"

    _, report = doctor({"train.py": RECIPE.replace("    def compute_forward", method, 1)})

    assert report["brains"][0]["optimizers"] == number


def test_a_brain_that_only_evaluates_beside_one_that_trains(doctor):
    other = "    MyBrain(hparams['modules'], run_opts=run_opts).evaluate([2])\n    brain = MyBrain"
    recipe = RECIPE.replace("    brain = MyBrain", other)

    status, report = doctor({"train.py": recipe, "h.yaml": HPARAMS}, "--optimization=automatic")

    assert status == 0
    assert report["brains"][0]["optimizers"] is None
    assert report["brains"][0]["optimization"]["mode"] == "automatic"


def test_a_class_that_only_infers_beside_one_that_trains(doctor):
    teacher = "class Teacher(sb.Brain):\n    pass\n\n\nif __name__"
    made = "    teacher = Teacher({}, run_opts=run_opts)\n    brain = MyBrain"
    recipe = RECIPE.replace("if __name__", teacher).replace("    brain = MyBrain", made)
    files = {"train.py": recipe, "h.yaml": HPARAMS}

    assert doctor(files, "--optimization=automatic")[0] == 0
    trained = recipe.replace("    brain.fit", "    teacher.fit([1], [1])\n    brain.fit")
    status, report = doctor({**files, "train.py": trained}, "--optimization=automatic")

    assert status == 1
    assert "Teacher has 0 optimizers" in report["refused"][0]["message"]


def test_the_axes_of_loggers_cannot_be_monitored(doctor):
    meta = 'stats = {"WER": 1.0, "epoch": epoch, "step": "words"}'

    _, report = doctor({"train.py": RECIPE.replace('stats = {"WER": 1.0}', meta)})

    assert report["monitor"] == ["train_loss", "valid_loss", "CER", "WER"]


def test_nothing_of_the_recipe_is_run(doctor, tmp_path):
    trap = f"open({str(tmp_path / 'trap')!r}, 'w')\n"
    status, _ = doctor(
        {
            "train.py": f"import lib\n{trap}{RECIPE}",
            "lib.py": trap,
            "h.yaml": f"{HPARAMS}x: !apply:lib.f []\ny: !applyref:lib.g [1]\nz: !new:lib.H\n",
        }
    )

    assert status == 0
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize(
    "arguments",
    [[], ["--json"], ["nothing.py"], ["{recipe}", "nothing.yaml"], ["{recipe}", "--precision=x"]],
)
def test_wrong_use_is_status_2(tmp_path, capsys, arguments):
    (tmp_path / "train.py").write_text(RECIPE, encoding="utf-8")
    recipe = str(tmp_path / "train.py")

    assert main(["doctor", *(each.format(recipe=recipe) for each in arguments)]) == 2
    assert "brain-lightning doctor: error:" in capsys.readouterr().err


UNREADABLE = {
    "a notebook": ("train.ipynb", b'{"cells": []}', "this is a notebook"),
    "a byte order mark with another encoding": (
        "train.py",
        b"\xef\xbb\xbf# -*- coding: latin-1 -*-\n",
        "this is not Python: encoding problem",
    ),
    "bytes of another encoding": ("train.py", b"x = '\xe9'\n", "this is not Python: "),
    "an unknown encoding": ("train.py", b"# -*- coding: klingon -*-\n", "unknown encoding"),
    "UTF-16": ("train.py", "x = 1\n".encode("utf-16"), "this is not Python: "),
    "a null byte": ("train.py", b"x = 1\x00\n", "null bytes"),
    "nested too deeply": ("train.py", b"x = " + b"-" * 9000 + b"1\n", "nested too deeply"),
    "Python 2": ("train.py", b"\nprint 'x'\n", "train.py:2: this is not Python: Missing"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_that_is_no_script_is_refused_with_its_line(tmp_path, capsys, case):
    name, content, said = UNREADABLE[case]
    (tmp_path / name).write_bytes(content)

    assert main(["doctor", str(tmp_path / name)]) == 1

    report = capsys.readouterr().out
    assert report.startswith(f"Refused\n  {name}:")
    assert said in report


ODD_SYNTAX = """\
import asyncio
import speechbrain as sb
class MyBrain(*[], sb.Brain):
    async def prefetch(self):
        async with open_it() as file:
            return [each async for each in file]
    def fit_batch(self, batch, /, *rest, **named):
        match batch:
            case {"x": x, **others} | [x, *others] if (n := len(others)) > 1:
                return x
            case sb.Stage.TRAIN:
                pass
        return super().fit_batch(batch)
    @staticmethod
    def evaluate_batch(): return f"{1!r:>{2}} {'a' if 1 else f'{3}'}"
    (compute_forward, *x), y = (1, 2), 3
class Itself(Itself): pass
if (brain := MyBrain({}, (opt := None), run_opts=(made := {"device": "cpu"}))):
    brain.fit(range(2), [])
"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "crlf"])
def test_odd_syntax_is_read(tmp_path, capsys, encoding):
    text = ODD_SYNTAX.replace("\n", "\r\n") if encoding == "crlf" else ODD_SYNTAX
    encoded = text.encode("utf-8" if encoding == "crlf" else encoding)
    (tmp_path / "train.py").write_bytes(encoded)

    assert main(["doctor", str(tmp_path / "train.py"), "--json"]) == 0

    (brain,) = json.loads(capsys.readouterr().out)["brains"]
    assert brain["overrides"].keys() == {"fit_batch", "evaluate_batch"}


def test_an_empty_file_is_a_recipe_without_a_brain(doctor):
    status, report = doctor({"train.py": ""})

    assert status == 0
    assert report["brains"] == []
    assert "no subclass of Brain" in report["notes"][0]["message"]


LOOPS = {
    "an alias inside of what it names": ("a: &x [*x]\ntrainer: &y {callbacks: *y}\n", ""),
    "a file that includes itself": ("a: !include:h.yaml\n", "the file includes itself"),
    "through another one": (
        "a: !include:other.yaml\n",
        "the file includes itself, through other.yaml",
    ),
}


@pytest.mark.parametrize("case", LOOPS)
def test_files_of_hyperparameters_that_loop(doctor, case):
    text, message = LOOPS[case]
    other = "b: !include:h.yaml\n"

    _, report = doctor({"train.py": RECIPE, "h.yaml": text, "other.yaml": other})

    assert [each["message"] for each in report["refused"]] == ([message] if message else [])


def test_what_hyperpyyaml_takes_is_taken(doctor):
    recipe = RECIPE.replace("import torch\n", "import torch\nfrom ........ import beyond\n")
    hparams = f"{HPARAMS}trainer:\n"

    status, report = doctor(
        {"train.py": recipe, "h.yaml": hparams},
        "--lr",
        "!ref <precision>",
        "--data_folder",
        "!new:a.B",
    )

    assert (status, report["refused"]) == (0, [])
    status, report = doctor({"h.yaml": hparams}, "--lr", "!ref <nothing>")
    assert status == 1
    assert "!ref names <nothing>" in report["refused"][0]["message"]


def test_hyperparameters_that_are_nested_too_deeply(doctor):
    deep = "d: " + "[" * 1200 + "]" * 1200

    status, report = doctor({"train.py": RECIPE, "h.yaml": deep})

    assert status == 1
    assert "nested too deeply" in report["refused"][0]["message"]


def test_every_wrong_option_is_named(doctor):
    wrong = "precision: fp19\ndevice: 5\nmax_grad_norm: many\n"

    _, report = doctor({"train.py": RECIPE, "h.yaml": wrong})

    assert sorted(place[1] for place in places(report["refused"])) == [1, 2, 3]


def test_the_file_of_hyperparameters_may_stand_behind_options(doctor, tmp_path):
    status, report = doctor({"train.py": RECIPE}, "--lr", "0.1")
    assert (status, report["hparams"]) == (0, None)

    file = tmp_path / "later.yaml"
    file.write_text(HPARAMS, encoding="utf-8")
    status, report = doctor({}, "--precision", "fp32", str(file), "--lr", "0.2")

    assert (status, report["hparams"]) == (0, str(file))
    assert report["run_options"]["precision"]["value"] == "fp32"


WRONG_ARGUMENTS = {
    ("extra",): "'extra' stands where `--key value` is expected",
    ("--data", "/x"): "'/x' stands where `--key value` is expected",
    ("--lr", "[1"): "a value is not YAML: while parsing a flow sequence",
}


@pytest.mark.parametrize("arguments", WRONG_ARGUMENTS)
def test_arguments_that_are_none_are_status_2(tmp_path, capsys, arguments):
    (tmp_path / "train.py").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "h.yaml").write_text(HPARAMS, encoding="utf-8")

    command = ["doctor", str(tmp_path / "train.py"), str(tmp_path / "h.yaml"), *arguments]

    assert main(command) == 2
    assert WRONG_ARGUMENTS[arguments] in capsys.readouterr().err


def test_the_text_is_narrow_and_has_what_is_refused_first(tmp_path, capsys):
    (tmp_path / "train.py").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "h.yaml").write_text(f"{HPARAMS}lr: 3\n", encoding="utf-8")

    assert main(["doctor", str(tmp_path / "train.py"), str(tmp_path / "h.yaml")]) == 1

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "train.py with h.yaml: 1 thing is refused."
    assert lines[2:4] == [
        "Refused",
        "  h.yaml:13: the key 'lr' stands here and in line 1; keep one of them.",
    ]
    assert max(map(len, lines)) <= 100
    assert any(line.startswith("  optimization    manual: ") for line in lines)


@pytest.mark.parametrize("steps_itself", [False, True], ids=["default", "own fit_batch"])
def test_callbacks_that_need_automatic_optimization_are_offered_where_it_is_possible(
    tmp_path, capsys, steps_itself
):
    overridden = "    def fit_batch(self, batch):\n        return batch\n\n    def on_stage_end"
    recipe = RECIPE.replace("    def on_stage_end", overridden) if steps_itself else RECIPE
    (tmp_path / "train.py").write_text(recipe, encoding="utf-8")

    assert main(["doctor", str(tmp_path / "train.py")]) == 0

    text = " ".join(capsys.readouterr().out.split())
    refused = ", ".join(AUTOMATIC_CALLBACKS)
    offered = f"all of Lightning's but {refused}, which need automatic optimization loggers"
    assert (offered if steps_itself else "all of Lightning's loggers") in text


def test_long_labels_stand_apart_from_what_they_are_of(tmp_path, capsys):
    (tmp_path / "train.py").write_text(RECIPE, encoding="utf-8")

    assert main(["doctor", str(tmp_path / "train.py"), "--trainer.limit_train_batches=3"]) == 0

    assert "  trainer.limit_train_batches 3" in capsys.readouterr().out.splitlines()


def test_the_names_of_the_interface_are_those_of_the_class():
    own = {name for name in dir(Brain) if not name.startswith("__") and "_Brain__" not in name}
    internal = {"_saves_only_counters", "_optimizer_step_limit_exceeded", "trainer"}
    assert own - internal == METHODS
    attributes = {name for name in vars(Brain()) if not name.startswith("_")}
    assert attributes - option_fields().keys() <= ATTRIBUTES


PROBE = """
import json, sys
from brain_lightning.engine import brain_module
from brain_lightning.entry.run_recipe import run_recipe

class Stop(BaseException): pass

def probe(module):
    found.append("automatic" if module.automatic_optimization else "manual")
    raise Stop

brain_module.BrainModule.setup = lambda self, stage: probe(self)
brain_module.BrainModule.configure_callbacks = lambda self: probe(self)
modes = {}
for name, command in json.load(sys.stdin).items():
    found = []
    try:
        run_recipe(command[0], command[1:])
    except Stop:
        pass
    except Exception as error:
        found = ["none", str(error)]
    modes[name] = found
print("MODES", json.dumps(modes))
"""


ROWS = [row for row in read_rows() if row.processes == 1]
SHORT = [row for row in ROWS if row.name in ("metricgan", "freezing", "odd", "ctc")]


def test_a_run_steps_as_doctor_said(tmp_path, capsys):
    _compare_with_runs(SHORT, tmp_path, capsys)


@pytest.mark.long
def test_every_recipe_steps_as_doctor_said(tmp_path, capsys):
    _compare_with_runs(ROWS, tmp_path, capsys)


def _compare_with_runs(rows, tmp_path, capsys):
    """Each recipe as its row has it, and with each optimization that can be asked for."""
    rows = [row for row in rows if not row.needs_speech or SPEECH.is_dir()]
    commands = {row.name: row.command_line() for row in rows}
    for name, command in list(commands.items()):
        for asked in ("automatic", "manual"):
            commands[f"{name} {asked}"] = [*command, f"--optimization={asked}"]
    modes = _modes_of_runs(commands, tmp_path)
    for name, command in commands.items():
        status = main(["doctor", *command, "--json"])
        report = json.loads(capsys.readouterr().out)
        if not modes[name]:  # it came to its end without a Brain
            assert report["brains"] == [], name
            continue
        chosen = _chosen_brain(report, command)
        assert chosen["optimization"]["mode"] == modes[name][0], (name, modes[name])
        if modes[name][0] == "none":
            assert status == 1
            assert chosen["optimization"]["why"] == modes[name][1]
    assert {mode for mode, *_ in filter(None, modes.values())} == {"manual", "automatic", "none"}


def _modes_of_runs(commands, folder):
    process = subprocess.run(
        [sys.executable, "-c", PROBE],
        input=json.dumps(commands),
        cwd=folder,
        env={**os.environ, "RECIPE_RECORD": str(folder / "steps")},
        capture_output=True,
        text=True,
        timeout=280,
    )
    found = [line for line in process.stdout.splitlines() if line.startswith("MODES")]
    assert found, process.stderr[-3000:]
    return json.loads(found[-1].removeprefix("MODES"))


def _chosen_brain(report, command):
    """The class that a script of several takes for its --recipe."""
    brains = {each["name"]: each for each in report["brains"]}
    text = " ".join(command).replace("--recipe=", "--recipe ")
    if len(brains) == 1 or "--recipe " not in text:
        return next(iter(brains.values()))
    recipe = text.partition("--recipe ")[2].split()[0]
    scripts = {path.name: path.read_text(encoding="utf-8") for path in HERE.glob("scripts/*.py")}
    script = scripts[Path(command[0]).name]
    rest = script[script.index("RECIPES = {") :].partition(f'"{recipe}": ')[2]
    return next(brains[name] for name in sorted(brains, key=len, reverse=True) if name in rest[:25])


LAUNCHES = [
    ({}, None, "it is alone, rank 0 of 1"),
    (
        {
            "RANK": "3",
            "LOCAL_RANK": "1",
            "WORLD_SIZE": "4",
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "one",
            "MASTER_PORT": "29500",
            "TORCHELASTIC_RUN_ID": "7",
        },
        ("torchrun", 3, 1, 4, 1, "one"),
        "Started by torchrun.",
    ),
    (
        {
            "SLURM_STEP_NUM_TASKS": "4",
            "SLURM_PROCID": "2",
            "SLURM_LOCALID": "0",
            "SLURM_NODEID": "1",
            "SLURM_STEP_NODELIST": "gpu[07-08]",
        },
        ("SLURM", 2, 0, 4, 1, "gpu07"),
        "Started by SLURM.",
    ),
]


@pytest.mark.parametrize(("variables", "expected", "text"), LAUNCHES)
def test_ranks_are_those_of_the_launcher(monkeypatch, capsys, variables, expected, text):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert main(["doctor", "--ranks", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert main(["doctor", "--ranks"]) == 0
    assert text in capsys.readouterr().out

    keys = ("launcher", "rank", "local_rank", "world_size", "node", "main_address")
    assert tuple(report[key] for key in keys) == (expected or (None,) * len(keys))
    assert report["variables"] == variables


def test_ranks_that_cannot_be_told_are_refused(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "first")
    monkeypatch.setenv("LOCAL_RANK", "0")

    assert main(["doctor", "--ranks"]) == 1
    assert "RANK is 'first'" in capsys.readouterr().out


def test_the_report_shows_every_variable_that_detection_reads():
    source = Path(launch_detection.__file__).read_text(encoding="utf-8")
    code = source[source.index("def _torchrun") :]
    assert set(re.findall(r'"([A-Z]+(?:_[A-Z]+)+|RANK)"', code)) == set(VARIABLES)
