# The two commands of README are `make demo` and `make test`; the rest is for developers.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
# More at a time than cores: the tests of real servers mostly wait.
WORKERS ?= 3
BIN    := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test check dev system fuzz bench proto docs clean help

help:           ## say what can be made
	@grep -hE '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

demo: $(VENV)/installed  ## the main job on simulated chips, in about half a minute
	@$(BIN)/chipmedic demo $(DEMO)

test: dev check  ## everything; as root it installs the Debian packages of the real parts
	@tests/system/parts $(PARTS)
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup --durations 15 --reruns 1 $(PYTEST)

check: dev  ## lint, format, types, imports, generated code, catalog
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m chipmedic.faults.lint
	@tests/generated_is_current $(BIN)/python

# Parsers and detectors; FUZZ=tests/faults runs a part. It takes hours: one property may take minutes.
FUZZ ?= tests/collectors tests/faults tests/agent/detectors tests/agent/test_jobs.py \
	tests/agent/test_progress.py tests/core tests/proto tests/watchdog/recover/test_slurm_text.py \
	tests/watchdog/recover/kubernetes/test_objects.py tests/watchdog/recover/kubernetes/test_owners.py

fuzz: dev  ## 10,000 mutated inputs per property of each parser and detector
	HYPOTHESIS_PROFILE=fuzz nice $(BIN)/pytest -m "hypothesis and not system" --timeout=0 $(FUZZ) $(PYTEST)

proto: dev  ## rebuild the generated code of the wire contract
	cd proto && ../$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. \
		--grpc_python_out=. chipmedic_proto/v1/chipmedic.proto

dev: $(VENV)/developer  ## the virtual environment with the tools of a developer

$(VENV)/installed: pyproject.toml
	@tests/needs_python "$(PYTHON)"
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@echo "installing chipmedic into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --quiet --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --quiet --editable ".[all]"
	@touch $@

$(VENV)/developer: $(VENV)/installed
	@echo "installing the developer's tools into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --quiet --group dev
	@touch $@

clean:  ## remove what was built
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
