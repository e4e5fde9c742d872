# Each command sets up its own environment: with Python 3.11 or newer, `make demo` in a fresh clone is all it takes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO_DIR ?= runs/digits

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow lint format clean

help:  ## List the commands.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# The stamp is older than the requirements only if they changed, so a second `make` does not install again.
$(INSTALLED): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or newer is needed: make PYTHON=python3.12 ...'; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

install: $(INSTALLED)  ## Make the environment in .venv.

demo: $(INSTALLED)  ## Train MobileNetV3-Small on the bundled digits, evaluate the checkpoint, show where all of it lies.
	$(BIN)/python train.py --config=configs/digits.py --workdir=$(DEMO_DIR)
	$(BIN)/python eval.py --workdir=$(DEMO_DIR)
	@echo "curves:      $(DEMO_DIR)/curves.png"
	@echo "checkpoint:  $(DEMO_DIR)/checkpoints"

test: $(INSTALLED)  ## Run the fast tests (under ten minutes on two cores).
	$(BIN)/python -m pytest -n 2

test-slow: $(INSTALLED)  ## Run the long tests: comparisons with other frameworks.
	$(BIN)/python -m pytest -m slow

lint: $(INSTALLED)  ## Check style, imports, names, docstrings and complexity.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED)  ## Mend what `make lint` can mend by itself.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove the environment and the demo's output.
	rm -rf $(VENV) $(DEMO_DIR)
