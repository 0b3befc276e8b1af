# One environment in .venv; every target makes it if it is not there.
PYTHON ?= python3
PIP = .venv/bin/pip install --disable-pip-version-check -q -c constraints.txt

.PHONY: demo test check bench bench-full clean

demo: .venv/core
	.venv/bin/umbel demo

test: .venv/dev
	.venv/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder -rs  # in order: journeys, the longest, come first, and no worker waits for one

check: .venv/dev
	.venv/bin/ruff check .
	.venv/bin/mypy --num-workers 2
	.venv/bin/pytest tests/laws/test_house.py

bench: .venv/bench
	.venv/bin/umbel bench

bench-full: .venv/bench
	.venv/bin/umbel bench --full

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/core: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e .
	@touch $@

.venv/dev: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e '.[dev]'
	@touch $@ .venv/core

.venv/bench: .venv/dev
	$(PIP) -e '.[retrieve]'
	@touch $@

clean:
	rm -rf .venv .peers runs
