package introspect

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"warder/vmm/pagetable"
)

// Resolve gives the address that an expression means: a number (0x for
// hexadecimal), a symbol of the kernel or of a module, or either with +offset.
func (l *Live) Resolve(ctx context.Context, expr string) (uint64, error) {
	base, offset, plus := strings.Cut(expr, "+")
	var add uint64
	if plus {
		var err error
		if add, err = strconv.ParseUint(offset, 0, 64); err != nil {
			return 0, fmt.Errorf("%w: offset %q of %q is no number", ErrExpression, offset, expr)
		}
	}
	if base != "" && base[0] >= '0' && base[0] <= '9' {
		at, err := strconv.ParseUint(base, 0, 64)
		if err != nil {
			return 0, fmt.Errorf("%w: address %q is no number of 64 bits", ErrExpression, base)
		}
		return at + add, nil
	}
	if s, ok := l.symbols.Lookup(base); ok {
		return l.running(s) + add, nil
	}
	at, found := uint64(0), false
	err := l.AllSymbols(ctx, func(s SymbolInfo) error {
		if !found && s.Name == base {
			at, found = uint64(s.Addr), true
		}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: neither the kernel nor a module has a symbol %q", ErrExpression, base)
	}
	return at + add, err
}

// Read fills p from an address of the kernel's, or with pid not 0 of that
// process's. An error wraps [ErrNotResident] where nothing is there.
func (l *Live) Read(ctx context.Context, pid int, at uint64, p []byte) error {
	s, err := l.spaceOf(ctx, pid)
	if err != nil {
		return err
	}
	if err := s.Read(l.m.Memory(), at, p); err != nil {
		return fmt.Errorf("%w: %w", ErrNotResident, err)
	}
	return nil
}

// Resident gives each page of 4 KiB, from one address of a process's up to another, that is
// in the guest's memory. The page is gone when each returns; its error ends the walk. A
// caller bounds the range.
func (l *Live) Resident(ctx context.Context, pid int, from, to uint64, each func(at uint64, page []byte) error) error {
	const size = 4096
	s, err := l.spaceOf(ctx, pid)
	if err != nil {
		return err
	}
	space, page := s.Cached(), make([]byte, size)
	for at := from &^ (size - 1); at < to && ctx.Err() == nil; at += size {
		err := space.Read(l.m.Memory(), at, page)
		if errors.Is(err, pagetable.ErrNotPresent) {
			continue
		}
		if err == nil {
			err = each(at, page)
		}
		if err != nil {
			return fmt.Errorf("introspect: process %d at %#x: %w", pid, at, err)
		}
	}
	return ctx.Err()
}

// Write changes memory at an address of the kernel's or of a process's, whatever
// its protection: all of p, or nothing if any of it is not mapped. The guest
// runs on, and sees the bytes come one after the other. It is for data: code
// that a CPU has fetched may go on as it was.
func (l *Live) Write(ctx context.Context, pid int, at uint64, p []byte) error {
	s, err := l.spaceOf(ctx, pid)
	if err != nil {
		return err
	}
	if err := s.Write(l.m.Memory(), at, p); err != nil {
		return fmt.Errorf("%w: %w", ErrNotResident, err)
	}
	return nil
}

func (l *Live) spaceOf(ctx context.Context, pid int) (pagetable.Space, error) {
	if pid == 0 {
		return l.space, nil
	}
	q := l.ask(ctx)
	t, err := q.find(pid)
	if err != nil {
		return pagetable.Space{}, err
	}
	mm := t.to("mm", "mm_struct")
	if q.err == nil && mm.isNil() {
		return pagetable.Space{}, fmt.Errorf("introspect: %w: process %d is a kernel thread, without memory of its own", ErrNoProcess, pid)
	}
	return q.userSpace(mm)
}
