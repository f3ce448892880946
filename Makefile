# depthfield: each step as a target. The commands in bin/ do the work; this file holds their settings.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Settings: make train STEPS=2000 RUNID=second
PYTHON     ?= python3#           Python to set up with, 3.11.4 or newer
DATA_DIR   ?= ./data#            folder of the datasets
RUN_DIR    ?= ./runs#            folder of the runs
DATASET    ?= rooms#             dataset for train, distributed, evaluate and reproduce
MODEL      ?= small
RECIPE     ?= $(MODEL)#          recipe in lib/recipes, or path of a .toml file; old name: MODEL [small]
RUNID      ?= $(DATASET)-$(notdir $(basename $(RECIPE)))#  name of the run, its folder in RUN_DIR [DATASET-RECIPE]
SET        ?=#                   changes to the recipe's settings: SET="loss=unary seed=1"
PROTOCOL   ?=#                   reproduce: score-depth's protocols [those of the paper]; compare: one, with the paper's rows
INIT       ?=#                   train: start with weights of a run, a file or imagenet [reproduce RECIPE=fcsp: imagenet]
STEPS      ?=#                   total number of training steps [the recipe's]
BATCHSIZE  ?=#                   photos per step of one worker [the recipe's]
WORKERS    ?= 2#                 distributed: number of workers
PS_NODES   ?= 1#                 distributed: number of parameter servers; 0: workers train in step, by all-reduce
GRID       ?=#                   no: do not use Grid Engine in distributed and test
PE         ?=#                   distributed: parallel environment to submit to; if empty, array jobs
REQUEST    ?=#                   distributed: arguments of qsub for the job, such as -l h_vmem=4G (per slot)
WORKER_REQUEST ?=#               distributed: arguments of qsub for workers in array jobs, such as -l gpu=1
PS_REQUEST ?=#                   distributed: arguments of qsub for parameter servers in array jobs
SLOTS_PER_NODE ?=#               distributed: slots and cores of each node [1]
MEMORY     ?=#                   distributed: memory of each node, such as 8G; requested in the grid's own way
GPUS_PER_SLOT ?=#                distributed: GPUs that the job gets with each slot
GRID_QUEUES ?=#                  distributed: queues for the job and its nodes, as in qsub -q [all]
WAIT       ?=#                   distributed: seconds to wait for slots and nodes [array jobs: 3600, otherwise 120]
CKPT_FREQ  ?=#                   seconds between checkpoints [the recipe's]
SUM_FREQ   ?=#                   seconds between lines of metrics [the recipe's]
TIMEOUT    ?=#                   stop after this many seconds with everything saved, exit status 99
COUNT      ?=#                   download, demo: numbers of training and test rooms to render, such as 40,10
SIZE       ?=#                   download, demo: height and width of the rooms in pixels, such as 72x96
SUPERPIXELS ?=#                  preprocess: number of superpixels at 640x480, or grid:PIXELS [700; reproduce: the authors']
WIDTH      ?=#                   preprocess: shrink photos wider than this
HEIGHT     ?=#                   preprocess: shrink photos taller than this
START      ?=#                   preprocess: number of photos to skip at the start
LIMIT      ?=#                   preprocess: maximum number of photos
FORCE      ?=#                   1: redo what is there already
PHOTOS     ?=#                   predict: photos or folders of photos
RUN        ?= $(RUN_DIR)/$(RUNID)#  predict, report, export: the run's folder
PREFIX     ?= ~/.local#         install-user: folder that gets bin/, share/man/ and completion
RUNS       ?=#                   compare: folders of runs [all in RUN_DIR]
FORMAT     ?= text#              compare: text, csv, markdown or latex
TB_PORT    ?= 5003#              port of TensorBoard
JOBS       ?= 4#                 test: number of tests that run at once, each with a grid of its own

settings := DATA_DIR RUN_DIR DATASET RECIPE RUNID STEPS BATCHSIZE WORKERS PS_NODES CKPT_FREQ SUM_FREQ TIMEOUT \
	PE REQUEST WORKER_REQUEST PS_REQUEST SLOTS_PER_NODE MEMORY GPUS_PER_SLOT GRID_QUEUES WAIT
export $(settings) GRID
# Tests choose their own settings; those given to make reach what they start by the environment and by MAKEFLAGS.
all_settings := $(shell sed -nE 's/^([A-Z_]+) +\?=.*/\1/p' $(firstword $(MAKEFILE_LIST)))
without_settings = env $(addprefix -u ,$(filter-out GRID,$(all_settings)) MAKEFLAGS MAKELEVEL)
pytest = $(without_settings) .venv/bin/python -m pytest -n $(JOBS) --dist loadgroup

