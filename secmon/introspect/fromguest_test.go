package introspect

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warder/devices/guestmem"
	"warder/vmm"
	"warder/vmm/pagetable"
)

// booted is a machine of one CPU whose kernel is mapped at KASLR's choice.
type booted struct {
	mem    *guestmem.Memory
	anchor uint64
	space  pagetable.Space
}

func (b *booted) CPUs() int                              { return 1 }
func (b *booted) Memory() *guestmem.Memory               { return b.mem }
func (b *booted) OnCPU(_ int, f func(CPU) error) error   { return f(b) }
func (b *booted) AddressSpace() (pagetable.Space, error) { return b.space, nil }
func (b *booted) SyscallEntry() (uint64, error)          { return b.anchor, nil }
func (b *booted) Report() *vmm.Report                    { return &vmm.Report{} }

const bootedAt = 0xffff_ffff_9d20_0000

// bootImageAt puts an image into memory at 2 MiB and maps it at bootedAt, with page
// tables at 4 KiB.
func bootImageAt(t *testing.T, image []byte) *booted {
	t.Helper()
	ram := make([]byte, 8<<20)
	copy(ram[2<<20:], image)
	entry := func(table, index, v uint64) { le.PutUint64(ram[table+8*index:], v) }
	const top, middle, low, present, large = 2<<20 + 0x1000, 0x2000, 0x3000, 1, 1 << 7
	entry(top, 511, middle|present)
	entry(middle, 510, low|present)
	for i := uint64(0); i*(2<<20) < uint64(len(image)); i++ {
		entry(low, bootedAt>>21&511+i, (2<<20)*(i+1)|present|large)
	}
	mem, err := guestmem.New(guestmem.Region{Base: 0, Bytes: ram})
	if err != nil {
		t.Fatal(err)
	}
	return &booted{mem, bootedAt + 0x80, pagetable.AMD64{CR0: 1 << 31, CR3: top, EFER: 1 << 10}.Space()}
}

// kernelImage is a kernel without types: a banner, notes and symbols.
func kernelImage() ([]byte, []Symbol) {
	const id = "12345678901234567890"
	image := append([]byte("Linux version 6.1 (nobody)\n\x00...."), buildIDNote...)
	note := uint64(len(image) - len(buildIDNote))
	image = append(image, id...)
	image = append(image, make([]byte, 2*4096-len(image))...) // with a page for the first page table
	syms := []Symbol{
		{"entry_SYSCALL_64", 'T', bootedAt + 0x80}, {"linux_banner", 'R', bootedAt}, {"init_top_pgt", 'D', bootedAt + 0x1000},
		{"__start_notes", 'R', bootedAt + note}, {"__stop_notes", 'R', bootedAt + 0x1000},
		{"_text", 'T', bootedAt}, {"_end", 'B', bootedAt + 0x20000},
	}
	r := rand.New(rand.NewPCG(5, 6))
	s := styles["6.1 amd64"]
	for _, more := range s.someSymbols(600, r) {
		if more.Addr >= startKernelMap {
			more.Addr += bootedAt - 0xffff_ffff_8100_0000
		}
		syms = append(syms, more)
	}
	slices.SortStableFunc(syms, func(a, b Symbol) int {
		switch {
		case a.Addr < b.Addr:
			return -1
		case a.Addr > b.Addr:
			return 1
		}
		return 0
	})
	return append(image, s.encode(syms, bootedAt, r)...), syms
}

// A kernel whose file is not known is read out of memory; one without types says
// what that costs.
func TestKernelFromMemory(t *testing.T) {
	image, syms := kernelImage()
	b := bootImageAt(t, image)
	k, err := FromGuest(t.Context(), b, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(syms, slices.Collect(k.Symbols().All())); d != "" {
		t.Errorf("symbols (-want +got):\n%s", d)
	}
	if k.Banner() != "Linux version 6.1 (nobody)" || k.buildID != "12345678901234567890" {
		t.Errorf("banner %q, build id %q", k.Banner(), k.buildID)
	}
	l, err := Attach(t.Context(), b, k)
	if err != nil {
		t.Fatal(err)
	}
	if !l.Present() {
		t.Error("the kernel is not where it was found")
	}
	if at, err := l.Resolve(t.Context(), "linux_banner"); err != nil || at != bootedAt {
		t.Errorf("linux_banner is at %#x, %v", at, err)
	}
	_, err = l.Processes(t.Context())
	if !errors.Is(err, ErrNoBTF) || !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "kallsyms, read, write") {
		t.Errorf("processes without types: %v", err)
	}
	if _, err := l.Struct(t.Context(), "task_struct", bootedAt, ""); !errors.Is(err, ErrNoBTF) {
		t.Errorf("a structure without types: %v", err)
	}
	defer func() {
		if err := b.mem.WriteAt([]byte("another kernel"), 2<<20); err != nil || l.Present() {
			t.Errorf("another kernel is taken for the same one, %v", err)
		}
	}()
	n := 0
	if err := l.AllSymbols(t.Context(), func(SymbolInfo) error { n++; return nil }); err != nil || n != len(syms) {
		t.Errorf("%d of %d symbols, %v", n, len(syms), err)
	}
}

func TestNoKernelInMemory(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*attachEvery)
	defer cancel()
	image, _ := kernelImage()
	b := bootImageAt(t, image[:len(image)/2])
	if _, err := FromGuest(ctx, b, "amd64"); !errors.Is(err, ErrNotLocated) || !errors.Is(err, ErrNoKallsyms) {
		t.Errorf("half a kernel: %v", err)
	}
	b.anchor = 0
	if _, err := FromGuest(ctx, b, "amd64"); !errors.Is(err, ErrNotLocated) {
		t.Errorf("no kernel: %v", err)
	}
}
