package gdbstub

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"testing"
	"time"

	"warder/internal/testgdb"
)

// fake is a target of two threads with two registers and a page of memory at
// 0x1000, that stops where the test says.
type fake struct {
	regs     [2][]byte
	memory   []byte
	breaks   []Break
	resumed  []Action
	stops    chan Stop
	next     *Stop // what it stops for at once when it is resumed
	attached bool
	killed   bool
	failing  bool
}

const fakeXML = `<target><feature name="f"><reg name="a" bitsize="64"/><reg name="b" bitsize="32"/></feature></target>`

var errFake = errors.New("fails")

func newFake() *fake {
	f := &fake{memory: make([]byte, 4096), stops: make(chan Stop, 1)}
	for i := range f.regs {
		f.regs[i] = []byte{byte(i), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}
	}
	return f
}

func (f *fake) Attach() (Stop, error) {
	f.attached = true
	return Stop{Reason: Interrupted, Thread: 1}, nil
}

func (f *fake) Detach() error {
	f.attached, f.breaks = false, nil
	return nil
}

func (f *fake) Kill() error           { f.killed = true; return nil }
func (f *fake) Description() string   { return fakeXML }
func (f *fake) Threads() []ThreadInfo { return []ThreadInfo{{1, "one", "busy"}, {2, "<two>", ""}} }

func (f *fake) ReadRegisters(thread int) ([]byte, error) {
	if f.failing {
		return nil, errFake
	}
	return slices.Clone(f.regs[thread-1]), nil
}

func (f *fake) WriteRegister(thread, n int, value []byte) error {
	copy(f.regs[thread-1][8*n:], value)
	return nil
}

func (f *fake) part(addr uint64, n int) []byte {
	if addr < 0x1000 || addr >= 0x2000 {
		return nil
	}
	m := f.memory[addr-0x1000:]
	return m[:min(n, len(m))]
}

func (f *fake) ReadMemory(_ int, addr uint64, p []byte) (int, error) {
	m := f.part(addr, len(p))
	copy(p, m)
	if len(m) < len(p) {
		return len(m), errFake
	}
	return len(m), nil
}

func (f *fake) WriteMemory(_ int, addr uint64, p []byte) error {
	m := f.part(addr, len(p))
	if len(m) < len(p) {
		return errFake
	}
	copy(m, p)
	return nil
}

func (f *fake) Insert(_ int, b Break) error {
	switch {
	case b.Kind == WatchRead:
		return fmt.Errorf("no: %w", errors.ErrUnsupported)
	case len(f.breaks) == 4:
		return errFake
	}
	f.breaks = append(f.breaks, b)
	return nil
}

func (f *fake) Remove(b Break) error {
	f.breaks = slices.DeleteFunc(f.breaks, func(c Break) bool { return b == c })
	return nil
}

func (f *fake) Resume(a []Action) error {
	f.resumed = a
	if f.next != nil {
		f.stops <- *f.next
	}
	return nil
}

func (f *fake) Stops() <-chan Stop { return f.stops }

func (f *fake) Interrupt() error {
	select {
	case f.stops <- Stop{Reason: Interrupted, Thread: 2}:
	default:
	}
	return nil
}

func (f *fake) Executable() string { return "/kernel" }

func (f *fake) File(path string) ([]byte, error) {
	if path != "/kernel" {
		return nil, fs.ErrNotExist
	}
	return []byte("\x7fELF}#$*"), nil
}

// client is a debugger that f is served to.
type client struct {
	*testgdb.Client
	t    *testing.T
	done chan error
}

func dial(t *testing.T, f *fake) *client {
	t.Helper()
	ours, theirs := net.Pipe()
	c := &client{testgdb.New(t, ours), t, make(chan error, 1)}
	go func() { c.done <- Serve(t.Context(), theirs, f) }()
	return c
}

// ends waits for the stub to end well.
func (c *client) ends() {
	c.t.Helper()
	select {
	case err := <-c.done:
		if err != nil {
			c.t.Errorf("ended by %v", err)
		}
	case <-time.After(time.Minute):
		c.t.Fatal("the stub did not end")
	}
}