# download, preprocess and convert take names of datasets as further goals: make download make3d1 make3d2 nyu
ifneq ($(filter download preprocess convert,$(firstword $(MAKECMDGOALS))),)
NAMES := $(filter-out download preprocess convert,$(MAKECMDGOALS))
$(foreach name,$(NAMES),$(eval .PHONY: $(name))$(eval $(name): ;@:))
endif
NAMES := $(or $(NAMES),$(DATASET))

force := $(if $(FORCE),--force)
option = $(if $($(1)),$(2) $($(1)))
rendering = $(call option,COUNT,--count) $(call option,SIZE,--size)
patching = $(force) $(call option,SUPERPIXELS,--superpixels) $(call option,WIDTH,--width) \
	$(call option,HEIGHT,--height) $(call option,START,--start) $(call option,LIMIT,--limit)
changes = $(SET:%=--set %) $(call option,INIT,--init)
training = --recipe $(RECIPE) --run $(RUN_DIR)/$(RUNID) $(call option,STEPS,--steps) $(call option,TIMEOUT,--timeout) \
	$(if $(BATCHSIZE),--set batch_size=$(BATCHSIZE)) $(if $(CKPT_FREQ),--set checkpoint_seconds=$(CKPT_FREQ)) \
	$(if $(SUM_FREQ),--set summary_seconds=$(SUM_FREQ)) $(changes)
records = $(DATA_DIR)/$(DATASET)/records

.PHONY: help install datasets download preprocess convert train distributed status logs stop evaluate reproduce \
	reproducible predict export tb report compare man install-user uninstall-user wheel demo test test-long test-ecosystem lint working-notes trial \
	grid-packages test-packages grid-test grid-demo bench-grid bench-field bench-scale

help: ## show this help
	@echo "targets:"
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18
	@echo "settings (example: make train STEPS=2000):"
	@sed -nE 's/^([A-Z_]+) +\?= *([^#]*)#+ *(.*)/\1\t\3\t\2/p' $(MAKEFILE_LIST) | \
		awk -F '\t' '{ printf "  %-16s%s%s\n", $$1, $$2, $$3 == "" || $$3 ~ /[$$]/ ? "" : " [" $$3 "]" }'

install: .venv/installed ## set up .venv with everything that the commands need

.venv/installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) > /dev/null || { echo '$(PYTHON): not found; install Python 3.11.4 or newer' \
		'(Debian: apt install python3 python3-venv), or name it: make PYTHON=...' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 4))' || { echo "$(PYTHON): $$($(PYTHON) --version 2>&1)" \
		'is too old; install Python 3.11.4 or newer, and name it: make PYTHON=...' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { echo '$(PYTHON): cannot make environments;' \
		'install its venv module (Debian: apt install python3-venv)' >&2; exit 1; }
	@echo "setting up .venv (once; takes a few minutes)" >&2
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@
	@echo "done; next: make demo, or make help" >&2

datasets: install ## list the available datasets, with licence and citation
	@bin/fetch-dataset --list

download: install ## fetch or render datasets: make download make3d1 make3d2 nyu
	$(strip bin/fetch-dataset $(force) $(rendering) $(NAMES))

preprocess: install ## make patch files of photos: make preprocess rooms
	printf '%s\n' $(NAMES:%=$(DATA_DIR)/%/raw) | $(strip bin/make-patches $(patching)) > /dev/null

convert: install ## pack patch files into TFRecord shards: make convert rooms
	$(strip bin/to-tfrecord $(force) $(NAMES:%=$(DATA_DIR)/%/patches))

train: install ## train RECIPE on DATASET in one process
	$(strip bin/train-depth $(training) $(records)/train-*.tfrecord)

distributed: install ## train with WORKERS workers and PS_NODES parameter servers, on the grid if there is one
	@sge/cluster.sh $(changes)

status: install ## show the state of the run RUNID, and why it waits or has ended
	@bin/cluster-status --run $(RUN_DIR)/$(RUNID)

logs: install ## follow the logs of all nodes of the run RUNID
	@bin/follow-logs --run $(RUN_DIR)/$(RUNID)

stop: install ## stop the run RUNID of distributed, with everything saved
	@bin/stop-cluster --run $(RUN_DIR)/$(RUNID)

evaluate: install ## score the run RUNID on the test photos of DATASET
	bin/score-depth --run $(RUN_DIR)/$(RUNID) --save $(RUN_DIR)/$(RUNID)/scores.json $(records)/test-*.tfrecord

