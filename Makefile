# `make demo` and `make test` work from a fresh clone: they make .venv first. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
PYTHON_IN_VENV := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

# The work is many small operations: beyond 8 threads they wait for each other.
OMP_NUM_THREADS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 8 ? n : 8)))
export OMP_NUM_THREADS

.PHONY: help setup demo test browser torture view-load fuzz lint format docs bench clean distclean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: $(INSTALLED) ## make .venv with raytrans installed editable

$(INSTALLED): pyproject.toml constraints.txt .ci/setup
	@.ci/setup
	@touch $@

demo: $(INSTALLED) ## render a shipped scene into out/demo and measure the contracts
	$(PYTHON_IN_VENV) tools/demo.py --out out/demo

test: $(INSTALLED) ## run the tests, a process of one thread for each core; ARGS="-m slow" or a path goes to pytest
	OMP_NUM_THREADS=1 $(PYTHON_IN_VENV) -m pytest --numprocesses $(OMP_NUM_THREADS) --dist worksteal $(ARGS)

browser: ## install Chromium for the tests of the viewer, as root on Debian or Ubuntu
	@.ci/browser

torture: $(INSTALLED) ## kill 200 trainings at random moments; try 1,000 degenerate rigs, with tables
	$(PYTHON_IN_VENV) -m pytest tests/training/test_crash.py tests/training/test_degenerate.py \
		tests/training/test_repeats.py tests/geometry/test_degenerate.py -m "slow or not slow" $(ARGS)

view-load: $(INSTALLED) browser ## let twenty browsers come to the viewer and leave, 200 times, and watch its memory
	$(PYTHON_IN_VENV) -m pytest tests/viewer/test_load.py -m "slow or not slow" $(ARGS)

fuzz: $(INSTALLED) ## damage files by atheris, from the saved corpus; ARGS="--seconds 60" for each reader
	@[ "$$(uname -s)" = Linux ] || { echo "fuzz: atheris has wheels for Linux alone" >&2; exit 2; }
	@$(PYTHON_IN_VENV) -c 'import atheris' 2>/dev/null || $(PYTHON_IN_VENV) -m pip install --quiet \
		--disable-pip-version-check --constraint constraints.txt --no-build-isolation --editable ".[fuzz]"
	$(PYTHON_IN_VENV) -m tests.fuzz.run $(ARGS)

lint: $(INSTALLED) ## check style and format
	$(PYTHON_IN_VENV) -m ruff check .
	$(PYTHON_IN_VENV) -m ruff format --check .

format: $(INSTALLED) ## put the code into its format
	$(PYTHON_IN_VENV) -m ruff check --fix .
	$(PYTHON_IN_VENV) -m ruff format .

docs: $(INSTALLED) ## build the site of the documentation into out/site; what leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(PYTHON_IN_VENV) -m mkdocs build
	@echo "open out/site/index.html (to search: python3 -m http.server --directory out/site)"

bench: $(INSTALLED) ## measure speed and memory, into out/benchmark.json too
	$(PYTHON_IN_VENV) tools/benchmark.py --json out/benchmark.json $(ARGS)

clean: ## remove what was made, except .venv
	rm -rf out build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find raytrans tests tools -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## remove .venv as well
	rm -rf $(VENV)
