# Two commands matter: `make demo` runs the main job, `make test` installs all it needs and runs every test.

VENV := .venv
BARE := .venv-bare
LOWEST := .venv-lowest
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test check bare coverage test-acceptance test-lowest bench clean help

help:
	@echo "make demo             the main job: a few hundred image calls, cached, and what that saved"
	@echo "make test             install all that is needed, lint, check types, run every test"
	@echo "make coverage         what the tests of core, dialects and ledger cover: 95 % of lines and branches, or it fails"
	@echo "make test-acceptance  soaks and long fault runs"
	@echo "make test-lowest      the tests with the oldest dependencies that pyproject.toml allows"
	@echo "make bench            timings, each a ratio against a floor or a peer of the same run"
	@echo "make clean            remove environments and caches"

demo: $(VENV)/.demo
	@$(BIN)/cachelayer demo

# What fails beside thousands of others on two cores must fail alone too: some tests race processes against each other.
test: check bare
	$(BIN)/pytest -n 2 -p no:benchmark -m "not acceptance" \
		|| $(BIN)/pytest --last-failed --last-failed-no-failures none -p no:benchmark -m "not acceptance"

check: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The built wheel alone, no extra installed and no source beside it: it imports, wraps httpx, and its whole command line
# answers. Built through the source distribution, so that one is tried out as well.
bare: $(VENV)/.test $(BARE)/.bare
	rm -rf $(BARE)/dist
	$(BIN)/python -m build --no-isolation --outdir $(BARE)/dist >$(BARE)/build.log || { cat $(BARE)/build.log; exit 1; }
	$(BARE)/bin/python -m pip install -q --no-index --no-deps --force-reinstall $(BARE)/dist/*.whl
	cd $(BARE)/dist && ../bin/python $(CURDIR)/tests/bare_install.py *.tar.gz

# Apart from `make test`, since tracing more than doubles a test. What other rooms' tests run does not count, nor does
# what a child process runs: a room's own tests cover it.
coverage: $(VENV)/.test
	$(BIN)/pytest -n 2 -q -p no:benchmark -m "not acceptance" --hypothesis-profile coverage --cov --cov-report=term \
		tests/core tests/dialects tests/ledger

test-acceptance: $(VENV)/.test
	$(BIN)/pytest -p no:benchmark -m acceptance --timeout 1800

test-lowest: $(LOWEST)/.lowest
	$(LOWEST)/bin/pytest -n 2 -p no:benchmark -m "not acceptance"

bench: $(VENV)/.test
	$(BIN)/pytest bench --benchmark-columns=median,iqr,rounds --benchmark-sort=name

$(VENV)/.demo: pyproject.toml scripts/venv.sh
	@scripts/venv.sh $(VENV)
	@$(BIN)/python -m pip install -q -e '.[demo]'
	@touch $@

$(VENV)/.test: pyproject.toml scripts/venv.sh
	@scripts/venv.sh $(VENV)
	$(BIN)/python -m pip install -q -e '.[all]' --group dev
	@touch $@ $(VENV)/.demo

$(BARE)/.bare: pyproject.toml scripts/venv.sh
	@scripts/venv.sh $(BARE)
	$(BARE)/bin/python -m pip install -q .
	@touch $@

$(LOWEST)/.lowest: pyproject.toml scripts/venv.sh
	@scripts/venv.sh $(LOWEST)
	$(LOWEST)/bin/python -m pip install -q uv
	$(LOWEST)/bin/uv pip install -q --python $(LOWEST)/bin/python --resolution lowest-direct -e '.[all]' --group dev
	@touch $@

clean:
	rm -rf $(VENV) $(BARE) $(LOWEST) .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks
