"""Ten faults of PathReasoner-R1's released RL code (arXiv 2601.21617), one test each, on Eosin's own code.

Slides are real feature files, the model is a very small slide reader. Each test was seen to fail with its fault put in
(docs/masking.md lists how); what the others of the suite hold beside is named there too.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tests.support.masked_slides import slide_sample
from tests.support.rewards import HEARD
from tests.support.slide_toys import new_reader, slide_settings
from tests.support.toys import toy_samples
from tests.train.conftest import SMALL
from tests.train.test_shared_prefix import loss_and_gradients, saved, trainer_of

from eosin.core.errors import EosinError
from eosin.core.formats import write_parquet
from eosin.core.nouns.bags import PatchBag
from eosin.core.nouns.prompt import PromptSettings, gold_reply, prompt_messages
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample
from eosin.core.settings.exam import ExamSettings
from eosin.core.settings.recipe import load_recipe
from eosin.core.settings.rl import Algorithm
from eosin.core.settings.stages import Lora, RewardSpec, RlStage, SftStage
from eosin.core.store import artifacts as store
from eosin.engines.base import Decoding, MockEngine, Request
from eosin.engines.transformers_engine import TransformersEngine
from eosin.models.load import Loaded, load
from eosin.models.slide_encoder.build import build_slide_reader
from eosin.scoring.reading.item import item_from_sample
from eosin.scoring.sets.by_source import stage_rewards
from eosin.slides.features.regions import SlideRegions
from eosin.train.data.collate import NOT_IN_LOSS, MaskedCollator
from eosin.train.data.lengths import check_lengths, of_rows
from eosin.train.data.rows import rl_row, rows_dataset, sft_row
from eosin.train.rl.trl_overrides import GroupTrainer, SharedPrefixTrainer
from eosin.train.stages import rl, sft
from eosin.train.stages.base import StageContext

GRAMMAR = Grammar.of("info/think/answer", numbered_steps=True)
PROMPT = PromptSettings(instruction=True, answer="letter_and_text")


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return [slide_sample(tmp_path_factory.mktemp("slides"), i) for i in range(4)]


def stage(folder: Path, samples: list[Sample], loaded: Loaded, **changes: Any) -> StageContext:
    folder.mkdir(parents=True, exist_ok=True)
    ctx = StageContext(
        name=folder.name, folder=folder, loaded=loaded, train=samples, valid=[], grammar=GRAMMAR, prompt=PROMPT,
        seed=0, read_region=SlideRegions(),
    )  # fmt: skip
    return replace(ctx, **changes)


def rl_stage(**changes: Any) -> RlStage:
    rewards = [RewardSpec(name="tests.support.rewards:hears")]
    algorithm = {"name": "grpo", "mask_truncated": False}  # replies of six tokens are all cut off
    values = {"algorithm": algorithm, "steps": 1, "batch_size": 4, "num_generations": 2, "max_new_tokens": 6,
              "rewards": rewards, "learning_rate": 1e-3, "log_every": 1, "collapse": None}  # fmt: skip
    return RlStage(**{**values, **changes})


@pytest.fixture(scope="module")
def trained(slides: list[Sample], tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """SFT of a small slide reader, then one step of RL from its checkpoint, exactly as a run does both."""
    at = tmp_path_factory.mktemp("run")
    first = stage(at / "sft", slides, new_reader())
    before = weights(first.loaded)
    sft_result = sft.run(SftStage(steps=4, batch_size=4, learning_rate=3e-3, log_every=1), first)
    HEARD.clear()
    second = stage(at / "rl", slides, load(at / "sft" / "checkpoint"))
    start = weights(second.loaded)
    rl_result = rl.run(rl_stage(), second)
    return SimpleNamespace(
        at=at, slides=slides, before=before, sft=weights(first.loaded), start=start, rl=weights(second.loaded),
        heard=list(HEARD), sft_result=sft_result, rl_result=rl_result, policy=second.loaded,
    )  # fmt: skip


def weights(loaded: Loaded) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in loaded.model.named_parameters()}


def moved(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> set[str]:
    return {n for n in a if not torch.equal(a[n], b[n])}


def group_rows(slides: list[Sample], num: int) -> list[dict[str, Any]]:
    """`num` rows for each slide, made by the code that makes a stage's rows."""
    data = rows_dataset(slides, rl_row(GRAMMAR, PROMPT), PicturesOf())  # type: ignore[arg-type]
    return [data[i] for i in range(len(slides)) for _ in range(num)]


