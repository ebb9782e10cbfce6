import pytest

from brain_lightning.ground import launch_detection
from brain_lightning.ground.launch_detection import detect_launch, first_host, read_slurm

TORCHRUN = {
    "RANK": "3",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_RANK": "1",
    "MASTER_ADDR": "node0",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "none",
}
SRUN = {
    "SLURM_JOB_ID": "123456",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_NTASKS": "8",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_NODELIST": "gpu[07-09,12],login",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
}
BATCH_SCRIPT = {
    "SLURM_JOB_ID": "123456",
    "SLURM_NTASKS": "8",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}


@pytest.fixture(autouse=True)
def slurm_is_read():
    before = launch_detection.is_slurm_read()
    read_slurm(True)
    yield
    read_slurm(before)


def test_torchrun():
    launch = detect_launch(TORCHRUN)
    assert (launch.source, launch.rank, launch.local_rank) == ("torchrun", 3, 1)
    assert (launch.world_size, launch.local_world_size, launch.node_rank) == (4, 2, 1)
    assert str(launch) == (
        "torchrun: rank 3 of 4, local rank 1 on machine 1, main process at node0:29500"
    )


def test_torchrun_inside_srun_goes_first():
    assert detect_launch(SRUN | TORCHRUN).source == "torchrun"


def test_variables_set_by_hand():
    launch = detect_launch({"RANK": "3", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"})
    assert (launch.source, launch.node_rank, launch.world_size) == ("RANK and LOCAL_RANK", 1, None)


def test_srun():
    launch = detect_launch(SRUN)
    assert (launch.source, launch.rank, launch.local_rank) == ("SLURM", 3, 1)
    assert (launch.world_size, launch.local_world_size, launch.node_rank) == (5, 2, 1)
    assert launch.main_address == "gpu07"
    others = [SRUN | {"SLURM_PROCID": str(rank)} for rank in range(5)]
    assert {detect_launch(other).main_port for other in others} == {launch.main_port}
    assert launch.main_port != detect_launch(SRUN | {"SLURM_STEP_ID": "3"}).main_port
    last = detect_launch(SRUN | {"SLURM_PROCID": "4", "SLURM_LOCALID": "0", "SLURM_NODEID": "2"})
    assert last.local_world_size == 1


def test_a_stale_local_rank_under_srun():
    """LOCAL_RANK without RANK on a second machine must not make a second main process."""
    launch = detect_launch(SRUN | {"LOCAL_RANK": "0", "SLURM_PROCID": "2", "SLURM_LOCALID": "0"})
    assert launch.rank == 2


@pytest.mark.parametrize(
    "environment",
    [
        {},
        BATCH_SCRIPT,
        SRUN | {"SLURM_STEP_NUM_TASKS": "1"},  # srun --pty bash
        {"SLURM_PROCID": "1"},
        {"OMPI_COMM_WORLD_RANK": "1"},
    ],
)
def test_not_launched(environment):
    assert detect_launch(environment) is None


def test_slurm_is_not_read():
    read_slurm(False)
    assert detect_launch(SRUN) is None
    assert detect_launch(SRUN | TORCHRUN).rank == 3


def test_open_mpi_and_jsm():
    names = ("RANK", "LOCAL_RANK", "SIZE", "LOCAL_SIZE")
    values = dict(zip(names, ("1", "1", "2", "2"), strict=True))
    mpi = detect_launch({f"OMPI_COMM_WORLD_{name}": value for name, value in values.items()})
    assert (mpi.source, mpi.rank, mpi.world_size) == ("Open MPI", 1, 2)
    assert mpi.main_address == "127.0.0.1"
    jsm = detect_launch({f"JSM_NAMESPACE_{name}": value for name, value in values.items()})
    assert (jsm.source, jsm.local_rank, jsm.main_address) == ("JSM", 1, None)


def test_local_rank_alone():
    assert detect_launch({"LOCAL_RANK": "1"}).rank == 1
    second = {"LOCAL_RANK": "0", "NODE_RANK": "1"}
    assert detect_launch(second | {"LOCAL_WORLD_SIZE": "2"}).rank == 2
    with pytest.raises(ValueError, match="LOCAL_RANK=0 on machine 1, but no RANK"):
        detect_launch(second)


def test_a_variable_that_is_no_number():
    with pytest.raises(ValueError, match="SLURM_STEP_NUM_TASKS is 'many'"):
        detect_launch(SRUN | {"SLURM_STEP_NUM_TASKS": "many"})


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("gpu[07-09,12],login", "gpu07"),
        ("login,gpu[1-2]", "login"),
        ("rack[1-2]node[3,5]", "rack1node3"),
        ("host-1.site", "host-1.site"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_first_host(nodes, host):
    assert first_host(nodes) == host
