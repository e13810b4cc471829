# make demo     every analysis on real CoinRun at a small size, ending in a report
# make lint     ruff: format and rules
# make test     lint and fast tests, about ten minutes on two cores
# make test-full  slow tests too, and the demo on a second game
# make slurm    tests on a real Slurm cluster of one node, which it installs (Debian, as root) and starts
# make s3       tests of stores in S3, on a server that it installs into .venv/s3
# make faults   scripts that write are killed, stopped, starved of disk and doubled: an hour on one core
# make fuzz     10,000 hostile files for every reader: an hour on one core
# make results  pages with quoted numbers, from docs/templates and the artefacts
# make docs     the documentation as a site, site/index.html

VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo lint test test-full slurm s3 faults fuzz results docs clean

demo: $(VENV)/installed
	$(BIN)/python demo.py

lint: $(VENV)/installed
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m "not slow and not s3" --durations=20

test-full: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m "not s3" --durations=20
	$(BIN)/python demo.py --env_name jumper --num_batches 500 --out_dir demo/jumper

slurm: $(VENV)/installed
	cluster=$$(sh slurm/install_one_node.sh) && eval "$$cluster" && $(BIN)/python -m pytest -q -m slurm tests/slurm
	sh slurm/install_one_node.sh stop

s3: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/s3 \
		-r requirements-s3.txt
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m s3 tests/rollouts

faults: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.faults

fuzz: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.fuzz

results: $(VENV)/installed
	$(BIN)/python -m analysis.results

docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site/index.html; with search: $(BIN)/python -m http.server --directory site"

$(VENV)/installed: requirements.txt pyproject.toml
	python=$$(sh .ci/find_python.sh $(PYTHON)) && $$python -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf $(VENV)
