"""deepctr-torch: its MMOE and its `fit`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from deepctr_torch.inputs import SparseFeat
from deepctr_torch.models import basemodel
from deepctr_torch.models.multitask import MMOE
from torch.utils.data import DataLoader, TensorDataset
from worker import Setting, quiet, serve, setting, threads

READY = 8


class Deepctr:
    """Its own `fit`, over its own loader or over batches that are ready."""

    def __init__(self, setting: Setting) -> None:
        names = [f"c{column}" for column in range(setting.codes.shape[1])]
        columns = [SparseFeat(name, setting.ids + 1, embedding_dim=setting.dim) for name in names]
        self.model = MMOE(columns, setting.experts, setting.expert, gate_dnn_hidden_units=(), tower_dnn_hidden_units=setting.tower,
                          task_types=["binary"] * 2, task_names=["a", "b"])
        self.model.compile("adam", loss=["binary_crossentropy"] * 2, metrics=[])
        self.fields = {name: setting.codes[:, column] for column, name in enumerate(names)}
        self.labels = setting.labels
        self.size = setting.batch
        dataset = TensorDataset(torch.from_numpy(setting.codes), torch.from_numpy(setting.labels))
        self.loader = DataLoader(dataset, shuffle=True, batch_size=setting.batch)
        self.ready = [batch for _, batch in zip(range(READY), self.loader, strict=False)]
        self.made = basemodel.DataLoader

    def load(self) -> int:
        """Draw every batch as its `fit` does."""
        for _ in self.loader:
            pass
        return len(self.labels)

    def step(self) -> int:
        """Its `fit` over ready batches, put where it would make a loader."""
        rows = len(self.ready) * self.size
        basemodel.DataLoader = lambda dataset, shuffle, batch_size: self.ready
        self.model.fit({name: column[:rows] for name, column in self.fields.items()}, self.labels[:rows], batch_size=self.size, verbose=0)
        return rows

    def whole(self) -> int:
        """Its `fit`."""
        basemodel.DataLoader = self.made
        self.model.fit(dict(self.fields), self.labels, batch_size=self.size, verbose=0)
        return len(self.labels)


if __name__ == "__main__":
    answers = quiet()
    threads()
    serve(Deepctr(setting(Path(sys.argv[1]))), answers)
