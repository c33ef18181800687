package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warder/supervisor/declaration"
	"warder/supervisor/verify"
)

func TestClaim(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"data", "base"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("data", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	h := &host{named: map[string]bool{"taken": true}, vault: secretsConfig{}.open()}
	d := declaration.Service{
		Name: "a", CPUs: 2, Memory: declaration.Memory{Start: 64 << 20, Most: 256 << 20},
		Attachments: declaration.Attachments{
			Disks: []string{"link", "base:ro", "base:ro"}, Pmems: []string{"base"},
			Nets: []string{"tap:t0,ip=10.0.0.2/24,ip=fd00::2/64"}, Ports: []string{"log=unix:log.sock"},
		},
	}
	d.Resolve(dir)
	got, err := h.Claim(d)
	if err != nil {
		t.Fatal(err)
	}
	// Its least: what it grows by it is granted when it does.
	want := verify.Claim{VCPUs: 2, Memory: 64 << 20, Things: []verify.Thing{
		{Kind: "disk", Name: filepath.Join(dir, "data")}, {Kind: "disk", Name: filepath.Join(dir, "base"), Shared: true},
		{Kind: "tap", Name: "t0"}, {Kind: "address", Name: "10.0.0.2"}, {Kind: "address", Name: "fd00::2"}, {Kind: "socket", Name: filepath.Join(dir, "log.sock")},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, bad := range []struct {
		d    declaration.Service
		says string
	}{
		{declaration.Service{Name: "taken"}, "host's vms"},
		{declaration.Service{Name: "a", Attachments: declaration.Attachments{Disks: []string{"/no/such"}}}, "no such file"},
		{declaration.Service{Name: "a", Attachments: declaration.Attachments{Pmems: []string{"/no/such:rw"}}}, "no such file"},
		{declaration.Service{Name: "a", Attachments: declaration.Attachments{Nets: []string{"bridge:b"}}}, "tap:NAME"},
		{declaration.Service{Name: "a", Image: "oci:/no/such"}, "no such file"},
		{declaration.Service{Name: "a", Image: "UPPER"}, "registry's reference"},
		{declaration.Service{Name: "a", Secrets: []string{"none"}}, "under secrets"},
	} {
		if _, err := h.Claim(bad.d); err == nil || !strings.Contains(err.Error(), bad.says) {
			t.Errorf("%+v: %v", bad.d, err)
		}
	}
	if got, err := h.Claim(declaration.Service{Name: "a"}); err != nil || got.VCPUs != 1 || got.Memory == 0 || len(got.Things) != 0 {
		t.Errorf("the least: %+v, %v", got, err)
	}
}
