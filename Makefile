# depthfield: every step as a target. The commands in bin/ do the work; this file names them and their settings.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Settings: make train STEPS=2000 RUNID=second
PYTHON     ?= python3#           the Python to set up with, 3.11.4 or newer
DATA_DIR   ?= ./data#            where datasets live
RUN_DIR    ?= ./runs#            where runs live
DATASET    ?= rooms#             the dataset of train, distributed, evaluate, reproduce
MODEL      ?= small
RECIPE     ?= $(MODEL)#          a recipe of lib/recipes, or a .toml file (MODEL is its older name)
RUNID      ?= $(DATASET)-$(notdir $(basename $(RECIPE)))#  the run's folder in RUN_DIR
SET        ?=#                   settings of the recipe to change: SET="loss=unary seed=1"
PROTOCOL   ?=#                   reproduce: by which score-depth measures (else those that the paper has of DATASET)
INIT       ?=#                   train: weights to begin with, a run, a file or imagenet (reproduce of fcsp: imagenet)
STEPS      ?=#                   training steps in all (the recipe's own otherwise)
BATCHSIZE  ?=#                   photos a step of one worker
WORKERS    ?= 2#                 workers of distributed
PS_NODES   ?= 1#                 parameter servers of distributed; 0: workers train in step, by all-reduce
GRID       ?=#                   no: distributed and test leave Grid Engine alone
PE         ?=#                   distributed: the parallel environment to submit to; none: array jobs
REQUEST    ?=#                   distributed: qsub's arguments for the job, as -l h_vmem=4G (a slot)
WORKER_REQUEST ?=#               the same for the workers of array jobs, as -l gpu=1
PS_REQUEST ?=#                   the same for their parameter servers
SLOTS_PER_NODE ?=#               slots, and cores, of each node of a job [1]
MEMORY     ?=#                   distributed: memory of each node, as 8G; asked for as the grid counts it
GPUS_PER_SLOT ?=#                distributed: GPUs that the job was given with each slot
GRID_QUEUES ?=#                  distributed: queues that job and nodes may use, as for qsub -q [all]
WAIT       ?=#                   distributed: seconds to wait for slots and nodes
CKPT_FREQ  ?=#                   seconds between checkpoints
SUM_FREQ   ?=#                   seconds between lines of metrics
TIMEOUT    ?=#                   stop after so many seconds with everything saved, status 99
SUPERPIXELS ?=#                  preprocess: about so many at 640x480, or grid:PIXELS (reproduce: the authors')
WIDTH      ?=#                   preprocess: make wider photos smaller
HEIGHT     ?=#                   preprocess: make higher photos smaller
START      ?=#                   preprocess: leave out the first photos
LIMIT      ?=#                   preprocess: take no more photos
FORCE      ?=#                   1: do again what is there already
PHOTOS     ?=#                   predict: files or folders
RUN        ?= $(RUN_DIR)/$(RUNID)#  export: the run's folder
RUNS       ?=#                   compare: folders of runs (all in RUN_DIR otherwise)
FORMAT     ?= text#              compare: text, csv, markdown or latex
TB_PORT    ?= 5003#              TensorBoard's port
JOBS       ?= 4#                 test: how many tests run at once; each of these boots a grid of its own

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
changes = $(SET:%=--set %) $(call option,INIT,--init)
training = --recipe $(RECIPE) --run $(RUN_DIR)/$(RUNID) $(call option,STEPS,--steps) $(call option,TIMEOUT,--timeout) \
	$(if $(BATCHSIZE),--set batch_size=$(BATCHSIZE)) $(if $(CKPT_FREQ),--set checkpoint_seconds=$(CKPT_FREQ)) \
	$(if $(SUM_FREQ),--set summary_seconds=$(SUM_FREQ)) $(changes)
records = $(DATA_DIR)/$(DATASET)/records

.PHONY: help install datasets download preprocess convert train distributed status logs stop evaluate reproduce predict export \
	tb report compare demo test test-long lint working-notes trial grid-packages test-packages grid-test grid-demo bench-grid bench-field bench-scale

help: ## show this
	@echo "targets:"
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16
	@echo "settings, as make train STEPS=2000:"
	@sed -nE 's/^([A-Z_]+) +\?= *([^#]*)#+ *(.*)/\1\t\3\t\2/p' $(MAKEFILE_LIST) | \
		awk -F '\t' '{ printf "  %-16s%s%s\n", $$1, $$2, $$3 == "" ? "" : " [" $$3 "]" }'

