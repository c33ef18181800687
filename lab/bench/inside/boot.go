package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"warder/lab/bench/measure"
)

// A bootPeer is a VMM with the file of the kernel that it is given.
type bootPeer struct {
	peer
	kernel string
	warm   bool // its first boot leaves behind what the next ones find
}

// bootMemory is a guest's RAM in MiB.
const bootMemory = 256

// benchBoot measures from the start of a VMM's process to the first
// instruction of the guest's /init.
func benchBoot(ctx context.Context, b *bench) error {
	for _, p := range bootPeers(b.files) {
		if !strings.HasPrefix(p.name, b.peer) {
			continue
		}
		g := guest{kernel: p.kernel, initrd: b.files.first, memory: bootMemory}
		if err := p.find(g); err != nil {
			b.absent(p.name, err)
			continue
		}
		if err := b.boots(ctx, p, g); err != nil {
			b.absent(p.name, err)
		}
	}
	return nil
}

// boots boots p as often as everything is measured.
func (b *bench) boots(ctx context.Context, p bootPeer, g guest) error {
	if p.warm {
		if err := bootOnce(ctx, b, p, g, false); err != nil {
			return err
		}
	}
	for range b.repeat {
		if err := bootOnce(ctx, b, p, g, true); err != nil {
			return err
		}
	}
	return nil
}

func bootOnce(ctx context.Context, b *bench, p bootPeer, g guest, counts bool) error {
	m, err := b.start(ctx, p.command(g), false)
	if err != nil {
		return err
	}
	defer m.end()
	if err := m.awaitMark(); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(p.kernel), err)
	}
	u, err := m.usage()
	if err != nil || !counts {
		return err
	}
	const milli, mega = 1e3, 1e-6
	b.add("time", p.name, "ms", measure.Less, u.elapsed.Seconds()*milli)
	b.add("instructions", p.name, "M", measure.Less, float64(u.elapsed-u.idle)*mega)
	b.add("in guest", p.name, "M", measure.Neither, float64(u.guest)*mega)
	b.add("in VMM", p.name, "M", measure.Neither, float64(u.user)*mega)
	b.add("in host kernel", p.name, "M", measure.Neither, float64(u.elapsed-u.idle-u.guest-u.user)*mega)
	for _, e := range u.exits {
		b.add(e.reason, p.name, "exits", measure.Neither, float64(e.count))
	}
	return nil
}
