package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"warder/guestinit/control"
	"warder/guestinit/proto"
	"warder/lab"
	"warder/supervisor"
	"warder/vmm/hostinfo"
)

// Exit statuses with the meaning that container tools give them.
const (
	statusFailed        = 125 // of warder's own
	statusNotExecutable = 126
	statusNotFound      = 127
)

const (
	// stopTime is how long a guest may take to switch off after its command.
	stopTime = 10 * time.Second
	// leftoverGrace is how long processes that the command left behind get.
	leftoverGrace = time.Second
)

func runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [flags] -- CMD [ARG]...",
		Short: "Run a command in a VM of its own",
		Long: `Run a command in a VM of its own, which ends with it. The exit status is the
command's, 128 + n after a death by signal n. 127 means that there is no such
command in the guest, 126 that it cannot be executed, 125 that warder failed,
124 that the command was killed after its --timeout.

The guest has warder's small user land, or with --image that of an image of
container tools, whose own command runs if none is given; its directories are
lost with it, but for those shared by --share. A disk is /dev/vda and on. With --lab the same
command line runs on an emulated machine, with copies of the files it names.`,
		Example: `  warder run -- sh -c 'uname -a; head /proc/cpuinfo'
  echo hi | warder run -i -- cat
  warder run -it --share .:/src:ro -w /src -- sh
  warder run -it --image alpine -- sh`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 && f.image == "" {
				return failed(errors.New("which command should run in the VM? give it after --"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			f.args = args
			if f.lab != "" {
				return runInLab(cmd.Context(), f)
			}
			return run(cmd.Context(), f)
		},
	}
	f.addTo(cmd)
	flags := cmd.Flags()
	flags.StringArrayVarP(&f.env, "env", "e", nil, "environment of the command, NAME=VALUE, or NAME to pass it on; may be repeated")
	flags.StringVar(&f.gdb, "gdb", "", "let GDB debug the guest's kernel: PORT on this machine, HOST:PORT, unix:PATH, or stdio")
	flags.BoolVar(&f.gdbWait, "gdb-wait", false, "wait for GDB before the first instruction (with --gdb)")
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return failed(err) })
	return cmd
}

// addTo adds the flags of the VM and of its command.
func (f *runFlags) addTo(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.SetInterspersed(false)
	flags.StringVar(&f.name, "name", "vm", "name of the VM, its hostname too")
	flags.IntVar(&f.cpus, "cpus", 0, "virtual CPUs (default 1)")
	flags.VarP(&f.memory, "memory", "m", "memory, as in 512M or 2G, or 256M:2G to start with less; a plain number is MiB (default 256M)")
	flags.IntVar(&f.cpuWeight, "cpu-weight", 0, "part of the CPU time beside other VMs, 1 to 10000 (default that of a thread)")
	flags.Float64Var(&f.cpuMax, "cpu-max", 0, "CPU time at most, in CPUs, as in 0.5 (default no bound)")
	flags.StringVar(&f.cgroup, "cgroup", "", "move warder into this cgroup first, a directory below /sys/fs/cgroup")
	flags.StringVar(&f.watchdog, "watchdog", "", "when the guest's PID 1 stands still: log, pause, reset or kill (default nothing)")
	flags.StringVar(&f.kernel, "kernel", "", kernelHelp)
	flags.StringVar(&f.initrd, "initrd", "", "initramfs that holds the guest's user land (default warder's)")
	flags.StringVar(&f.image, "image", "", "image whose files the command sees: of a registry, oci:DIR[:TAG], tar:FILE[:TAG], dir:DIR or disk:FILE[:PARTITION] (default warder's user land)")
	flags.StringVar(&f.overlay, "overlay", "", "disk with an ext4 file system that keeps what is written to the image")
	flags.StringArrayVar(&f.attached.Disks, "disk", nil, "raw image or block device, PATH[:ro]; may be repeated")
	flags.StringArrayVar(&f.attached.Shares, "share", nil, "share a directory, HOST:GUEST[:ro]; may be repeated")
	flags.StringArrayVar(&f.attached.Nets, "net", nil, "network interface, "+netSyntax+"; may be repeated")
	flags.StringArrayVar(&f.attached.Pmems, "pmem", nil, "file that the guest has as memory, /dev/pmem0 and on, PATH[:rw]; may be repeated")
	flags.StringArrayVar(&f.attached.Ports, "port", nil, "connect a port of the guest to a Unix socket, NAME=unix:PATH; may be repeated")
	flags.StringVarP(&f.dir, "workdir", "w", "", "working directory of the command")
	flags.StringVarP(&f.user, "user", "u", "", "user of the command, NAME[:GROUP] or numbers")
	flags.DurationVar(&f.timeout, "timeout", 0, "kill the command after this time (default never)")
	flags.BoolVar(&f.console, "console", false, "print what the guest's kernel says, on standard error")
	flags.BoolVarP(&f.tty, "tty", "t", false, "give the command a terminal")
	flags.BoolVarP(&f.stdin, "interactive", "i", false, "give the command this standard input")
	flags.StringVar(&f.lab, "lab", "", "run in the lab, an emulated machine of this or the given architecture")
	flags.Lookup("lab").NoOptDefVal = runtime.GOARCH
}

