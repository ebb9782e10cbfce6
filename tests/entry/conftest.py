"""Asking doctor."""

import json

import pytest

from brain_lightning.entry.command_line import main


@pytest.fixture
def doctor(tmp_path, capsys):
    """Write files into a folder, ask doctor about train.py there, return status and JSON."""

    def ask(files, *arguments):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8")
        hparams = [str(tmp_path / "h.yaml")] if "h.yaml" in files else []
        command = ["doctor", str(tmp_path / "train.py"), *hparams, *arguments, "--json"]
        status = main(command)
        report = json.loads(capsys.readouterr().out)
        assert (status == 1) == bool(report["refused"])
        return status, report

    return ask
