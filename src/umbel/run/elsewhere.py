"""Where a log is read that outgrows this machine."""

from __future__ import annotations

from functools import partial

from umbel.data.ingest import KEPT
from umbel.data.laid import Elsewhere
from umbel.data.source import Source


def on_spark(source: Source, master: str) -> Elsewhere:
    """The source, read and joined on a Spark master that is started when all about the log is known, and ended when its rows are laid out.

    :raises UserError: where Java is missing or too old.
    """
    from umbel.data.spark.lay import Spark
    from umbel.data.spark.session import check_java, started

    check_java()
    return Elsewhere(source, Spark(partial(started, master), KEPT))
