# Every target sets up its own environment in .venv on a fresh machine.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: setup demo test test-all check coverage docs bench figures sbom constraints clean

setup: .venv/.ready

.venv/.ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv || python3 -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	$(BIN)/python -m compileall -q qsopt  # no process need, or may, write it
	touch $@

demo: setup  ## a measured pair on requests; DeepSeek-V3 at 128k tokens of context against its dense matches
	$(BIN)/qsopt compare --model qwen3-30b-a3b --dense qwen3-14b --cluster 1xh100 --prompt 1024 --answer 1024 \
		--plot results/demo/ratio_over_answer.png
	$(BIN)/qsopt compare --model deepseek-v3 --cluster 16xh200 --context 131072 \
		--plot results/demo/ratio_over_context.png
	@echo "plots: results/demo/ratio_over_answer.png, results/demo/ratio_over_context.png"

test: setup
	$(BIN)/python -m pytest

test-all: setup  ## the slow tests too
	$(BIN)/python -m pytest -m "slow or not slow"

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(MAKE) test

coverage: setup  ## which lines and branches of the package the tests run
	$(BIN)/python -m pytest --cov --cov-report=term --cov-report=html:results/coverage

docs: .venv/.docs  ## the documentation as web pages in site/, every reference checked
	$(BIN)/mkdocs build --strict

.venv/.docs: .venv/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

bench: setup  ## measured speed: evaluations a second, time to a first answer
	$(BIN)/python -m experiments.bench

figures: setup  ## pages and plots of docs/ that are generated; goes on where it stopped
	$(BIN)/python -m experiments.pages.quality_table
	$(BIN)/python -m experiments.pages.quality_page
	$(BIN)/qsopt compare --model deepseek-v3 --cluster 16xh200 --context 131072 \
		--plot docs/images/ratio_over_context.png
	$(BIN)/qsopt compare --model qwen3-30b-a3b --dense qwen3-14b --cluster 1xh100 --prompt 1024 --answer 1024 \
		--plot docs/images/ratio_over_answer.png
	$(BIN)/python -m experiments.framework.figures

sbom: .venv/.sbom  ## what `pip install qsopt` brings along, as a CycloneDX bill of materials
	rm -rf results/sbom
	$(BIN)/python -m venv results/sbom/installed
	results/sbom/installed/bin/python -m pip install --quiet --disable-pip-version-check .
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type library --output-reproducible \
		--output-file results/sbom/qsopt.cdx.json results/sbom/installed/bin/python

.venv/.sbom: .venv/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[sbom]'
	touch $@

constraints: .venv/.constraints  ## one version of every dependency, with the digests of its files
	CUSTOM_COMPILE_COMMAND="make constraints" $(BIN)/pip-compile --quiet --upgrade --generate-hashes \
		--extra dev --strip-extras --allow-unsafe --no-annotate --no-emit-index-url --no-emit-find-links \
		--no-emit-trusted-host --output-file constraints/hashed.txt pyproject.toml

.venv/.constraints: .venv/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-tools
	touch $@

clean:
	rm -rf .venv results dist build site .coverage
