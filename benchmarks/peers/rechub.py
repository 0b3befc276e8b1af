"""torch-rechub: its MMOE, its trainer, its data generator."""

from __future__ import annotations

import sys
from pathlib import Path

from torch.utils.data import DataLoader
from torch_rechub.basic.features import SparseFeature
from torch_rechub.models.multi_task import MMOE
from torch_rechub.trainers import MTLTrainer
from torch_rechub.utils.data import DataGenerator
from worker import Setting, quiet, serve, setting, threads

READY = 8


class Rechub:
    """Its trainer's own epoch, over its own loader or over batches that are ready."""

    def __init__(self, setting: Setting) -> None:
        features = [SparseFeature(f"c{column}", setting.ids + 1, embed_dim=setting.dim) for column in range(setting.codes.shape[1])]
        tower = {"dims": list(setting.tower)}
        model = MMOE(features, ["classification"] * 2, setting.experts, {"dims": list(setting.expert)}, [tower, tower])
        self.trainer = MTLTrainer(model, ["classification"] * 2)
        few = ({feature.name: setting.codes[:4, column] for column, feature in enumerate(features)}, setting.labels[:4])
        rows = {feature.name: setting.codes[:, column] for column, feature in enumerate(features)}
        generator = DataGenerator(rows, setting.labels)
        self.loader: DataLoader[object] = generator.generate_dataloader(*few, *few, batch_size=setting.batch)[0]
        self.ready = [batch for _, batch in zip(range(READY), self.loader, strict=False)]
        self.size = setting.batch
        self.rows = len(setting.labels)

    def load(self) -> int:
        """Draw every batch."""
        for _ in self.loader:
            pass
        return self.rows

    def step(self) -> int:
        """Its epoch over ready batches."""
        self.trainer.train_one_epoch(self.ready)
        return len(self.ready) * self.size

    def whole(self) -> int:
        """Its epoch over its loader."""
        self.trainer.train_one_epoch(self.loader)
        return self.rows


if __name__ == "__main__":
    answers = quiet()
    threads()
    serve(Rechub(setting(Path(sys.argv[1]))), answers)
