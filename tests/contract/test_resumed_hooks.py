"""The hooks that callbacks get after a resume in the middle of an epoch, beside Lightning's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from .small_brain import BATCH, Points, fit, small_brain
from .test_lightning_checkpoints import Cut, Interrupted
from .test_own_training_steps import PlainModule, all_hooks

MOVED = ("on_before_zero_grad", "on_load_checkpoint")
"""The first comes behind the step; the second, of callbacks that save nothing, is not compared."""


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable")
@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint")
def test_beside_a_plain_module(tmp_path: Path) -> None:
    """But for on_train_epoch_start, which Lightning leaves out in the epoch it goes on with."""

    def plain(*callbacks: pl.Callback, path: Path | None = None) -> None:
        modules = small_brain(tmp_path / "plain").modules
        data = torch.utils.data.DataLoader(Points(), batch_size=BATCH)
        weights_only: Any = {} if pl.__version__.startswith("2.5") else {"weights_only": False}
        pl.Trainer(
            max_epochs=2,
            callbacks=list(callbacks),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            accelerator="cpu",
        ).fit(PlainModule(modules), data, two_batches(), ckpt_path=path, **weights_only)

    def ours(*callbacks: pl.Callback, path: Path | None = None) -> None:
        fit(small_brain(tmp_path / "ours", epochs=2, callbacks=list(callbacks)), ckpt_path=path)

    found = []
    for name, run in (("plain", plain), ("ours", ours)):
        cut = Cut(3, tmp_path / f"{name}.ckpt")
        with pytest.raises(Interrupted):
            run(cut)
        seen: list[str] = []
        run(all_hooks(seen), path=cut.path)
        found.append([hook for hook in seen if hook not in MOVED])
    theirs, here = found
    assert theirs.count("on_train_epoch_start") == 1
    opened = here.index("on_train_epoch_start")
    assert here[opened - 1] == "on_train_start"
    assert here[:opened] + here[opened + 1 :] == theirs


def two_batches() -> torch.utils.data.DataLoader[Any]:
    return torch.utils.data.DataLoader(Points(8), batch_size=BATCH)
