"""What is read of torch that is not public is there and means what we take it for."""

import torch

from brain_lightning.ground.torch_internals import (
    COMPILED,
    buffers_left_out,
    give_versions,
    is_compiled,
)


class Buffers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("saved", torch.zeros(1))
        self.register_buffer("passing", torch.zeros(1), persistent=False)


def test_a_compiled_module_is_known_and_has_the_module_by_that_name():
    module = torch.nn.Linear(2, 2)
    compiled = torch.compile(module, backend="eager")
    assert is_compiled(compiled)
    assert not is_compiled(module)
    assert not is_compiled(print)
    assert compiled.get_submodule(COMPILED) is module


def test_buffers_left_out_are_those_that_the_state_lacks():
    module = Buffers()
    assert set(buffers_left_out(module)) == {"passing"}
    assert set(module.state_dict()) == {"saved"}


def test_a_copy_with_its_versions_is_loaded_as_the_state_itself():
    state = torch.nn.BatchNorm1d(2).state_dict()
    copy = give_versions({key: value.clone() for key, value in state.items()}, state)
    # Without a version a batch norm's state is taken for one from before the counter was there.
    del copy["num_batches_tracked"]
    missing = torch.nn.BatchNorm1d(2).load_state_dict(copy, strict=False).missing_keys
    assert missing == ["num_batches_tracked"]


def test_a_plain_dictionary_stays_one():
    assert type(give_versions({"a": 1}, {"a": 2})) is dict
