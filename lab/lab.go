// Package lab gives any machine a real KVM, of either architecture: it boots
// an outer Linux under QEMU's software emulation, which has AMD SVM with
// nested paging and arm64's EL2, and runs commands there.
//
// The outer machine's initramfs holds the files that the caller names, and
// its /init is a binary that calls package lab/outer. Commands, their
// streams and their results travel over one virtio-serial port in the
// protocol of package lab/wire.
//
// Emulated virtualisation is slow (a Linux guest is up some ten seconds after
// its start) and now and then an outer machine panics or stops. Every wait
// here has an end: a machine that ends, or from which nothing is heard, gives
// a *MachineError that holds the last lines of its serial console.
package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"time"

	"warder/boot/kernelpkg"
)

// Config describes an outer machine. The zero value is a machine of this
// machine's architecture; Prepare tells where its parts come from.
type Config struct {
	Arch   string // "amd64" or "arm64"; this machine's if empty
	CPUs   int    // default 1, the fastest: one of this machine's emulates all, by turns
	Memory uint64 // bytes, default 2 GiB; the files must fit twice

	QEMU     QEMU     // the emulator; default the installed one if new enough, else one fetched
	Kernel   string   // bzImage, vmlinux with a PVH entry, or arm64 Image; default the guest kernel
	Modules  []string // kernel modules of Kernel, compressed or not, in the order they are loaded
	Init     string   // the machine's /init, a static binary that calls outer.Main; default warder
	Packages []string // Debian packages to have in the machine, with what they depend on
	Files    []File   // what else its file system holds
	Guests   bool     // take the guest kernels along, where warder in the machine looks for them
	// Flavours are the guest kernels to take along; default Debian's, which is
	// fetched if it is not there, and the tuned one if it is.
	Flavours []kernelpkg.Flavour
	// GuestKernel is taken along instead of those, if it is given.
	GuestKernel *kernelpkg.Package

	roots  []string // directories laid over the root: the unpacked packages
	warder bool     // Init is warder, to be had as a command too

	// ICount makes the machine count instructions: it has one CPU, and its
	// clock advances by one nanosecond an instruction, as its kernel calibrates
	// that (within one in 100,000).
	ICount bool

	BootTimeout time.Duration // until the machine must be up, default 4 min
	Silence     time.Duration // without any sign of life means dead, default 1 min, 5 with ICount

	Log *slog.Logger // progress, default none
}

// A File is copied into the outer machine. Directories are copied whole.
type File struct {
	Host  string // path here
	Guest string // absolute path there
}

// A Command is run in an outer machine. Its environment has WARDER_LAB=1.
type Command struct {
	Args   []string
	Env    []string // NAME=VALUE, added to PATH, HOME and TMPDIR
	Dir    string   // working directory, / if empty
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer

	// Results is a directory of the outer machine whose files are brought
	// to the directory ResultsTo here when the command has ended.
	Results   string
	ResultsTo string

	Terminal *Terminal // if not nil, runs the command on a pseudo-terminal
	Signals  <-chan int
}

// A Terminal is a command's terminal. Its output is all on Stdout.
type Terminal struct {
	Columns, Rows uint16
	Resized       <-chan [2]uint16 // new columns, rows
}

// An Exit is how a command ended.
type Exit struct {
	Status int           // exit status; 128 + number when a signal ended it
	Time   time.Duration // the machine's own time it took: one ns an instruction with ICount
}

// Run boots an outer machine, runs one command and ends the machine. A
// machine that fails is reported to cfg.Log and retried once, unless the
// command has been given input, which is gone.
func Run(ctx context.Context, cfg Config, c Command) (Exit, error) {
	input := &countingReader{r: c.Stdin}
	if c.Stdin != nil {
		c.Stdin = input
	}
	exit, err := runOnce(ctx, cfg, c)
	if _, failed := errors.AsType[*MachineError](err); !failed || input.n.Load() > 0 || ctx.Err() != nil {
		return exit, err
	}
	logger(cfg).Warn("starting the outer machine again, ignore the output so far", "err", err)
	return runOnce(ctx, cfg, c)
}

// Rerun is Run for a warder command line, without its first word: it runs in
// an outer machine that has warder and the guest kernel.
func Rerun(ctx context.Context, cfg Config, c Command) (Exit, error) {
	cfg.Guests = true
	c.Args = append([]string{"warder"}, c.Args...)
	return Run(ctx, cfg, c)
}

func runOnce(ctx context.Context, cfg Config, c Command) (Exit, error) {
	m, err := Start(ctx, cfg)
	if err != nil {
		return Exit{}, err
	}
	defer m.Close()
	return m.Run(ctx, c)
}

// withDefaults fills in what cfg leaves open, or says what is wrong with it.
func (cfg Config) withDefaults() (Config, error) {
	if cfg.Arch == "" {
		cfg.Arch = runtime.GOARCH
	}
	if _, ok := machines[cfg.Arch]; !ok {
		return cfg, fmt.Errorf("lab: no architecture %q: have amd64, arm64", cfg.Arch)
	}
	if cfg.CPUs == 0 || cfg.ICount {
		cfg.CPUs = 1
	}
	if cfg.Memory == 0 {
		cfg.Memory = 2 << 30
	}
	if cfg.CPUs < 1 || cfg.CPUs > 8 {
		return cfg, fmt.Errorf("lab: %d CPUs: 1 to 8 are possible", cfg.CPUs)
	}
	const least = 256 << 20
	if cfg.Memory < least {
		return cfg, fmt.Errorf("lab: %d bytes of memory: at least %d are needed", cfg.Memory, least)
	}
	if cfg.BootTimeout == 0 {
		cfg.BootTimeout = 4 * time.Minute
	}
	if cfg.Silence == 0 {
		cfg.Silence = time.Minute
		if cfg.ICount { // it shows life by its own, slow clock
			cfg.Silence = 5 * time.Minute
		}
	}
	cfg.Log = logger(cfg)
	return cfg, nil
}

func logger(cfg Config) *slog.Logger {
	if cfg.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return cfg.Log
}
