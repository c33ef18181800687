package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"warder/boot/kernelpkg"
	"warder/vmm/hostinfo"
)

func runDoctor(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := doctorCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

// Without KVM the exit status is 1 and the output says why.
func TestDoctorWithoutKVM(t *testing.T) {
	absent := filepath.Join(t.TempDir(), "kvm")
	out, err := runDoctor(t, "--kvm", absent)
	if s, ok := errors.AsType[exitStatus](err); !ok || s != 1 {
		t.Errorf("error %v, want exit status 1", err)
	}
	for _, want := range []string{"there is no KVM device", "what to do: ", "--lab", "not ready: warder run needs KVM"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Error("colours where no terminal is")
	}

	out, err = runDoctor(t, "--kvm", absent, "-o", "json")
	if s, ok := errors.AsType[exitStatus](err); !ok || s != 1 {
		t.Errorf("json: error %v, want exit status 1", err)
	}
	var r hostinfo.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in:\n%s", err, out)
	}
	if r.Ready || r.KVM.Path != absent || r.KVM.Class != hostinfo.None {
		t.Errorf("%+v", r)
	}
}

func TestDoctorRefusesUnknownOutput(t *testing.T) {
	out, err := runDoctor(t, "-o", "yaml")
	if _, ok := errors.AsType[exitStatus](err); ok || err == nil || out != "" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestReportTable(t *testing.T) {
	r := hostinfo.Report{Ready: true, Items: []hostinfo.Item{
		{Group: "host", Name: "memory", Present: true, Required: true, Value: "4 GiB", Use: "guests"},
		{Group: "host", Name: "Landlock", Use: "confining", Todo: "another kernel, " + strings.Repeat("which is newer, ", 9) + "the end"},
		{Group: "kvm", Name: "IRQFD", Present: true, Use: "interrupts"},
	}}
	table := reportTable(&r, 60, true)
	for line := range strings.Lines(table) {
		if w := cells(strings.TrimSuffix(line, "\n")); w > 60 {
			t.Errorf("%d cells: %q", w, line)
		}
	}
	var plain bytes.Buffer
	if err := printReport(&plain, &r, "table"); err != nil {
		t.Fatal(err)
	}
	want := `host
  ✓ memory    4 GiB  guests
  - Landlock  missing; lost: confining
              what to do: another kernel, ` + strings.Repeat("which is newer, ", 9) + `the end

kvm
  ✓ IRQFD     interrupts

ready: warder run will work here
`
	if plain.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", plain.String(), want)
	}
	r.Ready = false
	r.Items[2].Present, r.Items[2].Required = false, true
	if s := reportTable(&r, 0, false); !strings.Contains(s, "IRQFD") || !strings.Contains(s, "warder run needs IRQFD") {
		t.Error(s)
	}
}

func TestDoctorMissesTheGuest(t *testing.T) {
	t.Setenv("WARDER_CACHE", t.TempDir())
	t.Setenv(kernelpkg.Variable, "") // whichever kernel other tests are run with
	r := hostinfo.Report{Arch: "amd64", Ready: true}
	addGuest(&r)
	if r.Ready || len(r.Items) != 2 {
		t.Fatalf("ready without a kernel: %+v", r)
	}
	if i := r.Items[0]; i.Present || !i.Required || !strings.Contains(i.Value, "no guest kernel") || i.Todo != "warder kernel pull" {
		t.Errorf("%+v", i)
	}
}