// failed says what warder failed at, as opposed to the command.
func failed(err error) error {
	fmt.Fprintln(os.Stderr, "warder:", err)
	return exitStatus(statusFailed)
}

func runInLab(ctx context.Context, f runFlags) error {
	args, files, err := f.inLab()
	if err != nil {
		return failed(err)
	}
	var stdin io.Reader
	if f.stdin || f.gdb != "" {
		stdin = os.Stdin
	}
	return rerunInLab(ctx, f.lab, lab.Command{Args: args, Stdin: stdin}, files, f.tty)
}

func run(ctx context.Context, f runFlags) error {
	spec, err := f.spec()
	if err != nil {
		return failed(err)
	}
	if f.overlay != "" && f.image == "" {
		return failed(errors.New("--overlay keeps what is written to an image: give --image too"))
	}
	if f.tty && f.stdin && !term.IsTerminal(int(os.Stdin.Fd())) {
		return failed(errors.New("-t with -i: standard input is not a terminal, leave -t out"))
	}
	if err := f.checkGDB(); err != nil {
		return failed(err)
	}
	if k := hostinfo.KVMClass(""); k.Class != hostinfo.Hardware {
		fmt.Fprintf(os.Stderr, "warder: this machine cannot run a VM: %s\n", k.Reason)
		advice := k.Todo
		if !strings.Contains(advice, "--lab") {
			advice = strings.TrimPrefix(advice+"; or run it on an emulated machine: warder run --lab", "; ")
		}
		fmt.Fprintln(os.Stderr, "warder:", advice)
		return exitStatus(statusFailed)
	}
	if spec.Kernel, err = kernelName(spec.Kernel).path(); err != nil {
		return failed(err)
	}
	if err := joinCgroup(f.cgroup); err != nil {
		return failed(err)
	}
	spec.Log = newLineLog(os.Stderr)
	if f.console {
		spec.Console = os.Stderr
	}
	s := newSession(ctx)
	defer s.close()
	if f.timeout > 0 {
		s.limit(f.timeout)
	}
	status, err := s.run(spec, f)
	if err != nil {
		return s.explain(err, f)
	}
	if status.OutOfMemory {
		fmt.Fprint(os.Stderr, "warder: the guest ran out of memory and its kernel killed a process of the command; give it more with --memory\n")
	}
	if code := status.ExitCode(); code != 0 {
		return exitStatus(code)
	}
	return nil
}

// explain prints why there is no status of the command's and chooses warder's.
func (s *session) explain(err error, f runFlags) error {
	if cause := context.Cause(s.ctx); cause != nil {
		if sig, ok := errors.AsType[interrupted](cause); ok {
			return exitStatus(128 + int(sig))
		}
		if errors.Is(cause, errTimeout) {
			fmt.Fprintf(os.Stderr, "warder: the command was killed after its timeout of %v\n", f.timeout)
			return exitStatus(statusTimeout)
		}
	}
	if out, ok := errors.AsType[*control.OutputError](err); ok {
		if errors.Is(out, syscall.EPIPE) {
			return exitStatus(128 + int(syscall.SIGPIPE)) // said nothing, like any filter
		}
		return failed(out)
	}
	if e, ok := errors.AsType[*proto.Error](err); ok {
		fmt.Fprintln(os.Stderr, "warder:", e)
		switch e.Code {
		case proto.CodeNotFound:
			return exitStatus(statusNotFound)
		case proto.CodeNotExecutable:
			return exitStatus(statusNotExecutable)
		}
		return exitStatus(statusFailed)
	}
	if g, ok := errors.AsType[*supervisor.GuestError](err); ok {
		fmt.Fprintln(os.Stderr, "warder:", g)
		if g.Exit.Report != nil {
			fmt.Fprintln(os.Stderr, g.Exit.Report)
		}
		if !f.console {
			for _, l := range g.Serial[max(0, len(g.Serial)-quotedLines):] {
				fmt.Fprintln(os.Stderr, "  guest:", l)
			}
		}
		return exitStatus(statusFailed)
	}
	return failed(err)
}

// quotedLines is how much of the kernel's last words is shown.
const quotedLines = 20
