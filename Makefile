# Everything starts here: `make demo` and `make test` set up what they need in .venv, and nothing outside this folder.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo serve key test check unit contract journey infra package bench soak lock options image container emulator clean

VENV := .venv
BIN := $(VENV)/bin
export PYTHONPATH := src:tests
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## show this list
	@grep -hE '^[a-z ]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 30

demo: $(VENV)/local.stamp ## transcode a real video through the API on this machine
	@$(BIN)/python tools/demo.py

serve: $(VENV)/local.stamp ## keep the service running, by default on 127.0.0.1:8000
	@exec $(BIN)/python -m handlers.local

key: $(VENV)/local.stamp ## make an API key: make key NAME=alice prints it, once, and its entry for API_KEYS
	@test -n "$(NAME)" || { echo "Whose key? make key NAME=alice, or NAME=\"alice --admin\""; exit 2; }
	@$(BIN)/python -m handlers.keys $(NAME)

test: check unit contract journey infra ## all checks and tests: what CI calls
	@echo "Targets of their own: make container (the images, as root), make package (of the functions), make emulator (of AWS)"

check: $(VENV)/dev.stamp ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit contract journey infra: $(VENV)/dev.stamp ## one part of the tests (ONCE=1: what fails gets no second look)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile tests/$@ || { \
		test $$? = 1 -a -z "$(ONCE)" && \
		echo "##### What failed above, beside other tests, runs once more, alone. If it passes now: mend that test. #####" && \
		$(BIN)/python -m pytest --last-failed --last-failed-no-failures none --exitfirst tests/$@; }

# Most tests wait, for a server or a clock, more than they compute.
WORKERS ?= 4

SAM_LACKING = $(strip $(if $(shell command -v sam),,sam) \
	$(shell python3.13 -m pip --version >/dev/null 2>&1 || echo "python3.13 with pip"))
package: $(VENV)/dev.stamp ## build the package of the Lambda functions with sam and run them from it
	@if [ -n "$(SAM_LACKING)" ]; then \
		echo "##### SKIPPED: make package. It needs on the PATH: $(SAM_LACKING). Nothing was built or tried. #####"; \
	else \
		$(BIN)/python -m pytest tests/package; \
	fi

bench: $(VENV)/dev.stamp ## measure the service beside raw ffmpeg, and the command line beside curl, on this machine
	@$(BIN)/python tools/bench.py
	@$(BIN)/python tools/bench_batches_aws.py
	@$(BIN)/python tools/cold_start.py
	@$(BIN)/python tools/cli_bench.py

soak: $(VENV)/dev.stamp ## kill workers and the service at random for SOAK_SECONDS, 300 by default: no task is lost
	@$(BIN)/python tools/soak.py

export IMAGE ?= transcoder
export SERVICE_IMAGE ?= transcoder-service
image: ## build the container images with buildah, as root; for Docker see container/README.md
	container/build.sh
	IMAGE=$(SERVICE_IMAGE) container/build.sh --build-arg REQUIREMENTS=requirements/local.txt

LACKING = $(strip $(if $(filter 0,$(shell id -u)),,root) \
	$(foreach program,buildah runc $(if $(BASE_IMAGE),,debootstrap),$(if $(shell command -v $(program)),,$(program))))
container: $(VENV)/dev.stamp ## build the images and run the worker and the service in them
	@if [ -n "$(LACKING)" ]; then \
		echo "##### SKIPPED: make container. It needs $(LACKING); no image was built, and none was tried. #####"; \
	else \
		$(MAKE) image && $(BIN)/python -m pytest tests/container; \
	fi

EMULATOR := .venv-emulator
emulator: $(VENV)/dev.stamp ## deploy the template on an emulator of AWS, and use what was deployed
	@if $(MAKE) --silent $(EMULATOR)/stamp; then \
		EMULATOR=$(EMULATOR)/bin/ministack $(BIN)/python -m pytest tests/emulator; \
	else \
		echo "##### SKIPPED: make emulator. The emulator cannot be installed here; nothing was deployed. #####"; \
	fi

$(EMULATOR)/stamp: requirements/emulator.txt
	@$(PYTHON) -m venv $(EMULATOR)
	@$(EMULATOR)/bin/python -m pip install --quiet --require-hashes -r $<
	@touch $@

options: $(VENV)/local.stamp ## make the tables of ffmpeg's options and filters anew from the installed build
	$(BIN)/python tools/options_table.py
	$(BIN)/python tools/filters_table.py

# What the Lambda runtime brings: boto3, and with it what aws-xray-sdk and Powertools ask for as well.
RUNTIME_HAS := botocore jmespath python-dateutil six urllib3
UVC := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
lock: $(VENV)/dev.stamp ## pin the dependencies anew, with hashes (UPGRADE=--upgrade for newer ones)
	$(BIN)/python -m pip install --quiet uv
	$(UVC) $(UPGRADE) requirements/dev.in -o requirements/dev.txt
	$(UVC) -c requirements/dev.txt requirements/local.in -o requirements/local.txt
	$(UVC) -c requirements/dev.txt requirements/cli.in -o requirements/cli.txt
	$(UVC) -c requirements/dev.txt $(RUNTIME_HAS:%=--no-emit-package %) src/requirements.in -o src/requirements.txt
	$(UVC) -c requirements/dev.txt container/requirements.in -o container/requirements.txt
	$(UVC) $(UPGRADE) requirements/emulator.in -o requirements/emulator.txt

clean: ## remove what was set up here, the tasks and their files included
	rm -rf $(VENV) $(EMULATOR) .data .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The first interpreter that works and is new enough. PYTHON=... names another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name one with make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is needed; on Debian: apt install python3-venv"; exit 1; }

# Not by pip, which would have to fetch what builds packages.
CLIENT := ffmpeg-task
$(VENV)/%.stamp: requirements/%.txt | $(BIN)/python
	@echo "Setting up $(VENV) ($*), once"
	@$(BIN)/python -m pip install --quiet --require-hashes -r $<
	@printf '#!/bin/sh\nPYTHONPATH="%s" exec "%s" -P -m handlers.cli "$$@"\n' "$(CURDIR)/src" "$(abspath $(BIN))/python" > $(BIN)/$(CLIENT)
	@chmod +x $(BIN)/$(CLIENT)
	@touch $@
