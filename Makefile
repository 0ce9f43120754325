# What a developer does all day; CONTRIBUTING.md explains it. `make` lists the targets.
.PHONY: help setup config-docs format lint types fast test study

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup:  ## make the Python environment and the pre-commit hooks
	uv sync
	uvx pre-commit install

format:  ## format Python and rules, mend what ruff can mend
	uv run ruff check --fix .
	uv run ruff format .
	uv run snakefmt Snakefile workflow

config-docs:  ## write the config's schema and the tables of config/README.md from its models
	PYTHONPATH=workflow uv run python -m rllm_serving.study.config_docs

lint:  ## style, rules, imports between rooms, dead code
	.ci/run lint

types:  ## mypy over library, scripts, tests and benchmarks
	.ci/run types

fast:  ## every module's own tests; no engine starts
	uv run pytest -m "not slow" -n 2

test:  ## all that CI checks, real engines included
	.ci/run

study:  ## the default study, or CONFIG=my-study.yaml
	uv run snakemake --cores all --resources gpu=1 $(if $(CONFIG),--configfile $(CONFIG))
