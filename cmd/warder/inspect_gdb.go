package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/term"

	"warder/secmon/gdbstub"
	"warder/secmon/introspect"
	"warder/secmon/introspect/symfile"
)

// debugGuest joins a debugger to the VM: the one at standard input and output, or
// those that connect to an address.
func debugGuest(ctx context.Context, v *inspection) error {
	switch len(v.args) {
	case 0:
	case 1:
		return v.listenForGDB(ctx, v.args[0])
	default:
		return errors.New("gdb takes one address, or none for standard input and output")
	}
	if term.IsTerminal(int(os.Stdin.Fd())) {
		return fmt.Errorf("standard input is a terminal, not GDB: say in GDB \"target remote | warder inspect %s gdb\", or give an address to listen at", v.vm.Name)
	}
	c, err := v.vm.GDB(ctx)
	if err != nil {
		return err
	}
	relay(c, stdio{os.Stdin, v.out})
	return nil
}

// listenForGDB has debuggers connect to an address until it is interrupted.
func (v *inspection) listenForGDB(ctx context.Context, where string) error {
	l, err := gdbstub.Listen(where)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	fmt.Fprintf(v.out, "waiting for GDB: target remote %s\n", l.Addr())
	for {
		d, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		c, err := v.vm.GDB(ctx)
		if err != nil {
			d.Close()
			return err
		}
		end := context.AfterFunc(ctx, func() { c.Close() })
		relay(c, d)
		end()
	}
}

// relay copies both ways until one side ends, and closes both.
func relay(vm net.Conn, debugger io.ReadWriteCloser) {
	go func() {
		_, _ = io.Copy(vm, debugger) // its end is seen by the other side
		vm.Close()
	}()
	_, _ = io.Copy(debugger, vm)
	vm.Close()
	debugger.Close()
}

// writeSymbols writes the symbols of the guest's kernel and modules as an ELF file.
func writeSymbols(ctx context.Context, v *inspection) error {
	if len(v.args) != 1 {
		return errors.New("symbols to which file? give one")
	}
	all, err := items[introspect.SymbolInfo](ctx, v, "kallsyms", nil)
	if err != nil {
		return err
	}
	var symbols []introspect.Symbol
	for _, s := range all {
		if s.Type != "" {
			symbols = append(symbols, introspect.Symbol{Name: s.Name, Type: s.Type[0], Addr: uint64(s.Addr)})
		}
	}
	f, err := os.OpenFile(v.args[0], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if err := errors.Join(symfile.WriteSymbols(f, runtime.GOARCH, symbols), f.Close()); err != nil {
		os.Remove(v.args[0])
		return fmt.Errorf("symbols: %w", err)
	}
	fmt.Fprintf(v.out, "%s: %d symbols\n", v.args[0], len(symbols))
	return nil
}