class PicturesOf:
    """Bags of samples, read as a stage reads them."""

    def get(self, sample: Sample) -> list[Any]:
        return [SlideRegions().bag(ref) for ref in sample.images]  # type: ignore[arg-type]


def slide_trainer(kind: type[GroupTrainer], folder: Path, rows: list[dict[str, Any]], num: int, **kw: Any) -> Any:
    return trainer_of(kind, saved(new_reader(**kw), folder / "model"), folder, rows, num,
                      algorithm=Algorithm(name="dapo"))  # fmt: skip


KINDS = [pytest.param(GroupTrainer, id="plain"), pytest.param(SharedPrefixTrainer, id="shared")]


# 1. The policy never sees the image ----------------------------------------------------------------------------------


def test_1_the_policy_sees_the_slide(trained: SimpleNamespace) -> None:
    """A row holds the bag, the start check measures sight, and another slide changes every log-probability."""
    row = group_rows(trained.slides[:1], 1)[0]
    assert isinstance(row["images"][0], PatchBag) and len(row["images"][0]) == 24
    assert row["prompt"][-1]["content"][0]["type"] == "image"
    assert trained.rl_result.extra["checks"]["sight"] > 1e-4
    bag = row["images"][0]
    turned = replace(bag, features=np.ascontiguousarray(bag.features[::-1]))
    others = [bag, bag.blank(), turned, bag.take(np.arange(12))]
    found = [reply_logprobs(trained.policy, trained.slides[0], b) for b in others]
    for other in found[1:]:
        assert ((found[0] - other).abs() > 0).float().mean() > 0.95  # two may agree in all bits by chance


def reply_logprobs(loaded: Loaded, sample: Sample, bag: PatchBag) -> torch.Tensor:
    """Log-probabilities of the tokens of the gold reply, by the batch that SFT would be given."""
    row = sft_row(GRAMMAR, PROMPT)(sample, [bag])
    batch = MaskedCollator(loaded.processor)([row])
    loaded.model.eval()
    with torch.no_grad():
        logits = loaded.model(**{k: v for k, v in batch.items() if k != "labels"}).logits[0, :-1]
    labels = batch["labels"][0, 1:]
    logps = torch.log_softmax(logits.float(), -1).gather(1, labels.clamp(min=0)[:, None])[:, 0]
    return logps[labels != NOT_IN_LOSS]


def test_1_gradients_reach_tower_and_projector(trained: SimpleNamespace, tmp_path: Path) -> None:
    """In SFT and in RL, on both paths: every kind of weight of the slide's way gets a gradient and moves."""
    parts = ("slide_tower.embed", "slide_tower.blocks.0.qkv", "slide_tower.blocks.1", "projector.fc1", "projector.fc2")
    for before, after in ((trained.before, trained.sft), (trained.start, trained.rl)):
        for part in parts:
            assert any(part in n for n in moved(before, after)), part
    for kind in (GroupTrainer, SharedPrefixTrainer):
        rows = group_rows(trained.slides[:2], 2)
        _, grads = loss_and_gradients(slide_trainer(kind, tmp_path / kind.__name__, rows, 2), rows)
        for part in parts:
            assert max(g.abs().max() for n, g in grads.items() if part in n) > 0, part


# 2. The SFT weights are never loaded ---------------------------------------------------------------------------------


def test_2_the_policy_starts_from_the_sft_weights(trained: SimpleNamespace) -> None:
    assert len(moved(trained.before, trained.sft)) > 20
    assert not moved(trained.sft, trained.start)
    steps = [(trained.rl[n] - trained.start[n]).abs().max().item() for n in trained.start]
    assert 0 < max(steps) < 3e-3  # one step of Adam at 1e-3 from there


