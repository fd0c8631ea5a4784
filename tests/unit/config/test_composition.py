import dataclasses
from pathlib import Path

import pytest
from composing import composed, differing, flat
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import ReadonlyConfigError

from ctrlrec.config.compose import compose, variants
from ctrlrec.config.files import conf_directory
from ctrlrec.config.options import option_keys
from ctrlrec.config.schema import Config, known_keys
from ctrlrec.errors import CtrlRecError
from ctrlrec.pipeline.plan import planned
from ctrlrec.rl import algorithms
from ctrlrec.teacher.models.sasrec import SASRecOptions

CONF = conf_directory()
FILES = sorted(CONF.rglob("*.yaml"))
CHOICES = [
    (path.parent.relative_to(CONF).as_posix(), path.stem)
    for path in FILES
    if path.parent != CONF and not path.is_relative_to(CONF / "hydra") and path.parent.name != "tuned"
]
ALGORITHMS = ("grpo", "rloo", "item_grpo", "trl_grpo", "dpo", "best_of_8")  # rows of RL algorithms beside PPO
PARTS = {"rl/beyond": "rl/beyond@rl"}  # groups whose keys go into the section above
SOFT = (
    "indexing.name",
    "sl.soft_labels",
    "sl.soft_labels_end",
    "sl.allowed_weight",
)  # what rows with soft labels differ in


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_a_file_has_at_most_30_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 30


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes_and_validates(group: str, choice: str) -> None:
    needed = ["model.path=folder"] if (group, choice) == ("model", "hf") else []
    needed += ["variant=v2"] if group == "model" else []  # not every backbone goes through RL
    needed += ["model=smollm2_135m"] if choice == "base" else []  # the released values suit a pretrained one alone
    if group == "experiment":
        compose(f"experiment={choice}")
        return
    config = compose(f"{PARTS.get(group, group)}={choice}", *needed)
    section = OmegaConf.select(config, group.replace("/", "."))  # type: ignore[arg-type]
    if hasattr(section, "name") and group not in (
        "teacher",
        "rl/algorithm",
        *PARTS,
    ):  # a file may be another size of one teacher
        assert section.name == choice


@pytest.mark.parametrize("variant", [path.stem for path in sorted((CONF / "variant").glob("*.yaml"))])
@pytest.mark.parametrize(
    ("model", "budget"),
    [("llama_mini", "demo"), ("llama_mini", "small"), ("smollm2_135m", "demo"), ("llama2_7b_chat", "paper")],
)
def test_every_row_composes_with_backbones_and_budgets(variant: str, model: str, budget: str) -> None:
    config = compose(f"variant={variant}", f"model={model}", f"budget={budget}")
    assert (config.variant.name, config.model.name, config.budget.name) == (variant, model, budget)


def test_flan_t5_is_a_backbone_of_the_rows_without_rl() -> None:
    for variant in ("zero_shot", "palr", "instructrec", "v1", "v2"):
        assert compose("model=flan_t5_xl", f"variant={variant}").model.kind == "encoder_decoder"


