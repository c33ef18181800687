package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"

	"warder/boot/kernelpkg"
	"warder/secmon/gdbstub"
	"warder/secmon/gdbvm"
	"warder/supervisor"
	"warder/vmm"
)

// gdbStdio is --gdb for a debugger at the other end of standard input and output,
// as GDB's "target remote | COMMAND" has it.
const gdbStdio = "stdio"

func (f runFlags) checkGDB() error {
	switch {
	case f.gdbWait && f.gdb == "":
		return errors.New("--gdb-wait: there is nothing to wait for without --gdb")
	case f.gdb == gdbStdio && (f.stdin || f.tty):
		return errors.New("--gdb stdio: standard input and output are the debugger's, leave -i and -t out")
	}
	return nil
}

// noKASLR has a kernel run where it was linked.
const noKASLR = "nokaslr"

// gdbServer lets GDB debug the guest of one VM.
type gdbServer struct {
	ctx      context.Context
	cancel   context.CancelFunc
	flags    runFlags
	listener net.Listener // nil for standard input and output
	cfg      gdbvm.Config
	serving  sync.WaitGroup
}

// openGDB prepares for the debugger that f asks for; spec becomes that of a VM
// which can be debugged. Without one close is all there is to do.
func openGDB(ctx context.Context, spec *supervisor.Spec, f runFlags) (*gdbServer, error) {
	g := &gdbServer{flags: f, cfg: gdbvm.Config{Log: spec.Log, Linked: f.gdbWait}}
	g.ctx, g.cancel = context.WithCancel(ctx)
	if f.gdb == "" {
		return g, nil
	}
	kernel := spec.Kernel
	if kernel == "" {
		pkg, err := kernelpkg.Default(runtime.GOARCH)
		if err != nil {
			return nil, err
		}
		kernel = pkg.KernelPath
	}
	g.cfg.Kernel = kernel
	if f.gdbWait {
		// The kernel decides early where it moves to, and a debugger that sees
		// its first instruction would have to wait for that.
		spec.Cmdline = strings.TrimSpace(spec.Cmdline + " " + noKASLR)
	}
	spec.BootTimeout = -1
	spec.BeforeStart = g.serve
	if f.gdb == gdbStdio {
		return g, nil
	}
	var err error
	if g.listener, err = gdbstub.Listen(f.gdb); err == nil {
		fmt.Fprintf(os.Stderr, "warder: waiting for GDB: target remote %s\n", g.listener.Addr())
	}
	return g, err
}

// serve serves debuggers of m from now on.
func (g *gdbServer) serve(m *vmm.Machine) error {
	stub := gdbvm.Of(m, g.cfg)
	if g.flags.gdbWait {
		if err := stub.Hold(); err != nil {
			return err
		}
	}
	if g.listener != nil {
		g.serving.Go(func() { gdbstub.ServeAll(g.ctx, g.listener, stub.Attach, g.cfg.Log) })
		return nil
	}
	target, err := stub.Attach()
	if err != nil {
		return err
	}
	g.serving.Go(func() {
		if err := gdbstub.Serve(g.ctx, stdio{os.Stdin, os.Stdout}, target); err != nil {
			g.cfg.Log.Warn("debugger", "err", err)
		}
	})
	return nil
}

// close ends what debuggers do; the guest goes on without them. The machine is
// closed afterwards, not before.
func (g *gdbServer) close() {
	g.cancel()
	if g.listener != nil {
		g.listener.Close()
	}
	g.serving.Wait()
}

// stdio is standard input and output as one connection.
type stdio struct {
	io.Reader
	io.Writer
}

// Close closes the input, which ends a read that waits.
func (s stdio) Close() error { return os.Stdin.Close() }