def test_2_a_run_hands_the_checkpoint_of_the_stage_before_to_rl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wiring of `eosin run`: what RL is given is what SFT wrote, with its digest among the parents."""
    from eosin.chain.recipe.layout import Layout
    from eosin.chain.recipe.run import Run
    from eosin.chain.recipe.stages import run_stage

    folder = tmp_path / "samples"
    folder.mkdir()
    write_parquet([*toy_samples(8, "train"), *toy_samples(3, "test")], folder / "all.parquet")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(yaml.safe_dump({
        "data": {"source": "samples", "path": str(folder / "all.parquet")},
        "model": SMALL.model_dump(mode="json"),
        "stages": {"sft": {"kind": "sft", "steps": 2, "batch_size": 4, "learning_rate": 1e-2}, "rl": {"kind": "rl"}},
    }, sort_keys=False))  # fmt: skip
    run = Run(load_recipe(recipe), Layout(tmp_path / "run"))
    run.splits = {"train": toy_samples(8, "train"), "valid": [], "test": toy_samples(3, "test")}
    with store.writing(run.at.samples, "samples"):
        pass
    run.base_model()
    base = weights(load(run.at.base))
    run_stage(run, "sft")
    given: list[StageContext] = []

    class SeenError(Exception):
        pass

    def look(_settings: Any, ctx: StageContext) -> None:
        given.append(ctx)
        raise SeenError

    monkeypatch.setattr(rl, "run", look)
    with pytest.raises(SeenError):
        run_stage(run, "rl")
    written = weights(load(run.at.checkpoint("sft")))
    assert not moved(written, weights(given[0].loaded)) and len(moved(base, written)) > 10
    assert given[0].parents[0].digest == store.open_artifact(run.at.checkpoint("sft")).digest


# 3. Only the first of G rollouts is trained on -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_3_every_rollout_of_a_group_contributes(slides: list[Sample], tmp_path: Path, kind: type[GroupTrainer]) -> None:
    """Zero the advantage of one rollout of the group: the gradient changes, whichever it is."""
    num = 4
    rows = group_rows(slides[:1], num)
    trainer = slide_trainer(kind, tmp_path, rows, num)
    whole = gradient(trainer, rows, None)
    for silent in range(num):
        assert relative_change(whole, gradient(trainer, rows, silent)) > 1e-3, silent


def gradient(trainer: Any, rows: list[dict[str, Any]], silent: int | None) -> torch.Tensor:
    """The gradient of all weights, with one rollout's advantage set to 0."""
    fixed = [[30 + i, 41, 52 + i, trainer.eos_token_ids[0]] for i in range(len(rows))]
    trainer._generate_single_turn = lambda ids, *_a, **_k: (fixed[: len(ids)], None)
    trainer.model.train()
    trainer.model.zero_grad()
    torch.manual_seed(0)
    batch = trainer._generate_and_score_completions(rows)
    if isinstance(trainer, SharedPrefixTrainer):
        batch["encoded_prompts"] = trainer._loss_prompts
    assert (batch["advantages"] != 0).all() and len(batch["advantages"]) == len(rows)
    if silent is not None:
        batch["advantages"][silent] = 0.0
    trainer.compute_loss(trainer.model, batch).backward()
    return torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])


def relative_change(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / a.norm())


# 4. Prompt + completion is scored ------------------------------------------------------------------------------------


def test_4_the_completion_alone_is_scored(trained: SimpleNamespace) -> None:
    questions = {s.id: prompt_messages(s, GRAMMAR)[-1].text for s in trained.slides}
    rows = store.read_jsonl(trained.at / "rl" / "rollouts.jsonl")
    assert len(trained.heard) == len(rows) == 4
    tokenizer = trained.policy.processor.tokenizer
    for item in trained.heard:
        assert questions[item.id] and not any(line in item.reply for line in questions[item.id].splitlines() if line)
        assert "assistant\n" not in item.reply and "<|" not in item.reply  # the turn's head; the word may be drawn
        assert item.num_tokens is not None and 0 < item.num_tokens <= 6
        assert len(tokenizer(item.reply, add_special_tokens=False)["input_ids"]) <= 3 * 6  # six tokens' worth of text
    assert sorted(i.reply for i in trained.heard) == sorted(r["reply"] for r in rows)


# 5. Tags differ between data and reward ------------------------------------------------------------------------------


def test_5_data_prompt_reward_and_checkpoint_have_the_same_tags(trained: SimpleNamespace) -> None:
    """The gold replies that SFT is given earn format 1 from the reward that RL builds from the same stage."""
    rewards = stage_rewards(rl_stage(rewards=[RewardSpec(name="format")]), GRAMMAR, {"toy-slides"})
    pictures = PicturesOf()
    for sample in trained.slides:
        row = sft_row(GRAMMAR, PROMPT)(sample, pictures.get(sample))
        reply = row["completion"][0]["content"][0]["text"]
        assert rewards.score_batch([item_from_sample(sample, reply)])[0].total == 1.0
        asked = row["prompt"][-1]["content"][-1]["text"]
        assert all(f"<{tag}>...</{tag}>" in asked for tag in ("info", "think", "answer"))
    for name in ("sft", "rl"):
        artifact = store.open_artifact(trained.at / name / "checkpoint")
        assert artifact.manifest["grammar"] == {"tags": "info/think/answer", "numbered_steps": True}
    assert trained.rl_result.extra["rewards"]["grammar"] == GRAMMAR.name