@pytest.mark.parametrize(
    ("parent", "child", "keys"),
    [
        ("v1", "v2", {"variant.tasks"}),
        ("v2", "v3", {"variant.rl", "variant.differs", "reward.item_weight"}),
        ("v3", "full", {"variant.differs", "reward.item_weight"}),
        ("v2", "full", {"variant.rl"}),
        ("zero_shot", "v1", {"variant.tasks", "variant.prompt_suffix", "variant.lenient_answers"}),
        ("zero_shot", "sasrec", {"variant.answers_with", "variant.prompt_suffix", "variant.lenient_answers"}),
        ("v2", "v2_blend", {"instructions.blend_share", "variant.differs"}),
        ("full", "full_blend", {"instructions.blend_share", "variant.differs"}),
        ("v2_blend", "full_blend", {"variant.rl"}),
        (
            "full", "grpo",
            {"rl.algorithm.name", "rl.algorithm.options.whiten_advantages", "rl.prompts", "rl.samples_per_prompt",
             "variant.differs"},
        ),
        ("grpo", "rloo", {"rl.algorithm.name"}),
        ("grpo", "item_grpo", {"rl.algorithm.name", "rl.algorithm.options.scale"}),
        ("grpo", "trl_grpo", {"rl.algorithm.name", "variant.differs"}),
        ("grpo", "dpo", {"rl.algorithm.name", "rl.algorithm.options.beta", "variant.differs"}),
        ("grpo", "best_of_8", {"rl.algorithm.name", "variant.differs"}),
        ("v1", "v1_soft", {*SOFT, "variant.differs"}),
        ("v2", "v2_soft", {*SOFT, "variant.differs"}),
        (
            "full", "full_soft",
            {*SOFT, "variant.differs", "reward.missing_item"},
        ),
        ("v2_soft", "full_soft", {"variant.rl", "variant.differs", "reward.missing_item"}),
        ("v1", "palr", {"variant.instructions"}),
        ("v1", "instructrec", {"variant.instructions", "variant.tasks", "variant.beam_search"}),
    ],
)  # fmt: skip
def test_a_variant_changes_what_its_row_names_and_nothing_else(parent: str, child: str, keys: set[str]) -> None:
    named = {"variant.name", "variant.description"}
    changed = {key for key in differing((f"variant={parent}",), (f"variant={child}",)) if "variant.table." not in key}
    assert changed == keys | named


def test_rows_of_algorithms_share_one_model_after_sl_and_sample_as_many_answers() -> None:
    rows = [compose(f"variant={name}") for name in ("v2", "full", "v3", *ALGORITHMS)]
    assert len({planned(row)["sl"] for row in rows}) == 1
    assert {row.rl.prompts * row.rl.samples_per_prompt for row in rows} == {64}
    ours, trl = (compose(f"variant={name}", "experiment=trl_reference").rl for name in ("grpo", "trl_grpo"))
    assert ours.algorithm.name == "grpo" and trl.algorithm.name == "trl_grpo"
    assert {key for key in ours if ours[key] != trl[key]} == {"algorithm"}


@pytest.mark.parametrize("variant", ["trl_grpo", "dpo", "best_of_8"])
def test_an_algorithm_of_samples_alone_takes_no_tuned_row_that_it_would_refuse(variant: str) -> None:
    rl = compose(f"variant={variant}", "model=llama_nano").rl
    assert compose("variant=grpo", "model=llama_nano").rl.guided_row == "control"
    assert (rl.greedy_row, rl.guided_row, rl.kl_loss_coefficient) == (False, "none", 0)
    algorithms.ALGORITHMS[rl.algorithm.name].check(rl)


def test_variants_are_read_in_the_order_of_the_paper() -> None:
    read = variants()
    assert list(read) == [
        "sasrec",
        "api",
        "zero_shot",
        "instructrec",
        "palr",
        "v1",
        "v2",
        "v3",
        "full",
        *ALGORITHMS,
        "v2_blend",
        "full_blend",
        "v1_soft",
        "v2_soft",
        "full_soft",
    ]
    assert {name for name, variant in read.items() if variant.table.own_backbone} == {"instructrec"}
    assert read["v2"].tasks == ["sequential", "category", "proportion", "search", "chat"]
    assert read["api"].table.unranked == ["table5"]  # the paper's Table 5: best excluding GPT-3.5
    assert read["sasrec"].table.hidden == ["table3", "table4", "table5", "table8"]
    pairs = [(name, other) for name, variant in read.items() for other in variant.table.compared_with]
    others = ("v1", "sasrec", "palr", "instructrec")
    assert pairs[:5] == [("v1", "palr"), *(("v2", other) for other in others)]
    assert pairs[5:8] == [("v3", "v2"), ("full", "v2"), ("full", "v3")]


def test_questions_of_blends_are_asked_beside_the_papers_and_nothing_else_changes() -> None:
    assert differing((), ("evaluation=blend",)) == {"evaluation.settings"}
    paper, blend = compose().evaluation.settings, compose("evaluation=blend").evaluation.settings
    assert list(blend) == [*paper, "blend_2", "blend_3", "blend_unseen"]


