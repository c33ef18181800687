package analysis

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// module is the path that all our packages start with.
const module = "warder"

// A layer is a top-level directory and what its packages may import of the
// others.
type layer struct {
	name    string
	may     []string
	because string
}

// layers is the order of DESIGN's arrows: cmd -> supervisor -> {secmon, trust} ->
// vmm -> {kvm, boot, devices}.
var layers = []layer{
	{"kvm", nil, "it is the /dev/kvm ABI, which knows no machine"},
	{"devices", nil, "a device is tested without a machine, and may run in a process of its own"},
	{"boot", nil, "a kernel becomes bytes and registers on any host, for any architecture"},
	{"vmm", []string{"kvm", "boot", "devices"}, "a machine offers hooks and does not know who uses them"},
	{"guestinit", nil, "it runs inside a guest, where there is no machine"},
	{"secmon", []string{"vmm", "boot", "devices"}, "it watches machines through their hooks, never through KVM"},
	{"trust", []string{"vmm", "devices"}, "it is a peer of secmon, and neither needs the other"},
	{"supervisor", []string{"secmon", "trust", "vmm", "guestinit", "boot", "devices"}, "only vmm drives KVM"},
	{"lab", []string{"boot", "guestinit"}, "it stands in for hardware: what it runs must not be part of it"},
	{"cmd", []string{"supervisor", "secmon", "trust", "vmm", "guestinit", "boot", "devices", "lab"}, "only vmm drives KVM"},
	{"internal", []string{"kvm", "vmm", "boot", "devices"}, "test support must not pull in what it supports the tests of"},
}

// An engine is a package that must run anywhere, so what it must not reach, by
// any path.
type engine struct {
	prefix string
	never  []string
}

const engineReason = "an engine that imports no machine is tested and measured on any host"

// decider is what must not be reached by what decides about services, which can be
// in a VM of its own.
var decider = []string{"vmm", "kvm", "devices", "boot", "secmon"}

var engines = []engine{
	{"secmon/event", []string{"vmm", "kvm", "devices", "boot", "guestinit", "supervisor"}},
	{"secmon/gdbstub", []string{"vmm", "kvm", "devices", "boot", "guestinit", "supervisor"}},
	{"secmon/lan/anomaly", []string{"devices"}},
	{"secmon/lan/app", []string{"devices"}},
	{"secmon/lan/filter", []string{"devices"}},
	{"secmon/lan/flow", []string{"devices"}},
	{"secmon/lan/packet", []string{"devices"}},
	{"secmon/lan/pcapng", []string{"devices"}},
	{"secmon/lan/stream", []string{"devices"}},
	{"secmon/lan", []string{"vmm", "kvm", "boot", "guestinit", "supervisor"}}, // it is plugged into a device
	{"secmon/pattern", []string{"vmm", "kvm", "devices", "boot", "guestinit", "supervisor"}},
	{"supervisor/declaration", decider},
	{"supervisor/verify", decider},
	{"supervisor/services", decider},
	{"supervisor/sizing", decider},
	{"supervisor/link", decider},
	{"supervisor/decision", decider},
	{"supervisor/program", decider},
	{"supervisor/hosting", decider}, // it acts, by interfaces
	{"vmm/pagetable", []string{"kvm", "boot"}},
	{"vmm/disasm", []string{"kvm", "boot", "devices"}},
}

// goPackage is what go list tells of a package.
type goPackage struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
	Error                              *struct{ Err string }
}

// listPackages returns the module's packages as they are for arch.
func listPackages(t *testing.T, arch string) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e",
		"-json=ImportPath,Imports,TestImports,XTestImports,Error", "./...")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOARCH="+arch, "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var list []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		if p.Error != nil {
			t.Errorf("%s: %s", p.ImportPath, p.Error.Err)
		}
		list = append(list, p)
	}
}

// ours returns a package's path inside the module.
func ours(importPath string) (string, bool) { return strings.CutPrefix(importPath, module+"/") }

// top returns the layer of a path inside the module.
func top(path string) string {
	first, _, _ := strings.Cut(path, "/")
	return first
}

// under reports whether a path is prefix or below it.
func under(path, prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }

