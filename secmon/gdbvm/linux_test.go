package gdbvm_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"warder/boot/kernelpkg"
	"warder/internal/testguest"
	"warder/secmon/event"
	"warder/secmon/gdbvm"
	"warder/secmon/introspect"
	"warder/secmon/trap"
	"warder/vmm"
)

func TestMain(m *testing.M) { testguest.Main(m) }

// cells are two words in the guest: it counts in the first, and ends when the
// second is not 0.
const (
	counter = 0
	stop    = 8
)

var loops = testguest.Register("loops", func(g *testguest.Guest) {
	runtime.LockOSThread()
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_LOCKED)
	g.Check(err)
	g.Report("cells", address(page))
	for binary.LittleEndian.Uint64(page[stop:]) == 0 {
		binary.LittleEndian.PutUint64(page[counter:], binary.LittleEndian.Uint64(page[counter:])+1)
		if fd, err := unix.Open("/proc/self/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
			unix.Close(fd)
		}
	}
})

// handlers are the kernel's functions for the openat of this architecture.
var handlers = map[string]string{"amd64": "__x64_sys_openat", "arm64": "__arm64_sys_openat"}

// readFile reads a file of the target's.
func (d *debugger) readFile(path string) []byte {
	d.t.Helper()
	open := d.Call("vFile:open:" + hex.EncodeToString([]byte(path)) + ",0,0")
	fd, ok := strings.CutPrefix(open, "F")
	if !ok || strings.HasPrefix(fd, "-") {
		d.t.Fatalf("%s: %s", path, open)
	}
	var b bytes.Buffer
	for {
		p := d.Call(fmt.Sprintf("vFile:pread:%s,2000,%x", fd, b.Len()))
		n, data, ok := strings.Cut(strings.TrimPrefix(p, "F"), ";")
		if size, err := strconv.ParseUint(n, 16, 32); !ok || err != nil || int(size) != len(data) {
			d.t.Fatalf("a read of %s gave %.20q", path, p)
		}
		if data == "" {
			d.Ask("vFile:close:"+fd, "F0")
			return b.Bytes()
		}
		b.WriteString(data)
	}
}

// memory is the word at addr.
func (d *debugger) memory(addr uint64) uint64 {
	d.t.Helper()
	b, err := hex.DecodeString(d.Call(fmt.Sprintf("m%x,8", addr)))
	if err != nil || len(b) != 8 {
		d.t.Fatalf("memory at %#x: % x, %v", addr, b, err)
	}
	return binary.LittleEndian.Uint64(b)
}

// run lets all vCPUs go until one stops for reason, and says which.
func (d *debugger) run(reason string) (thread string) {
	d.t.Helper()
	got := d.Call("vCont;c")
	thread, why, ok := strings.Cut(strings.TrimPrefix(got, "T05thread:"), ";")
	if !ok || why != reason {
		d.t.Fatalf("stopped with %q, want %q", got, reason)
	}
	d.Ask("Hg"+thread, "OK")
	return thread
}

// TestLinux debugs a guest that runs Linux on two CPUs, by the symbols that the
// stub has, while its system calls are trapped.
func TestLinux(t *testing.T) {
	r := loops.Start(t, vmm.Config{CPUs: min(2, runtime.NumCPU())})
	cells := testguest.Get[uint64](r, "cells")
	pkg, err := kernelpkg.Default(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	known, err := introspect.Open(pkg.KernelPath)
	if err != nil {
		t.Fatal(err)
	}
	var trapped atomic.Uint64
	traps, err := trap.Arm(t.Context(), trap.Of(r.Machine), trap.Config{
		VM: "vm", Kernel: known, Calls: []string{"openat"},
		Sink: func(event.Event) unix.Errno { trapped.Add(1); return 0 },
	})
	if err != nil {
		t.Fatal(err)
	}

	d := debug(t, r.Machine, gdbvm.Config{Kernel: pkg.KernelPath})
	if want := "m1,2"[:2*r.CPUs()]; d.Call("qfThreadInfo") != want {
		t.Errorf("the vCPUs are not threads %s", want)
	}
	path := d.object("exec-file:read:")
	file, err := elf.NewFile(bytes.NewReader(d.readFile(path)))
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := file.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	var handler uint64
	for _, s := range symbols {
		if s.Name == handlers[runtime.GOARCH] {
			handler = s.Value
		}
	}
	if handler == 0 {
		t.Fatal("the kernel's symbols do not have the handler of openat")
	}
	if linked, err := known.Symbols().Addr(handlers[runtime.GOARCH]); err != nil || handler != linked+traps.Guest().Slide() {
		t.Errorf("the handler is at %#x in the file, linked at %#x, moved by %#x: %v", handler, linked, traps.Guest().Slide(), err)
	}

	// A breakpoint by symbol, hit again and again: taken away, stepped over and
	// set again, as GDB does.
	breakpoint := fmt.Sprintf("0,%x,%d", handler, map[string]int{"amd64": 1, "arm64": 4}[runtime.GOARCH])
	for range 5 {
		d.Ask("Z"+breakpoint, "OK")
		thread := d.run("swbreak:;")
		if pc := d.register(pcName); pc != handler {
			t.Errorf("stopped at %#x, want %#x", pc, handler)
		}
		d.Ask("z"+breakpoint, "OK")
		before := trapped.Load()
		for range 8 { // over the trap's hook too
			at := d.register(pcName)
			d.Ask("vCont;s:"+thread, "T05thread:"+thread+";")
			if pc := d.register(pcName); pc == at || pc-handler > 1<<20 && handler-pc > 64<<20 {
				t.Errorf("a step went from %#x to %#x", at, pc)
			}
		}
		if trapped.Load() != before+1 {
			t.Errorf("%d traps while a call was stepped through", trapped.Load()-before)
		}
	}

	// A variable of the program's, watched.
	watch := fmt.Sprintf("2,%x,8", cells+counter)
	d.Ask("Z"+watch, "OK")
	d.run(fmt.Sprintf("watch:%x;", cells+counter))
	first := d.memory(cells + counter)
	if runtime.GOARCH == "arm64" { // it stops before the store
		d.Ask("z"+watch, "OK")
		thread := strings.TrimPrefix(d.Call("qC"), "QC")
		d.Ask("vCont;s:"+thread, "T05thread:"+thread+";")
		if now := d.memory(cells + counter); now != first+1 {
			t.Errorf("the store that was watched made %d of %d", now, first)
		}
		d.Ask("Z"+watch, "OK")
		first++
	}
	d.run(fmt.Sprintf("watch:%x;", cells+counter))
	if now, done := d.memory(cells+counter), uint64(map[string]int{"amd64": 1}[runtime.GOARCH]); now != first+done {
		t.Errorf("the counter is %d at the second store, was %d at the first", now, first)
	}
	d.Ask("z"+watch, "OK")

	d.Ask(fmt.Sprintf("M%x,8:0100000000000000", cells+stop), "OK")
	d.Ask("D", "OK")
	d.ends()
	r.Finish()
	if trapped.Load() == 0 {
		t.Error("no call was trapped")
	}
}
