# setup: the virtual environment, once.  demo: the main job.  test, test-slow, check, bench: what they say.
# Nothing else has to be typed first: every word sets up what it needs, and no more: tests and checks add their packages.
PYTHON ?= python3
JOBS ?= 2
BIN := .venv/bin
READY := .venv/.ready
DEV_READY := .venv/.ready-dev

# Two test processes share two cores; a thread pool in each of them would only get in the way.
TEST_ENVIRONMENT := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

# A test process that crashes ends the run: replaced, it would leave tests out, and the run would wait for them for ever.
DISTRIBUTION := --dist loadfile --no-loadscope-reorder --max-worker-restart 0

.PHONY: setup setup-dev demo test test-slow test-postgres check docs bench yardsticks clean

setup: $(READY)

setup-dev: $(DEV_READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v >= (3, 11) else f"talim needs Python 3.11 or newer and found {v[0]}.{v[1]}: make setup PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[servers]'
	@touch $(READY)

$(DEV_READY): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(DEV_READY)

demo: setup
	$(BIN)/talim demo --out out/demo

test: setup-dev
	PYTHONHASHSEED=0 $(TEST_ENVIRONMENT) $(BIN)/python -m pytest -n $(JOBS) $(DISTRIBUTION)

test-slow: setup-dev
	HYPOTHESIS_PROFILE=fresh $(TEST_ENVIRONMENT) $(BIN)/python -m pytest -m 'slow or hypothesis' -n $(JOBS) $(DISTRIBUTION)

# The votes' store against a real PostgreSQL: installed where there is none (Debian), started on a socket of its own.
test-postgres: setup-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[postgres]'
	tests/with_postgres.sh $(BIN)/python -m pytest tests/listening/test_vote_store.py tests/listening/test_server_killed.py tests/briefs/test_review_store.py -m 'slow or not slow'

check: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir build/site

# The documentation site, in site/, with the pages of the demonstration study and of the paper's claims, which are made first
# where they are not there: the one from nothing, the other from its results.
STUDY := build/study
PAPER := build/paper

docs: setup-dev $(STUDY)/report/index.html $(PAPER)/report/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(STUDY)/report/index.html: studies/demo.yaml | setup-dev
	$(BIN)/talim study $< --out $(STUDY)
	$(BIN)/talim report $(STUDY)

$(PAPER)/report/index.html: $(shell find docs/reports/paper-study -type f) $(wildcard studies/paper/*.yaml) | setup-dev
	mkdir -p $(PAPER)
	cp -r docs/reports/paper-study/. studies/paper/nano.yaml studies/paper/claims.yaml $(PAPER)/
	cp studies/paper/played.yaml $(PAPER)/played/
	xz --decompress --force $(PAPER)/results.jsonl.xz $(PAPER)/played/results.jsonl.xz
	$(BIN)/talim report $(PAPER) --no-audio

bench: setup-dev
	$(BIN)/python -m benchmarks.bench

# The field's public yardsticks on what the folder DATA holds of them; what is missing is named, with where it is from.
# Without constraints.txt, as what mirdata needs does not go with all of it.
yardsticks: setup-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[yardsticks]'
	$(BIN)/python -m research.validation.yardsticks "$(DATA)"

clean:
	rm -rf build dist out .pytest_cache .ruff_cache .hypothesis src/*.egg-info
