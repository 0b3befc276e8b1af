"""The keys of a run file that say how events of a service become labels, and the rules they come to."""

from __future__ import annotations

from umbel.feedback import Amount, Attribution, Feedback, Rule, duration
from umbel.run.section import Section


class RuleSection(Section):
    """`[tasks.NAME] feedback = { window = "30m", positive_when = "kind = 'click'" }`: see `umbel.feedback.Rule`."""

    window: str
    positive_when: str
    value: Amount = Amount.ANY
    attribution: Attribution = Attribution.LAST

    def rule(self, task: str, *, range: tuple[float, float] | None = None) -> Rule:  # noqa: A002
        """The rule of a task, whose labels have a range or not; :raises UserError: naming the key that is wrong."""
        window = duration(self.window, where=f"tasks.{task}.feedback.window")
        return Rule(
            task=task, window=window, positive_when=self.positive_when, value=self.value, attribution=self.attribution, range=range,
        )  # fmt: skip


class FeedbackSection(Section):
    """`[feedback]`: how long events are waited for after a window has closed, and by how much clocks of clients may differ."""

    lateness: str = "1h"
    skew: str = "5m"

    def feedback(self, rules: tuple[Rule, ...], *, columns: dict[str, str], labels: dict[str, str]) -> Feedback:
        """The rules, and how the columns of the log that is made of them are called; :raises UserError: for a time that is none."""
        lateness, skew = (duration(text, where=f"feedback.{key}") for key, text in (("lateness", self.lateness), ("skew", self.skew)))
        return Feedback(rules=rules, lateness=lateness, skew=skew, labels=labels, **columns)
