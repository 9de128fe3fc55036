# Portero. `make` alone lists what there is. A fresh clone needs Rust and make; `deps` fetches the rest.

# Every random test multiplies its rounds by this.
PORTERO_TEST_SCALE ?= 1
export PORTERO_TEST_SCALE

CARGO ?= cargo
DEMO_ARGS ?=
TEST_ARGS ?=
BENCH_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help deps demo test test-long bench lint fmt doc cross deb deb-test vm-test clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## install what tests and demo need, if missing: mosquitto, PostgreSQL, ... (apt-get, sudo)
	@.ci/deps

demo: ## terminals, gateway, vendor API and PostgreSQL on this machine; kill -9 included
	@.ci/deps demo
	$(CARGO) build --locked --profile demo --bin portero --example demo
	@$(CARGO) run --locked --quiet --profile demo --example demo -- $(DEMO_ARGS)

test: deps ## every test, against real brokers and databases
	$(CARGO) test --locked --no-fail-fast $(TEST_ARGS)

test-long: ## the same with ten times the random rounds (about ten times the time)
	@$(MAKE) --no-print-directory test PORTERO_TEST_SCALE=10

bench: ## the measures of benches/README.md
	@.ci/deps bench
	$(CARGO) bench --locked $(BENCH_ARGS)

lint: ## clippy, warnings are errors
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --no-default-features --bin portero -- -D warnings

fmt: ## format the source
	$(CARGO) fmt

doc: ## the API documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

cross: ## build for 64-bit and 32-bit ARM and try both under qemu
	@.ci/cross

deb: ## build the Debian package for this machine, or TARGET=aarch64-unknown-linux-gnu, into target/debian
	@.ci/deb $(TARGET)

deb-test: ## install, upgrade and purge that package on a fresh Debian in a container (root)
	@.ci/deps deb-test
	@tests/package.sh

vm-test: ## the ARM package on an emulated machine: install, devices, watchdog, power cut, upgrade, purge (root)
	@.ci/deps vm
	@tests/vm.sh

clean: ## remove everything that was built, the cross toolchain too
	$(CARGO) clean
	rm -rf .cross