@pytest.mark.parametrize("reading", ["paper_literal", "released"])
def test_a_reading_of_the_reward_changes_nothing_else(reading: str) -> None:
    assert differing(("reward=paper",), (f"reward={reading}",)) == {"reward.name", "reward.item", "reward.list"}


def test_v3_is_full_without_item_rewards_whatever_the_reading() -> None:
    for reading in ("paper", "released"):
        full = (f"reward={reading}", "variant=full", "reward.item_weight=0")
        changed = differing((f"reward={reading}", "variant=v3"), full)
        named = {"variant.name", "variant.description", "variant.differs"}
        assert {key for key in changed if not key.startswith("variant.table.")} == named


@pytest.mark.parametrize("budget", ["demo", "small"])
def test_a_budget_changes_sizes_and_no_method(budget: str) -> None:
    changed = differing(("budget=paper",), (f"budget={budget}",))
    released = compose("budget=paper").budget.sets  # the schedule of the paper
    assert changed <= {
        *released,
        "budget.name",
        "budget.sets",
        "budget.following",
        "sl.max_steps",
        "sl.validations",
        "rl.iterations",
        "rl.warmup_iterations",
        "instructions.validation_size",
        "evaluation.users",
        "generation.max_new_tokens",
        "teacher.max_epochs",
    }


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("evaluation.formatting_item_counts=[]", "is empty"),
        ("evaluation.formatting_item_counts=[11,0]", "contains 0"),
        ("evaluation.formatting_item_counts=[101]", "contains 101"),
        ("evaluation.settings=[]", "at least one"),
        ("evaluation.settings=[sequential,about_30,sequential]", "each once"),
        ("trainer.accelerator=tpu", "gpu"),
        ("model.name=meta/llama", "names folders"),
        ("dataset.name=..", "names folders"),
        ("budget.name=''", "names folders"),
        ("variant.table.hidden=[table9]", "did you mean"),
        ("variant.table.compared_with=[ful]", "did you mean 'full'"),
        ("variant.table.order=-1", "at least 0"),
        ("rl.schedule_iterations=3", "rl.iterations=12"),
        ("indexing.name=title_token", "item_token"),
        ("instructions.item_count_min=11", "larger than instructions.item_count_max=10"),
        ("sl.soft_labels=0.5", "add indexing=item_token"),
        ("sl.soft_labels=-1", "at least"),
        ("sl.allowed_weight=4", "add indexing=item_token"),
        ("budget.sets=[rl.clp]", "rl.clip"),
        ("api.url='http://[abc'", "expected http"),
        ("api.url=http://host:port/v1", "expected http"),
    ],
)
def test_values_that_no_run_could_use_are_refused(override: str, said: str) -> None:
    with pytest.raises(CtrlRecError, match=f"{override.partition('=')[0]}.*{said}"):
        compose(override)


def test_searches_have_a_length_to_draw() -> None:
    with pytest.raises(CtrlRecError, match=r"search_item_count_max=2 is smaller than instructions\.item_count_min=3"):
        compose("instructions.item_count_min=3", "instructions.search_item_count_max=2")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sl.allowed_weight=4", "indexing=item_token"], "sl.soft_labels=null"),
        (["sl.soft_labels=1", "indexing=item_token", "variant=palr"], "variant=palr"),
        (["sl.soft_labels_end=0.1"], "sl.soft_labels=null: there is no temperature to start from"),
        (["indexing=item_token", "model=flan_t5_xl", "variant=v2"], "causal language model"),
        (
            ["trainer.compile=true", "model=flan_t5_xl", "variant=v2"],
            "trainer.compile=true model=flan_t5_xl: its dropout",
        ),
        (["variant=v2_soft", "indexing.name=title"], "add indexing=item_token"),
        (["variant=trl_grpo", "indexing=item_token"], "rl/algorithm=grpo"),
    ],
)
def test_soft_labels_need_tokens_of_items_and_labels_of_the_teacher(words: list[str], said: str) -> None:
    with pytest.raises(CtrlRecError, match=said):
        compose(*words)


def test_a_folder_may_be_called_like_the_hub() -> None:
    assert compose("model=hf", "model.path=/models/hf_llama2_7b_chat_merged_bf16").model.kind == "pretrained"


