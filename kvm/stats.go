package kvm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// Stats are the counters that KVM keeps of a vCPU. They may be read from any thread
// while the vCPU runs.
type Stats struct {
	f  *os.File
	at map[string]int64
}

// OpenStats is KVM_GET_STATS_FD (CapBinaryStatsFD): "Get a file descriptor for binary
// statistics". Close gives it back.
func (v *VCPU) OpenStats() (*Stats, error) {
	fd, err := reqGetStatsFD.call(v.fd, 0)
	if err != nil {
		return nil, err
	}
	s := &Stats{f: os.NewFile(uintptr(fd), "KVM statistics")}
	if s.at, err = counters(s.f); err != nil {
		return nil, errors.Join(fmt.Errorf("KVM statistics: %w", err), s.Close())
	}
	return s, nil
}

// Close closes the descriptor.
func (s *Stats) Close() error { return s.f.Close() }

// Counter reads the counter of that name, as "exits". ok is false where this KVM
// has none.
func (s *Stats) Counter(name string) (n uint64, ok bool, err error) {
	at, ok := s.at[name]
	if !ok {
		return 0, false, nil
	}
	var p [8]byte
	if _, err := s.f.ReadAt(p[:], at); err != nil {
		return 0, true, fmt.Errorf("KVM statistics: %w", err)
	}
	return binary.NativeEndian.Uint64(p[:]), true, nil
}

// Bounds of what a kernel may say of its statistics.
const (
	maxStats     = 1024
	maxStatsName = 1024
)

// counters finds where each single value is: struct kvm_stats_header and as many
// struct kvm_stats_desc, each with its name behind it.
func counters(r io.ReaderAt) (map[string]int64, error) {
	var head struct{ Flags, NameSize, Count, ID, Descriptors, Data uint32 }
	if err := decodeAt(r, 0, &head); err != nil {
		return nil, err
	}
	if head.Count > maxStats || head.NameSize > maxStatsName {
		return nil, fmt.Errorf("%d of them, with names of %d bytes", head.Count, head.NameSize)
	}
	at := make(map[string]int64, head.Count)
	for i := range int64(head.Count) {
		var d struct {
			Flags          uint32
			Exponent       int16
			Size           uint16
			Offset, Bucket uint32
		}
		size := int64(binary.Size(d))
		from := int64(head.Descriptors) + i*(size+int64(head.NameSize))
		if err := decodeAt(r, from, &d); err != nil {
			return nil, err
		}
		name := make([]byte, head.NameSize)
		if _, err := r.ReadAt(name, from+size); err != nil {
			return nil, err
		}
		if d.Size == 1 {
			name, _, _ = bytes.Cut(name, []byte{0})
			at[string(name)] = int64(head.Data) + int64(d.Offset)
		}
	}
	return at, nil
}

func decodeAt(r io.ReaderAt, at int64, v any) error {
	return binary.Read(io.NewSectionReader(r, at, int64(binary.Size(v))), binary.NativeEndian, v)
}
