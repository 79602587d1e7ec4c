"""A small attention MIL: the least that can find one patch among many.

Gated attention (Ilse, Tomczak and Welling 2018, arXiv 1802.04712, equation 9): h_k = relu(W x_k + b),
a_k = softmax_k(w^T (tanh(V h_k) * sigmoid(U h_k))), z = sum_k a_k h_k, classes = softmax(C z). With 112 features and
six classes 11,815 parameters. Cross-entropy, AdamW, dropout on h; the weights of the epoch with the lowest loss on the
valid split. Where there is no valid split, a fifth of the training groups stands in for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eosin.evaluate.baselines.problem import Floats, NotPossibleError, Order, Rows

if TYPE_CHECKING:
    from torch import Tensor, nn

HIDDEN, GATE = 64, 32
BATCH = 16
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-2
DROPOUT = 0.25
MAX_EPOCHS, PATIENCE = 120, 20
MAX_STEPS = 4000
SEED = 0


def attention_mil(train: Rows, valid: Rows, seen: list[Floats]) -> tuple[list[Order], dict[str, Any]]:
    """Train on bags (N_i, D), stop early on `valid`, and rank the classes for each of `seen`.

    Raises:
        NotPossibleError: torch is not installed.
    """
    try:
        import torch
    except ImportError:
        raise NotPossibleError("needs torch: pip install 'eosin[train]'") from None
    if not len(valid):
        train, valid = _held_out(train)
    names = sorted(set(train.y))
    whole = np.concatenate(train.X)
    mean, scale = whole.mean(axis=0), whole.std(axis=0) + 1e-6
    bags = [[torch.tensor((x - mean) / scale, dtype=torch.float32) for x in part] for part in (train.X, valid.X, seen)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = _network(whole.shape[1], len(names))
        epochs = _train(model, bags[0], _targets(train.y, names), bags[1], _targets(valid.y, names))
        with torch.no_grad():
            scores = torch.cat([model(*_padded(bags[2][i : i + BATCH])) for i in range(0, len(seen), BATCH)])
    orders = [[names[k] for k in row] for row in torch.argsort(-scores, dim=1, stable=True).tolist()]
    return orders, {"num_parameters": sum(p.numel() for p in model.parameters()), "num_epochs": epochs}


def _held_out(rows: Rows) -> tuple[Rows, Rows]:
    """Four fifths and one fifth of the groups, class by class in turn."""
    groups = list(dict.fromkeys(g for _, g in sorted(zip(rows.y, rows.groups, strict=True))))
    aside = set(groups[::5])

    def part(wanted: bool) -> Rows:
        take = [i for i, g in enumerate(rows.groups) if (g in aside) == wanted]
        return Rows([rows.X[i] for i in take], [rows.y[i] for i in take], [rows.groups[i] for i in take])

    kept = part(False)
    return (kept, part(True)) if len(set(kept.y)) > 1 else (rows, rows)


def _targets(y: list[str], names: list[str]) -> NDArray[np.int64]:
    """Numbers of the classes; -100 (no loss) for a class that the train split does not hold."""
    return np.array([names.index(name) if name in names else -100 for name in y], dtype=np.int64)


def _network(dim: int, num_classes: int) -> nn.Module:
    import torch
    from torch import nn

    class GatedAttention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Sequential(nn.Linear(dim, HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT))
            self.tanh, self.sigmoid = nn.Linear(HIDDEN, GATE), nn.Linear(HIDDEN, GATE)
            self.score = nn.Linear(GATE, 1)
            self.classify = nn.Linear(HIDDEN, num_classes)

        def forward(self, X: Tensor, is_patch: Tensor) -> Tensor:
            """X (B, N, D), is_patch (B, N): False where a bag is filled up. Scores (B, classes)."""
            h = self.embed(X)
            raw = self.score(torch.tanh(self.tanh(h)) * torch.sigmoid(self.sigmoid(h))).squeeze(-1)
            share = torch.softmax(raw.masked_fill(~is_patch, float("-inf")), dim=1)
            out: Tensor = self.classify((share.unsqueeze(-1) * h).sum(dim=1))
            return out

    return GatedAttention()


def _padded(bags: list[Tensor]) -> tuple[Tensor, Tensor]:
    import torch

    longest = max(len(b) for b in bags)
    X = torch.zeros(len(bags), longest, bags[0].shape[1])
    is_patch = torch.zeros(len(bags), longest, dtype=torch.bool)
    for i, bag in enumerate(bags):
        X[i, : len(bag)], is_patch[i, : len(bag)] = bag, True
    return X, is_patch


def _train(
    model: nn.Module, bags: list[Tensor], y: NDArray[np.int64], held: list[Tensor], held_y: NDArray[np.int64]
) -> int:
    """Train in place; the number of the epoch whose weights are kept."""
    import torch
    from torch.nn.functional import cross_entropy

    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    rng = np.random.default_rng(SEED)
    target, held_target = torch.from_numpy(y), torch.from_numpy(held_y)
    epochs = max(1, min(MAX_EPOCHS, MAX_STEPS * BATCH // len(bags)))
    best, best_loss, kept = 0, float("inf"), {k: v.clone() for k, v in model.state_dict().items()}
    for epoch in range(1, epochs + 1):
        model.train()
        order = rng.permutation(len(bags))
        for i in range(0, len(order), BATCH):
            take = order[i : i + BATCH]
            loss = cross_entropy(model(*_padded([bags[k] for k in take])), target[take])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        model.eval()
        with torch.no_grad():
            scores = torch.cat([model(*_padded(held[i : i + BATCH])) for i in range(0, len(held), BATCH)])
            held_loss = float(cross_entropy(scores, held_target))
        if held_loss < best_loss:
            best, best_loss, kept = epoch, held_loss, {k: v.clone() for k, v in model.state_dict().items()}
        elif epoch - best >= PATIENCE:
            break
    model.load_state_dict(kept)
    model.eval()
    return best
