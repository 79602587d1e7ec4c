"""Trajectory masking: the tokens of a reply never change, and exactly those before the cut are out of the loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.toys import toy_samples
from tests.train.conftest import new_model
from trl import SFTConfig, SFTTrainer

from eosin.core.errors import EosinError
from eosin.core.nouns.prompt import PromptSettings, gold_reply
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample
from eosin.core.settings.masking import Trajectory
from eosin.core.settings.stages import Lora, SftStage
from eosin.models.load import Loaded
from eosin.train.data import lengths
from eosin.train.data.collate import NOT_IN_LOSS, MaskedCollator, spans_in_loss, trim_padding
from eosin.train.data.rows import rows_dataset, sft_row
from eosin.train.masking.trajectory import cut_before, first_steps, rows_of_each, trajectory_rows, whole_rows
from eosin.train.stages import sft
from eosin.train.stages.base import StageContext

Make = Callable[..., StageContext]
SLIDES = Grammar.of("info/think/answer", numbered_steps=True)
PLAIN = Grammar.of("think/answer")
TEXT = PromptSettings(instruction=False, answer="text")


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return new_model()


def chain(steps: tuple[str, ...], findings: str = "Glands are crowded.") -> Sample:
    return toy_samples(1, "train")[0].model_copy(update={"reasoning": steps, "findings": findings})


def collated(loaded: Loaded, samples: list[Sample], grammar: Grammar, cuts: list[int], cap: int | None = None):  # type: ignore[no-untyped-def]
    from eosin.train.data.rows import ImageCache

    rows = rows_dataset(samples, sft_row(grammar, TEXT), ImageCache(None, 0.1), cuts=cuts)
    return MaskedCollator(loaded.processor, cap)([rows[i] for i in range(len(samples))])


def test_the_cut_stands_before_the_marker_of_the_step() -> None:
    sample = chain(("Nuclei are dark.", "Mitoses: 2. Not many.", "This is adenoma."))
    reply = gold_reply(sample, SLIDES, "text")
    assert cut_before(sample, SLIDES, "text", 1) == 0
    assert reply[cut_before(sample, SLIDES, "text", 2) :].startswith("2. Mitoses: 2. Not many.\n3. This")
    assert reply[cut_before(sample, SLIDES, "text", 3) :].startswith("3. This is adenoma.</think>")
    bare = gold_reply(sample, PLAIN, "text")
    assert bare[cut_before(sample, PLAIN, "text", 3) :].startswith("This is adenoma.</think>")
    with pytest.raises(EosinError, match="no such step"):
        cut_before(sample, SLIDES, "text", 4)


def test_text_that_is_escaped_for_the_model_moves_the_cut_with_it(loaded: Loaded) -> None:
    sample = chain(("One.", "Two.", "Three."), findings="Odd <|image_pad|> text <| here.")
    batch = collated(loaded, [sample], SLIDES, [cut_before(sample, SLIDES, "text", 2)])
    tokens, labels = trim_padding(batch, 0)
    assert loaded.processor.tokenizer.decode(tokens[labels != NOT_IN_LOSS]).startswith("2. Two.\n3. Three.</think>")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.text(alphabet="ab .,:1234\nµé字<|/", min_size=1, max_size=14), min_size=2, max_size=5),
    numbered=st.booleans(),
    data=st.data(),
)
def test_tokens_stay_and_the_loss_begins_at_the_cut(
    loaded: Loaded, steps: list[str], numbered: bool, data: st.DataObject
) -> None:
    grammar = Grammar.of("info/think/answer", numbered_steps=numbered)
    sample = chain(tuple(steps))
    first = data.draw(st.integers(2, len(steps)))
    cut = cut_before(sample, grammar, "text", first)
    batch = collated(loaded, [sample, sample], grammar, [0, cut])
    (whole, all_labels), (masked, labels) = (trim_padding(batch, i) for i in (0, 1))
    assert torch.equal(whole, masked)
    decode = loaded.processor.tokenizer.decode
    begin = int((all_labels != NOT_IN_LOSS).nonzero()[0])
    start = int((labels != NOT_IN_LOSS).nonzero()[0])
    assert torch.equal(labels[start:], whole[start:]) and torch.equal(all_labels[start:], labels[start:])
    reply = decode(whole[begin:])
    # context ends at or before the cut; with one token more it would go beyond it
    assert len(decode(whole[begin:start])) <= cut < len(decode(whole[begin : start + 1]))
    assert len(reply) >= cut


def test_a_token_over_the_cut_belongs_to_the_loss(loaded: Loaded) -> None:
    """Without markers a step begins behind a blank, and " This" is one token that straddles the cut."""
    sample = toy_samples(1, "train")[0]
    cut = cut_before(sample, PLAIN, "text", 2)
    tokens, labels = trim_padding(collated(loaded, [sample], PLAIN, [cut]), 0)
    in_loss = loaded.processor.tokenizer.decode(tokens[labels != NOT_IN_LOSS])
    assert in_loss.startswith(" This is red tissue.</think>")
    assert len(loaded.processor.tokenizer(" This", add_special_tokens=False)["input_ids"]) == 1


def test_a_cut_beyond_the_cap_leaves_a_row_without_loss_and_the_others_as_they_are(loaded: Loaded) -> None:
    sample = chain(("Nuclei are dark.", "There are mitoses.", "This is adenoma."))
    cuts = [0, cut_before(sample, SLIDES, "text", 3)]
    whole = collated(loaded, [sample, sample], SLIDES, cuts)
    cap = int((whole["labels"][1] != NOT_IN_LOSS).nonzero()[0]) - 2
    batch = collated(loaded, [sample, sample], SLIDES, cuts, cap)
    assert batch["labels"].shape[1] == cap
    assert (batch["labels"][1] == NOT_IN_LOSS).all() and (batch["labels"][0] != NOT_IN_LOSS).any()


def test_rows_of_different_lengths_and_rows_without_image_are_masked_alike(loaded: Loaded) -> None:
    long = chain(("Nuclei are dark and many.", "There are mitoses in every field.", "This is adenoma."))
    short = toy_samples(2, "train")[1]
    asked = {"role": "user", "parts": [{"type": "text", "text": "Which colour?"}]}
    blind = Sample.model_validate({**short.model_dump(), "images": (), "messages": [asked]})
    samples = [long, short, blind]
    batch = collated(loaded, samples, SLIDES, [cut_before(s, SLIDES, "text", 2) for s in samples])
    decode = loaded.processor.tokenizer.decode
    for i, sample in enumerate(samples):
        tokens, labels = trim_padding(batch, i)
        runs = spans_in_loss(labels)
        assert [r[2] for r in runs] == [False, True]  # context first, then loss to the end
        assert decode(tokens[runs[1][0] :]).startswith(f"2. {sample.reasoning[1]}")


def test_a_template_that_changes_the_reply_is_refused() -> None:
    own = new_model()
    template = own.processor.chat_template.replace("{{- part['text'] -}}", "{{- part['text'] | upper -}}")
    own.processor.chat_template = own.processor.tokenizer.chat_template = template
    sample = toy_samples(1, "train")[0]
    with pytest.raises(EosinError, match="changes the reply"):
        collated(own, [sample], PLAIN, [10])


def test_the_loss_is_that_of_the_equation(loaded: Loaded, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """loss_m = - sum over tokens behind the cut of log p, over their number; m = 1 is plain SFT."""
    sample = chain(("Nuclei are dark.", "There are mitoses.", "This is adenoma."))
    cuts = [cut_before(sample, SLIDES, "text", m) for m in (1, 2, 3)]
    args = SFTConfig(output_dir=str(tmp_path), use_cpu=True, report_to=[], max_length=None, bf16=False)
    rows = [{"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}],
             "images": []}]  # fmt: skip
    from datasets import Dataset

    trainer = SFTTrainer(
        model=loaded.model, args=args, train_dataset=Dataset.from_list(rows), processing_class=loaded.processor,
        data_collator=MaskedCollator(loaded.processor),
    )  # fmt: skip
    loaded.model.eval()
    for cut in cuts:
        batch = collated(loaded, [sample], SLIDES, [cut])
        with torch.no_grad():
            logits = loaded.model(**{k: v for k, v in batch.items() if k != "labels"}).logits[0]
            ours = trainer.compute_loss(loaded.model, dict(batch)).item()
        logps = torch.log_softmax(logits.float(), -1)
        tokens, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
        terms = [-logps[t - 1, tokens[t]].item() for t in range(1, len(tokens)) if labels[t] != NOT_IN_LOSS]
        assert ours == pytest.approx(sum(terms) / len(terms), rel=1e-4)


def test_balance_keeps_the_shares_of_chain_lengths() -> None:
    lengths_ = [2, 2, 2, 6]
    assert rows_of_each(lengths_, Trajectory(max_variants=None, balance=False)) == [2, 2, 2, 6]
    assert rows_of_each(lengths_, Trajectory(max_variants=4, balance=False)) == [2, 2, 2, 4]
    assert rows_of_each(lengths_, Trajectory(max_variants=None)) == [3, 3, 3, 3]
    samples = [chain(tuple(f"Step {k}." for k in range(n))).model_copy(update={"id": f"s{i}"})
               for i, n in enumerate(lengths_)]  # fmt: skip
    rows = trajectory_rows(samples, Trajectory(max_variants=None), SLIDES, "text")
    assert Counter(len(s.reasoning) for s in rows.samples) == {2: 9, 6: 3}
    assert rows.facts["num_rows"] == 12 and rows.facts["num_whole"] == 3 * 2 + 1
    assert sum(rows.facts["rows_by_first_step"].values()) == sum(rows.facts["rows_by_chain_length"].values()) == 12


@pytest.mark.parametrize("length", [1, 2, 5, 9])
@pytest.mark.parametrize("num", [1, 2, 4, 11])
def test_the_whole_reply_is_always_there_and_no_cut_comes_twice_before_all_came(length: int, num: int) -> None:
    drawn = first_steps("a", length, num, 0)
    assert len(drawn) == num and drawn[0] == 1 and set(drawn) <= set(range(1, length + 1))
    assert len(set(drawn[:length])) == min(num, length)
    assert drawn == first_steps("a", length, num, 0)


def test_other_seeds_and_samples_draw_other_cuts() -> None:
    draws = {tuple(first_steps(f"s{i}", 9, 4, seed)) for i in range(5) for seed in range(4)}
    assert len(draws) > 10


def test_whole_reply_cannot_be_left_out() -> None:
    with pytest.raises(ValueError, match="include_whole"):
        Trajectory.model_validate({"include_whole": False})


def test_trajectories_without_chains_are_refused() -> None:
    flat = [s.model_copy(update={"reasoning": ("One.",)}) for s in toy_samples(3, "train")]
    with pytest.raises(EosinError, match="need chains of steps"):
        trajectory_rows(flat, Trajectory(), SLIDES, "text")


def test_variants_of_a_case_stay_in_its_split_and_the_stage_counts_them(context: Make) -> None:
    """Variants are made at the stage, from the train split alone: the held-out rows are whole."""
    ctx = context("sft", num_train=12, num_valid=6)
    asked: dict[str, set[str | None]] = {"train": set(), "valid": set()}
    stage = SftStage(steps=1, batch_size=4, trajectory=Trajectory(max_variants=2), log_every=1)
    rows = sft.training_rows(stage, ctx)
    asked["train"] = {s.origin.group for s in rows.samples}
    asked["valid"] = {s.origin.group for s in ctx.valid}
    assert len(rows) == 24 and not asked["train"] & asked["valid"]
    result = sft.run(stage, ctx)
    assert result.extra["trajectory"]["num_rows"] == 24 and result.extra["trajectory"]["num_whole"] == 12
    assert result.extra["trajectory"]["rows_by_first_step"] == {"1": 12, "2": 12}


def test_masked_steps_teach_nothing_and_the_end_is_taught(context: Make) -> None:
    """Trained on second steps alone, the model learns the end of the reply and not its beginning."""
    ctx = context("ends", num_train=6)
    rows = whole_rows(ctx.train)
    late = replace(rows, cuts=[cut_before(s, ctx.grammar, "text", 2) for s in rows.samples])
    batch = collated(ctx.loaded, ctx.train[:3], ctx.grammar, late.cuts[:3])
    logits = ctx.loaded.model(**{k: v for k, v in batch.items() if k != "labels"}).logits
    logits.retain_grad()
    torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=NOT_IN_LOSS
    ).backward()
    moved = logits.grad[:, :-1].abs().sum(-1) > 0
    assert torch.equal(moved, batch["labels"][:, 1:] != NOT_IN_LOSS)


@pytest.mark.parametrize("lora", [None, Lora(r=2)], ids=["full", "lora"])
def test_a_stage_with_trajectories_and_a_cap_runs(context: Make, lora: Lora | None) -> None:
    ctx = context("cap", num_train=6)
    rows = rows_dataset(ctx.train, sft_row(ctx.grammar, ctx.prompt), ctx.pictures(0.1))
    longest = lengths.of_rows(rows, ctx.loaded, 10_000, 0).longest
    stage = SftStage(steps=1, batch_size=4, trajectory=Trajectory(), max_tokens=longest, lora=lora)
    result = sft.run(stage, ctx)
    assert result.extra["lengths"]["cut_share"] == 0 and result.extra["lengths"]["longest"] == longest
