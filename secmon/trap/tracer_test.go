package trap

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"warder/vmm"
)

// TestStepAside has the guest's own tracer put a call in a hooked NOP's place: it
// finds the NOP, and the hook is then over the call and does it.
func TestStepAside(t *testing.T) {
	eachKernel(t, func(t *testing.T, f *fake) {
		f.trace(t)
		before := bytes.Clone(f.image)
		var notices []string
		tr, err := Arm(t.Context(), f, Config{VM: "vm", Kernel: f.kernel, Calls: calls, Sink: pass, Notice: func(m string) { notices = append(notices, m) }})
		if err != nil {
			t.Fatal(err)
		}
		h := tr.h
		a := h.now.Load()
		if a.begins == nil || a.ends == nil {
			t.Fatalf("the guest's tracer was not found: %s", a.trouble)
		}
		if err := h.stepAside(); err != nil {
			t.Fatal(err)
		}
		for _, s := range a.sites {
			code := f.image[s.at-f.base:]
			if own := s == a.begins || s == a.ends; own == bytes.HasPrefix(code, before[s.at-f.base:][:len(s.hook)]) {
				t.Errorf("%s begins with % x", s.name, code[:8])
			}
		}
		traced := a.names[handlers[f.kernel.Arch()][0].prefix+"write"]
		call := []byte{0xe8, 0xfb, 0x0f, 0x00, 0x00} // call .+0x1000
		if f.kernel.Arch() == "arm64" {
			call = []byte{0x00, 0x04, 0x00, 0x94} // bl .+0x1000
		}
		copy(f.image[traced.at-f.base:], call)
		if err := h.stepBack(); err != nil {
			t.Fatal(err)
		}
		for _, s := range a.sites {
			if !bytes.HasPrefix(f.image[s.at-f.base:], s.hook) {
				t.Errorf("%s is not hooked again", s.name)
			}
		}
		if got, err := traced.through(f); err != nil || fmt.Sprint(got) != fmt.Sprint(vmm.Call(traced.at+0x1000)) {
			t.Errorf("through the hook: %v, %v", got, err)
		}
		if err := tr.Disarm(t.Context()); err != nil {
			t.Fatal(err)
		}
		copy(before[traced.at-f.base:], call)
		if !bytes.Equal(before, f.image) {
			t.Error("the kernel's code is not as its tracer has left it")
		}
		if len(notices) != 1 || !strings.Contains(notices[0], "tracer") {
			t.Errorf("notices %q", notices)
		}
	})
}

