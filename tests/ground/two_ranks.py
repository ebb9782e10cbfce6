"""Run by test_ranks.py in two processes, once with each library: prints what happened."""

import importlib
import json
import sys
import time
from pathlib import Path

import torch

library, folder = sys.argv[1], Path(sys.argv[2])
if library == "theirs":
    ranks = process_group = importlib.import_module("speechbrain.utils.distributed")
else:
    ranks = importlib.import_module("brain_lightning.ground.ranks")
    process_group = importlib.import_module("brain_lightning.ground.process_group")

process_group.ddp_init_group({"distributed_backend": "gloo"})
rank = ranks.get_rank()
happened = []


def note(*what):
    happened.append([*what])


def prepare(name):
    # Nothing in here may wait for the other process.
    ranks.ddp_barrier()
    note("prepared", ranks.ddp_broadcast(name))
    inner = ranks.run_on_main(lambda: "inner")
    time.sleep(0.3)
    (folder / f"{library}-{name}").write_text(inner)
    return {"name": name, "inner": inner}


def load(name):
    note("loaded", (folder / f"{library}-{name}").read_text())


note("main", ranks.if_main_process(), ranks.is_local_rank_zero(), ranks.get_local_rank())
note("message", ranks.rank_prefixed_message("hello"))
note("result", ranks.run_on_main(prepare, ["a"], post_func=load, post_args=["a"]))
note(
    "result",
    ranks.run_on_main(
        prepare,
        kwargs={"name": "b"},
        post_func=load,
        post_kwargs={"name": "b"},
        run_post_on_main=True,
    ),
)
note("node", ranks.run_once_per_node(prepare, ["c"]))
note("node", ranks.run_once_per_node(prepare, ["d"], post_func=lambda: "post"))
note(
    "node", ranks.run_once_per_node(prepare, ["e"], post_func=lambda: "post", run_post_on_all=True)
)
note("broadcast", ranks.ddp_broadcast({"from": rank}, src=1))
total = torch.tensor([rank + 1.0, 10.0])
note("sum", ranks.ddp_all_reduce(total, torch.distributed.ReduceOp.SUM).tolist(), total.tolist())


@ranks.main_process_only
def fail():
    raise KeyError("broken")


if library == "ours":
    try:
        fail()
    except Exception as error:
        note("failed", type(error).__name__, str(error))
    try:
        ranks.run_on_main(lambda: fail.__code__)
    except Exception as error:
        note("unsent", type(error).__name__, str(error))
    # and the counting is right afterwards: this would hang or differ otherwise
    note("after", ranks.ddp_broadcast(f"from {rank}"))
    process_group.ddp_init_group({"distributed_backend": "gloo"})  # there is one already

(folder / f"{library}-{rank}.json").write_text(json.dumps(happened))
ranks.ddp_barrier()
torch.distributed.destroy_process_group()
