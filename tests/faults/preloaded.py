"""What the server of the test processes imports and does once, so that a process costs little."""

import torch

from tests.faults.writing_child import make_recoverables
from tests.parts.checkpoints import processes  # noqa: F401

# A forked process would wait for the threads of its parent, which it does not have.
torch.set_num_threads(1)
# Torch imports a good deal when it is first used.
make_recoverables()
