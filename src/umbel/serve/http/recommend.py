"""The route of `POST /v1/recommend`."""

from __future__ import annotations

from umbel.serve.http.call import Call, Reply, Route
from umbel.serve.recommend.asked import RecommendAnswer, RecommendRequest
from umbel.serve.recommend.recommend import recommend
from umbel.serve.requests import decode


async def answer(call: Call) -> Reply:
    """Recommend items of the catalogue to a user."""
    return Reply(await recommend(call.service, decode(call.body, RecommendRequest), call.arrived))


def recommending() -> list[Route]:
    """Its route."""
    says = "Recommend items to a user"
    return [Route(method="POST", path="/v1/recommend", answer=answer, says=says, reads=RecommendRequest, gives=RecommendAnswer)]
