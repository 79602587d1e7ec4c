"""The head that scores positions with a label alone, against TRL's, which on a CPU scores all of them."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
from tests.train.conftest import new_model
from trl.trainer import utils
from trl.trainer.utils import add_fused_lm_head

from eosin.core.errors import EosinError
from eosin.engines.reply_automaton import ReplyAutomaton
from eosin.train import label_head
from eosin.train.label_head import score_labels_alone, why_not

OUTPUTS = ("log_probs", "entropy", "is_top1")


def batch(rows: int = 3, length: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids, and labels of the last few of each row; the last row has none."""
    torch.manual_seed(0)
    ids = torch.randint(20, 300, (rows, length))
    labels = ids.clone()
    for i in range(rows):
        labels[i, : 4 + 2 * i] = -100
    labels[-1] = -100
    return ids, labels


@pytest.mark.parametrize("piece", [2, 512])
@pytest.mark.parametrize("shifted", [False, True])
def test_values_and_gradients_are_those_of_trl(monkeypatch: pytest.MonkeyPatch, piece: int, shifted: bool) -> None:
    monkeypatch.setattr(label_head, "PIECE", piece)
    plain = new_model().model.train()
    own = copy.deepcopy(plain)
    for model in (plain, own):
        add_fused_lm_head(model, temperature=0.7, outputs=OUTPUTS)
    score_labels_alone(own, 0.7)
    ids, labels = batch()
    asked = {"shift_labels": torch.roll(labels, -1, 1)} if shifted else {"labels": labels}
    found = [m(input_ids=ids, fused_lm_head=True, **asked) for m in (plain, own)]
    for name in ("log_probs", "entropy"):
        a, b = (getattr(f, name) for f in found)
        assert a.shape == b.shape and torch.allclose(a, b, atol=1e-5), name
    assert torch.equal(found[0].is_top1.bool(), found[1].is_top1) and torch.equal(
        found[0].label_mask, found[1].label_mask
    )
    assert float(found[0].loss) == pytest.approx(float(found[1].loss), rel=1e-5)
    for out in found:
        (out.log_probs * torch.arange(out.log_probs.shape[1])).sum().backward()
    pairs = list(zip(plain.named_parameters(), own.parameters(), strict=True))
    moved = [(n, p.grad, q.grad) for (n, p), q in pairs if p.grad is not None and p.grad.norm() > 0]
    assert len(moved) > 10
    for name, a, b in moved:
        assert b is not None and float((a - b).norm() / a.norm()) < 1e-4, name


def test_a_batch_without_labels_has_a_loss_of_zero_and_a_gradient() -> None:
    model = new_model().model
    add_fused_lm_head(model, outputs=OUTPUTS)
    score_labels_alone(model)
    ids, labels = batch()
    out = model(input_ids=ids, labels=torch.full_like(labels, -100), fused_lm_head=True)
    assert float(out.loss) == 0.0
    out.loss.backward()
    assert all(float(p.grad.norm()) == 0.0 for p in model.parameters() if p.grad is not None)


def test_only_positions_with_a_label_are_projected() -> None:
    model = new_model().model
    add_fused_lm_head(model, outputs=OUTPUTS)
    score_labels_alone(model)
    rows: list[int] = []
    model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    ids, labels = batch()
    model(input_ids=ids, labels=labels, fused_lm_head=True)
    assert sum(rows) == int((labels[:, 1:] >= 0).sum())


def test_other_calls_go_through() -> None:
    model = new_model().model.eval()
    ids, labels = batch()
    before = model(input_ids=ids).logits
    loss = model(input_ids=ids, labels=labels).loss
    add_fused_lm_head(model, outputs=OUTPUTS)
    score_labels_alone(model)
    assert torch.allclose(model(input_ids=ids).logits, before, atol=1e-6)
    assert float(model(input_ids=ids, labels=labels).loss) == pytest.approx(float(loss), rel=1e-5)
    assert model.generate(ids[:1], max_new_tokens=2, do_sample=False).shape == (1, 11)


def test_models_that_scale_their_logits_keep_trls_head() -> None:
    model = new_model().model
    model.config.get_text_config().logit_scale = 0.5
    assert "logit_scale" in (why_not(model) or "")
    own = model.forward
    score_labels_alone(model)
    assert model.forward == own
    with pytest.raises(EosinError, match="cannot be held"):
        score_labels_alone(model, held=ReplyAutomaton(torch.ones(1, 1), torch.zeros(1, 1), "x"))


def test_what_trl_does_is_what_it_did() -> None:
    """A failure here says: read the new source; this head must give the fields that TRL's gives."""
    text = inspect.getsource(add_fused_lm_head)
    assert "compact = _use_triton(hidden_states.device)" in text  # on a CPU every position is scored
    assert "labels = labels[:, 1:]" in text and "getattr(self, backbone_attr)(*args, **kwargs)" in text
    for name in label_head._SCALES:
        assert name in text
    fields = set(utils.FusedCausalLMOutput.__dataclass_fields__)
    assert {"loss", "log_probs", "entropy", "is_top1", "label_mask", "aux_loss"} <= fields
