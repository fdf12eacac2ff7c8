# SPDX-License-Identifier: GPL-2.0-or-later
SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

DESTDIR ?=
PREFIX ?= /usr
SYSCONFDIR ?= /etc
PYTHON ?= /usr/bin/python3
VENV := .venv
CACHE := .cache
BIN := $(VENV)/bin
# What a bare Debian lacks: for the provider, for building the helper image, and for the tests and their images.
PACKAGES := python3 python3-venv qemu-system-x86 qemu-utils bubblewrap mmdebstrap e2fsprogs util-linux zstd xz-utils \
	debian-archive-keyring erofs-utils kmod binutils \
	fdisk gdisk parted dosfstools mtools grub-pc-bin grub-efi-amd64-bin xfsprogs btrfs-progs lvm2 f2fs-tools strace openssh-client \
	eatmydata ntfs-3g policycoreutils iproute2 cpio python3-libnbd openssh-server curl ca-certificates openssl \
	ovmf dnsmasq-base iputils-ping nginx libnbd-bin bmap-tools pigz lz4 bzip2 python3-zstandard python3-lz4 \
	dump acl attr libcap2-bin libarchive-tools debhelper dpkg-dev lintian makefs python3-jinja2 gpg gpgv gpg-agent man-db mandoc groff \
	python3-hivex libhivex-bin chntpw
# Where Debian's own pydantic is new enough our packages use it, and so does their build.
PACKAGES += $(if $(filter 12,$(shell . /etc/os-release && echo $$VERSION_ID)),,python3-pydantic)

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

.PHONY: demo
demo: setup ## Deploy a real Debian image as an instance and log into it (root; some minutes, quick the second time)
	$(BIN)/python tests/demo.py

.PHONY: test
test: setup ## Run everything: style, types, unit tests, real clusters, helper VMs and guests (root)
	@$(MAKE) --no-print-directory --jobs=2 check helper-image
	$(BIN)/python tests/lanes.py

.PHONY: test-unit
test-unit: $(VENV)/.ready ## Run only the tests that need no virtual machine
	$(BIN)/pytest -m "not vm and not ganeti and not guests"

.PHONY: test-vm
test-vm: setup helper-image ## Run only the tests with a real helper VM or a real guest
	$(BIN)/pytest -m "vm and not guests" --durations=10

.PHONY: test-guests
test-guests: setup helper-image ## Boot every guest that can be booted, those made again from captures among them (root; an hour)
	$(BIN)/pytest tests/vm/test_guests.py tests/vm/test_image_guests.py tests/vm/test_boot_loaders.py --durations=10

.PHONY: test-ganeti
test-ganeti: setup helper-image ## Run only the tests with a real Ganeti cluster, of Debian 12 and of Debian 13
	$(BIN)/pytest -m ganeti --durations=10

.PHONY: check
check: $(VENV)/.ready ## Check style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.PHONY: conformance
conformance: $(VENV)/.ready ## Write docs/conformance.md from the markers of the tests
	PYTHONPATH=tests $(BIN)/python -m conformance

.PHONY: guests
guests: $(VENV)/.ready ## Write docs/guests.md from the markers of the tests and the guests that they boot
	PYTHONPATH=tests:shared:helper-image-builder $(BIN)/python -m guests_page

.PHONY: settings-page
settings-page: $(VENV)/.ready ## Write docs/settings.md from the table in the settings' code
	$(BIN)/python -c 'from snf_image_host.configuration.settings_manual import markdown; print(markdown(), end="")' >docs/settings.md

.PHONY: parameters
parameters: $(VENV)/.ready ## Write parameters.list and docs/schema from the registry of the OS parameters
	$(BIN)/python host/ganeti/generate.py

.PHONY: bench
bench: setup helper-image ## Measure the helper and the copy against their peers, side by side
	PYTHONPATH=tests $(BIN)/python -m bench.run

.PHONY: install
install: $(VENV)/.ready ## Install both OS definitions, their commands and settings below DESTDIR and PREFIX
	$(BIN)/python host/ganeti/install.py --destdir "$(DESTDIR)" --prefix "$(PREFIX)" --sysconfdir "$(SYSCONFDIR)"

.PHONY: deb
deb: packages ## Build the Debian packages for this release into dist/
	/usr/bin/python3 -IB debian/build_packages.py --output dist

.PHONY: test-deb
test-deb: setup ## Run only the tests of the Debian packages and the manual (root)
	$(BIN)/pytest tests/packages --durations=10

.PHONY: helper-image
helper-image: setup ## Build the image of the helper VM into .cache/helper, unless it is up to date
	$(BIN)/python -m snf_image_helper_builder.cli --dest $(CACHE)/helper --cache $(CACHE)/builder

.PHONY: setup
setup: packages $(VENV)/.ready

.PHONY: packages
packages:
	@# dpkg-query fails when it has never heard of a package, as on a bare machine.
	installed=$$(dpkg-query -W -f='$${Package} $${Status}\n' $(PACKAGES) 2>/dev/null | awk '/ installed$$/ {print $$1}') || true
	missing=$$(comm -13 <(sort <<<"$$installed") <(printf '%s\n' $(PACKAGES) | sort))
	if [[ -n $$missing ]]; then
		echo "== Installing Debian packages:" $$missing
		[[ $$EUID -eq 0 ]] || { echo "This needs root: run 'sudo make $(MAKECMDGOALS)'." >&2; exit 1; }
		export DEBIAN_FRONTEND=noninteractive
		apt-get -q update
		apt-get -q install -y --no-install-recommends $$missing
	fi

$(VENV)/.ready: pyproject.toml
	@echo "== Making the virtual environment"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

.PHONY: clean
clean: ## Remove what was built, but for the cache of images
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis failed-vms bench-results *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## Remove the virtual environment and the cache of images as well
	rm -rf $(VENV) $(CACHE)
