PYTHON ?= python

.PHONY: bench
bench: ## the figures of benchmarks/README.md on this machine; about 20 minutes on two cores that do nothing else
	$(PYTHON) -m benchmarks.capacity --calls 1,20,60,120 --seconds 60 --relay
	$(PYTHON) -m benchmarks.leak