# The authors' superpixels cover 20×20 pixels of NYU's 640×480, and 16×16 of Make3D's photos resized to 600×450
# (init_dcnf.m): about 768 and 1055 per photo. Our Make3D photos have 460×345 pixels, where 1055 means 2042 at 640×480.
superpixels_of_nyu := 768
superpixels_of_make3d1 := 2042
superpixels_of_make3d2 := 2042
protocols_of_nyu := nyu nyu-eigen
protocols_of_rooms := nyu nyu-eigen
protocols_of_make3d1 := make3d-c1 make3d-c2
protocols_of_make3d2 := make3d-c1 make3d-c2
protocols = $(or $(protocols_of_$(DATASET)),nyu nyu-eigen make3d-c1 make3d-c2)
reproduce: SUPERPIXELS := $(or $(SUPERPIXELS),$(superpixels_of_$(DATASET)))
reproduce: INIT := $(or $(INIT),$(if $(filter fcsp,$(RECIPE)),imagenet))
reproduce: PROTOCOL := $(or $(PROTOCOL),$(if $(filter make3d%,$(DATASET)),make3d-c1 make3d-c2,nyu))
reproduce: reproducible download preprocess convert train ## download to train, then scores beside the paper's: make reproduce DATASET=nyu RECIPE=fcsp
	@status=0; for protocol in $(PROTOCOL); do \
	bin/score-depth --protocol $$protocol --published --run $(RUN_DIR)/$(RUNID) \
		--save $(RUN_DIR)/$(RUNID)/$$protocol.json $(DATA_DIR)/$(DATASET)/raw || status=$$?; done; exit $$status

# Before hours of preparation: recipe, settings, first weights and protocols.
reproducible: install
	@wrong='$(filter-out $(protocols),$(PROTOCOL))'; test -z "$$wrong" || \
		{ echo "PROTOCOL takes some of $(protocols) for $(DATASET), not $$wrong" >&2; exit 2; }
	bin/train-depth --check $(training)

.NOTPARALLEL: # each step of reproduce reads the output of the one before

# Without a setting that names a run, predict-depth chooses one, and writes to its own folder.
named = $(filter-out file,$(foreach setting,RUN RUNID DATASET RECIPE MODEL,$(origin $(setting))))
predict: install ## predict the depth of PHOTOS with RUN, or the newest: make predict PHOTOS="holiday.jpg more/"
	@test -n '$(PHOTOS)' || { echo 'PHOTOS is not set; name photos: make predict PHOTOS="holiday.jpg more/"' >&2; exit 2; }
	bin/predict-depth$(if $(named), --run $(RUN) --out $(RUN)/predictions) --picture --uncertainty $(PHOTOS)

report: install ## write one HTML page about RUN, with the test photos of its dataset
	bin/report-run $(RUN)

