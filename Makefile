# What a change must pass, and what builds the pages. Each recipe is one line that can be typed.
.PHONY: check lint types test slow docs

check: lint types test

lint:
	ruff check src tests benchmarks
	ruff format --check src tests benchmarks

types:
	mypy

test:
	pytest -n 2

slow:
	pytest -m slow

docs:
	mkdocs build --strict
