package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"

	"warder/guestinit/control"
	"warder/lab"
	"warder/supervisor/hosting"
	"warder/vmm"
	"warder/vmm/hostinfo"
)

type hostFlags struct {
	config  string
	kernel  string
	rules   string
	store   string
	output  string
	verbose bool
	demo    bool
	lab     string
	cgroup  string
	images  []string // NAME=IMAGE
}

func hostCommand() *cobra.Command {
	var f hostFlags
	cmd := &cobra.Command{
		Use:   "host --config FILE",
		Short: "Run several service VMs and watch them for attacks that no single one shows",
		Long: `Run the service VMs of a configuration file in one process. First of all a supervisor
is started, in a VM of its own: it decides about services (see warder service), and is
replaced by a clean one when it is attacked, hangs or dies. The system calls
that the rules need are trapped in each; a call that completes a pattern made of
the acts of several VMs is refused before it takes effect, and an alert names
all who took part. It ends when the command of each VM has ended; a VM without a
command runs until warder is told to stop, and so does a host with services:
VMs that are started when somebody asks (see warder service).

    kernel: /path/of/a/guest/kernel     # or tuned, debian; default: tuned if there is one
    rules: /directory/of/rules          # default: those that come with warder
    store: /directory/for/events        # default: none; warder events shows it
    snapshots: /directory/for/memory    # default: none
    patterns:                           # rules from others, see docs/patterns.md
      library: /directory/for/them
      sources:
        - {name: acme, url: 'https://rules.acme.example', root: acme.root.json}
    vms:
      - name: builder
        cpus: 1
        memory: 256M
        shares: [./common:/mnt/share]
        command: [sh, -c, 'make -C /mnt/share']
    services:
      - name: web
        command: [httpd, -f]
        restart: {policy: on-failure}

--demo needs no file: three VMs with a common share do something harmless, then
put an attack together.`,
		Example: `  warder host --demo
  warder host --config services.yaml -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (f.config == "") != f.demo {
				return failed(errors.New("give one of --config FILE and --demo"))
			}
			if f.output != "text" && f.output != "json" {
				return failed(fmt.Errorf("-o %s: give text or json", f.output))
			}
			return runHost(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.config, "config", "f", "", "the VMs to run")
	flags.StringVar(&f.kernel, "kernel", "", kernelHelp+", in place of the configuration's")
	flags.StringVar(&f.rules, "rules", "", "directory of rules, in place of the configuration's")
	flags.StringVar(&f.store, "store", "", "directory to keep all events in, in place of the configuration's")
	flags.StringArrayVar(&f.images, "image", nil, "image of a VM or service, NAME=IMAGE, in place of the configuration's; may be repeated")
	flags.StringVarP(&f.output, "output", "o", "text", "text, or json: one event a line")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "print every event, not only those on shares")
	flags.BoolVar(&f.demo, "demo", false, "run the demonstration")
	flags.StringVar(&f.cgroup, "cgroup", "", "move warder into this cgroup first, in place of the configuration's")
	flags.StringVar(&f.lab, "lab", "", "run in the lab, an emulated machine of this or the given architecture")
	flags.Lookup("lab").NoOptDefVal = runtime.GOARCH
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return failed(err) })
	cmd.AddCommand(hostStatusCommand(), hostMirrorCommand())
	return cmd
}

func runHost(ctx context.Context, f hostFlags) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // the second one ends this process at once
	cfg, err := f.load()
	if err != nil {
		return failed(err)
	}
	if f.lab != "" {
		l, err := f.inLab(ctx, cfg, os.Getenv)
		if err != nil {
			return failed(err)
		}
		return rerunInLab(ctx, f.lab, lab.Command{Args: l.args, Env: l.env}, l.files, false)
	}
	if k := hostinfo.KVMClass(""); k.Class != hostinfo.Hardware {
		fmt.Fprintf(os.Stderr, "warder: this machine cannot run a VM: %s\n", k.Reason)
		fmt.Fprintln(os.Stderr, "warder: run it on an emulated machine: warder host --lab ...")
		return exitStatus(statusFailed)
	}
	tty := coloured(os.Stdout)
	out := &printer{w: os.Stdout, json: f.output == "json", verbose: f.verbose, colour: tty}
	if f.demo {
		return runDemo(ctx, cfg, out)
	}
	h, err := startHost(ctx, cfg, out)
	if err != nil {
		return failed(err)
	}
	quiet := h.announce(ctx)
	failures := h.commands(ctx, cfg, out)
	quiet()
	if err := h.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "warder:", err)
	}
	out.summary(h.watch.Stats())
	if failures > 0 {
		return exitStatus(1)
	}
	return nil
}

// commands runs the command of each VM and waits for all of them, or for the
// end of ctx. It gives the number of those that failed.
func (h *host) commands(ctx context.Context, cfg hostConfig, out *printer) int {
	var failures atomic.Int32
	var all sync.WaitGroup
	for _, v := range cfg.VMs {
		all.Go(func() {
			if !h.command(ctx, v, out) {
				failures.Add(1)
			}
		})
	}
	all.Wait()
	if cfg.serves() {
		<-ctx.Done()
	}
	return int(failures.Load())
}

// command runs the command of a VM, or waits for the VM to end. It reports
// whether that went well; being told to stop is no failure.
func (h *host) command(ctx context.Context, v hostVM, out *printer) bool {
	vm := h.vms[v.Name]
	if !v.Runs() {
		select {
		case <-ctx.Done():
			return true
		case <-vm.Done():
		}
		e := vm.Ended()
		out.note(v.Name, "ended: "+e.Error())
		return e.Exit.Reason == vmm.PowerOff
	}
	lines := out.lines(v.Name)
	defer lines.Close()
	status, err := vm.Run(ctx, hosting.Command(v.Service), control.Stdio{Out: lines, Err: lines})
	switch {
	case ctx.Err() != nil:
		return true
	case err != nil:
		out.note(v.Name, "failed: "+err.Error())
	default:
		out.note(v.Name, fmt.Sprintf("command ended with status %d", status.ExitCode()))
	}
	return err == nil && status.ExitCode() == 0
}
