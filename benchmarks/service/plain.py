"""The same model behind a bare FastAPI route: pydantic in, dictionaries to codes, the whole of every row through torch, JSON out."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from fastapi import FastAPI
from pydantic import BaseModel

from umbel.bundle import Bundle

torch.set_num_threads(1)
BUNDLE = Bundle.load(Path(os.environ["PLAIN_BUNDLE"]))
FIELDS = [field.name for field in BUNDLE.schema.fields]
TASKS = [task.name for task in BUNDLE.schema.tasks]
CODES = {
    name: {value: code for code, value in enumerate(BUNDLE.encoder.vocabularies[name].frame["value"].to_list(), start=1)} for name in FIELDS
}
app = FastAPI()


class Item(BaseModel):
    """An item with its fields."""

    item_id: str
    fields: dict[str, int]


class Request(BaseModel):
    """Whom to rank for, and what."""

    user_id: str
    context: dict[str, int]
    items: list[Item]
    n: int


@app.post("/rank")
async def rank(request: Request) -> list[dict[str, object]]:
    """Items by the mean of their chances."""
    shared = {**request.context, "user": int(request.user_id)}
    rows = [{**shared, **item.fields, "item": int(item.item_id)} for item in request.items]
    fields = {name: torch.tensor([CODES[name].get(row.get(name), 0) for row in rows]) for name in FIELDS}
    with torch.inference_mode():
        chances = BUNDLE.model(fields).sigmoid()
    order = chances.mean(1).argsort(descending=True)[: request.n].tolist()
    found = chances.tolist()
    return [{"item_id": request.items[at].item_id, "predictions": dict(zip(TASKS, found[at], strict=True))} for at in order]
