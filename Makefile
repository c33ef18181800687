# The project's tasks. Each does what it needs first: `make test` or `make demo`
# on a fresh Debian machine with Go is enough.

GO       ?= go
FUZZTIME ?= 30s
ARCHES   := amd64 arm64
HOSTARCH := $(shell $(GO) env GOHOSTARCH)
BINARIES := $(ARCHES:%=bin/warder-%)

.DELETE_ON_ERROR:
.PHONY: all deps packages build generate test fuzz clean FORCE

all: build

## packages: install what is missing by apt
packages:
	@.ci/packages

## deps: packages, Go modules, guest kernels and an emulator for the lab
deps: packages
	@$(GO) mod download
	@$(MAKE) --no-print-directory build
	@for arch in $(ARCHES); do bin/warder lab --prepare --arch $$arch || exit 1; done

## generate: everything that is generated
generate:
	@$(GO) generate ./...

## build: static binaries, bin/warder for this machine and bin/warder-<arch> for each
build: bin/warder

bin/warder: $(BINARIES)
	@ln -f bin/warder-$(HOSTARCH) $@

bin/warder-%: FORCE | generate
	@CGO_ENABLED=0 GOARCH=$* $(GO) build -trimpath -ldflags='-s -w' -o $@ ./cmd/warder

## test: every test, those that need KVM in the lab on both architectures
test: deps
	@$(GO) run ./lab/gotest $(TESTFLAGS)

## fuzz: every fuzz target for FUZZTIME each
fuzz:
	@grep -rnoE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' . | \
	sed -E 's|^(.*)/[^/]+:[0-9]+:func (.*)|\1 \2|' | sort -u | while read -r dir name; do \
		echo "== $$dir $$name, $(FUZZTIME)"; \
		$(GO) test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZTIME) $$dir || exit 1; \
	done

clean:
	rm -rf bin out
