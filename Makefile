# weft's menu. The work is done by scripts/; `make` alone lists what there is.

.DEFAULT_GOAL := help
.PHONY: help setup demo check test test-fast test-full lab lab-shell lab-demo test-lab bench-lab test-chroot check-ansible format lock wheel clean

help: ## list these targets
	@echo "weft: block volumes over NVMe fabrics. Two commands show everything: make demo, make test"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: ## make .venv with weft and its tools (the other targets do it by themselves)
	@scripts/setup.sh

demo: ## the main job, live, in under a minute: a volume made, exported, attached, used, detached, deleted
	@scripts/setup.sh --quiet --install-packages
	@scripts/with-limits.sh .venv/bin/python demo/demo.py $(ARGS)

check: ## formatting, lint, types and the floors of imports, in seconds
	@scripts/setup.sh --quiet
	@scripts/check.sh

test: ## everything that must hold: check, the fast suite, the slow suite, one summary
	@scripts/test.sh

test-fast: ## the fast suite alone; ARGS="-k words" narrows it
	@scripts/setup.sh --quiet
	@scripts/with-limits.sh .venv/bin/python -m pytest -m "not slow and not lab" $(ARGS)

test-full: ## every test file with thorough examples, and every lab test; goes on where an interrupted run stopped
	@scripts/setup.sh --quiet --install-packages
	@scripts/test-full.sh $(ARGS)

lab: ## as root: build the VM lab, once, from Debian's packages into a cache outside this checkout
	@scripts/setup.sh --quiet
	@.venv/bin/python -m lab build

lab-shell: ## virtual machines with weft, a storage node and a host, and a shell in one of them; VM=host1 for the other
	@scripts/setup.sh --quiet
	@.venv/bin/python -m lab shell $(VM)

lab-demo: ## the main job on the real thing: LVM, nvmet, RDMA and TCP, in two virtual machines
	@scripts/setup.sh --quiet
	@.venv/bin/python -m lab build
	@PYTHONPATH=. .venv/bin/python demo/lab_demo.py

test-lab: ## one row for each promise that takes the real kernel, in the VM lab; ARGS="-k words" narrows them
	@scripts/setup.sh --quiet
	@.venv/bin/python -m lab build
	@.venv/bin/python -m pytest -m "lab and not lab_full" $(ARGS)

bench-lab: ## what weft must reach on the real kernel, as ratios, in the VM lab (see bench/README.md); ARGS="--only NAME" for one
	@scripts/setup.sh --quiet
	@.venv/bin/python -m lab build
	@.venv/bin/python -m bench lab $(ARGS)

test-chroot: ## as root: the two commands for a newcomer, in bare Debian 12 and 13 systems; ARGS="trixie" for one
	@scripts/chroot-test.sh $(ARGS)

check-ansible: ## the Ansible collection: ansible-lint by its rules for production, and ansible-test sanity
	@scripts/ansible.sh lint
	@scripts/ansible.sh sanity

format: ## format the code, and mend what the linter can mend by itself
	@scripts/setup.sh --quiet
	@.venv/bin/python -m ruff check --fix-only --quiet .
	@.venv/bin/python -m ruff format .

lock: ## pin requirements/*.txt anew from pyproject.toml, with hashes
	@scripts/setup.sh --quiet
	@scripts/lock.sh $(ARGS)

wheel: ## build the wheel and the source archive into dist/
	@scripts/setup.sh --quiet
	@rm -rf dist
	@.venv/bin/python -m hatchling build

clean: ## remove everything that the other targets made
	@rm -rf .venv .venv-ansible build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name .git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