install: .venv/installed ## set up .venv with all that the commands need

.venv/installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) > /dev/null || { echo '$(PYTHON): not found; install Python 3.11.4 or newer' \
		'(Debian: apt install python3 python3-venv), or name it: make PYTHON=...' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 4))' || { echo "$(PYTHON): $$($(PYTHON) --version 2>&1)" \
		'is too old; install Python 3.11.4 or newer, and name it: make PYTHON=...' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { echo '$(PYTHON): cannot make environments;' \
		'install its venv (Debian: apt install python3-venv)' >&2; exit 1; }
	@echo "setting up .venv (some minutes, once)" >&2
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@

datasets: install ## list the datasets there are
	@bin/fetch-dataset --list

download: install ## fetch or render datasets: make download make3d1 make3d2 nyu
	bin/fetch-dataset $(force) $(NAMES)

preprocess: install ## divide photos into superpixels: make preprocess rooms
	printf '%s\n' $(NAMES:%=$(DATA_DIR)/%/raw) | bin/make-patches $(force) \
		$(call option,SUPERPIXELS,--superpixels) $(call option,WIDTH,--width) $(call option,HEIGHT,--height) \
		$(call option,START,--start) $(call option,LIMIT,--limit) > /dev/null

convert: install ## pack patches into TFRecord shards: make convert rooms
	bin/to-tfrecord $(force) $(NAMES:%=$(DATA_DIR)/%/patches)

train: install ## train RECIPE on DATASET in one process
	bin/train-depth $(training) $(records)/train-*.tfrecord

distributed: install ## the same with WORKERS workers and PS_NODES parameter servers, on the grid if there is one
	sge/cluster.sh $(changes)

status: install ## show the state of the run RUNID: its nodes, its last step and checkpoint, why it died
	@bin/cluster-status --run $(RUN_DIR)/$(RUNID)

logs: install ## follow the logs of all nodes of the run RUNID, each line with its node
	@bin/follow-logs --run $(RUN_DIR)/$(RUNID)

stop: install ## end the run RUNID of distributed, with everything saved, and nothing else
	@bin/stop-cluster --run $(RUN_DIR)/$(RUNID)

evaluate: install ## score the run RUNID on the test photos of DATASET
	bin/score-depth --run $(RUN_DIR)/$(RUNID) --save $(RUN_DIR)/$(RUNID)/scores.json $(records)/test-*.tfrecord

# The authors' superpixels have 20×20 pixels of NYU's 640×480, and 16×16 where Make3D's photos are made 600×450
# (init_dcnf.m): some 768 and 1055 a photo. Our Make3D photos have 460×345 pixels, 1055 of which are 2042 at 640×480.
superpixels_of_nyu := 768
superpixels_of_make3d1 := 2042
superpixels_of_make3d2 := 2042
reproduce: SUPERPIXELS := $(or $(SUPERPIXELS),$(superpixels_of_$(DATASET)))
reproduce: INIT := $(or $(INIT),$(if $(filter fcsp,$(RECIPE)),imagenet))
reproduce: PROTOCOL := $(or $(PROTOCOL),$(if $(filter make3d%,$(DATASET)),make3d-c1 make3d-c2,nyu))
reproduce: download preprocess convert train ## all of it, and the scores beside the paper's: DATASET=nyu RECIPE=fcsp
	@status=0; for protocol in $(PROTOCOL); do \
	bin/score-depth --protocol $$protocol --published --run $(RUN_DIR)/$(RUNID) \
		--save $(RUN_DIR)/$(RUNID)/$$protocol.json $(DATA_DIR)/$(DATASET)/raw || status=$$?; done; exit $$status

.NOTPARALLEL: # each step of reproduce reads what the one before wrote

predict: install ## the depth of PHOTOS by the run RUNID: make predict PHOTOS="holiday.jpg more/"
	@test -n '$(PHOTOS)' || { echo 'name photos: make predict PHOTOS="holiday.jpg more/"' >&2; exit 2; }
	bin/predict-depth --run $(RUN_DIR)/$(RUNID) --out $(RUN_DIR)/$(RUNID)/predictions --picture --uncertainty $(PHOTOS)

report: install ## one page of HTML about the run RUNID, with the test photos of DATASET
	bin/report-run $(RUN_DIR)/$(RUNID) $(wildcard $(records)/test-*.tfrecord)

