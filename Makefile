# The project's tasks. Each does what it needs first: `make test` or `make demo`
# on a fresh Debian machine with Go is enough.

GO       ?= go
FUZZTIME ?= 30s
ARCHES   := amd64 arm64
# Packages that need no machine and share data between goroutines.
RACY     := ./devices/... ./secmon/... ./guestinit/... ./supervisor/board ./supervisor/decision ./supervisor/hosting ./supervisor/link ./supervisor/mirror ./supervisor/services ./supervisor/verify ./supervisor/systemd ./supervisor/rootfs
HOSTARCH := $(shell $(GO) env GOHOSTARCH)
BINARIES := $(ARCHES:%=bin/warder-%)

# The same for everything, so that everything shares what is compiled once.
export CGO_ENABLED := 0
export GOFLAGS     := $(filter-out -trimpath,$(shell $(GO) env GOFLAGS)) -trimpath

.DELETE_ON_ERROR:
.PHONY: all deps packages build generate kernel check test compat soak test-kernel demo fuzz bench clean FORCE

all: build

## packages: install what is missing by apt
packages:
	@.ci/packages

## deps: packages, Go modules, guest kernels and an emulator for the lab
deps: packages
	@[ -n "$(wildcard guestinit/initramfs/images/*.zst)" ] || echo "deps: fetching Go modules, building the guests' user land; some minutes the first time"
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
	@GOARCH=$* $(GO) build -ldflags='-s -w' -o $@ ./cmd/warder

## kernel: the tuned guest kernel for this machine, or for each of ARCH="amd64 arm64";
## guests run it from then on (ten minutes of two CPUs each)
kernel: ARCH ?= $(HOSTARCH)
kernel: build
	@.ci/packages kernel $(ARCH)
	@for arch in $(ARCH); do bin/warder kernel build --arch $$arch || exit 1; done

## check: what can be said without a machine: vet, staticcheck, the project's own
## rules (gofmt is one), races; both architectures
check: generate
	@staticcheck=$$($(GO) tool -n staticcheck) && for arch in $(ARCHES); do \
		echo "== $$arch: vet, staticcheck, tests compile" && export CGO_ENABLED=0 GOARCH=$$arch && \
		$(GO) vet ./... && $$staticcheck -checks all ./... && \
		$(GO) test -c -o /dev/null ./... >/dev/null || exit 1; \
	done
	@echo "== the project's rules" && $(GO) test ./internal/...
	@echo "== races" && CGO_ENABLED=1 $(GO) test -race -short $(RACY)

## test: every test, those that need KVM in the lab on both architectures
test: deps
	@$(GO) run ./lab/gotest -race "$(RACY)" $(TESTFLAGS)

## soak: what takes minutes each: rules on a million random events beside a plain
## evaluation; in the lab shares of CPUs, crowds, drivers that come and go under
## load, guests on a wire, a thousand looks at a busy guest, twenty services on a
## machine that cannot hold all, with their host killed; a supervisor that hangs, a
## service that floods; floods of the LAN by a quarter of sixteen VMs; machines that boot from
## a disk by UEFI
soak: deps
	@.ci/packages soak
	@$(GO) test -tags soak -run 'AgreesWith|TestDay' ./secmon/pattern/...
	@GOFLAGS="$(GOFLAGS) -tags=soak" $(GO) run ./lab/gotest -here=false $(TESTFLAGS) \
		-run '^(TestBurner|TestCrowd|TestCPU|TestGroups|TestLinuxUsesPorts|TestDriversComeAndGo|TestTwoGuests|TestGuestOnATAP)' ./vmm
	@GOFLAGS="$(GOFLAGS) -tags=soak" $(GO) run ./lab/gotest -here=false -timeout 30m -overall 40m \
		-run '^(TestArmingUnderLoad|TestThousandComparisons|TestHang|TestFloodFromAVM|TestCrowdOfServices)$$' ./secmon/trap ./supervisor/api ./supervisor/mirror ./cmd/warder
	@GOFLAGS="$(GOFLAGS) -tags=soak" $(GO) run ./lab/gotest -here=false -cpus 1 -memory 4096 -timeout 40m -overall 44m $(TESTFLAGS) \
		-run '^TestFlood$$' ./supervisor/network
	@$(GO) test -tags soak -count=1 -timeout 30m -run '^TestImageBootsFromDisk$$' ./cmd/warder

