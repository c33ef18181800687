package hostinfo_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warder/internal/testkvm"
	"warder/kvm"
	"warder/vmm/hostinfo"
)

// Without KVM the report says so, and is complete all the same.
func TestProbeWithoutKVM(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kvm")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file + "-absent", file, "/dev/null"} {
		r := hostinfo.Probe(path)
		if r.Ready || r.KVM.Class != hostinfo.None || r.KVM.Path != path || r.KVM.Reason == "" || r.KVM.Todo == "" {
			t.Errorf("%s: ready %v, %+v", path, r.Ready, r.KVM)
		}
		missing := r.Missing()
		if len(missing) == 0 || missing[0].Name != "KVM" || !missing[0].Required {
			t.Errorf("%s: missing %+v", path, missing)
		}
		if r.Arch != runtime.GOARCH || r.Kernel == "" || r.CPUs < 1 || r.Memory.Total < r.Memory.Available || r.Memory.Available == 0 {
			t.Errorf("%s: %+v", path, r)
		}
	}
}

// Each thing missing comes with what to do, and the report survives JSON.
func TestProbe(t *testing.T) {
	r := hostinfo.Probe("")
	for _, i := range r.Missing() {
		if i.Todo == "" || i.Use == "" {
			t.Errorf("%+v", i)
		}
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var again hostinfo.Report
	if err := json.Unmarshal(b, &again); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(r, again); d != "" {
		t.Errorf("after JSON:\n%s", d)
	}
}

// A KVM that opens gets a class, by a loop that has run.
func TestKVMClass(t *testing.T) {
	testkvm.Open(t)
	k := hostinfo.KVMClass("")
	if k.Path != kvm.Path || k.Class == hostinfo.None || k.Guest <= 0 || k.Native <= 0 {
		t.Errorf("%+v", k)
	}
	t.Logf("%s: %s", k.Class, k.Reason)
}

// With a fast KVM everything required is there.
func TestReady(t *testing.T) {
	testkvm.Need(t)
	r := hostinfo.Probe("")
	if !r.Ready || r.KVM.Class != hostinfo.Hardware {
		t.Errorf("ready %v, %+v, missing %+v", r.Ready, r.KVM, r.Missing())
	}
	names := map[string]bool{}
	for _, i := range r.Items {
		if names[i.Name] {
			t.Errorf("%s is there twice", i.Name)
		}
		names[i.Name] = true
	}
	if !names["IMMEDIATE_EXIT"] || !names["READONLY_MEM"] {
		t.Error("capabilities were not asked for")
	}
}