# 6. The length cap truncates nearly every target ---------------------------------------------------------------------


def test_6_a_cap_that_cuts_the_targets_is_refused_before_the_first_step(slides: list[Sample], tmp_path: Path) -> None:
    ctx = stage(tmp_path / "sft", slides, new_reader())
    with pytest.raises(EosinError, match="cuts off the gold replies") as told:
        sft.run(SftStage(steps=1, batch_size=2, max_tokens=90), ctx)
    assert "100% of 4 gold replies" in str(told.value.found) and "prompt and reply" in str(told.value.found)
    longest = int(str(told.value.next_step).split("max_tokens=")[1].split(",")[0])
    rows = rows_dataset(slides, sft_row(GRAMMAR, PROMPT), ctx.pictures(0.1))
    fits, cuts = (of_rows(rows, ctx.loaded, cap, 0) for cap in (longest, longest - 1))
    assert fits.cut_share == 0 and fits.longest == longest and cuts.cut_share > 0
    warned = check_lengths(cuts, SftStage(max_tokens=longest - 1, over_cap="warn"), "stages.sft")
    assert warned["cut_share"] == cuts.cut_share


def test_6_rl_says_what_share_of_the_gold_replies_is_longer_than_its_cap(
    trained: SimpleNamespace, slides: list[Sample], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lengths = trained.rl_result.extra["lengths"]
    tokenizer = trained.policy.processor.tokenizer
    counted = [len(tokenizer(gold_reply(s, GRAMMAR))["input_ids"]) + 1 for s in slides]
    assert lengths["cut_share"] == 1.0 and lengths["longest"] == max(counted) and lengths["num"] == 4
    strict = rl_stage(over_cap="refuse", max_new_tokens=max(counted) - 1)
    with pytest.raises(EosinError, match="cuts off"):
        rl.run(strict, stage(tmp_path / "rl", slides, trained.policy))


# 7. The loss mask includes the prompt's last token -------------------------------------------------------------------


def test_7_sft_is_on_the_reply_alone(slides: list[Sample]) -> None:
    loaded = new_reader()
    rows = rows_dataset(slides, sft_row(GRAMMAR, PROMPT), PicturesOf())  # type: ignore[arg-type]
    batch = MaskedCollator(loaded.processor)([rows[i] for i in range(4)])
    for i, sample in enumerate(slides):
        in_loss = batch["labels"][i] != NOT_IN_LOSS
        text = loaded.processor.tokenizer.decode(batch["input_ids"][i][in_loss])
        assert text.rstrip("\n") == gold_reply(sample, GRAMMAR) + "<|im_end|>"
        last_of_prompt = int(in_loss.nonzero()[0]) - 1
        before = loaded.processor.tokenizer.decode(batch["input_ids"][i][: last_of_prompt + 1])
        assert before.endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize("kind", KINDS)
def test_7_rl_is_on_the_completion_alone(slides: list[Sample], tmp_path: Path, kind: type[GroupTrainer]) -> None:
    """The loss of one rollout by hand: mean of advantage x ratio over its own tokens, none of the prompt's."""
    rows = group_rows(slides[:1], 2)
    trainer = slide_trainer(kind, tmp_path, rows, 2)
    fixed = [[30, 41, 52, trainer.eos_token_ids[0]], [33, trainer.eos_token_ids[0]]]
    trainer._generate_single_turn = lambda ids, *_a, **_k: (fixed[: len(ids)], None)
    seen: list[torch.Tensor] = []
    trainer.model.train()
    batch = trainer._generate_and_score_completions(rows)
    assert batch["completion_mask"].sum(1).tolist() == [4, 2] and batch["completion_ids"][1, :2].tolist() == fixed[1]
    assert loaded_decode(trainer, batch["prompt_ids"][0]).endswith("assistant\n")
    original = type(trainer)._get_per_token_logps_and_entropies

    def spy(self: Any, *args: Any, **kw: Any) -> Any:
        out = original(self, *args, **kw)
        seen.append(out[0].detach())
        return out

    if isinstance(trainer, SharedPrefixTrainer):
        batch["encoded_prompts"] = trainer._loss_prompts
    trainer._get_per_token_logps_and_entropies = spy.__get__(trainer)
    loss = trainer.compute_loss(trainer.model, batch)
    if seen:
        assert seen[-1].shape == batch["completion_ids"].shape
    gains = batch["advantages"]
    by_hand = -(4 * gains[0] + 2 * gains[1]) / 6  # the ratio is 1: DAPO's mean over the tokens of the batch
    assert loss.item() == pytest.approx(float(by_hand), abs=1e-5)


def loaded_decode(trainer: Any, ids: torch.Tensor) -> str:
    return str(trainer.processing_class.tokenizer.decode(ids))


# 8. Old and new log-probabilities under different dropout ------------------------------------------------------------


@pytest.mark.parametrize("lora", [None, Lora(r=2, dropout=0.5)], ids=["tower", "tower-and-lora"])
def test_8_dropout_is_off_in_both_passes(slides: list[Sample], tmp_path: Path, lora: Lora | None) -> None:
    """A tower with dropout and drop-path 0.4: the ratio before the first update is 1 all the same."""
    loaded = new_reader(tower={"dropout": 0.4, "embed_dropout": 0.4, "drop_path": 0.4})
    loaded.model.train()
    pixels = loaded.processor(images=[PicturesOf().get(slides[0])])
    twice = [loaded.model.slide_tokens(**pixels)[0].tokens for _ in range(2)]
    assert not torch.allclose(*twice)  # it does drop while SFT trains
    result = rl.run(rl_stage(lora=lora), stage(tmp_path / "rl", slides, loaded))
    assert result.extra["checks"]["ratio"] < 1e-5
    rows = store.read_jsonl(tmp_path / "rl" / "metrics.jsonl")
    assert rows[0]["clip_fraction"] == 0


# 9. Evaluation cannot parse its own answers --------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["letter_and_text", "text_and_letter", "text", "letter"])
def test_9_the_exam_reads_what_the_data_writes(slides: list[Sample], tmp_path: Path, form: Any) -> None:
    """A model that writes the gold replies of SFT has accuracy 1 and nothing unparsed."""
    from eosin.evaluate.exam.exam import run_exam

    gold = {s.id: gold_reply(s, GRAMMAR, form) for s in slides}

    def answer(request: Request) -> str:
        return next(text for id, text in gold.items() if request.id.startswith(id))

    found = run_exam(
        MockEngine(answer), slides, GRAMMAR, ExamSettings(probes=[]), tmp_path / "exam", read_region=SlideRegions()
    )
    assert found["accuracy"] == 1.0 and found["unparsed_rate"] == 0.0 and found["n"] == len(slides)


def test_9_a_model_taught_the_replies_is_read_by_the_exam(slides: list[Sample], tmp_path: Path) -> None:
    """Taught until it writes the gold reply, the model's own words parse: template, tokens and end are one."""
    from eosin.evaluate.exam.exam import run_exam

    short = [s.model_copy(update={"findings": "Necrosis.", "reasoning": ("So.",)}) for s in slides[:2]]
    model, processor = build_slide_reader([gold_reply(s, GRAMMAR, "letter") for s in short] * 4, slide_settings(), 0)
    loaded = Loaded(model, processor, "slide")
    ctx = stage(tmp_path / "sft", short, loaded, prompt=PromptSettings(instruction=False, answer="letter"))
    sft.run(SftStage(steps=50, batch_size=2, learning_rate=1e-2, log_every=60, save_every=1000), ctx)
    engine = TransformersEngine(load(tmp_path / "sft" / "checkpoint"))
    settings = ExamSettings(probes=[], max_new_tokens=80)
    found = run_exam(engine, short, GRAMMAR, settings, tmp_path / "exam", instruction=False, read_region=SlideRegions())
    assert found["unparsed_rate"] == 0.0 and found["accuracy"] == 1.0


# 10. No checkpoint is ever written -----------------------------------------------------------------------------------


def test_10_every_stage_leaves_a_whole_checkpoint_that_answers_as_the_model_does(trained: SimpleNamespace) -> None:
    for name in ("sft", "rl"):
        artifact = store.open_artifact(trained.at / name / "checkpoint", "checkpoint", verify=True)
        assert artifact.manifest["step"] > 0 and artifact.manifest["counts"]["parameters"] > 0
    again = load(trained.at / "rl" / "checkpoint")
    assert not moved(trained.rl, weights(again)) and moved(trained.sft, weights(again))
    sample = trained.slides[0]
    request = Request("a", prompt_messages(sample, GRAMMAR), tuple(PicturesOf().get(sample)))
    replies = [
        next(iter(TransformersEngine(one).generate([request], Decoding(max_new_tokens=12)))).text
        for one in (trained.policy, again)
    ]
    assert replies[0] == replies[1]
