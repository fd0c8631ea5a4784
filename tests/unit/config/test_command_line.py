import subprocess
from pathlib import Path

import pytest
from command_line import call


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sl.learningrate=1"], "sl.learning_rate"),
        (["rl.kl_coeficient=1"], "rl.kl_coefficient"),
        (["+sl.learningrate=1"], "sl.learning_rate"),
        (["+sed=1"], "seed"),
        (["+reward.item_wight=1"], "reward.item_weight"),
        (["teacher.options.hedas=1"], "teacher.options.heads"),
        (["+teacher.options.hedas=1"], "did you mean 'heads'"),
        (["teacher.options.layers=0"], "teacher.options.layers=0: expected a number at least 1"),
        (["teacher.options.heads=3"], "teacher.options.heads"),
        (["teacher.model=gru4rec"], "valid: embedding, hidden, layers, dropout"),
        (["teacher.model=gru"], "gru4rec"),
        (["variant.differs=[teacher.options.head]"], "teacher.options.heads"),
        (["seed=abc"], "seed"),
        (["rl.iterations=many"], "rl.iterations"),
        (["rl.whiten_rewards=perhaps"], "rl.whiten_rewards"),
        (["rl.gamma=1.5"], "rl.gamma"),
        (["sl.batch_size=0"], "sl.batch_size"),
        (["seed=null"], "seed"),
        (["variant=ful"], "full"),
        (["variant=v4"], "v3"),
        (["dataset=movielens100k"], "movielens_100k"),
        (["reward.item=papr"], "paper"),
        (["instructions.category_sampling=unifrm"], "uniform"),
        (["stage=rl", "variant=v2"], "variant=v3"),
        (["stage=sl", "variant=sasrec"], "variant=v1"),
        (["model=hf"], "model.path"),
        (["model=flan_t5_xl", "variant=v3"], "causal"),
        (["variant=sasrec", "variant.tasks=[sequential]"], "variant.tasks"),
        (["rl.item_count_min=9", "rl.item_count_max=6"], "rl.item_count_m"),
        (["model.max_response_length=2000"], "model.max_length"),
        (["rl.minibatches=7"], "rl.minibatches"),
        (["rl.prompts=8", "rl.minibatches=16", "rl.greedy_row=true"], "does not divide the 24 answers"),
        (["rl.validate_every=13"], "rl.validate_every=13 rl.iterations=12"),
        (["rl.critic_ahead=12"], "rl.critic_ahead=12 rl.iterations=12"),
        (["rl.decay_floor=1.5"], "rl.decay_floor"),
        (["rl.clip_groups=separate"], "rl.clip_groups"),
        (["rl.temperature_end=0"], "rl.temperature_end"),
        (["model.hidden_size=250"], "model.hidden_size"),
        (["model=smollm2_135m", "model.hidden_size=64"], "model.hidden_size=64"),
        (["variant.differs=[rl.klcoefficient]"], "rl.kl_coefficient"),
        (["variant=v2", "variant.name=full"], "variant.name=full"),
        (["evaluation.settings=[sequental]"], "sequential"),
        (["modl=llama_mini"], "model"),
        (["trainer.devices=2"], "trainer.devices"),
        (["seed=0,1"], "-m seed=0,1"),
        (["seed=[0,1]"], "-m seed=0,1"),
        (["variant=v1,v2"], "-m variant=v1,v2"),
        (["variant=[v1,v2]"], "-m variant=v1,v2"),
        (["seed='0,1'"], "-m seed=0,1"),
        (["variant='v1,v2'"], "-m variant=v1,v2"),
        (["evaluation.settings=sequential,about_30"], "evaluation.settings=[sequential,about_30]"),
        (["dataset.path=a,b"], "'dataset.path=\"a,b\"'"),
        (["rl.clip='0.1"], "quotes"),
        (["+seed=1"], "leave the + away"),
        (["logger.entity=hf_abcdefghijklmnopqrstuvwx"], "HF_TOKEN"),
        (["sl.learning_rate"], "sl.learning_rate"),
        (["-m", "variant=v2,ful"], "full"),
        (["-m", "variant=v2,v1", "stage=rl"], "variant=v3"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_is_explained_in_two_lines(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = call(tmp_path, *arguments)
    lines = done.stderr.splitlines()
    assert done.returncode == 1, done.stderr
    assert 1 <= len(lines) <= 2, done.stderr
    assert "Traceback" not in done.stderr
    assert said in lines[-1]
    assert not list(tmp_path.glob("runs/data/*"))


@pytest.mark.parametrize(
    ("output", "folder"),
    [
        ("2024_06_01", "2024_06_01"),
        ("1e3", "1e3"),
        ("~/runs", "home/runs"),
        ("it's läufe", "it's läufe"),
        ("./~x", "~x"),
    ],
)
def test_an_output_folder_is_called_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, folder: str
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for wanted in ([], ["-m"]):
        done = call(tmp_path, *wanted, f"output={output}", "rl.clip=9")  # refused after Hydra made its folders
        assert "rl.clip=9" in done.stderr.splitlines()[-1]
        made = {str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("logs")}
        assert made == {folder}


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("null", "output: a folder is expected"),
        ("", "output: a folder is expected"),
        ("${x}", "no key 'x'"),
        ("~no-one", "./~no-one"),
    ],
)
def test_an_output_that_names_no_folder_is_one_line(tmp_path: Path, output: str, said: str) -> None:
    done = call(tmp_path, f"output={output}")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and said in done.stderr, done.stderr


