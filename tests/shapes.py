"""What checks shapes and types while tests run: beartype, with whole numbers allowed where floats are asked for."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
