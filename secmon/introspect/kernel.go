package introspect

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"

	"warder/boot"
)

// Kernel is what a kernel's image says: symbols and types at link addresses.
// It is immutable; guests that run the same kernel share one.
type Kernel struct {
	arch    string
	symbols *Symbols
	types   *btf.Spec
	layout  *layout
	fields  *fields
	buildID string
	banner  []byte // linux_banner as the image holds it
	linked  uint64 // where an arm64 Image's first byte was linked, 0 if not known
}

// Load reads the symbols and types of a kernel from its image: the bytes of an
// unpacked ELF vmlinux, or of an arm64 Image.
//
// The error wraps [ErrFormat], [ErrNoKallsyms] or [ErrNoBTF] where one of them
// is the reason. The Kernel keeps no reference to image.
func Load(image []byte) (*Kernel, error) {
	im, err := openImage(image)
	if err != nil {
		return nil, fmt.Errorf("introspect: %w", err)
	}
	return whole(load(im))
}

// LoadBoot is Load for a kernel that has been opened to boot it.
func LoadBoot(kernel *boot.Kernel) (*Kernel, error) { return whole(load(bootImage(kernel))) }

// whole refuses a kernel without types.
func whole(k *Kernel, err error) (*Kernel, error) {
	if err == nil && k.types == nil {
		return nil, fmt.Errorf("introspect: %w", k.fields.none)
	}
	return k, err
}

// load reads what an image says. Without types the kernel has its symbols alone.
func load(im *image) (*Kernel, error) {
	k := &Kernel{arch: im.arch}
	var err error
	if k.symbols, err = findKallsyms(im); err != nil {
		return nil, fmt.Errorf("introspect: %w", err)
	}
	k.symbols = withVariables(im, k.symbols)
	k.types, err = loadTypes(im, k.symbols)
	switch {
	case errors.Is(err, ErrNoBTF):
		k.layout, k.fields = &layout{}, &fields{none: err}
	case err != nil:
		return nil, fmt.Errorf("introspect: %w", err)
	default:
		k.fields = &fields{spec: k.types}
		if k.layout, err = newLayout(k.types, k.arch); err != nil {
			return nil, fmt.Errorf("introspect: kernel BTF: %w", err)
		}
	}
	k.buildID = buildID(im, k.symbols)
	if k.banner, err = readBanner(im, k.symbols); err != nil {
		return nil, fmt.Errorf("introspect: %w", err)
	}
	if im.flat {
		k.linked = linkAddress(im, k.symbols)
	}
	return k, nil
}

// Arch is the kernel's architecture, as GOARCH names it.
func (k *Kernel) Arch() string { return k.arch }

// Symbols is the kernel's symbol table, at link addresses.
func (k *Kernel) Symbols() *Symbols { return k.symbols }

// Types is the kernel's type information.
func (k *Kernel) Types() *btf.Spec { return k.types }

// Banner is the kernel's own version line, as in /proc/version.
func (k *Kernel) Banner() string { return string(bytes.TrimSpace(k.banner)) }

const maxBanner = 512

func readBanner(im *image, syms *Symbols) ([]byte, error) {
	addr, err := syms.Addr("linux_banner")
	if err != nil {
		return nil, err
	}
	for n := uint64(maxBanner); n > 0; n /= 2 {
		p := im.bytes(addr, n)
		if end := bytes.IndexByte(p, 0); end > 0 {
			return bytes.Clone(p[:end]), nil
		}
	}
	return nil, errors.New("the kernel's linux_banner is not a string: its symbol table is damaged")
}

// View reads the memory of one guest address space by virtual address: whole
// or, with an error, not at all. It must be safe for any address.
type View interface {
	ReadAt(p []byte, va uint64) error
}

