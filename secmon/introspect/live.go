package introspect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"warder/devices/guestmem"
	"warder/vmm"
	"warder/vmm/pagetable"
)

// CPU is a vCPU that stands still; *vmm.VCPU is one.
type CPU interface {
	AddressSpace() (pagetable.Space, error)
	// SyscallEntry is the anchor of [Kernel.Locate].
	SyscallEntry() (uint64, error)
	// Report has the registers.
	Report() *vmm.Report
}

// Machine is what a look into a running guest needs of its machine. [Of] makes
// one.
type Machine interface {
	CPUs() int
	Memory() *guestmem.Memory
	// OnCPU runs f while the vCPU of that number, and it alone, stands still.
	OnCPU(id int, f func(CPU) error) error
}

// Of makes a machine of package vmm one to look into.
func Of(m *vmm.Machine) Machine { return machine{m} }

type machine struct{ *vmm.Machine }

func (m machine) OnCPU(id int, f func(CPU) error) error {
	return m.On(id, func(v *vmm.VCPU) error { return f(v) })
}

// Live is a guest that runs. What is asked of it is read from its memory while
// it runs on: nothing stands still but each vCPU once, between two exits, for
// its registers. It is safe for concurrent use.
type Live struct {
	*Guest
	m     Machine
	space pagetable.Space // the kernel's own, whatever the CPUs do
}

// attachEvery is how often the vCPUs are looked at for one that shows the
// kernel: one in user mode may hide it, and before it has set itself up none
// shows it.
const attachEvery = 10 * time.Millisecond

// Attach finds the kernel in a running machine. It tries until ctx ends; the
// error then wraps [ErrNotLocated].
func Attach(ctx context.Context, m Machine, k *Kernel) (*Live, error) {
	for {
		l, err := attach(m, k)
		if !errors.Is(err, ErrNotLocated) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w (%w)", err, ctx.Err())
		case <-time.After(attachEvery):
		}
	}
}

func attach(m Machine, k *Kernel) (*Live, error) {
	err := error(ErrNotLocated)
	for id := range m.CPUs() {
		var l *Live
		e := m.OnCPU(id, func(c CPU) (err error) {
			l, err = look(m, c, k)
			return err
		})
		if e == nil {
			return l, nil
		}
		if err = e; !errors.Is(e, ErrNotLocated) {
			break
		}
	}
	return nil, err
}

// look finds the kernel through one vCPU.
func look(m Machine, c CPU, k *Kernel) (*Live, error) {
	anchor, err := c.SyscallEntry()
	if err != nil {
		return nil, err
	}
	space, err := c.AddressSpace()
	if err != nil {
		return nil, err
	}
	g, err := k.Locate(view{space.Cached(), m.Memory()}, anchor)
	if err != nil {
		return nil, err
	}
	// The vCPU's tables are those of the process that it runs, or the
	// trampoline's: take the kernel's.
	root, err := g.Addr(kernelTables[k.arch])
	if err != nil && k.arch == "arm64" {
		// It does not tell of its variables. In TTBR1_EL1 there is nothing but the
		// kernel's tables and the trampoline's, in which it would not have been found.
		return &Live{g, m, space}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("introspect: %w", err)
	}
	at, err := space.Translate(m.Memory(), root)
	if err != nil {
		return nil, fmt.Errorf("introspect: %w: the kernel's page tables: %w", ErrNotLocated, err)
	}
	return &Live{g, m, space.Kernel(at.Addr)}, nil
}

// kernelTables are the symbols of the first page table of the kernel's own.
var kernelTables = map[string]string{"amd64": "init_top_pgt", "arm64": "swapper_pg_dir"}

// Present says whether the kernel is still where it was found: a guest can have
// booted another by itself.
func (l *Live) Present() bool {
	banner, err := l.Addr("linux_banner")
	got := make([]byte, len(l.banner))
	return err == nil && l.View().ReadAt(got, banner) == nil && bytes.Equal(got, l.banner)
}

// View reads the kernel's memory for one question.
func (l *Live) View() View { return view{l.space.Cached(), l.m.Memory()} }

// view reads a guest's memory through one address space. It is for one
// question: it remembers where pages are.
type view struct {
	space *pagetable.Cache
	mem   *guestmem.Memory
}

func (v view) ReadAt(p []byte, va uint64) error { return v.space.Read(v.mem, va, p) }

// Bounds of one answer about a whole guest.
const (
	maxAnswerReads = 8 << 20  // a few seconds of them
	maxAnswerText  = 64 << 20 // bytes of names, paths and command lines
)

// ask starts a question about the guest, which ends with ctx.
func (l *Live) ask(ctx context.Context) *question {
	q := &question{reader: l.Guest.reader(l.View()), live: l, ctx: ctx}
	q.left = maxAnswerReads
	q.room = maxAnswerText
	return q
}

// A question walks the guest's structures. The first error of a walk is kept,
// and everything after it reads as zero, until take.
type question struct {
	*reader
	live *Live
	ctx  context.Context
	err  error
	room int // for text that the answer keeps
}

// keep counts text that goes into the answer: a guest can have any number of
// structures point to the same long name.
func (q *question) keep(s string) string {
	if q.room -= len(s); q.room < 0 {
		q.fail(fmt.Errorf("%w: names of more than %d bytes", ErrWalk, maxAnswerText))
		return ""
	}
	return s
}

// fail keeps the first error.
func (q *question) fail(err error) {
	if q.err == nil {
		q.err = err
	}
}

// take gives the error of the walk so far and starts anew.
func (q *question) take() error {
	err := q.err
	q.err = nil
	return err
}

// memory fills p, with zeros after an error.
func (q *question) memory(p []byte, va uint64) {
	if q.err == nil {
		if q.left%1024 == 0 && q.ctx.Err() != nil {
			q.err = q.ctx.Err()
			q.left = 0 // nothing more, whatever is taken
		} else {
			q.err = q.read(p, va)
		}
	}
	if q.err != nil {
		clear(p)
	}
}

// symbol is the address of a variable, which the kernel must have.
func (q *question) symbol(name string) uint64 {
	a, err := q.Addr(name)
	if err != nil {
		q.fail(err)
	}
	return a
}

// perCPU is the address of a variable of a CPU's own.
func (q *question) perCPU(name string, cpu int) uint64 {
	s, ok := q.symbols.Lookup(name)
	if !ok {
		q.fail(fmt.Errorf("the kernel has no symbol %s", name))
		return 0
	}
	at := s.Addr
	if q.arch != "amd64" || at >= startKernelMap {
		at += q.slide
	}
	return at + q.word(q.symbol("__per_cpu_offset")+8*uint64(cpu))
}

// word reads 8 bytes.
func (q *question) word(va uint64) uint64 {
	var p [8]byte
	q.memory(p[:], va)
	return le.Uint64(p[:])
}
