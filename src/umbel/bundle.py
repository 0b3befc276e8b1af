"""A model to take away: everything that turns raw rows into calibrated predictions, verified when it is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from umbel import durable
from umbel.built import Built as Built
from umbel.data.batch import Batch
from umbel.data.derive import needed
from umbel.data.groups import without_nan
from umbel.data.raw import encoded
from umbel.data.raw import rows as raw_rows
from umbel.data.source import Source
from umbel.data.vocab import Encoder
from umbel.errors import UserError
from umbel.evaluate.calibrate import Calibrator, from_json, to_json
from umbel.evaluate.drift import Profile
from umbel.evaluate.judge import calibrate_all, marginals
from umbel.feedback import Feedback
from umbel.feedback import from_json as read_feedback
from umbel.fusion import Fusion
from umbel.fusion import read as read_fusion
from umbel.kinds import BINARY
from umbel.learn.ladder import Ladder, UserState
from umbel.learn.predict import lowered, predict
from umbel.manifest import read_json, seal, verify
from umbel.nn.recommender import Recommender
from umbel.retrieve.retrieval import ABOUT, Retrieval
from umbel.schema import Schema

GOLDEN = 32          # raw rows kept with their predictions
TOLERANCE = 1e-6     # on predictions, same runtime
CENTRE = "centre"
PROFILE = "profile.json"
FUSION, FEEDBACK = "fusion.json", "feedback.json"
SIZE = 4096          # rows scored at a time


@dataclass(frozen=True, slots=True)
class Bundle:
    """A trained model with all that scoring needs.

    `columns` of predictions: one a task, named TASK (the conditional where the task is `given` another), or one an answer of
    its kind, named TASK_ANSWER (`watch_q50`, `stars_4`); and the marginal of each binary task that is given another, TASK_marginal.
    `centre` is the mean training row as the views see it, which rows are explained against; None where it was not kept.
    `profile` is how its training rows and predictions were spread, for monitoring; `retrieval`, of a run with `[retrieval]`, brings
    candidates out of all items; `ladder`, of a run with `[episodes]`, is how the
    model becomes a new user's own.

    Example
    -------
    ``Bundle.load("runs/a/bundle").answer(pl.read_parquet("today.parquet"))``
    """

    source: Source
    encoder: Encoder
    built: Built
    model: Recommender
    calibrators: Mapping[str, Calibrator]
    report: Mapping[str, object]
    centre: Float[Tensor, "views fields dim"] | None = None
    fusion: Fusion | None = None
    ladder: Ladder | None = None
    feedback: Feedback | None = None
    profile: Profile | None = None
    retrieval: Retrieval | None = None

    @property
    def schema(self) -> Schema:
        """The fields it reads and the tasks it answers."""
        return self.encoder.schema

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the predictions, in order."""
        own = [f"{task.name}_{answer}" if answer else task.name for task in self.schema.tasks for answer in task.kind.answers]
        return (*own, *(f"{name}_marginal" for name in chained(self.schema)))

    def answer(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Calibrated predictions of raw rows that hold every column the fields read, joined ones too: one of `columns` each, row by row.

        :raises UserError: for a missing column.
        """
        needed(self.schema, Source("these rows"), rows.columns, labels=False)
        scores = self.predict(encoded(rows, self.encoder))
        return pl.DataFrame({name: scores[:, at] for at, name in enumerate(self.columns)})

    def predict(self, batch: Batch, state: UserState | None = None) -> Float[np.ndarray, "rows columns"]:
        """Calibrated predictions of encoded rows; by the `state` of the one user whose rows they are, if it is given."""
        if state is None or self.ladder is None:
            return self.calibrated(predict(self.model, [batch]))
        with torch.inference_mode():
            return self.calibrated(lowered(self.schema, self.ladder.answer(self.model, batch.fields, state).numpy()))

    def adapt(self, rows: pl.DataFrame) -> UserState:
        """What is one user's own, from raw rows of that user with their labels; the bundle stays as it is, whoever asks at once.

        Rows hold every column that fields and labels read, joined ones too. No rows give the shared model, bit for bit.

        :raises UserError: for a bundle without a ladder, rows of several users, a missing column, or a label out of its range.
        """
        if self.ladder is None:
            raise UserError("bundle: has no ladder", mend="train it with [episodes] in the run file")
        name = self.source.user
        users = 1 if name is None or name not in rows.columns else without_nan(rows[name]).drop_nulls().n_unique()
        if users > 1:
            raise UserError(f"bundle: rows of {users:,} users in column {name!r}", mend="adapt one user at a time")
        support = encoded(rows, self.encoder, labels=True)
        return self.ladder.adapt(self.model, support, trained=self._trained(support))

    def _trained(self, support: Batch) -> int:
        """How many training rows the user of these rows had; 0 for one whom no episode read by id, and who is as unknown."""
        name = None if self.ladder is None else self.ladder.user
        if name is None or not len(support.index):
            return 0
        code, start = int(support.fields[name][0]), self.model.places.span(name).start
        if self.model.table[start + code].equal(self.model.table[start]):
            return 0
        return int(self.encoder.vocabularies[self.schema.field(name).table].counts(name)[code])

    def calibrated(self, logits: Float[np.ndarray, "rows outputs"]) -> Float[np.ndarray, "rows columns"]:
        """The predictions that logits come to."""
        given = calibrate_all(self.schema, logits, self.calibrators)
        whole = [marginals(self.schema, given, name)[:, None] for name in chained(self.schema)]
        return np.concatenate([given, *whole], axis=1)

    def score(self, source: Source, size: int = SIZE) -> Iterator[tuple[pl.DataFrame, Float[np.ndarray, "rows columns"]]]:
        """Raw rows with their calibrated predictions, in the order of the log, `size` rows at a time; labels are not read."""
        for frame, batch in raw_rows(source, self.encoder, size, labels=False):
            yield frame, self.predict(batch)

    def save(self, folder: Path, *, golden: pl.DataFrame) -> None:
        """Write the bundle whole or not at all; its golden rows are the first of these raw rows, such as `Table.golden`.

        :raises UserError: if the disk is full, or there are no rows.
        """
        if golden.is_empty():
            raise UserError(f"{folder}: no golden rows", mend="a bundle keeps some rows with their scores: give some")
        with durable.folder(folder) as made:
            self.encoder.save(made / "encoder")
            every = self.model.holder.whole(self.model.table.detach(), rows=self.model.places.rows, folder=made)
            weights = {**self.model.state_dict(), "table": every}
            save_file({name: tensor.contiguous() for name, tensor in weights.items()}, made / "weights.safetensors")
            if self.centre is not None:
                save_file({CENTRE: self.centre}, made / f"{CENTRE}.safetensors")
            if self.fusion is not None:
                self.fusion.save(made / FUSION)
            if self.ladder is not None:
                self.ladder.save(made)
            if self.profile is not None:
                (made / PROFILE).write_text(json.dumps(self.profile.to_json()))
            golden.head(GOLDEN).write_parquet(made / "golden.parquet")
            if self.retrieval is not None:
                self.retrieval.save(made, golden_batch(made, self.encoder).fields)
            for name, content in self._documents(self._golden_scores(made)).items():
                (made / name).write_text(json.dumps(content, indent=1))
            seal(made)

    def _golden_scores(self, folder: Path) -> Float[np.ndarray, "rows columns"]:
        _, scores = next(self.score(Source(str(folder / "golden.parquet"), user=self.source.user), GOLDEN))
        return scores

    def _documents(self, scores: Float[np.ndarray, "rows columns"]) -> dict[str, object]:
        return {
            "source.json": asdict(self.source),
            "recipe.json": asdict(self.built),
            "calibrators.json": {name: to_json(one) for name, one in self.calibrators.items()},
            "report.json": dict(self.report),
            "golden.json": {"scores": scores.tolist()},
            **({FEEDBACK: self.feedback.to_json()} if self.feedback is not None else {}),
        }

    @staticmethod
    def load(place: Path | str) -> Bundle:
        """Read a bundle's folder; :raises UserError: unless every file is what was written and the golden rows score as they did."""
        folder = Path(place)
        verify(folder)
        encoder = Encoder.load(folder / "encoder")
        built = Built.from_json(read_json(folder, "recipe.json"))
        # Threads that share a weight which wants a gradient can wait for each other for ever: for Python's lock, and for the weight's.
        model = built(encoder.schema).requires_grad_(False)
        try:
            model.load_state_dict(load_file(folder / "weights.safetensors"))
        except (SafetensorError, RuntimeError) as error:
            raise UserError(f"{folder}/weights.safetensors: does not fit the recipe ({error})", mend="export the bundle again") from None
        bundle = Bundle(
            source=Source.from_json(read_json(folder, "source.json")),
            encoder=encoder,
            built=built,
            model=model.eval(),
            calibrators={name: from_json(one) for name, one in read_json(folder, "calibrators.json").items()},
            report=read_json(folder, "report.json"),
            centre=load_file(centre)[CENTRE] if (centre := folder / f"{CENTRE}.safetensors").exists() else None,
            fusion=read_fusion(fusion) if (fusion := folder / FUSION).exists() else None,
            ladder=Ladder.load(folder),
            profile=Profile.from_json(read_json(folder, PROFILE)) if (folder / PROFILE).exists() else None,
            feedback=read_feedback(read_json(folder, FEEDBACK)) if (folder / FEEDBACK).exists() else None,
            retrieval=Retrieval.load(folder, encoder.schema, golden_batch(folder, encoder).fields) if (folder / ABOUT).exists() else None,
        )
        if bundle.fusion is not None:
            bundle.fusion.places(bundle.columns)
        bundle._check_golden(folder)
        return bundle

    def _check_golden(self, folder: Path) -> None:
        expected = np.array(read_json(folder, "golden.json")["scores"])
        worst = float(np.abs(self._golden_scores(folder) - expected).max())
        if not worst <= TOLERANCE:
            raise UserError(
                f"{folder}: golden rows score otherwise, by up to {worst:.2g} (allowed {TOLERANCE:g})",
                mend="load it with the versions named in its report, or export it again",
            )


def golden_batch(folder: Path, encoder: Encoder) -> Batch:
    """The golden rows of a bundle, encoded."""
    _, batch = next(raw_rows(Source(str(folder / "golden.parquet")), encoder, GOLDEN, labels=False))
    return batch


def chained(schema: Schema) -> tuple[str, ...]:
    """The binary tasks that are given another: those that have a marginal."""
    return tuple(task.name for task in schema.tasks if task.given is not None and task.kind == BINARY)