// ErrNotLocated is the error when the running kernel is not found where the
// anchor register says: another kernel image, an anchor that the guest has
// changed, or an address space in which the kernel is not mapped (page-table
// isolation hides it while a vCPU is in user mode: ask again).
var ErrNotLocated = errors.New("the running kernel is not where its registers say")

// Guest is a Kernel at the place where KASLR has put it.
type Guest struct {
	*Kernel
	slide uint64
	// Addresses of variables, 0 where the kernel has none.
	currentTask   uint64 // per-CPU, relative to the CPU's base
	dentryHash    uint64
	dentryHashLog uint64
}

// Locate finds where a running guest has its kernel. The anchor is the value
// of a register that points into the kernel: LSTAR on amd64 (entry_SYSCALL_64),
// VBAR_EL1 on arm64 (an exception vector). What is found is confirmed by the
// kernel's banner in memory.
func (k *Kernel) Locate(v View, anchor uint64) (*Guest, error) {
	for _, at := range k.anchors() {
		slide := anchor - at
		if slide%4096 != 0 {
			continue
		}
		banner, err := k.symbols.Addr("linux_banner")
		if err != nil {
			return nil, fmt.Errorf("introspect: %w", err)
		}
		got := make([]byte, len(k.banner))
		if v.ReadAt(got, banner+slide) != nil || !bytes.Equal(got, k.banner) {
			continue
		}
		return k.at(slide)
	}
	return nil, fmt.Errorf("introspect: %w: anchor register holds %#x", ErrNotLocated, anchor)
}

// anchors are the link addresses that the anchor register may point to.
func (k *Kernel) anchors() []uint64 {
	var at []uint64
	add := func(symbol string, n, step uint64) {
		if a, err := k.symbols.Addr(symbol); err == nil {
			for i := range n {
				at = append(at, a+i*step)
			}
		}
	}
	if k.arch == "amd64" {
		add("entry_SYSCALL_64", 1, 0)
		return at
	}
	add("vectors", 1, 0)
	// One table of 2 KiB for each mitigation of branch history injection, four
	// at most (arch/arm64/kernel/entry.S, enum arm64_bp_harden_el1_vectors).
	add("__bp_harden_el1_vectors", 4, 0x800)
	return at
}

func (k *Kernel) at(slide uint64) (*Guest, error) {
	g := &Guest{Kernel: k, slide: slide}
	if k.arch == "amd64" && k.types != nil {
		if err := g.findCurrent(); err != nil {
			return nil, fmt.Errorf("introspect: %w", err)
		}
	}
	g.dentryHash, _ = g.Addr("dentry_hashtable")
	g.dentryHashLog, _ = g.Addr("d_hash_shift")
	return g, nil
}

// findCurrent finds the per-CPU variable that holds the current task. Per-CPU
// symbols are offsets into the per-CPU area, which starts at __per_cpu_start.
func (g *Guest) findCurrent() error {
	start, err := g.symbols.Addr("__per_cpu_start")
	if err != nil {
		return err
	}
	if hot, ok := g.symbols.Lookup("pcpu_hot"); ok && g.layout.currentTask.size == 8 {
		g.currentTask = hot.Addr - start + g.layout.currentTask.off
		return nil
	}
	cur, err := g.symbols.Addr("current_task")
	if err != nil {
		return errors.New("the kernel has neither pcpu_hot nor current_task: the running task cannot be found")
	}
	g.currentTask = cur - start
	return nil
}

// Slide is how far KASLR has moved the kernel from its link address.
func (g *Guest) Slide() uint64 { return g.slide }

// Addr is the address of a symbol in the running kernel. It is not for
// per-CPU symbols, which KASLR does not move.
func (g *Guest) Addr(symbol string) (uint64, error) {
	a, err := g.symbols.Addr(symbol)
	if err != nil {
		return 0, err
	}
	return a + g.slide, nil
}

// Near names the place of an address in the running kernel, as "name+0x10".
func (g *Guest) Near(addr uint64) string { return g.symbols.Near(addr - g.slide) }
