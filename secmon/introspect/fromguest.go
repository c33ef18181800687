package introspect

import (
	"context"
	"errors"
	"fmt"
	"time"

	"warder/vmm/pagetable"
)

// FromGuest reads the kernel's symbols and types out of a running guest's memory,
// for one whose kernel file is not known. Nothing of it is trusted: the tables
// are copied, then checked as those of a file are. It tries until ctx ends; the
// error then wraps [ErrNotLocated]. The kernel is that guest's alone: another's
// word for what it runs is not this one's.
func FromGuest(ctx context.Context, m Machine, arch string) (*Kernel, error) {
	for {
		k, err := fromGuest(m, arch)
		if !errors.Is(err, ErrNotLocated) {
			return k, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w (%w)", err, ctx.Err())
		case <-time.After(attachEvery):
		}
	}
}

func fromGuest(m Machine, arch string) (*Kernel, error) {
	err := fmt.Errorf("introspect: %w: no vCPU shows a kernel", ErrNotLocated)
	for id := range m.CPUs() {
		var im *image
		e := m.OnCPU(id, func(c CPU) error {
			anchor, err := c.SyscallEntry()
			if err != nil {
				return err
			}
			space, err := c.AddressSpace()
			if err != nil {
				return err
			}
			im = mappedImage(space, m.Memory(), arch, anchor)
			return nil
		})
		if e != nil {
			return nil, fmt.Errorf("introspect: %w", e)
		}
		if im == nil {
			continue
		}
		k, e := load(im)
		if !errors.Is(e, ErrNoKallsyms) {
			return k, e
		}
		// This vCPU may be on tables that hide most of the kernel.
		err = fmt.Errorf("%w: %w", ErrNotLocated, e)
	}
	return nil, err
}

// imageWindow is around an anchor in the kernel's code where its image is looked
// for: on arm64, where the image may be anywhere. Images are up to 64 MiB.
const imageWindow = 64 << 20

// mappedImage copies what is mapped where the kernel's image is, nil if nothing is
// mapped at the anchor.
func mappedImage(s pagetable.Space, mem pagetable.Reader, arch string, anchor uint64) *image {
	if _, err := s.Translate(mem, anchor); err != nil || anchor < 1<<63 {
		return nil
	}
	from, to := anchor-imageWindow, anchor+imageWindow
	if arch == "amd64" {
		from, to = startKernelMap, startKernelMap+1<<30
	}
	// Where what is mapped begins and ends first, so that each run is copied once.
	type run struct{ at, end uint64 }
	var runs []run
	left := uint64(2 * imageWindow) // bytes to copy
	for va := from &^ 4095; va < to && left > 0; {
		m, err := s.Translate(mem, va)
		if err != nil {
			va = skip(err, va, arch)
			continue
		}
		n := min(m.PageSize-va%m.PageSize, to-va, left)
		if last := len(runs) - 1; last >= 0 && runs[last].end == va {
			runs[last].end += n
		} else {
			runs = append(runs, run{va, va + n})
		}
		va, left = va+n, left-n
	}
	im := &image{arch: arch}
	for _, r := range runs {
		p := make([]byte, r.end-r.at)
		if s.Read(mem, r.at, p) == nil { // else the tables have changed, or lead to no RAM
			im.segments = append(im.segments, segment{r.at, p})
		}
	}
	return im
}

// skip is the next address that may be mapped after one that is not: a table
// that is not there covers more than a page.
func skip(err error, va uint64, arch string) uint64 {
	step := uint64(4096)
	if f, ok := errors.AsType[*pagetable.FaultError](err); ok && arch == "amd64" && f.Level == 2 {
		step = 2 << 20
	}
	return va&^(step-1) + step
}
