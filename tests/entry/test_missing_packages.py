"""A recipe's file names an object of Lightning's whose package is missing: the extra is named."""

from __future__ import annotations

import pydoc
import re
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from brain_lightning.entry.missing_packages import EXTRA_OF_MODULE, PACKAGE_OF_MODULE
from brain_lightning.entry.run_recipe import run_recipe
from brain_lightning.ground.errors import MissingExtraError

RECIPE = """
import sys
from hyperpyyaml import load_hyperpyyaml
import brain_lightning as sb
hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
with open(hparams_file) as file:
    hparams = load_hyperpyyaml(file, overrides)
"""
PACKAGES = {
    "wandb": "lightning.pytorch.loggers.WandbLogger",
    "mlflow": "lightning.pytorch.loggers.MLFlowLogger",
    "comet_ml": "lightning.pytorch.loggers.CometLogger",
}
FLAGS = {
    "tensorboard": (
        "lightning.pytorch.loggers.TensorBoardLogger",
        "lightning.fabric.loggers.tensorboard",
        ["_TENSORBOARD_AVAILABLE", "_TENSORBOARDX_AVAILABLE"],
    ),
    "rich": (
        "lightning.pytorch.callbacks.RichProgressBar",
        "lightning.pytorch.callbacks.progress.rich_progress",
        ["_RICH_AVAILABLE"],
    ),
}

Run = Callable[[str], None]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def recipe(named: str) -> None:
        (tmp_path / "train.py").write_text(RECIPE, encoding="utf-8")
        arguments = "    save_dir: x\n" if "TensorBoard" in named else ""
        text = f"thing: !new:{named}\n{arguments}"
        (tmp_path / "hparams.yaml").write_text(text, encoding="utf-8")
        run_recipe(tmp_path / "train.py", [str(tmp_path / "hparams.yaml")])

    return recipe


@pytest.mark.parametrize("package", PACKAGES)
def test_loggers(run: Run, package: str) -> None:
    if find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    extra = package.partition("_")[0]
    kind = PACKAGES[package].rpartition(".")[2]
    with pytest.raises(MissingExtraError, match=rf"^{kind} needs .*'brain-lightning\[{extra}\]'"):
        run(PACKAGES[package])


@pytest.mark.parametrize("extra", FLAGS)
def test_where_a_flag_says_so(run: Run, monkeypatch: pytest.MonkeyPatch, extra: str) -> None:
    named, module, flags = FLAGS[extra]
    for flag in flags:
        monkeypatch.setattr(import_module(module), flag, False)
    with pytest.raises(MissingExtraError, match=rf"brain-lightning\[{extra}\]"):
        run(named)


def test_a_package_without_an_extra(run: Run) -> None:
    if find_spec("litlogger") is not None:
        pytest.skip("litlogger is installed")
    with pytest.raises(ImportError, match=r"LitLogger needs .*`pip install litlogger`"):
        run("lightning.pytorch.loggers.LitLogger")


def test_what_else_is_missing_is_as_it_was(run: Run, tmp_path: Path) -> None:
    (tmp_path / "asking.py").write_text("import no_such_package_at_all\n", encoding="utf-8")
    with pytest.raises(pydoc.ErrorDuringImport, match="no_such_package_at_all"):
        run("asking.Anything")


def test_the_tables_name_what_there_is() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    for module, (kind, extra) in EXTRA_OF_MODULE.items():
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE)
        assert hasattr(import_module(module), kind)
    for module, (kind, _) in PACKAGE_OF_MODULE.items():
        gone = "neptune" in module and find_spec(module) is None
        assert gone or hasattr(import_module(module), kind)
