# Everything is set up by the targets themselves: `make demo` and `make test` work on a fresh clone.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup demo test lint bench soak clean
setup: $(STAMP)

$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "python3 is missing: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: apt-get install python3.11 python3.11-venv"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "venv is missing: apt-get install python3-venv"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: setup
	$(BIN)/drkit drill run region-loss --env sandbox

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests/cli/conftest.py
	$(BIN)/mypy tests/drills/conftest.py
	$(BIN)/lint-imports

# Two at a time: most of them wait for real parts. Which are in one hand is in tests/conftest.py.
test: lint
	$(BIN)/python -m pytest -m 'not soak' -n 2 --no-loadscope-reorder

# Among them: faults on a virtual machine with systemd, which only root can make. The last line alone is some 450 real
# drills, each in a sandbox of its own: ten to twenty hours on one machine. Spread them over N of them with PART=1/N,
# 2/N, ...; a part that was cut off is begun again.
PART ?= 1/1
soak: setup
	.ci/have qemu-system-x86_64=qemu-system-x86 debootstrap=debootstrap mkfs.ext4=e2fsprogs openssl=openssl
	$(BIN)/python -m pytest -m soak
	$(BIN)/drkit drill matrix reliabletech --env sandbox --part $(PART)

bench: setup
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf .vm .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
