package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"warder/boot/linked"
	"warder/lab/bench/initrd"
	"warder/lab/bench/measure"
)

// trapping is a way in which calls are trapped, by the name of the column.
type trapping struct {
	name   string
	option string // of warder's
	calls  int    // that it sees at least
	tracer string // in the guest, of initrd.Tracers
	traces string // which calls it traces
}

var trapped = []trapping{
	{name: "nothing trapped"},
	{name: "other calls", option: "entry:mkdirat,connect"},
	{name: "passed on", option: "pass:getppid,openat", calls: 6000},
	{name: "who and what", option: "entry:getppid,openat", calls: 6000},
	{name: "program, arguments", option: "all:getppid,openat", calls: 6000},
	{name: "result", option: "result:getppid,openat", calls: 12000},
	{name: "warder's rules", option: "rules", calls: 4000},
	{name: "strace of the two", tracer: "strace", traces: "getppid,openat"},
	{name: "strace", tracer: "strace", traces: "all"},
	{name: "perf of the two", tracer: "perf", traces: "getppid,openat"},
	{name: "perf", tracer: "perf", traces: "all"},
}

// What a trapped call costs beyond an untrapped one, beside bareExit, which goals
// name.
const (
	hookCost    = "a hook"
	decodedCost = "a call decoded"
	bareExit    = "bare exit"
)

// benchTraps measures calls of a guest, and work that makes them, with more and more
// of them trapped.
func benchTraps(ctx context.Context, b *bench) error {
	if !strings.HasPrefix(warderName, b.peer) {
		return nil
	}
	traced := make(map[string]string)
	for tracer := range initrd.Tracers {
		files, err := b.withTracer(tracer)
		if err != nil {
			b.absent(tracer, err)
			continue
		}
		traced[tracer] = files
	}
	for range b.repeat {
		took := make(map[string]map[string]float64)
		for _, t := range trapped {
			files := b.files.work
			if t.tracer != "" {
				if files = traced[t.tracer]; files == "" {
					continue
				}
			}
			values, err := b.trapOnce(ctx, t, files)
			if err != nil {
				b.absent(t.name, err)
				continue
			}
			took[t.name] = values
		}
		none := took["nothing trapped"]
		for name, column := range map[string]string{hookCost: "passed on", decodedCost: "program, arguments"} {
			if values := took[column]; none != nil && values != nil {
				b.add(name, warderName, "ns", measure.Less, values["getppid"]-none["getppid"])
				b.add(name, bareExit, "ns", measure.Neither, none["exit"])
			}
		}
	}
	return nil
}

// withTracer makes an initramfs that has a tracer, too.
func (b *bench) withTracer(tracer string) (string, error) {
	work, err := os.ReadFile(b.files.work)
	if err != nil {
		return "", err
	}
	programs, err := linked.Files(runtime.GOARCH, initrd.Tracers[tracer])
	if err != nil {
		return "", err
	}
	more, err := initrd.Programs(programs)
	if err != nil {
		return "", err
	}
	name := filepath.Join(filepath.Dir(b.files.work), tracer+".cpio")
	return name, os.WriteFile(name, append(work, more...), 0o644)
}

// trapOnce runs the guest once and gives what each thing took, in nanoseconds.
func (b *bench) trapOnce(ctx context.Context, t trapping, files string) (map[string]float64, error) {
	g := guest{kernel: b.files.vmlinux, initrd: files, memory: bootMemory, devices: []string{"calls"}, options: "iomem=relaxed"}
	if t.tracer != "" {
		g.devices = append(g.devices, initrd.Traced(t.tracer, t.traces))
	}
	args := warderPeer(g)
	if t.option != "" {
		args = append(args, "--trap", t.option)
	}
	m, err := b.start(ctx, args, false)
	if err != nil {
		return nil, err
	}
	values := make(map[string]float64)
	for {
		line, err := m.readTo('\n')
		if err != nil {
			return nil, err
		}
		if line = strings.TrimSpace(line); line == string(initrd.Mark) {
			break
		}
		if why, ok := strings.CutPrefix(line, "error "); ok {
			m.end()
			return nil, fmt.Errorf("in the guest: %s", why)
		}
		if quantity, value, ok := quantityOf(line); ok {
			values[strings.TrimPrefix(quantity, "calls/")] = value
		}
	}
	last, err := m.await()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, last)
	}
	if t.option != "" {
		var count int
		_, tail, _ := strings.Cut(last, "vm: ")
		if _, err := fmt.Sscanf(tail, "%d calls were trapped", &count); err != nil || count < t.calls {
			return nil, fmt.Errorf("want at least %d calls trapped, warder said %q", t.calls, last)
		}
	}
	for _, quantity := range []string{"exit", "getppid", "openat", "file read", "MiB hashed"} {
		b.add(quantity, t.name, "ns", measure.Less, values[quantity])
	}
	return values, nil
}
