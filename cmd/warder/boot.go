package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"warder/boot/kernelpkg"
	"warder/supervisor/api"
	"warder/supervisor/declaration"
	"warder/vmm"
)

// bootFlags is a command line of warder boot.
type bootFlags struct {
	cfg    vmm.Config
	memory declaration.Size
	initrd []string
	disks  []string
	shares []string
	nets   []string
	hvc    bool
	count  int
	trap   string
}

func bootCommand() *cobra.Command {
	f := bootFlags{}
	cmd := &cobra.Command{
		Use:   "boot [flags]",
		Short: "Boot a kernel and initramfs of your own, the serial port on this terminal",
		Long: `Boot a kernel with an initramfs in a machine of the devices that the flags name,
and nothing of warder's in it: standard input and output are its serial port,
or with --hvc its virtio console. The command ends when the guest switches its
machine off, and with status 1 when the machine ends in another way.

With --trap the guest's kernel is hooked as soon as it can be, and at the end the
command says how many calls were trapped. Calls are let pass at once (pass), or
read first: who calls and what the call acts on (entry), the program and all
arguments as well (all), the result too (result).`,
		Example: `  warder boot --kernel vmlinuz --initrd initramfs.cpio --append console=ttyS0
  warder boot --initrd a.cpio --initrd b.cpio --disk data.img --share src:/home/me/src`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return bootMachines(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.cfg.Name, "name", "vm", "name of the VM in messages")
	flags.IntVar(&f.cfg.CPUs, "cpus", 0, "virtual CPUs (default 1)")
	flags.VarP(&f.memory, "memory", "m", "memory, as in 512M or 2G; a plain number is MiB (default 256M)")
	flags.StringVar(&f.cfg.Kernel, "kernel", "", "kernel (default the one of warder kernel pull)")
	flags.StringArrayVar(&f.initrd, "initrd", nil, "initramfs; several are unpacked one over the other")
	flags.StringVar(&f.cfg.Cmdline, "append", "console=ttyS0 panic=-1", "the kernel's command line")
	flags.StringArrayVar(&f.disks, "disk", nil, "raw image or block device, PATH[:ro]; may be repeated")
	flags.StringArrayVar(&f.shares, "share", nil, "directory for mount -t virtiofs, TAG:DIR[:ro]; may be repeated")
	flags.StringArrayVar(&f.nets, "net", nil, "network interface, tap:NAME[,mac=MAC][,mtu=BYTES]; may be repeated")
	flags.Uint32Var(&f.cfg.VsockCID, "cid", 0, "address of the guest on vsock, 3 or above (default no vsock)")
	flags.StringVar(&f.cfg.VsockDir, "vsock-dir", "", "directory of the Unix sockets that stand for vsock ports")
	flags.BoolVar(&f.hvc, "hvc", false, "have a virtio console on this terminal, the serial port on standard error")
	flags.StringVar(&f.trap, "trap", "", "trap system calls of the guest to see what that costs: pass:CALL,..., entry:CALL,..., all:CALL,... or result:CALL,...; or rules, those that warder's own rules need")
	flags.IntVar(&f.count, "count", 1, "boot so many of these machines in this process, without input")
	return cmd
}

// bootMachines runs the machines to their end.
func bootMachines(ctx context.Context, f bootFlags) error {
	cfg, err := f.config()
	if err != nil {
		return err
	}
	traps, err := parseTrap(f.trap)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if fd := int(os.Stdin.Fd()); term.IsTerminal(fd) && f.count == 1 {
		state, err := term.MakeRaw(fd)
		if err != nil {
			return err
		}
		defer term.Restore(fd, state)
	}
	socket := openControlSocket()
	defer socket.close()
	var all sync.WaitGroup
	errs := make([]error, f.count)
	for i := range errs {
		c := cfg
		if f.count > 1 {
			c.Name += strconv.Itoa(i)
			c.Serial.In = nil // no telling whose it is
		}
		all.Go(func() { errs[i] = bootMachine(ctx, c, traps, socket) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// bootMachine runs one machine to its end.
func bootMachine(ctx context.Context, cfg vmm.Config, traps bootTraps, socket *controlSocket) error {
	m, err := vmm.New(cfg)
	if err != nil {
		return err
	}
	if err := m.Start(); err != nil {
		return errors.Join(err, m.Close())
	}
	defer context.AfterFunc(ctx, m.Kill)()
	socket.add(&api.Hosted{Name: cfg.Name, Machine: m, Kernel: cfg.Kernel})
	trapped := traps.arm(ctx, m, cfg)
	exit := m.Wait()
	socket.remove(cfg.Name)
	if err := trapped(); err != nil {
		return errors.Join(err, m.Close())
	}
	if err := m.Close(); err != nil {
		return err
	}
	if exit.Reason != vmm.PowerOff {
		if exit.Report != nil {
			fmt.Fprintln(os.Stderr, exit.Report)
		}
		return fmt.Errorf("%s: %v", cfg.Name, exit)
	}
	return nil
}

// config is the machine that the flags describe.
func (f bootFlags) config() (vmm.Config, error) {
	cfg := f.cfg
	cfg.Memory, cfg.Log = uint64(f.memory), newLineLog(os.Stderr)
	if f.count < 1 || f.count > 1 && (f.hvc || cfg.VsockCID != 0 || len(f.disks)+len(f.nets) > 0) {
		return cfg, errors.New("--count: give 1 or more; several machines cannot share --hvc, --cid, --disk or --net")
	}
	terminal := vmm.Stream{In: os.Stdin, Out: os.Stdout}
	if cfg.Serial = terminal; f.hvc {
		cfg.Serial, cfg.Console = vmm.Stream{Out: os.Stderr}, terminal
	}
	if cfg.Kernel == "" {
		pkg, err := kernelpkg.Find(runtime.GOARCH)
		if err != nil {
			return cfg, err
		}
		cfg.Kernel = pkg.KernelPath
	}
	for _, name := range f.initrd {
		b, err := os.ReadFile(name)
		if err != nil {
			return cfg, fmt.Errorf("--initrd: %w", err)
		}
		cfg.Initrd = append(cfg.Initrd, b)
	}
	for _, s := range f.disks {
		d, err := parseDisk(".", s)
		if err != nil {
			return cfg, err
		}
		cfg.Disks = append(cfg.Disks, d)
	}
	for _, s := range f.shares {
		sh, err := parseTagged(s)
		if err != nil {
			return cfg, err
		}
		cfg.Shares = append(cfg.Shares, sh)
	}
	for _, s := range f.nets {
		n, err := parseNet(".", s)
		if err != nil {
			return cfg, err
		}
		if n.DHCP || len(n.Addresses)+len(n.Gateways)+len(n.Resolvers) > 0 {
			return cfg, fmt.Errorf("--net %s: this guest sets its interface up by itself: leave out dhcp, ip, gw and dns", s)
		}
		cfg.Nets = append(cfg.Nets, n.Net)
	}
	return cfg, nil
}

// parseTagged parses TAG:DIR[:ro].
func parseTagged(s string) (vmm.Share, error) {
	rest, readOnly := strings.CutSuffix(s, ":ro")
	tag, dir, ok := strings.Cut(rest, ":")
	if !ok || tag == "" || dir == "" {
		return vmm.Share{}, fmt.Errorf("--share %s: give TAG:DIR or TAG:DIR:ro", s)
	}
	return vmm.Share{Tag: tag, Dir: dir, ReadOnly: readOnly}, nil
}
