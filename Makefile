# `make help` lists the targets. Everything happens in .venv; stamps below .venv/.stamps make a second call quick.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps

.DEFAULT_GOAL := help
.PHONY: help train test build

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

build: ## compile what changed of the native libraries
	@$(BIN)/python setup.py -q build_ext --inplace
