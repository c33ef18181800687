package tuned

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warder/boot/kernelpkg"
)

func TestUnmet(t *testing.T) {
	fragment := []byte(`# a comment about CONFIG_A
CONFIG_A=y
CONFIG_B=y
CONFIG_NAME="-warder"
CONFIG_N=64
# CONFIG_OFF is not set
# CONFIG_SELECTED is not set
# CONFIG_GONE is not set
`)
	config := []byte(`#
# Automatically generated file; DO NOT EDIT.
CONFIG_A=y
# CONFIG_B is not set
CONFIG_NAME="-warder"
CONFIG_N=640
# CONFIG_OFF is not set
CONFIG_SELECTED=y
`)
	want := []string{"CONFIG_B=y", "CONFIG_N=64", "# CONFIG_SELECTED is not set"}
	if d := cmp.Diff(want, Unmet(fragment, config)); d != "" {
		t.Error(d)
	}
	if unmet := Unmet(fragment, fragment); len(unmet) > 0 {
		t.Errorf("of itself: %q", unmet)
	}
}

// TestFragment holds every line to what Kconfig reads: one that is mistyped
// would ask for nothing.
func TestFragment(t *testing.T) {
	recipes := make(map[string]bool)
	for arch := range targets {
		fragment, err := Fragment(arch)
		if err != nil {
			t.Fatal(err)
		}
		recipes[Recipe(fragment)] = true
		seen := make(map[string]bool)
		for line := range strings.Lines(string(fragment)) {
			line = strings.TrimSpace(line)
			name, _, ok := symbol(line)
			switch {
			case ok && seen[name]:
				t.Errorf("%s: %s twice", arch, name)
			case !ok && line != "" && (!strings.HasPrefix(line, "#") || strings.Contains(line, "CONFIG_")):
				t.Errorf("%s: %q is neither a symbol nor a comment", arch, line)
			}
			seen[name] = seen[name] || ok
		}
		// The build has to notice when one is dropped.
		if unmet := Unmet(fragment, nil); len(unmet) != strings.Count(string(fragment), "\nCONFIG_") {
			t.Errorf("%s: nothing fulfils %d lines", arch, len(unmet))
		}
	}
	if len(recipes) != len(targets) {
		t.Error("two architectures have the same recipe")
	}
	if _, err := Fragment("riscv64"); err == nil {
		t.Error("a fragment for riscv64")
	}
}

// TestInstalled holds the tuned kernels of this machine against the fragments,
// if they were built from them.
func TestInstalled(t *testing.T) {
	for arch := range targets {
		fragment, err := Fragment(arch)
		if err != nil {
			t.Fatal(err)
		}
		p, err := kernelpkg.FindFlavour(arch, kernelpkg.Tuned)
		if err != nil {
			if os.Getenv(kernelpkg.Variable) == string(kernelpkg.Tuned) {
				t.Error(err)
			}
			continue
		}
		if p.Recipe != Recipe(fragment) {
			t.Logf("%s: %s was built from another configuration", arch, p.Dir)
			continue
		}
		config, err := os.ReadFile(p.ConfigPath)
		if err != nil {
			t.Fatal(err)
		}
		if unmet := Unmet(fragment, config); len(unmet) > 0 {
			t.Errorf("%s: not in the kernel: %q", arch, unmet)
		}
	}
}

// TestMakeSays has what make complained about in the error, and make's own
// variables kept from it.
func TestMakeSays(t *testing.T) {
	dir := t.TempDir()
	makefile := "all:\n\t@echo '  CC      a.o'\n\t@test -n '$(KBUILD_BUILD_TIMESTAMP)' -a '$(V)' = ''\nbad:\n\t@echo broken thing >&2; exit 1\n"
	if err := os.WriteFile(dir+"/Makefile", []byte(makefile), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MAKEFLAGS", "V=1")
	b := build{target: targets["amd64"], source: dir, objects: dir}
	var lines bytes.Buffer
	if err := b.make(t.Context(), func(line string) { lines.WriteString(line + "\n") }, "-s", "all"); err != nil {
		t.Error(err)
	}
	if !strings.Contains(lines.String(), "  CC      a.o\n") {
		t.Errorf("lines: %q", &lines)
	}
	if err := b.make(t.Context(), nil, "bad"); err == nil || !strings.Contains(err.Error(), "broken thing") {
		t.Errorf("error: %v", err)
	}
}
