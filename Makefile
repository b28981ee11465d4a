# Everything a newcomer needs: `make demo`, `make test`, `make run`, `make bench`.
# The virtual environment is rebuilt whenever the lock changes; only hashed, locked packages go in.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK = 1
unexport PYTHONDONTWRITEBYTECODE  # the tests start many an interpreter: each would compile everything anew

.PHONY: demo run test contract postgres browser fuzz crash litellm vault traces pgbouncer bench lint lock man deploy release clean

$(READY): requirements/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "idsync needs Python 3.11, 3.12 or 3.13 (PYTHON=python3.12 make ...)")'
	@echo "setting up $(VENV) (once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --require-hashes -r requirements/dev.lock
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY) ## the main job on real wire traffic, start to end
	@$(BIN)/idsync demo

run: $(READY) ## daemon on the sandbox, in the foreground
	@$(BIN)/idsync demo --keep

test: $(READY) lint ## every check and every test
	@$(BIN)/pytest -q -n auto --dist worksteal

ON_POSTGRES = IDSYNC_TEST_STORE=postgresql $(BIN)/python tools/with_postgres.py --memory $(BIN)/pytest -q -n auto --dist worksteal

contract: $(READY) ## what every store promises, and the endpoint over it, on a PostgreSQL of its own; CI runs it after `make test`
	@$(ON_POSTGRES) tests/store tests/intake tests/http tests/scim/test_scim_sql.py tests/scim/test_scim_storage.py tests/page/test_page.py

postgres: $(READY) ## every test that has a store, on PostgreSQL
	@$(ON_POSTGRES) --timeout 600 tests --ignore tests/sandbox --ignore tests/gateway --ignore tests/docs --ignore tests/litellm

lint: $(READY)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

browser: $(READY) ## the status page in Debian's chromium; pictures of it go to .run/pictures
	@mkdir -p .run/pictures
	@IDSYNC_SCREENSHOTS=.run/pictures $(BIN)/pytest -q tests/page/test_browser.py

fuzz: $(READY) ## the hostile-input suites at their nightly size; SIZE=1 is that of `make test`
	@IDSYNC_FUZZ=$(or $(SIZE),20) $(BIN)/pytest -q -n auto --dist worksteal --timeout 7200 tests/fuzz tests/differential

crash: $(READY) ## death at every point and at every pair of points, a wave under kill -9, days of trouble; SIZE=1 is that of `make test`
	@IDSYNC_CRASH=$(or $(SIZE),20) IDSYNC_INTERPRETERS=1 $(BIN)/pytest -q -n auto --dist worksteal --timeout 7200 tests/crash tests/drill/test_drill_kill.py tests/engine/test_faults.py

litellm: $(READY) ## tests of the engine at a real LiteLLM proxy; skips with a reason where that cannot be had
	@$(BIN)/python tools/litellm

vault: $(READY) ## tests of the Vault sink at a real server: IDSYNC_VAULT names `vault` or `bao`, else OpenBao is fetched
	@test -n "$(IDSYNC_VAULT)" || { $(PYTHON) -m venv .venv-vault && .venv-vault/bin/pip install --quiet --require-hashes -r requirements/vault.lock; }
	@IDSYNC_VAULT=$(or $(IDSYNC_VAULT),.venv-vault/bin/bao) $(BIN)/pytest -q tests/sinks/test_sink_vault.py

.venv-traces/.installed: requirements/dev.lock requirements/otel.lock pyproject.toml
	@$(PYTHON) -m venv .venv-traces
	@.venv-traces/bin/pip install --quiet --require-hashes -r requirements/dev.lock
	@.venv-traces/bin/pip install --quiet --require-hashes -r requirements/otel.lock
	@.venv-traces/bin/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

traces: .venv-traces/.installed ## tests of OpenTelemetry, which `make test` skips: it is an extra
	@.venv-traces/bin/pytest -q tests/traces

pgbouncer: $(READY) ## idsync behind PgBouncer and through a rolling upgrade, on PostgreSQL; installs both where this is root on Debian
	@command -v pgbouncer >/dev/null || test -x /usr/sbin/pgbouncer || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends pgbouncer >/dev/null; } || { echo "PgBouncer is not installed; on Debian: apt install pgbouncer"; exit 1; }
	@$(BIN)/python tools/with_postgres.py $(BIN)/pytest -q tests/pooler tests/rolling
	@IDSYNC_TEST_STORE=postgresql IDSYNC_TEST_LATER=1 $(BIN)/python tools/with_postgres.py $(BIN)/pytest -q tests/replicas tests/store/test_store_jobs.py tests/store/test_store_ledger.py tests/store/test_store_verdicts.py

bench: $(READY) ## ratios and percentiles; never part of the tests
	@$(BIN)/python -m bench

man: $(READY) ## dist/man/idsync.1, from the commands
	@$(BIN)/python tools/man_page.py dist/man/idsync.1

.venv-deploy/.installed: requirements/deploy.lock
	@$(PYTHON) -m venv .venv-deploy
	@.venv-deploy/bin/pip install --quiet --require-hashes -r requirements/deploy.lock
	@touch $@

deploy: .venv-deploy/.installed ## deploy/ and the Dockerfile, tried by the tools that read them
	@.venv-deploy/bin/python tools/deploy_check.py

.venv-release/.installed: requirements/release.lock
	@$(PYTHON) -m venv .venv-release
	@.venv-release/bin/pip install --quiet --require-hashes -r requirements/release.lock
	@touch $@

release: .venv-release/.installed ## dist/: built twice, bill of materials, licences, vulnerabilities; TRIAL=1 without a tag
	@.venv-release/bin/python tools/release.py $(if $(TRIAL),--trial)

lock: ## refresh requirements/*.lock (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links pyproject.toml -o requirements/runtime.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links pyproject.toml --group dev -o requirements/dev.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --override requirements/litellm.overrides requirements/litellm.in -o requirements/litellm.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links requirements/vault.in -o requirements/vault.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --constraint requirements/dev.lock pyproject.toml --extra otel -o requirements/otel.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --constraint requirements/dev.lock pyproject.toml --extra postgres -o requirements/postgres.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links requirements/release.in -o requirements/release.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links requirements/deploy.in -o requirements/deploy.lock

clean:
	rm -rf $(VENV) .venv-litellm .venv-vault .venv-traces .venv-release .venv-deploy dist .run .pytest_cache .mypy_cache .ruff_cache