def test_a_logger_or_trainer_changes_its_own_section_alone() -> None:
    for group in ("logger", "trainer"):
        for path in (CONF / group).glob("*.yaml"):
            assert all(key.startswith(f"{group}.") for key in differing((f"{group}=auto",), (f"{group}={path.stem}",)))


def test_the_defaults_cover_the_whole_schema_and_nothing_besides() -> None:
    defaults = set(flat(composed()))
    keys = known_keys()
    leaves = {key for key in keys if not any(other.startswith(key + ".") for other in keys)}
    own = {key for key in defaults if key in option_keys(key)}  # declared by the chosen modules
    teacher = {f"teacher.options.{field.name}" for field in dataclasses.fields(SASRecOptions)}
    assert own == {"rl.algorithm.options.whiten_advantages"} | teacher
    # Dictionaries whose keys the schema does not list.
    free = {"teacher.options", "rl.algorithm.options", "trainer.callbacks", "trainer.extra"}
    assert defaults - own == leaves - free


def test_the_schema_has_no_defaults_of_its_own() -> None:
    for section in dataclasses.fields(Config):
        assert section.default == MISSING
        for field in dataclasses.fields(section.type) if dataclasses.is_dataclass(section.type) else ():
            assert field.default == MISSING, f"{section.name}.{field.name}"


def test_a_validated_configuration_is_frozen() -> None:
    with pytest.raises(ReadonlyConfigError):
        compose().rl.iterations = 3


@pytest.mark.parametrize("model", ["llama_mini", "smollm2_135m", "llama2_7b_chat"])
def test_the_budget_of_the_paper_makes_32_adam_steps_of_2_answers(model: str) -> None:
    rl = compose("budget=paper", f"model={model}").rl
    answers = rl.prompts * rl.samples_per_prompt
    assert answers / rl.minibatches == 2
    assert rl.minibatches * rl.ppo_epochs == 32


def test_the_papers_numbers_are_the_defaults_of_the_paper_budget() -> None:
    values = flat(composed("budget=paper", "model=llama2_7b_chat"))
    expected = {
        "sl.lora_rank": 16,
        "sl.lora_alpha": 8,
        "sl.learning_rate": 1e-3,
        "sl.batch_size": 64,
        "sl.epochs": 30,
        "sl.max_steps": None,
        "sl.decay_power": 2.0,
        "sl.warmup_share": 0.0125,
        "sl.gradient_clip": 1.0,
        "rl.lora_rank": 4,
        "rl.lora_alpha": 2,
        "rl.learning_rate": 5e-6,
        "rl.temperature": 0.7,
        "rl.entropy_coefficient": 0.01,
        "rl.clip": 0.2,
        "rl.value_clip": None,
        "rl.value_coefficient": 0.1,
        "rl.kl_coefficient": 0.3,
        "rl.kl_stop": 0.05,
        "rl.gamma": 0.99,
        "rl.gae_lambda": 1.0,
        "rl.ppo_epochs": 4,
        "rl.samples_per_prompt": 2,
        "rl.prompts": 8,
        "rl.warmup_iterations": 50,
        "rl.gradient_clip": 0.5,
        "reward.item_weight": 1.0,
        "reward.list_weight": 10.0,
        "reward.preference_share": 0.5,
        "reward.additive_at_items": False,
        "rl.item_count_min": 6,
        "rl.iterations": 3000,
        "rl.schedule_iterations": 9900,
        "rl.minibatches": 8,
        "rl.adam_epsilon": 1e-5,
        "rl.item_count_max": 10,
        "instructions.item_count_max": 10,
        "instructions.chat_ratio": 0.5,
        "instructions.validation_size": 320,
        "instructions.category_sampling": "ground_truth",
        "evaluation.users": None,
        "evaluation.item_count": 10,
        "evaluation.formatting_item_counts": [11, 12, 13, 14, 15],
        "evaluation.match_max_edits": 3,
        "model.max_length": 1024,
        "model.max_response_length": 512,
        "dataset.history_length": 10,
        "dataset.title_max_tokens": 64,
    }
    assert {key: values[key] for key in expected} == expected