compare: install ## a table of RUNS: make compare FORMAT=markdown
	@bin/compare-runs --format $(FORMAT) $(or $(RUNS),$(patsubst %/,%,$(wildcard $(RUN_DIR)/*/)))

export: install ## the run RUN as a SavedModel, RUN/model, that predicts without this code: make export RUN=runs/first
	bin/export-model --run $(RUN)

tb: install ## TensorBoard over all runs, on TB_PORT
	.venv/bin/tensorboard --logdir $(RUN_DIR) --port $(TB_PORT)

# Each demo is a run of its own, on rooms of its own. The last line on stdout is for scripts.
demo: install ## rooms, patches, records, training with 1 ps and 2 workers, scores, pictures: all of it, in minutes
	@begun=$$(date +%s); run=$(RUN_DIR)/demo-$$(date +%Y%m%d-%H%M%S); records=$(DATA_DIR)/demo-rooms/records; \
	bin/fetch-dataset --as demo-rooms rooms | bin/make-patches | bin/to-tfrecord > /dev/null; \
	GRID=no DATASET=demo-rooms RECIPE=demo RUNID=$${run##*/} PS_NODES=1 WORKERS=2 sge/cluster.sh > /dev/null; \
	bin/score-depth --run $$run --save $$run/scores.json --pictures $$run/pictures $$records/test-*.tfrecord 2> $$run/logs/score.log; \
	printf 'photo | truth | prediction | uncertainty:\n'; ls $$run/pictures/*.png; \
	.venv/bin/python -c 'import json, sys; s = json.load(open(sys.argv[1])); \
	field, mean = (s[k]["pooled over pixels"]["rel"] for k in ("field", "mean depth")); \
	print(f"demo: rel {field:.3f} baseline {mean:.3f} ratio {field / mean:.3f} seconds {sys.argv[2]}")' \
	$$run/scores.json $$(($$(date +%s) - begun))

test: install lint test-packages ## check the code and run every test but the long ones
	$(pytest)

grid-packages: # Grid Engine for its tests, where this is root on Debian; GRID=no declines
	@tests/packages grid

test-packages: # the same, and Chromium for the tests of web pages
	@tests/packages grid browser

test-long: install test-packages ## the tests that wait for time limits, or take long for other reasons
	$(pytest) -m long

grid-test: install grid-packages ## the tests on a real Grid Engine alone (root, Debian)
	$(pytest) tests/grid

grid-demo: install grid-packages ## boot a Grid Engine of four hosts here, and train on it (root, Debian)
	@tests/grid/demo

bench-grid: install grid-packages ## how fast it is on that grid, beside its bars
	@PYTHONPATH=tests .venv/bin/python -m grid.bench

bench-field: install ## what field and recipes reach, beside their bars (hours); PARTS="parts rooms", REAL=folder
	@TF_CPP_MIN_LOG_LEVEL=3 PYTHONPATH=tests:lib .venv/bin/python -m bench.field $(PARTS)

# PyTorch for its ways of training, tests/bench/peers; nothing else of the project needs it.
build/peers/installed: tests/bench/peers/requirements.txt
	$(PYTHON) -m venv build/peers
	build/peers/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

bench-scale: install grid-packages build/peers/installed ## whether more machines are faster, beside the bars; PARTS="loopback links"
	@TF_CPP_MIN_LOG_LEVEL=3 PYTHONPATH=tests:lib .venv/bin/python -m bench.scale $(PARTS)

# Words of notes to somebody, which belong in no commit; the brackets keep this line from finding itself.
notes := [t]odo|[f]ixme|[x]xx|[h]ack|[n]ote (from|to|for)|[w]hen read

working-notes:
	@! git grep -nwiE '$(notes)' || { echo 'remove these working notes' >&2; exit 1; }

lint: install working-notes
	.venv/bin/ruff check lib bin tests
	.venv/bin/shellcheck -x lib/*.sh sge/*.sh tests/*.sh tests/packages tests/grid/demo .ci/run
	.venv/bin/lint-imports --no-logo

trial: install ## the whole chain on REAL, folders of photos with depth: make trial REAL=../shared/real/tabletop
	@test -n '$(REAL)' || { echo 'name a folder with train/ and test/: make trial REAL=some/folder' >&2; exit 2; }
	DATA_DIR=$(DATA_DIR) tests/trial.sh $(REAL)
