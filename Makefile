# Each command sets up its own environment: with Python 3.11 or newer, `make demo` in a fresh clone is all it takes.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PARITY_VENV := .venv-parity
PARITY_BIN := $(PARITY_VENV)/bin
PARITY_INSTALLED := $(PARITY_VENV)/.installed
DEMO_DIR ?= runs/digits

.DEFAULT_GOAL := help
.PHONY: help install demo test test-part test-slow test-export test-wheel test-launch chaos parity bench bench-gpu bench-input golden lint format clean

help:  ## List the commands.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# The stamp is older than the requirements only if they changed, so a second `make` does not install again.
$(INSTALLED): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or newer is needed: make PYTHON=python3.12 ...'; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m mobilenets_jax.ops.cpu.native
	@touch $@

install: $(INSTALLED)  ## Make the environment in .venv.

demo: $(INSTALLED)  ## Train MobileNetV3-Small on the bundled digits, evaluate the checkpoint, print where the files are.
	$(BIN)/python train.py --config=configs/digits.py --workdir=$(DEMO_DIR)
	$(BIN)/python eval.py --workdir=$(DEMO_DIR)
	@echo "curves:      $(DEMO_DIR)/curves.png"
	@echo "checkpoint:  $(DEMO_DIR)/checkpoints"

test: $(INSTALLED)  ## Run the fast tests (some 15 minutes on two cores).
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Resuming, two processes, the step, checkpoints, native ops: these depend on the versions of Python and JAX.
PART := tests/checkpoints tests/end_to_end/test_interrupted_runs.py tests/end_to_end/test_two_processes.py \
  tests/end_to_end/test_other_python.py tests/training tests/models/test_training_step.py tests/ops/test_native.py \
  tests/ops/test_normalization.py tests/configs

test-part: $(INSTALLED)  ## Run those fast tests that another Python or JAX could break.
	$(BIN)/python -m pytest -n 2 --dist worksteal $(PART)

test-slow: $(INSTALLED)  ## Run the long tests: other frameworks, other layouts, the simulated pod, more faults.
	$(BIN)/python -m pytest -m slow

EXPORT_VENV := .venv-export
EXPORT_INSTALLED := $(EXPORT_VENV)/.installed

$(EXPORT_INSTALLED): requirements.txt pyproject.toml
	$(PYTHON) -m venv $(EXPORT_VENV)
	$(EXPORT_VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements.txt -e '.[export]'
	@touch $@

test-export: $(EXPORT_INSTALLED)  ## Convert, quantize and run networks with LiteRT, in a separate environment.
	$(EXPORT_VENV)/bin/python -m pytest tests/export

WHEEL_VENV := .venv-wheel

test-wheel:  ## Build the wheel, install it alone, and train the digits with it: no checkout, no TensorFlow.
	rm -rf $(WHEEL_VENV)
	$(PYTHON) -m venv $(WHEEL_VENV)
	$(WHEEL_VENV)/bin/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(WHEEL_VENV)/dist .
	$(WHEEL_VENV)/bin/pip install --quiet --disable-pip-version-check $(WHEEL_VENV)/dist/*.whl
	cd $(WHEEL_VENV) && bin/mobilenets train --config=digits --workdir=digits --config.num_steps=40
	cd $(WHEEL_VENV) && bin/mobilenets eval --workdir=digits && bin/mobilenets models mobilenet_v3_small
	! $(WHEEL_VENV)/bin/python -c 'import tensorflow' 2> /dev/null

LAUNCH_VENV := .venv-launch
LAUNCH_INSTALLED := $(LAUNCH_VENV)/.installed

$(LAUNCH_INSTALLED): tests/launch/requirements.txt
	$(PYTHON) -m venv $(LAUNCH_VENV)
	$(LAUNCH_VENV)/bin/pip install --quiet --disable-pip-version-check -r tests/launch/requirements.txt
	@touch $@

test-launch: $(LAUNCH_INSTALLED)  ## Have SkyPilot and JobSet's schema read the files in launch/, in an environment of their own.
	$(LAUNCH_VENV)/bin/python -c 'import kubeflow_trainer_api, sky'
	$(LAUNCH_VENV)/bin/python -m pytest --noconftest tests/launch/test_engines.py

chaos: $(INSTALLED)  ## Have twenty faults happen to a run; its end must be that of a run left alone.
	$(BIN)/python tests/chaos.py

$(PARITY_INSTALLED): requirements.txt tests/parity/requirements.txt
	$(PYTHON) -m venv $(PARITY_VENV)
	$(PARITY_BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt -r tests/parity/requirements.txt
	$(PARITY_BIN)/pip install --quiet --disable-pip-version-check --no-deps torchvision==0.28.0 timm==1.0.31
	@touch $@

parity: $(PARITY_INSTALLED)  ## Compare every layer with torchvision, timm and Keras, in an environment of its own.
	$(PARITY_BIN)/python -m pytest -n 2 -m slow tests/parity

BENCH_INSTALLED := $(PARITY_VENV)/.bench-installed
BENCH_NETWORKS ?= mobilenet_v2 mobilenet_v3_large
BENCH_DIR ?= runs/bench

$(BENCH_INSTALLED): $(PARITY_INSTALLED) benchmarks/requirements.txt
	$(PARITY_BIN)/pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	@touch $@

bench: $(BENCH_INSTALLED)  ## Race training and inference against PyTorch, Keras, plain Flax, ONNX Runtime and LiteRT: about an hour.
	@mkdir -p $(BENCH_DIR)
	@for network in $(BENCH_NETWORKS); do \
	  for batch in 16 64; do $(PARITY_BIN)/python -m benchmarks.train_step --network=$$network --batch=$$batch --json=$(BENCH_DIR)/train_$${network}_$$batch.json; done; \
	  for batch in 1 32; do $(PARITY_BIN)/python -m benchmarks.inference --network=$$network --batch=$$batch --json=$(BENCH_DIR)/inference_$${network}_$$batch.json; done; \
	done

# No environment of its own: JAX and PyTorch with CUDA are the machine's. CIFAR10 is the folder of configs/cifar10_gpu.py.
bench-gpu:  ## On one GPU, with the packages of PYTHON: race timm, torch.compile and plain Flax; train on CIFAR10=DIR.
	$(PYTHON) -m benchmarks.gpu --out=$(BENCH_DIR)/gpu $(if $(CIFAR10),--cifar10=$(CIFAR10))

BENCH_IMAGES ?= $(or $(MOBILENETS_JAX_SHARED),../shared)/data/imagenet_one_per_class.zip

bench-input: $(PARITY_INSTALLED)  ## Measure the input beside tf.data, TFDS and torch, on BENCH_IMAGES: CLASS/*.JPEG, a folder or zip.
	$(PARITY_BIN)/python benchmarks/input_pipeline.py $(BENCH_IMAGES) --torch-python=$(PARITY_BIN)/python

golden: $(INSTALLED)  ## Write the golden counts, endpoints, parameters and native calls of NAMES="NETWORK ...".
	PYTHONPATH=tests:. $(BIN)/python tests/make_golden.py $(NAMES)

lint: $(INSTALLED)  ## Check style, imports, names, docstrings, complexity, and the types of the public modules.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)  ## Mend what `make lint` can mend by itself.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove the environments and the demo's output.
	rm -rf $(VENV) $(PARITY_VENV) $(EXPORT_VENV) $(WHEEL_VENV) $(LAUNCH_VENV) $(DEMO_DIR)
