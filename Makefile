# Two commands do everything on a fresh machine: `make run` and `make test`. Everything lives in .venv and var.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 7400
MATRIX ?=
NAME ?=
KERNEL := $(wildcard router/core/_*.[ch] probes/_*.c probes/sockets/_*.c)
export PYTHONSAFEPATH = 1
# Compiled once and kept, whatever the environment says: else every process that a test starts compiles all it imports.
export PYTHONDONTWRITEBYTECODE =
# Trust what the machine trusts: mirrors and proxies often bring a certificate of their own.
export UV_SYSTEM_CERTS = 1
export UV_CACHE_DIR ?= $(CURDIR)/var/cache/uv

.PHONY: run test check bench clouds setup terraform checkov web docs pictures clean

# Environments are stamped with the lock file they were made from.
$(BIN)/uv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tendril needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt

$(VENV)/.control: $(BIN)/uv requirements/control.txt pyproject.toml hatch_build.py $(KERNEL)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/control.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

$(VENV)/.dev: $(BIN)/uv requirements/dev.txt pyproject.toml hatch_build.py $(KERNEL)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@ $(VENV)/.control

$(VENV)/.bench: $(VENV)/.dev requirements/bench.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/bench.txt
	@touch $@

# The Terraform provider has an environment of its own: what it needs holds other packages back.
TFP := deploy/terraform/provider
$(TFP)/.venv/.provider: $(BIN)/uv $(TFP)/requirements.txt $(TFP)/pyproject.toml
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) $(TFP)/.venv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(TFP)/.venv/bin/python --require-hashes -r $(TFP)/requirements.txt
	$(BIN)/uv pip install --quiet --python $(TFP)/.venv/bin/python --no-deps --no-build-isolation --editable $(TFP)
	$(TFP)/.venv/bin/python -m compileall -q $(TFP)/tendril_terraform
	@touch $@

terraform: $(TFP)/.venv/.provider  ## the Terraform provider, and a configuration that finds it (TF_CLI_CONFIG_FILE)
	$(TFP)/.venv/bin/python deploy/terraform/tools/make_mirror.py var/terraform

# What checks the Terraform modules holds other packages back as well, and is 290 MB: an environment of its own.
var/checkov/.ready: $(BIN)/uv requirements/checkov.txt
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) var/checkov
	$(BIN)/uv pip install --quiet --python var/checkov/bin/python --require-hashes -r requirements/checkov.txt
	@touch $@

checkov: var/checkov/.ready  ## security rules over the Terraform modules; what is skipped, and why: deploy/terraform/checkov.yaml
	var/checkov/bin/checkov --config-file deploy/terraform/checkov.yaml

# Big SDKs of clouds: only what needs them installs them. Linode's is small and in the development lock.
$(VENV)/.clouds: $(VENV)/.dev requirements/clouds.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/clouds.txt
	@touch $@

clouds: $(VENV)/.clouds  ## the adapters of all clouds, against fakes
	$(BIN)/python -m pytest tests/clouds

setup: $(VENV)/.dev  ## the whole development environment

run: $(VENV)/.control  ## the living demo world; PORT=7400, MATRIX=file.csv
	exec $(BIN)/tendril demo --port $(PORT) $(if $(MATRIX),--matrix $(MATRIX))

check: $(VENV)/.dev  ## lint, format, types, import contracts, unit tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers 2
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/unit -n 2 -m 'not slow'

test: check $(TFP)/.venv/.provider  ## everything, on real components
	$(BIN)/python -m pytest tests --ignore tests/unit --ignore tests/testbed/test_world.py --ignore tests/testbed/test_tutorial.py -n 3 --dist loadfile --no-loadscope-reorder
	$(BIN)/python -m pytest tests/unit -n 2 -m slow
	$(BIN)/python -m pytest tests/testbed/test_world.py

pictures: $(VENV)/.dev  ## walk the dashboard's tutorial in a demo world and take its pictures again
	TENDRIL_PICTURES=docs/images $(BIN)/python -m pytest tests/testbed/test_tutorial.py tests/browser/test_frozen.py -k 'tutorial or readme'

bench: $(VENV)/.bench $(if $(filter adapters,$(or $(NAME),adapters)),$(VENV)/.clouds)  ## benchmarks against peers; NAME=solve
	@$(BIN)/python -m bench $(NAME)

web: $(VENV)/.dev  ## rebuild the dashboard into router/dashboard/static
	cd router/dashboard/web && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci && PATH="$(CURDIR)/$(BIN):$$PATH" npm run build

docs: $(VENV)/.dev  ## regenerate what is generated in docs/reference
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) $(TFP)/.venv var build dist .mypy_cache .ruff_cache .import_linter_cache .hypothesis router/dashboard/web/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
