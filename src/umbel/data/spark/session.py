"""A Spark session that means what umbel means."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from umbel.errors import UserError

JAVA = 17
# What Spark must not do, whatever its own files say: fold case, shift times, give null where a number overflows, cut files.
MEANING = {
    "spark.sql.ansi.enabled": "true",
    "spark.sql.caseSensitive": "true",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.files.maxRecordsPerFile": "0",
    "spark.sql.parquet.writeLegacyFormat": "false",
    "spark.sql.legacy.parquet.nanosAsLong": "true",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
}


@contextmanager
def started(master: str) -> Iterator[SparkSession]:
    """A session on that master, ended with the block; what Spark itself may be told (memory, cores) it reads from its own files.

    :raises UserError: where Spark cannot be had.
    """
    with spoken(f"--spark {master}", mend="check the master, for example local[4] or spark://HOST:7077"):
        builder = SparkSession.builder.master(master).appName("umbel ingest")
        session = builder.config("spark.ui.showConsoleProgress", "false").getOrCreate()
    try:
        session.sparkContext.setLogLevel("OFF")  # what goes wrong is said in one line
        yield session
    finally:
        session.stop()


@contextmanager
def spoken(where: str, *, mend: str) -> Iterator[None]:
    """Turn what Spark raises under the block into one line."""
    try:
        yield
    except (PySparkException, Py4JError) as error:
        raise UserError(f"{where}: {_first(str(error))}", mend=mend) from error


def check_java() -> None:
    """:raises UserError: if there is no Java, or one that is too old for Spark."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(str(Path(home) / "bin" / "java") if home else "java")
    mend = f"install Java {JAVA}, or set JAVA_HOME to it"
    if java is None:
        raise UserError("--spark: no Java here", mend=mend)
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < JAVA:
        raise UserError(f"--spark: {java} is {said.splitlines()[0] if said else 'no Java'}", mend=mend)


def _first(text: str) -> str:
    """What went wrong, of a text that goes on with a trace: Java's own words come last but are led by the name of the exception."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"^: [\w.$]+(Exception|Error): ", line)]
    return re.sub(r"^: [\w.$]+: ", "", told[0]) if told else lines[0].removesuffix(" SQLSTATE: 0A000")
