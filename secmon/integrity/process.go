package integrity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"strings"

	"warder/secmon/introspect"
)

// vdso is the kernel's code in each process, which it maps from its own memory.
const (
	vdso    = "[vdso]"
	maxVDSO = 1 << 20
)

// takeVDSO reads that code in the guest's first process.
func (b *Baseline) takeVDSO(ctx context.Context) error {
	maps, err := b.live.Maps(ctx, 1)
	if err != nil {
		return err
	}
	for _, m := range maps {
		if m.Name == vdso && m.End-m.Start <= maxVDSO {
			err := b.live.Resident(ctx, 1, uint64(m.Start), uint64(m.End), func(at uint64, page []byte) error {
				b.vdso[at-uint64(m.Start)] = sha256.Sum256(page)
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// process says what runs in a process that should not, "" for nothing.
func (b *Baseline) process(ctx context.Context, p introspect.ProcessInfo) (string, error) {
	maps, err := b.live.Maps(ctx, p.PID)
	if err != nil {
		return "", err
	}
	for _, m := range maps {
		if strings.Contains(m.Perms, "x") {
			if why, err := b.area(ctx, p.PID, m); why != "" || err != nil {
				return why, err
			}
		}
	}
	return "", nil
}

// area is process for a range of addresses whose content may be run.
func (b *Baseline) area(ctx context.Context, pid int, m introspect.MapInfo) (string, error) {
	data, ok := b.cfg.Programs[m.Name]
	size := uint64(m.End) - uint64(m.Start)
	pages := (uint64(len(data)) + pageSize - 1) &^ (pageSize - 1)
	switch {
	case m.End < m.Start, strings.Contains(m.Perms, "w"):
		return fmt.Sprintf("code at %#x that can be written", uint64(m.Start)), nil
	case m.Name == vdso && size <= maxVDSO:
		return b.compare(ctx, pid, m, func(off uint64, page []byte) bool {
			was, ok := b.vdso[off]
			return !ok || was == sha256.Sum256(page)
		})
	case !ok:
		return fmt.Sprintf("code at %#x of %s", uint64(m.Start), described(m.Name)), nil
	case m.Offset > pages || size > pages-m.Offset:
		return fmt.Sprintf("code at %#x of more than there is in %s", uint64(m.Start), m.Name), nil
	}
	return b.compare(ctx, pid, m, func(off uint64, page []byte) bool {
		want := data[min(m.Offset+off, uint64(len(data))):]
		n := min(len(want), len(page))
		return bytes.Equal(want[:n], page[:n]) && len(bytes.Trim(page[n:], "\x00")) == 0
	})
}

func described(name string) string {
	if name == "" {
		return "no file"
	}
	return name
}

// compare has same look at what is in memory of m.
func (b *Baseline) compare(ctx context.Context, pid int, m introspect.MapInfo, same func(off uint64, page []byte) bool) (why string, err error) {
	err = b.live.Resident(ctx, pid, uint64(m.Start), uint64(m.End), func(at uint64, page []byte) error {
		if why == "" && !same(at-uint64(m.Start), page) {
			why = fmt.Sprintf("code at %#x that is not what %s has there", at, m.Name)
		}
		return nil
	})
	return why, err
}
