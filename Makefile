# `make demo` and `make test` set everything up themselves: a virtual environment with pinned versions, then pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
SOURCES := $(wildcard csrc/*.cpp csrc/*.h csrc/*/*.h csrc/*/*.cpp) CMakeLists.txt pyproject.toml constraints.txt

.PHONY: setup setup-test demo test test-all check bench clean

setup: $(VENV)/.core
setup-test: $(VENV)/.test

# An editable install: Python edits are live, C++ edits rebuild here.
$(VENV)/.core: $(SOURCES)
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(PIP) scikit-build-core pybind11 cmake ninja
	$(PIP) --no-build-isolation -e .
	touch $@

# torch first and by its pin alone: its newest build would bring gigabytes of CUDA
$(VENV)/.test: $(VENV)/.core
	$(PIP) torch
	$(PIP) --no-build-isolation -e .[torch,test,dev]
	touch $@

demo: setup
	$(BIN)/fastrl train ppo CartPole-v1 --seed 1

test: setup-test
	$(BIN)/python -m pytest -m "not slow" -n 2

test-all: setup-test
	$(BIN)/python -m pytest -n 2 --hypothesis-profile=search

check: setup-test
	.ci/check

bench: setup-test
	$(BIN)/python bench/peers.py
	$(BIN)/python bench/throughput.py

clean:
	rm -rf build $(VENV) fastrl/*.so
