package kvm_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"warder/internal/testkvm"
	"warder/kvm"
)

// What stands in the way of KVM is told apart, with what to do about it.
func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		want error
		says string
	}{
		{filepath.Join(dir, "absent"), fs.ErrNotExist, kvm.HowTo},
		{file, kvm.ErrNotKVM, "character device"},
		{dir, kvm.ErrNotKVM, "character device"},
		{"/dev/null", kvm.ErrNotKVM, "/dev/null"},
		{file + "/below", unix.ENOTDIR, file},
	} {
		s, err := kvm.Open(c.path)
		if s != nil || !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("Open(%q) = %v, want %v with %q", c.path, err, c.want, c.says)
		}
	}
}

func TestSystem(t *testing.T) {
	s := testkvm.Open(t)
	if v, err := s.APIVersion(); err != nil || v != kvm.APIVersion {
		t.Errorf("version %d, %v", v, err)
	}
	if n, err := s.VCPUMapSize(); err != nil || n < kvm.RegionSize {
		t.Errorf("shared region of %d bytes, %v", n, err)
	}
	if n, err := s.Check(kvm.CapUserMemory); err != nil || n != 1 {
		t.Errorf("USER_MEMORY %d, %v", n, err)
	}
	if n, err := s.Check(99999); err != nil || n != 0 {
		t.Errorf("capability 99999: %d, %v", n, err)
	}
	if _, err := s.CreateVM(1 << 40); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a machine type that there is not: %v, want EINVAL", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if _, err := s.APIVersion(); !errors.Is(err, unix.EBADF) {
		t.Errorf("after Close: %v, want EBADF", err)
	}
}

// An error names the ioctl and the capability.
func TestEnableCapErrors(t *testing.T) {
	g := testkvm.NewGuest(t, nil)
	err := g.VM.EnableCap(kvm.CapUserMemory, 0)
	if !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "USER_MEMORY") || !strings.Contains(err.Error(), "KVM_ENABLE_CAP") {
		t.Errorf("%v", err)
	}
	if err := g.VM.EnableCap(kvm.CapUserMemory, 0, 1, 2, 3, 4, 5); err == nil || errors.Is(err, unix.EINVAL) {
		t.Errorf("five arguments: %v, want an error of ours", err)
	}
	if err := g.CPU.EnableCap(kvm.CapUserMemory, 0); !errors.Is(err, unix.EINVAL) {
		t.Errorf("on a vCPU: %v", err)
	}
	if _, err := g.VM.CreateVCPU(0); !errors.Is(err, unix.EEXIST) || !strings.Contains(err.Error(), "vcpu 0") {
		t.Errorf("the same vCPU again: %v, want EEXIST", err)
	}
}

// Nothing leaks: VMs come and go, and so do their descriptors.
func TestCloseReleasesAll(t *testing.T) {
	s := testkvm.Open(t)
	descriptors := func() int {
		t.Helper()
		d, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(d)
	}
	before := descriptors()
	for range 20 {
		vm, err := s.CreateVM(0)
		if err != nil {
			t.Fatal(err)
		}
		cpu, err := vm.CreateVCPU(0)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := errors.Join(cpu.Close(), vm.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if after := descriptors(); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func TestCapabilities(t *testing.T) {
	caps, names := map[kvm.Cap]bool{}, map[string]bool{}
	for _, c := range kvm.Capabilities {
		if caps[c.Cap] || names[c.Name] {
			t.Errorf("%s (%d) is there twice", c.Name, c.Cap)
		}
		caps[c.Cap], names[c.Name] = true, true
		if c.Cap.String() != c.Name {
			t.Errorf("%v is not %s", c.Cap, c.Name)
		}
		if c.AMD64 == "" && c.ARM64 == "" || c.Use == "" {
			t.Errorf("%s: for which architecture and what?", c.Name)
		}
	}
	if got := kvm.Cap(99999).String(); got != "capability 99999" {
		t.Error(got)
	}
}
