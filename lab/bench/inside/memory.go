package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"warder/lab/bench/measure"
)

// benchMemory measures the host memory that VMs take beyond their RAM: the
// proportional set sizes of the processes that run them, once for one VM and
// once for several. Guests are idle in /init.
func benchMemory(ctx context.Context, b *bench) error {
	for _, p := range memoryPeers(b.files) {
		if !strings.HasPrefix(p.name, b.peer) {
			continue
		}
		g := guest{kernel: p.kernel, initrd: b.files.first, memory: bootMemory}
		if err := p.find(g); err != nil {
			b.absent(p.name, err)
			continue
		}
		one, err := memoryOf(ctx, b, p, g, 1)
		if err == nil {
			var many float64
			if many, err = memoryOf(ctx, b, p, g, b.vms); err == nil {
				b.add("1 VM", p.name, "MiB", measure.Less, one)
				b.add(fmt.Sprintf("%d VMs", b.vms), p.name, "MiB", measure.Less, many)
				b.add("a further VM", p.name, "MiB", measure.Less, (many-one)/float64(b.vms-1))
				continue
			}
		}
		b.absent(p.name, err)
	}
	return nil
}

// A memoryPeer runs several guests: in one process if it can, or in as many.
type memoryPeer struct {
	bootPeer
	together func(g guest, n int) []string
}

// memoryOf is the MiB that n VMs take.
func memoryOf(ctx context.Context, b *bench, p memoryPeer, g guest, n int) (total float64, err error) {
	commands, marks := make([][]string, n), 1
	for i := range commands {
		commands[i] = p.command(g)
	}
	if p.together != nil {
		commands, marks = [][]string{p.together(g, n)}, n
	}
	var machines []*machine
	defer func() {
		for _, m := range machines {
			m.end()
		}
	}()
	for _, c := range commands {
		m, err := b.start(ctx, c, false)
		if err != nil {
			return 0, err
		}
		machines = append(machines, m)
		for range marks {
			if err := m.awaitMark(); err != nil {
				return 0, err
			}
		}
	}
	for _, m := range machines {
		pss, err := beyondRAM(m.cmd.Process.Pid, g.memory)
		if err != nil {
			return 0, err
		}
		total += pss
	}
	return total, nil
}

// beyondRAM is the proportional set size of a process in MiB (proc(5),
// /proc/pid/smaps), without its mappings of guest memory, which are those of
// exactly ram MiB.
func beyondRAM(pid, ram int) (float64, error) {
	b, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "smaps"))
	if err != nil {
		return 0, err
	}
	var total, size, seen, largest int
	for line := range strings.Lines(string(b)) {
		var kib int
		if _, err := fmt.Sscanf(line, "Size: %d kB", &kib); err == nil {
			size = kib
			largest = max(largest, size)
		}
		if _, err := fmt.Sscanf(line, "Pss: %d kB", &kib); err != nil {
			continue
		}
		if size == ram<<10 {
			seen++
		} else {
			total += kib
		}
	}
	if seen == 0 {
		return 0, fmt.Errorf("no mapping has the size of the guest's RAM, %d KiB: the largest has %d", ram<<10, largest)
	}
	return float64(total) / 1024, nil
}