def test_help_names_the_groups_and_every_key(tmp_path: Path) -> None:
    done = call(tmp_path, "--help")
    assert done.returncode == 0 and not done.stderr
    groups = ("dataset", "model", "teacher", "stage", "variant", "reward", "generation", "trainer", "logger", "budget")
    for group in groups:
        assert f"\n{group}: " in done.stdout
    for word in ("full", "movielens_100k", "llama2_7b_chat", "python -m ctrlrec", "kl_coefficient"):
        assert word in done.stdout


def test_info_and_cfg_answer_without_running_anything(tmp_path: Path) -> None:
    for arguments, word in ((("--info",), "Config search path"), (("--cfg", "job"), "kl_coefficient: 0.3")):
        done = call(tmp_path, *arguments)
        assert done.returncode == 0
        assert word in done.stdout
    assert not list(tmp_path.glob("runs/data/*"))


@pytest.mark.parametrize(
    "launcher",
    [
        {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2"},
        {"SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"},
    ],
    ids=["torchrun", "srun"],
)
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-m", "stage=data"], "command of its own"),
        (["stage=data", "trainer.strategy=tensor_parallel"], "valid: auto, ddp, fsdp"),
        (["stage=sl", "trainer.strategy=fsdp"], "trainer.strategy=ddp"),
    ],
    ids=["multirun", "another strategy", "nothing frozen"],
)
def test_what_several_processes_cannot_do_is_refused_before_they_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: dict[str, str], arguments: list[str], said: str
) -> None:
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    done = call(tmp_path, *arguments)
    assert done.returncode == 1
    assert said in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


def test_one_process_shards_nothing(tmp_path: Path) -> None:
    done = call(tmp_path, "stage=data", "model=smollm2_135m", "trainer.strategy=fsdp")
    assert done.returncode == 1
    assert "torchrun" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


def test_an_output_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    done = call(tmp_path, "stage=data")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and "Not a directory" in done.stderr, done.stderr


def test_a_read_only_output_folder_is_one_line(tmp_path: Path) -> None:
    place = tmp_path / "runs"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("mounting a file system needs root")
    try:
        done = call(tmp_path, "stage=data")
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and "Read-only file system" in done.stderr, done.stderr
