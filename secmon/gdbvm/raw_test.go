package gdbvm_test

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"warder/internal/testgdb"
	"warder/internal/testkernel"
	"warder/internal/testkvm"
	"warder/secmon/gdbstub"
	"warder/secmon/gdbvm"
	"warder/vmm"
)

// debugger is a client of a machine's stub, which knows the registers as it was
// told of them.
type debugger struct {
	*testgdb.Client
	t         *testing.T
	registers map[string]register
	done      chan error
}

type register struct {
	number, at, size int
}

// debug attaches a debugger to m.
func debug(t *testing.T, m *vmm.Machine, cfg gdbvm.Config) *debugger {
	t.Helper()
	target, err := gdbvm.Of(m, cfg).Attach()
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	d := &debugger{testgdb.New(t, ours), t, map[string]register{}, make(chan error, 1)}
	go func() { d.done <- gdbstub.Serve(t.Context(), theirs, target) }()
	d.Call("qSupported:swbreak+;hwbreak+")
	d.Ask("QStartNoAckMode", "OK")
	d.Acks = false
	d.describe()
	return d
}

// object reads what qXfer has.
func (d *debugger) object(name string) string {
	d.t.Helper()
	var b strings.Builder
	for {
		p := d.Call(fmt.Sprintf("qXfer:%s:%x,800", name, b.Len()))
		if p == "" || p[0] != 'm' && p[0] != 'l' {
			d.t.Fatalf("%s was answered %q", name, p)
		}
		b.WriteString(p[1:])
		if p[0] == 'l' {
			return b.String()
		}
	}
}

func (d *debugger) describe() {
	d.t.Helper()
	var x struct {
		Features []struct {
			Name      string `xml:"name,attr"`
			Registers []struct {
				Name string `xml:"name,attr"`
				Bits int    `xml:"bitsize,attr"`
			} `xml:"reg"`
		} `xml:"feature"`
	}
	if err := xml.Unmarshal([]byte(d.object("features:read:target.xml")), &x); err != nil {
		d.t.Fatal(err)
	}
	n, at := 0, 0
	for _, f := range x.Features {
		for _, r := range f.Registers {
			d.registers[r.Name] = register{n, at, r.Bits / 8}
			n, at = n+1, at+r.Bits/8
		}
	}
}

// register is the value of one of at most 8 bytes.
func (d *debugger) register(name string) uint64 {
	d.t.Helper()
	r, ok := d.registers[name]
	all, err := hex.DecodeString(d.Call("g"))
	if !ok || err != nil || len(all) < r.at+r.size {
		d.t.Fatalf("register %s: %v", name, err)
	}
	var b [8]byte
	copy(b[:], all[r.at:r.at+r.size])
	return binary.LittleEndian.Uint64(b[:])
}

// ends waits for the stub to let the machine go.
func (d *debugger) ends() {
	d.t.Helper()
	select {
	case err := <-d.done:
		if err != nil {
			d.t.Error(err)
		}
	case <-time.After(time.Minute):
		d.t.Fatal("the stub did not end")
	}
}

// smallMachine is a machine that runs small, on any KVM.
func smallMachine(t *testing.T) *vmm.Machine {
	t.Helper()
	testkvm.Open(t)
	path := testkernel.RawFile(t, small)
	m, err := vmm.New(vmm.Config{Memory: 64 << 20, Kernel: path, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestSmallGuest debugs a guest of a few instructions, on any KVM.
func TestSmallGuest(t *testing.T) {
	m := smallMachine(t)
	// It spins until a register says otherwise.
	d := debug(t, m, gdbvm.Config{})
	d.Ask("qfThreadInfo", "m1")
	d.Ask("?", "T02thread:1;")
	d.Ask("qXfer:exec-file:read::0,100", "E16")
	for range 3 {
		d.Ask("vCont;s:1", "T05thread:1;")
	}
	if pc := d.register(pcName); pc < testkernel.RawBase || pc >= testkernel.RawBase+uint64(len(small)) {
		t.Errorf("it stands at %#x", pc)
	}
	d.Ask(fmt.Sprintf("m%x,%x", testkernel.RawBase, len(small)), hex.EncodeToString(small))
	d.Ask("mfffffff000000000,4", "E0e")
	// The guest goes on while nobody looks, and stops when it is told to.
	d.Send("vCont;c")
	d.Raw("\x03")
	if got := d.Receive(); got != "T02thread:1;" {
		t.Errorf("an interrupt was answered %q", got)
	}
	r := d.registers[loopName]
	d.Ask(fmt.Sprintf("P%x=%s", r.number, strings.Repeat("00", r.size)), "OK")
	if d.register(loopName) != 0 {
		t.Error("the register was not set")
	}
	d.Ask("vCont;c", "W00") // it switches off
	d.Conn.Close()
	d.ends()
	if e := m.Wait(); e.Reason != vmm.PowerOff {
		t.Errorf("ended by %v", e)
	}
}

// A debugger that kills ends the machine.
func TestKill(t *testing.T) {
	m := smallMachine(t)
	d := debug(t, m, gdbvm.Config{})
	d.Ask("vKill;1", "OK")
	d.ends()
	if e := m.Wait(); e.Reason != vmm.Killed {
		t.Errorf("ended by %v", e)
	}
}
