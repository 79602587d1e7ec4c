"""The tools of scoring from settings: encoder, CLIP, graph and judge; and what is tried before a first step."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support.judge_stub import JudgeStub, running_stub
from tests.support.judged_runs import names_the_colour
from tests.support.tiny_encoder import WORDS, word_tokenizer, write_encoder
from transformers import BertModel, CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Scored
from eosin.core.nouns.reply import Grammar
from eosin.core.settings.scoring import JudgeServer, Price, ScoringSettings
from eosin.scoring import Resources, RewardSet, ScoreContext, ScoreItem, Term, load_rewards
from eosin.scoring.adapters.ahead import Ahead
from eosin.scoring.judge.model import GIVEN_UP, Breaker
from eosin.scoring.resources.build import judge_settings, tools_of
from eosin.scoring.resources.clip import ClipCosine
from eosin.scoring.resources.encoder import SentenceEncoder
from eosin.scoring.resources.preflight import try_tools
from eosin.scoring.sets.by_source import departures, load_source_rewards
from eosin.scoring.sets.compose import Outcome, Weighted
from eosin.scoring.sets.rates import judge_and_rules


@pytest.fixture
def stub() -> Iterator[JudgeStub]:
    with running_stub() as server:
        yield server


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder") / "tiny-bert")


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip") / "tiny-clip"
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**small, "vocab_size": len(WORDS), "max_position_embeddings": 16, "eos_token_id": 9,
                     "bos_token_id": 8, "pad_token_id": 0},
        vision_config={**small, "image_size": 32, "patch_size": 16}, projection_dim=8,
    )  # fmt: skip
    CLIPModel(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size)
    CLIPProcessor(images, word_tokenizer(bos_token="<s>", eos_token="</s>")).save_pretrained(folder)
    return folder


def test_an_encoder_gives_the_mean_of_its_tokens_and_asks_once_a_text(encoder_folder: Path) -> None:
    encode = SentenceEncoder(str(encoder_folder))
    texts = ["gland of the colon", "necrosis"]
    found = encode(texts)
    assert found.shape == (2, 16) and encode.label == "tiny-bert"
    model = BertModel.from_pretrained(encoder_folder).eval()
    with torch.no_grad():  # by hand: ids of the words, no padding
        wanted = [
            model(torch.tensor([[WORDS.index(w) for w in t.split()]])).last_hidden_state.mean(1)[0] for t in texts
        ]
    np.testing.assert_allclose(found, torch.stack(wanted).numpy(), atol=1e-5)
    encode._model = None  # a text that is remembered needs no model
    encode.load = lambda: None  # type: ignore[method-assign]
    np.testing.assert_array_equal(encode(texts[::-1]), found[::-1])


def test_an_encoder_pools_as_its_folder_says(encoder_folder: Path, tmp_path: Path) -> None:
    import shutil

    first = tmp_path / "first"
    shutil.copytree(encoder_folder, first)
    (first / "1_Pooling").mkdir()
    pooling = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (first / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    mean, cls = SentenceEncoder(str(encoder_folder))(["gland of"]), SentenceEncoder(str(first))(["gland of"])
    assert np.abs(mean - cls).max() > 1e-3
    (first / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(EosinError, match="kind of pooling"):
        SentenceEncoder(str(first))(["gland"])
    (first / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(EosinError, match="layer after the pooling"):
        SentenceEncoder(str(first))(["gland"])


def test_the_encoder_of_a_recipe_gives_the_semantic_term(encoder_folder: Path) -> None:
    settings = ScoringSettings(encoder=str(encoder_folder))
    rewards = load_rewards("pathreasoner-r1", **tools_of(settings).as_injected())
    assert rewards.label == "pathreasoner-r1+{semantic=encoder}"
    item = ScoreItem(id="1", reply="<think>x</think><answer>necrosis</answer>", question="?", answer="necrosis")
    scored = rewards.score(item)
    assert scored.terms["semantic"] == pytest.approx(1.0) and "tiny-bert" in str(scored.events["semantic"]["by"])
    assert try_tools(rewards, settings, "stages.rl") == ["sentence encoder tiny-bert: loaded, 16 numbers a text"]


class SilentJudge:
    """Stands for a judge where nothing is asked."""

    model = "silent"


def test_an_encoder_beside_a_judge_is_tried_because_the_entity_term_uses_it(
    encoder_folder: Path, tmp_path: Path
) -> None:
    """The answer is then read by the judge; the similarity of names is the encoder's, and trigrams without one."""
    settings = ScoringSettings(encoder=str(encoder_folder))
    tools = {**tools_of(settings).as_injected(), "judge": SilentJudge()}
    rewards = load_rewards("pathreasoner-r1", **tools)
    assert rewards.label == "pathreasoner-r1"
    assert try_tools(rewards, settings, "stages.rl") == ["sentence encoder tiny-bert: loaded, 16 numbers a text"]
    assert try_tools(load_rewards("eosin", **tools), settings, "stages.rl")
    assert not try_tools(load_rewards("accuracy", **tools), settings, "stages.rl")
    without = load_rewards("pathreasoner-r1", judge=SilentJudge())
    assert without.label == "pathreasoner-r1+{similarity=trigrams}"
    assert departures(without) == ["pathreasoner-r1: similarity=trigrams"]
    assert load_rewards({"name": "pathreasoner-r1", "dice": "hard"}, judge=SilentJudge()).label.endswith("{dice=hard}")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    broken = ScoringSettings(encoder=str(tmp_path))
    rewards = load_rewards("pathreasoner-r1", judge=SilentJudge(), **tools_of(broken).as_injected())
    with pytest.raises(EosinError, match="sentence encoder cannot be loaded"):
        try_tools(rewards, broken, "stages.rl")