// arrows checks every import against the layers. Tests may also import test
// support, and all below their layer except KVM's ABI.
func arrows(list []goPackage) (complaints []string) {
	for _, p := range list {
		from, ok := ours(p.ImportPath)
		if !ok {
			continue
		}
		i := slices.IndexFunc(layers, func(l layer) bool { return l.name == top(from) })
		if i < 0 {
			complaints = append(complaints, fmt.Sprintf("%s: no layer of the design has this name", from))
			continue
		}
		l := layers[i]
		check := func(imports []string, more ...string) {
			for _, imported := range imports {
				to, ok := ours(imported)
				if ok && top(to) != l.name && !slices.Contains(l.may, top(to)) && !slices.Contains(more, top(to)) {
					complaints = append(complaints, fmt.Sprintf("%s imports %s: packages of %s may import %s: %s",
						from, to, l.name, orNothing(l.may), l.because))
				}
			}
		}
		check(p.Imports)
		forTests := append(below(l), "internal")
		check(p.TestImports, forTests...)
		check(p.XTestImports, forTests...)
	}
	return complaints
}

// below returns the layers that l's imports may reach, without kvm.
func below(l layer) (names []string) {
	for _, m := range layers {
		if slices.Contains(l.may, m.name) && m.name != "kvm" {
			names = append(append(names, m.name), below(m)...)
		}
	}
	return names
}

func orNothing(names []string) string {
	if len(names) == 0 {
		return "nothing else of ours"
	}
	return strings.Join(names, ", ") + " of ours"
}

// reaches checks the engines, along every chain of imports.
func reaches(list []goPackage) (complaints []string) {
	imports := map[string][]string{}
	for _, p := range list {
		if from, ok := ours(p.ImportPath); ok {
			imports[from] = p.Imports
		}
	}
	for _, p := range list {
		from, _ := ours(p.ImportPath)
		for _, e := range engines {
			if !under(from, e.prefix) {
				continue
			}
			seen := map[string]bool{}
			var walk func(path string, chain string)
			walk = func(path, chain string) {
				for _, i := range imports[path] {
					to, ok := ours(i)
					if !ok || seen[to] {
						continue
					}
					seen[to] = true
					chain := chain + " -> " + to
					if slices.Contains(e.never, top(to)) {
						complaints = append(complaints, chain+": "+engineReason)
						continue
					}
					walk(to, chain)
				}
			}
			walk(from, from)
		}
	}
	return complaints
}

func TestArrows(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			list := listPackages(t, arch)
			if len(list) < 10 {
				t.Fatalf("go list found %d packages", len(list))
			}
			none(t, arrows(list))
			none(t, reaches(list))
		})
	}
}

func TestArrowsComplain(t *testing.T) {
	list := []goPackage{
		{ImportPath: "warder/kvm", Imports: []string{"unsafe"}, XTestImports: []string{"warder/internal/testkvm"}},
		{ImportPath: "warder/devices/blk", Imports: []string{"warder/devices/bus", "warder/kvm"}},
		{ImportPath: "warder/vmm", Imports: []string{"warder/kvm", "warder/secmon/event"}},
		{ImportPath: "warder/secmon/trap", Imports: []string{"warder/vmm"}, TestImports: []string{"warder/boot", "warder/kvm"}},
		{ImportPath: "warder/cmd/warder", Imports: []string{"warder/internal/oracle", "warder/kvm"}},
		{ImportPath: "warder/utils"},
		{ImportPath: "golang.org/x/sys/unix", Imports: []string{"warder/kvm"}},
	}
	exactly(t, arrows(list),
		"devices/blk imports kvm",
		"vmm imports secmon/event",
		"secmon/trap imports kvm",
		"cmd/warder imports internal/oracle",
		"cmd/warder imports kvm",
		"utils: no layer",
	)
}

func TestReachesComplain(t *testing.T) {
	list := []goPackage{
		{ImportPath: "warder/secmon/event"},
		{ImportPath: "warder/secmon/pattern/sigma", Imports: []string{"warder/secmon/event", "warder/secmon/helper"}},
		{ImportPath: "warder/secmon/helper", Imports: []string{"warder/vmm", "warder/secmon/pattern/sigma"}},
		{ImportPath: "warder/vmm"},
	}
	exactly(t, reaches(list), "secmon/pattern/sigma -> secmon/helper -> vmm")
}