# The packages whose tests boot a kernel.
BOOTING := ./boot/tuned ./vmm ./supervisor ./secmon/introspect ./secmon/trap ./secmon/watch ./cmd/warder

## test-kernel: build the tuned kernels and run what boots a kernel with them
# (make test runs it with Debian's, and does not build kernels: that takes longer
# than all the tests.)
test-kernel: deps
	@$(MAKE) --no-print-directory kernel ARCH="$(ARCHES)"
	@$(GO) run ./lab/gotest -kernel tuned $(TESTFLAGS) $(BOOTING)

## compat: load a directory of Sigma rules, and match each with an event made for it
compat:
	@[ -n "$(RULES)" ] || { echo 'make compat RULES=DIR: which rules?' >&2; exit 1; }
	@RULES=$(abspath $(RULES)) $(GO) test -tags compat -run TestCompatibility -v ./secmon/pattern/detect

# What the demonstration runs: make demo CMD='ls -l /'.
CMD ?= sh -c 'uname -a; head /proc/cpuinfo'

## demo: a command of yours in a VM of each architecture, then an attack by three
## VMs; on this machine's KVM where there is one, else in the lab
demo: deps
	@for arch in $(ARCHES); do \
		where=--lab=$$arch; \
		[ $$arch = $(HOSTARCH) ] && bin/warder doctor >/dev/null && where=; \
		printf '\n== %s: warder run %s\n' $$arch "$$where" && bin/warder run $$where -- $(CMD) || exit 1; \
	done
	@warder='bin/warder lab --memory 3072 -- warder'; bin/warder doctor >/dev/null && warder=bin/warder; \
	printf '\n== warder host --demo\n' && $$warder host --demo

## fuzz: every fuzz target for FUZZTIME each, then hostile guests in the lab for as
## long on each architecture
# (Devices have goroutines, so that coverage varies: the search for a smaller
# input of the same coverage would take most of the time.)
fuzz: deps
	@grep -rnoE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' . | \
	sed -E 's|^(.*)/[^/]+:[0-9]+:func (.*)|\1 \2|' | sort -u | while read -r dir name; do \
		echo "== $$dir $$name, $(FUZZTIME)"; \
		$(GO) test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$dir || exit 1; \
	done
	@$(GO) run ./lab/gotest -here=false -run TestHostileGuests -env WARDER_HOSTILE_TIME=$(FUZZTIME) ./vmm

# make bench BENCH=boot,memory ARCH=arm64 BENCHFLAGS='-repeat 1', or BENCH=patterns RULES=DIR.
BENCH      ?=
BENCHFLAGS ?=

## bench: warder beside QEMU and gokvm, see docs/benchmarks.md; results in out/bench
bench: ARCH ?= $(HOSTARCH)
bench: deps
	@case '$(BENCH)' in ''|patterns) bin/warder patterns bench --rules '$(RULES)';; esac
	@case '$(BENCH)' in ''|lan) $(GO) test -run '^$$' -bench . -benchmem ./secmon/lan ./secmon/lan/monitor;; esac
	@case '$(BENCH)' in ''|inspect) $(GO) test -run '^$$' -bench '^Benchmark(Load|Processes)$$' -benchmem ./secmon/introspect;; esac
	@case '$(BENCH)' in patterns|inspect) ;; *) $(GO) run ./lab/bench -arch $(ARCH) -bench '$(BENCH)' $(BENCHFLAGS);; esac

clean:
	rm -rf bin out
