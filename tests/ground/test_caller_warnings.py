"""Where a warning of ours is shown, and how."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import lightning, torch, warnings
from brain_lightning import Brain, Checkpointer

class Small(Brain):
    def compute_forward(self, batch, stage):
        return self.modules.model(batch)

    def compute_objectives(self, predictions, batch, stage):
        return predictions.mean()

model = torch.nn.Linear(2, 1)
checkpointer = Checkpointer("save", {"model": model})
checkpointer.find_checkpoint(max_key="a", min_key="a")
brain = Small(
    {"model": model}, lambda x: torch.optim.SGD(x, 0.1), checkpointer=checkpointer,
    run_opts={"device": "cpu", "noprogressbar": True},
)
brain.fit(range(1), [torch.zeros(2, 2)])
checkpointer.save_checkpoint(name="1")
checkpointer.save_checkpoint(name="2")
for damaged in [checkpointer.checkpoints_dir / "CKPT+2"]:
    (damaged / "model.ckpt").write_bytes(b"")
brain.fit(range(1), [torch.ones(2, 2)])
warnings.warn("its own")
"""


def test_as_a_warning_of_the_script_itself(tmp_path: Path) -> None:
    """With the category and the script's line, though Lightning is there and from deep inside."""
    folder = tmp_path / "recipe"
    folder.mkdir()
    (folder / "train.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "train.py"],
        cwd=folder,
        env={**os.environ, "SB_LOG_LEVEL": "ERROR"},
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    lines = done.stderr.splitlines()
    for said, line in [
        ("Of max_key='a'", 'checkpointer.find_checkpoint(max_key="a", min_key="a")'),
        ("A newer checkpoint may be lost.", "brain.fit(range(1), [torch.ones(2, 2)])"),
        ("its own", 'warnings.warn("its own")'),
    ]:
        (number,) = (n for n, text in enumerate(lines) if f": {said}" in text)
        place = SCRIPT.splitlines().index(line) + 1
        assert f"train.py:{place}: UserWarning: {said}" in lines[number]
        assert lines[number + 1].strip() == line