def test_clip_gives_a_cosine_a_sentence(clip_folder: Path) -> None:
    settings = ScoringSettings(clip=str(clip_folder))
    resources = tools_of(settings)
    image = Image.new("RGB", (40, 60), (200, 30, 90))
    assert resources.clip is not None
    cosines = list(resources.clip(image, ["gland", "necrosis of the colon"]))
    assert len(cosines) == 2 and all(-1 <= c <= 1 for c in cosines) and cosines[0] != cosines[1]
    assert list(resources.clip(image, ["gland"])) == pytest.approx(cosines[:1], abs=1e-5)
    rewards = load_rewards("clip", **resources.as_injected())
    assert try_tools(rewards, settings, "stages.rl") == ["CLIP tiny-clip: loaded"]


def test_open_clip_by_name_and_weights(tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip")
    model = open_clip.create_model("ViT-S-32-alt")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    clip = ClipCosine(f"open_clip:ViT-S-32-alt@{tmp_path / 'weights.pt'}")
    cosines = clip(Image.new("RGB", (224, 224), (200, 30, 90)), ["gland"])
    assert len(cosines) == 1 and -1 <= cosines[0] <= 1


def test_a_folder_that_is_no_clip_is_refused(encoder_folder: Path) -> None:
    rewards = load_rewards("clip", clip=ClipCosine(str(encoder_folder)))
    with pytest.raises(EosinError) as caught:
        try_tools(rewards, ScoringSettings(clip=str(encoder_folder)), "stages.rl")
    assert caught.value.where in ("stages.rl.scoring.clip", str(encoder_folder))


def test_limits_are_shared_among_processes(tmp_path: Path) -> None:
    server = JudgeServer(
        url="http://host:1/v1", model="a", max_in_flight=8, max_calls=100, max_cost=2.0,
        prices=Price(input=1.0, output=2.0), answers_as="a-2024",
    )  # fmt: skip
    whole, half = judge_settings(server, tmp_path), judge_settings(server, tmp_path, shares=2)
    assert (whole.concurrency, whole.max_calls, whole.max_cost) == (8, 100, 2.0)
    assert (half.concurrency, half.max_calls, half.max_cost) == (4, 50, 1.0)
    assert (whole.price_in, whole.price_out, whole.answers_as) == (1.0, 2.0, "a-2024")
    assert judge_settings(server.model_copy(update={"answers_as": "any"})).answers_as is None
    assert judge_settings(server.model_copy(update={"answers_as": None})).answers_as == "a"


def test_judges_are_the_same_by_model_and_address() -> None:
    one = JudgeServer(url="http://host:1/v1/", model="a")
    assert one.is_same(JudgeServer(url="http://host:1/v1/chat/completions", model="a", timeout_s=3))
    assert not one.is_same(JudgeServer(url="http://host:1/v1", model="b")) and not one.is_same(None)


def test_replies_begun_early_score_as_all_at_once(stub: JudgeStub) -> None:
    stub.delay_s = 0.05
    server = JudgeServer(url=stub.url, model="stub", backoff_s=0.01, max_in_flight=4)

    def rewards() -> Any:
        resources = tools_of(ScoringSettings(judge=server)).as_injected()
        return load_source_rewards({"a": "pathvlm-r1", "b": [{"name": "format"}]}, "think/answer", **resources)

    texts = [f"<think>I see {i % 4} glands here.</think><answer>A. necrosis</answer>" for i in range(10)]
    items = [
        ScoreItem(str(i % 5), t, "?", {"A": "necrosis", "B": "mucin"}, "A", source="ab"[i % 2])
        for i, t in enumerate(texts)
    ]
    plain = rewards().score_batch(items)
    ahead = Ahead(rewards())
    ahead.begin(items[3:6])
    ahead.begin(items[:6])  # those in the middle are begun already
    assert ahead.num_begun == 6
    found = ahead.take(items)
    assert [(o.total, o.terms) for o in found] == [(o.total, o.terms) for o in plain]
    assert ahead.num_begun == 0 and ahead.waited_s > 0
    ahead.begin(items[:2])
    ahead.forget()
    assert ahead.num_begun == 0


def test_an_outage_is_not_waited_for_once_a_reply(stub: JudgeStub) -> None:
    stub.always = 503
    server = JudgeServer(url=stub.url, model="stub", retries=0, backoff_s=0.0, max_in_flight=2)
    rewards = load_rewards("checklist", **tools_of(ScoringSettings(judge=server)).as_injected())
    items = [ScoreItem(str(i), f"<think>I see {i} glands here.</think><answer>A</answer>", "?") for i in range(20)]
    reasons = [o.unscored["checklist"] for o in rewards.score_batch(items)]
    assert sum("503" in r for r in reasons) == len(stub.requests) < 12
    assert sum(GIVEN_UP in r for r in reasons) == 20 - len(stub.requests)
    stub.always = None
    assert rewards.score(items[0]).total is not None  # one question tries again, and the outage is over
    assert all(o.total is not None for o in rewards.score_batch(items))


def test_a_term_that_fails_while_it_waits_is_unscored() -> None:
    class Broken(Term):
        name = "broken"

        def uses_server(self, resources: Resources) -> bool:
            return True

        def score(self, context: ScoreContext) -> Scored:
            return Scored(1.0)

        async def ascore(self, context: ScoreContext) -> Scored:
            raise KeyError("no such thing")

    rewards = RewardSet("mine", (Weighted("broken", Broken(), 1.0),), Grammar.of("think/answer"))
    outcome = rewards.score(ScoreItem("1", "anything"))
    assert outcome.total is None and outcome.unscored == {"broken": "the reward failed: KeyError: 'no such thing'"}


def test_the_breaker_lets_one_question_through() -> None:
    breaker = Breaker(2)
    for _ in range(3):  # the third was asked before the second failed
        breaker.told("timed out (after 5 attempts)", "yes")
    assert [breaker.admits() for _ in range(3)] == ["as a try", "no", "no"]
    breaker.told("timed out (after 5 attempts)", "yes")
    assert breaker.admits() == "no"
    breaker.told("no connection (ConnectError)", "as a try")
    assert [breaker.admits() for _ in range(2)] == ["as a try", "no"]
    breaker.told(None, "as a try")
    assert [breaker.admits() for _ in range(3)] == ["yes"] * 3
    breaker.told("the verdict does not fit its schema", "yes")  # an answer, if a bad one: no outage
    assert breaker.admits() == "yes"


@pytest.mark.parametrize(
    ("always", "told"),
    [(names_the_colour("other"), "answers_as: other"), ("unquoted", "not in the form"), (None, None),
     (names_the_colour(None), None)],
)  # fmt: skip
def test_the_judge_is_tried_with_the_schemas_that_it_will_be_asked(stub: JudgeStub, always: Any, told: Any) -> None:
    stub.always = always
    settings = ScoringSettings(judge=JudgeServer(url=stub.url, model="stub", retries=0, timeout_s=5))
    rewards = load_rewards(["checklist", "semantic"], **tools_of(settings).as_injected())
    if told:
        with pytest.raises(EosinError, match=told):
            try_tools(rewards, settings, "stages.rl")
        return
    lines = try_tools(rewards, settings, "stages.rl")
    assert lines == ["judge stub: the server does not say which model answers"]
    names = {r["response_format"]["json_schema"]["name"] for r in stub.requests}
    assert names == {"ChecklistVerdict", "GradeVerdict"}
    assert any(p["type"] == "image_url" for p in stub.requests[0]["messages"][1]["content"])


def test_departures_from_a_paper_are_named() -> None:
    assert departures(load_rewards("pathvlm-r1")) == ["pathvlm-r1: process=rules"]
    assert departures(load_rewards("patho-r1-grpo")) == []
    assert departures(load_rewards([{"name": "accuracy"}])) == []
    by_source = load_source_rewards({"a": [{"name": "patho-r1-grpo", "gate": "both"}], "b": "eosin"}, "think/answer")
    assert departures(by_source) == ["patho-r1-grpo: gate=both"]


def test_agreement_by_hand() -> None:
    """Four replies: both, judge only, neither, neither. Agreement 3/4, chance 1/2 x 1/4 + 1/2 x 3/4, so kappa 1/2."""
    pairs = [(True, True), (True, False), (False, False), (False, False)]
    rows = [
        Outcome(1.0, {"c": 1.0}, {}, {"c": {"by": "j", "seen": {"happened": j}, "rules": {"seen": r}}})
        for j, r in pairs
    ]
    found = judge_and_rules(rows)["c.seen"]
    assert found == {"n": 4, "judge": 0.5, "rules": 0.25, "both": 0.25, "agree": 0.75, "kappa": 0.5}
    assert judge_and_rules([Outcome(None, {"c": None}, {"c": "judge: timed out"})]) == {}


@pytest.mark.parametrize(("weights", "quick"), [("openai", True), ("laion2b_s34b_b88k", False)])
def test_openai_s_clip_scores_with_its_own_activation(
    monkeypatch: pytest.MonkeyPatch, weights: str, quick: bool
) -> None:
    """open_clip takes OpenAI's weights for ViT-B-16 with another activation, and only warns: cosines were others."""
    open_clip = pytest.importorskip("open_clip")
    asked: dict[str, object] = {}

    def create(name: str, **options: object) -> tuple[torch.nn.Module, object]:
        asked.update(options)
        return torch.nn.Identity(), None

    monkeypatch.setattr(open_clip, "create_model_from_pretrained", create)
    ClipCosine(f"open_clip:ViT-B-16@{weights}").load()
    assert asked["pretrained"] == weights and asked["force_quick_gelu"] is quick
