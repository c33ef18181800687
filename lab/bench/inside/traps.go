package main

import (
	"context"
	"fmt"
	"strings"

	"warder/lab/bench/initrd"
	"warder/lab/bench/measure"
)

// trapped are the ways in which calls are trapped, by the name of the column, with
// warder's option and how many calls it sees at least.
var trapped = []struct {
	name, option string
	calls        int
}{
	{"nothing trapped", "", 0},
	{"other calls", "entry:mkdirat,connect", 0},
	{"passed on", "pass:getppid,openat", 6000},
	{"who and what", "entry:getppid,openat", 6000},
	{"program, arguments", "all:getppid,openat", 6000},
	{"result", "result:getppid,openat", 12000},
	{"warder's rules", "rules", 4000},
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
	for range b.repeat {
		took := make(map[string]map[string]float64)
		for _, t := range trapped {
			values, err := b.trapOnce(ctx, t.name, t.option, t.calls)
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

// trapOnce runs the guest once and gives what each thing took, in nanoseconds.
func (b *bench) trapOnce(ctx context.Context, name, option string, least int) (map[string]float64, error) {
	g := guest{kernel: b.files.vmlinux, initrd: b.files.work, memory: bootMemory, devices: []string{"calls"}, options: "iomem=relaxed"}
	args := warderPeer(g)
	if option != "" {
		args = append(args, "--trap", option)
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
	if option != "" {
		var count int
		_, tail, _ := strings.Cut(last, "vm: ")
		if _, err := fmt.Sscanf(tail, "%d calls were trapped", &count); err != nil || count < least {
			return nil, fmt.Errorf("want at least %d calls trapped, warder said %q", least, last)
		}
	}
	for _, quantity := range []string{"exit", "getppid", "openat", "file read", "MiB hashed"} {
		b.add(quantity, name, "ns", measure.Less, values[quantity])
	}
	return values, nil
}