// TestDisarmWhileAside takes the hooks off while they are off.
func TestDisarmWhileAside(t *testing.T) {
	eachKernel(t, func(t *testing.T, f *fake) {
		f.trace(t)
		before := bytes.Clone(f.image)
		tr, err := f.arm(t, pass)
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.h.stepAside(); err != nil {
			t.Fatal(err)
		}
		if err := tr.Disarm(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(before, f.image) {
			t.Error("the kernel's code is not as it was")
		}
		if err := tr.h.stepBack(); err != nil || !bytes.Equal(before, f.image) {
			t.Errorf("something was hooked again, or %v", err)
		}
		if _, err := f.arm(t, pass); err != nil {
			t.Errorf("armed again: %v", err)
		}
	})
}

// What the tracer leaves that nobody can do is left alone, and said.
func TestStepBackOverSomethingElse(t *testing.T) {
	eachKernel(t, func(t *testing.T, f *fake) {
		f.trace(t)
		tr, err := f.arm(t, pass)
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.h.stepAside(); err != nil {
			t.Fatal(err)
		}
		s := tr.h.now.Load().names[handlers[f.kernel.Arch()][0].prefix+"write"]
		copy(f.image[s.at-f.base:], "\xcc\xcc\xcc\xcc\xcc")
		if err := tr.h.stepBack(); err == nil || !strings.Contains(err.Error(), "is not hooked any more") {
			t.Errorf("error %v", err)
		}
		if !bytes.HasPrefix(f.image[s.at-f.base:], []byte("\xcc\xcc\xcc\xcc")) {
			t.Error("it was written over")
		}
	})
}

// TestSharedHooks arms a machine twice: the second one's hooks stay when the
// first one's go.
func TestSharedHooks(t *testing.T) {
	eachKernel(t, func(t *testing.T, f *fake) {
		f.trace(t)
		before := bytes.Clone(f.image)
		first, err := f.arm(t, pass)
		if err != nil {
			t.Fatal(err)
		}
		second, err := Arm(t.Context(), f, Config{VM: "vm", Kernel: f.kernel, Calls: []string{"write", "close"}, Sink: pass})
		if err != nil {
			t.Fatal(err)
		}
		prefix := handlers[f.kernel.Arch()][0].prefix
		sites := first.h.now.Load().names
		if got := len(sites[prefix+"write"].clients); got != 2 {
			t.Errorf("write has %d clients", got)
		}
		if got := len(sites[prefix+"close"].clients); got != 1 {
			t.Errorf("close has %d clients", got)
		}
		if err := first.Disarm(t.Context()); err != nil {
			t.Fatal(err)
		}
		sites = first.h.now.Load().names
		if sites[prefix+"openat"] != nil || sites[prefix+"write"] == nil || len(first.Functions()) != 0 || len(second.Functions()) == 0 {
			t.Errorf("first %v, second %v", first.Functions(), second.Functions())
		}
		if err := second.Disarm(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(before, f.image) {
			t.Error("the kernel's code is not as it was")
		}
	})
}

// TestArmsWhatIsTraced hooks a function that the guest traces already.
func TestArmsWhatIsTraced(t *testing.T) {
	eachKernel(t, func(t *testing.T, f *fake) {
		f.trace(t)
		name := handlers[f.kernel.Arch()][0].prefix + "write"
		at, err := f.kernel.Symbols().Addr(name)
		if err != nil {
			t.Fatal(err)
		}
		code := f.image[at+f.slide-f.base:]
		if f.kernel.Arch() == "arm64" {
			copy(code[4:], []byte{0x00, 0x04, 0x00, 0x94}) // bl .+0x1000
		} else {
			copy(code[bytes.Index(code, patches["amd64"].nop):], []byte{0xe8, 0xfb, 0x0f, 0x00, 0x00}) // call .+0x1000
		}
		before := bytes.Clone(f.image)
		tr, err := f.arm(t, pass)
		if err != nil {
			t.Fatal(err)
		}
		s := tr.h.now.Load().names[name]
		if got, err := s.through(f); err != nil || fmt.Sprint(got) != fmt.Sprint(vmm.Call(s.at+0x1000)) {
			t.Errorf("through the hook: %v, %v", got, err)
		}
		if err := tr.Disarm(t.Context()); err != nil || !bytes.Equal(before, f.image) {
			t.Errorf("the kernel's code is not as it was, or %v", err)
		}
	})
}

// TestReturnsOutliveTheirClient has a call under way when the last client leaves:
// it returns to the hook, which stays for it alone.
func TestReturnsOutliveTheirClient(t *testing.T) {
	eachKernel(t, func(t *testing.T, f *fake) {
		f.trace(t)
		before := bytes.Clone(f.image)
		tr, err := f.arm(t, pass)
		if err != nil {
			t.Fatal(err)
		}
		begins := tr.h.now.Load().begins
		tr.h.returns.put(7, underway{back: 0x1234, stack: 0x5000})
		if err := tr.Disarm(t.Context()); err != nil {
			t.Fatal(err)
		}
		changed := bytes.Clone(before)
		copy(changed[begins.at-f.base:], begins.hook)
		for _, s := range tr.h.now.Load().sites {
			copy(changed[s.at-f.base:], s.hook)
		}
		if !bytes.Equal(f.image, changed) || f.hook == nil {
			t.Error("the call would return to where no hook is, or others were left")
		}
		if tr.h.returns.take(7, 0x5000) == nil {
			t.Fatal("the call is forgotten")
		}
		if tr, err = f.arm(t, pass); err != nil {
			t.Fatal(err)
		}
		if err := tr.Disarm(t.Context()); err != nil || !bytes.Equal(before, f.image) || f.hook != nil {
			t.Errorf("the hook is still there, or %v", err)
		}
	})
}
