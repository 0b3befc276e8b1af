"""fuxictr: its trainer, loader, embeddings and MLPs. Its models are in its repository, not in its wheel: its parts make the MMoE here."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders.npz_dataloader import NpzDataLoader
from fuxictr.pytorch.layers import FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import MultiTaskModel
from torch import Tensor, nn
from worker import Setting, quiet, serve, setting, threads

READY, NEVER = 8, 1 << 60
TASKS = ("a", "b")


class Mixing(MultiTaskModel):
    """Experts and gates over one embedding, a tower a task, of the library's own parts."""

    def __init__(self, setting: Setting, fields: FeatureMap) -> None:
        kinds = ["binary_classification"] * len(TASKS)
        super().__init__(fields, task=kinds, num_tasks=len(TASKS), verbose=0, model_root="", metrics=["AUC"])
        width, (*hidden, out) = len(fields.features) * setting.dim, setting.expert
        self.embedding = FeatureEmbedding(fields, setting.dim)
        self.experts = nn.ModuleList(MLP_Block(width, [*hidden, out]) for _ in range(setting.experts))
        self.gates = nn.ModuleList(MLP_Block(width, output_dim=setting.experts) for _ in TASKS)
        self.towers = nn.ModuleList(MLP_Block(out, list(setting.tower), output_dim=1) for _ in TASKS)
        self.compile("adam", ["binary_cross_entropy"] * len(TASKS), 1e-3)
        self.reset_parameters()

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The chances of both tasks."""
        read = self.embedding(self.get_inputs(inputs), flatten_emb=True)
        every = torch.stack([expert(read) for expert in self.experts], 1)
        found = {}
        for task, gate, tower, squash in zip(TASKS, self.gates, self.towers, self.output_activation, strict=True):
            mixed = (gate(read).softmax(1).unsqueeze(2) * every).sum(1)
            found[f"{task}_pred"] = squash(tower(mixed))
        return found


class Fuxictr:
    """Its trainer's own epoch, over its own loader or over batches that are ready."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        fields = FeatureMap("rows", str(folder))
        names = [f"c{column}" for column in range(setting.codes.shape[1])]
        fields.features.update({name: {"type": "categorical", "source": "", "vocab_size": setting.ids + 1} for name in names})
        fields.labels = list(TASKS)
        fields.set_column_index()
        np.savez(folder / "rows.npz", **dict(zip((*names, *TASKS), (*setting.codes.T, *setting.labels.T), strict=True)))
        self.model = Mixing(setting, fields)
        self.loader = NpzDataLoader(fields, str(folder / "rows.npz"), batch_size=setting.batch, shuffle=True, num_workers=0)
        self.ready = [batch for _, batch in zip(range(READY), self.loader, strict=False)]
        self.size, self.rows = setting.batch, len(setting.labels)
        # what its `fit` sets before the first epoch; without validation rows it must never judge
        self.model._max_gradient_norm, self.model._total_steps = 10.0, 0
        self.model._eval_steps, self.model._stop_training = NEVER, False

    def load(self) -> int:
        """Draw every batch."""
        for _ in self.loader:
            pass
        return self.rows

    def step(self) -> int:
        """Its epoch over ready batches."""
        self.model.train_epoch(self.ready)
        return len(self.ready) * self.size

    def whole(self) -> int:
        """Its epoch over its loader."""
        self.model.train_epoch(self.loader)
        return self.rows


if __name__ == "__main__":
    answers = quiet()
    threads()
    serve(Fuxictr(setting(Path(sys.argv[1])), Path(sys.argv[1])), answers)