compare: install ## print a table of RUNS: make compare FORMAT=markdown
	@bin/compare-runs --format $(FORMAT) $(if $(PROTOCOL),--scores $(PROTOCOL) --published) $(or $(RUNS),$(patsubst %/,%,$(wildcard $(RUN_DIR)/*/)))

export: install ## write the run RUN as a TensorFlow SavedModel, RUN/model: make export RUN=runs/first
	bin/export-model --run $(RUN)

tb: install ## show all runs in TensorBoard, on TB_PORT
	.venv/bin/tensorboard --logdir $(RUN_DIR) --port $(TB_PORT)

man: install ## write a manual page for each command to build/man
	.venv/bin/python -m depthfield.manual pages build/man

install-user: install ## link the commands into PREFIX/bin, with manual pages and completion for bash and zsh
	@.venv/bin/python -m depthfield.manual install '$(PREFIX)'

uninstall-user: install ## remove from PREFIX what install-user put there, and nothing else
	@.venv/bin/python -m depthfield.manual uninstall '$(PREFIX)'

wheel: install ## build a package for pip, with commands, recipes and catalogue inside, in build/wheel
	rm -rf build/wheel
	.venv/bin/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheel .
	@ls build/wheel/*.whl

# Each demo is a new run, on a dataset of its own. The last line on stdout is for scripts.
demo: install ## run everything in minutes: render rooms, train with 1 ps and 2 workers, score, draw pictures
	@begun=$$(date +%s); run=$(RUN_DIR)/demo-$$(date +%Y%m%d-%H%M%S); records=$(DATA_DIR)/demo-rooms/records; \
	bin/fetch-dataset $(rendering) --as demo-rooms rooms | bin/make-patches | bin/to-tfrecord > /dev/null; \
	GRID=no DATASET=demo-rooms RECIPE=demo RUNID=$${run##*/} PS_NODES=1 WORKERS=2 sge/cluster.sh > /dev/null; \
	bin/score-depth --run $$run --save $$run/scores.json --pictures $$run/pictures $$records/test-*.tfrecord 2> $$run/logs/score.log; \
	printf 'photo | truth | prediction | uncertainty:\n'; ls $$run/pictures/*.png; \
	echo "a photo of yours: bin/predict-depth --picture PHOTO (this run has seen rendered rooms only)" >&2; \
	.venv/bin/python -c 'import json, sys; s = json.load(open(sys.argv[1])); \
	field, mean = (s[k]["pooled over pixels"]["rel"] for k in ("field", "mean depth")); \
	print(f"demo: rel {field:.3f} baseline {mean:.3f} ratio {field / mean:.3f} seconds {sys.argv[2]}")' \
	$$run/scores.json $$(($$(date +%s) - begun))

test: install lint test-packages ## check the code and run all tests except the long ones
	$(pytest)

grid-packages: # install Grid Engine for its tests, as root on Debian; GRID=no skips it
	@tests/packages grid

test-packages: # install Grid Engine, Chromium for the tests of web pages, zsh and mandoc for those of the manual
	@tests/packages grid browser manual

test-long: install test-packages ## run the long tests, which wait for time limits and the like
	$(pytest) -m long

# TensorFlow Datasets and Hugging Face's datasets, for the tests of what they read. They use the rest from .venv, except
# protobuf: TensorFlow Datasets needs an older one.
site-packages = import sysconfig; print(sysconfig.get_path("purelib"))
build/ecosystem/installed: tests/ecosystem.txt .venv/installed
	.venv/bin/python -m venv build/ecosystem
	.venv/bin/python -c '$(site-packages)' > $$(build/ecosystem/bin/python -c '$(site-packages)')/project.pth
	build/ecosystem/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

test-ecosystem: install build/ecosystem/installed ## test that TensorFlow Datasets and Hugging Face's datasets read records
	PYTHONPATH=$(CURDIR)/lib $(without_settings) build/ecosystem/bin/python -m pytest -n 0 tests/tools/test_ecosystem.py

grid-test: install grid-packages ## run only the tests on a real Grid Engine (root, Debian)
	$(pytest) tests/grid

grid-demo: install grid-packages ## boot a Grid Engine of four hosts on this machine and train on it (root, Debian)
	@tests/grid/demo

bench-grid: install grid-packages ## measure speed on that grid, beside its limits
	@PYTHONPATH=tests .venv/bin/python -m grid.bench

bench-field: install ## measure field and recipes, beside their limits (hours): PARTS="parts rooms" REAL=folder
	@TF_CPP_MIN_LOG_LEVEL=3 PYTHONPATH=tests:lib .venv/bin/python -m bench.field $(PARTS)

# PyTorch, for comparison (tests/bench/peers); nothing else in the project needs it.
build/peers/installed: tests/bench/peers/requirements.txt
	$(PYTHON) -m venv build/peers
	build/peers/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

bench-scale: install grid-packages build/peers/installed ## measure how training scales, beside its limits: PARTS="loopback links"
	@TF_CPP_MIN_LOG_LEVEL=3 PYTHONPATH=tests:lib .venv/bin/python -m bench.scale $(PARTS)

# Words of working notes, which do not belong in a commit; the brackets keep this line from matching itself.
notes := [t]odo|[f]ixme|[x]xx|[h]ack|[n]ote (from|to|for)|[w]hen read

working-notes:
	@! git grep -nwiE '$(notes)' || { echo 'remove these working notes' >&2; exit 1; }

lint: install working-notes
	.venv/bin/ruff check lib bin tests setup.py
	.venv/bin/shellcheck -x lib/*.sh sge/*.sh tests/*.sh tests/packages tests/grid/demo .ci/run
	@for section in post environment runscript test; do awk -v name=%$$section '/^%/ { on = $$1 == name; next } on' \
		sge/depthfield.def | .venv/bin/shellcheck --shell sh - || { echo "sge/depthfield.def: %$$section" >&2; exit 1; }; done
	.venv/bin/lint-imports --no-logo

trial: install ## run every step on REAL, a folder of photos with depth: make trial REAL=../photos/tabletop
	@test -n '$(REAL)' || { echo 'REAL is not set; name a folder with train/ and test/: make trial REAL=some/folder' >&2; exit 2; }
	DATA_DIR=$(DATA_DIR) tests/trial.sh $(REAL)
