package kvm_test

import (
	"errors"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	gokvm "github.com/bobuhiro11/gokvm/kvm"
	"github.com/google/go-cmp/cmp"

	"warder/internal/testkvm"
	"warder/kvm"
)

// A second opinion on the ABI: gokvm wrote down the same numbers and structures
// by itself.

// gokvm's structures have the sizes of ours, and fields of the same name are at
// the same place.
func TestLayoutsAgainstGokvm(t *testing.T) {
	for name, pair := range map[string][2]reflect.Type{
		"regs":          {reflect.TypeFor[kvm.Regs](), reflect.TypeFor[gokvm.Regs]()},
		"segment":       {reflect.TypeFor[kvm.Segment](), reflect.TypeFor[gokvm.Segment]()},
		"dtable":        {reflect.TypeFor[kvm.DescriptorTable](), reflect.TypeFor[gokvm.Descriptor]()},
		"sregs":         {reflect.TypeFor[kvm.Sregs](), reflect.TypeFor[gokvm.Sregs]()},
		"debugregs":     {reflect.TypeFor[kvm.DebugRegs](), reflect.TypeFor[gokvm.DebugRegs]()},
		"xcrs":          {reflect.TypeFor[kvm.XCRS](), reflect.TypeFor[gokvm.XCRS]()},
		"lapic":         {reflect.TypeFor[kvm.LAPIC](), reflect.TypeFor[gokvm.LAPICState]()},
		"irqchip":       {reflect.TypeFor[kvm.IRQChip](), reflect.TypeFor[gokvm.IRQChip]()},
		"pit channel":   {reflect.TypeFor[kvm.PITChannel](), reflect.TypeFor[gokvm.PITChannelState]()},
		"pit2":          {reflect.TypeFor[kvm.PIT2](), reflect.TypeFor[gokvm.PITState2]()},
		"clock":         {reflect.TypeFor[kvm.Clock](), reflect.TypeFor[gokvm.ClockData]()},
		"cpuid entry":   {reflect.TypeFor[kvm.CPUIDEntry](), reflect.TypeFor[gokvm.CPUIDEntry2]()},
		"msr entry":     {reflect.TypeFor[kvm.MSREntry](), reflect.TypeFor[gokvm.MSREntry]()},
		"vcpu events":   {reflect.TypeFor[kvm.VCPUEvents](), reflect.TypeFor[gokvm.VCPUEvents]()},
		"memory region": {kvm.TypeMemoryRegion, reflect.TypeFor[gokvm.UserspaceMemoryRegion]()},
		"dirty log":     {kvm.TypeDirtyLog, reflect.TypeFor[gokvm.DirtyLog]()},
		"create device": {kvm.TypeCreateDevice, reflect.TypeFor[gokvm.Device]()},
		"translation":   {kvm.TypeTranslation, reflect.TypeFor[gokvm.Translation]()},
	} {
		ours, theirs := pair[0], pair[1]
		if d := cmp.Diff(theirs.Size(), ours.Size()); d != "" {
			t.Errorf("%s: size (-gokvm +ours):\n%s", name, d)
		}
		if d := cmp.Diff(fields(theirs, ours), fields(ours, theirs)); d != "" {
			t.Errorf("%s: fields (-gokvm +ours):\n%s", name, d)
		}
	}
	if d := cmp.Diff(fields(reflect.TypeFor[gokvm.RunData](), kvm.TypeRunPage), fields(kvm.TypeRunPage, reflect.TypeFor[gokvm.RunData]())); d != "" {
		t.Errorf("run page: fields (-gokvm +ours):\n%s", d)
	}
}

// fields is where the fields of a are that b has too: offset and size by name.
func fields(a, b reflect.Type) map[string][2]uintptr {
	fold := func(s string) string { return strings.ToLower(strings.TrimPrefix(s, "_")) }
	have := map[string]bool{}
	for i := range b.NumField() {
		have[fold(b.Field(i).Name)] = true
	}
	m := map[string][2]uintptr{}
	for i := range a.NumField() {
		if f := a.Field(i); f.Name != "_" && have[fold(f.Name)] {
			m[fold(f.Name)] = [2]uintptr{f.Offset, f.Type.Size()}
		}
	}
	return m
}

// Each ioctl that gokvm issues has our number. gokvm does not export the numbers:
// they are taken from the calls in its source.
func TestRequestsAgainstGokvm(t *testing.T) {
	testkvm.OnHost(t, "the source of gokvm is there")
	theirs := gokvmRequests(t)
	ours := map[string]uintptr{}
	for name, nr := range kvm.Requests() {
		ours[strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "KVM_"), "_", ""))] = nr
	}
	theirs["createdevice"] = theirs["createdev"]
	both := map[string]uintptr{}
	for name, nr := range theirs {
		if _, ok := ours[name]; ok {
			both[name] = nr
		} else {
			delete(theirs, name)
		}
	}
	for name := range ours {
		if _, ok := both[name]; !ok {
			delete(ours, name)
		}
	}
	if len(both) < 35 {
		t.Errorf("only %d ioctls in common: was the source understood?", len(both))
	}
	if d := cmp.Diff(both, ours); d != "" {
		t.Errorf("ioctl numbers (-gokvm +ours):\n%s", d)
	}
}

// gokvmRequests finds each Ioctl(fd, IIOW(kvmName, size), ...) and evaluates it,
// by the lower-case Name.
func gokvmRequests(t *testing.T) map[string]uintptr {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/bobuhiro11/gokvm").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	names, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "kvm", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	// Constants and sizes need no imports but unsafe: errors about others are
	// passed over.
	info := types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	conf := types.Config{Importer: onlyUnsafe{}, Sizes: types.SizesFor("gc", "amd64"), Error: func(error) {}}
	conf.Check("kvm", fset, files, &info)

	number := func(e ast.Expr) uintptr {
		v, ok := constant.Uint64Val(constant.ToInt(info.Types[e].Value))
		if !ok {
			t.Fatalf("%s: no constant", fset.Position(e.Pos()))
		}
		return uintptr(v)
	}
	requests := map[string]uintptr{}
	for _, f := range files {
		for n := range ast.Preorder(f) {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				continue
			}
			dir, ok := call.Fun.(*ast.Ident)
			if !ok {
				continue
			}
			nr, ok := call.Args[0].(*ast.Ident)
			if !ok || !strings.HasPrefix(nr.Name, "kvm") {
				continue
			}
			name := strings.ToLower(strings.TrimPrefix(nr.Name, "kvm"))
			switch dir.Name {
			case "IIO":
				requests[name] = gokvm.IIO(number(nr))
			case "IIOR":
				requests[name] = gokvm.IIOR(number(nr), number(call.Args[1]))
			case "IIOW":
				requests[name] = gokvm.IIOW(number(nr), number(call.Args[1]))
			case "IIOWR":
				requests[name] = gokvm.IIOWR(number(nr), number(call.Args[1]))
			}
		}
	}
	return requests
}

// onlyUnsafe imports unsafe.
type onlyUnsafe struct{}

func (onlyUnsafe) Import(path string) (*types.Package, error) {
	if path == "unsafe" {
		return types.Unsafe, nil
	}
	return nil, errors.New("not needed")
}

// The capabilities that gokvm names have our numbers, and so do the exits.
func TestNumbersAgainstGokvm(t *testing.T) {
	fold := func(s string) string {
		return strings.NewReplacer("_", "", "-", "", "extention", "extension").Replace(strings.ToLower(s))
	}
	named := 0
	for _, c := range kvm.Capabilities {
		theirs := gokvm.Capability(c.Cap).String()
		if strings.HasPrefix(theirs, "Capability(") {
			continue // newer than gokvm
		}
		named++
		if fold(strings.TrimPrefix(theirs, "Cap")) != fold(c.Name) {
			t.Errorf("capability %d is %s, gokvm says %s", c.Cap, c.Name, theirs)
		}
	}
	if named < 40 {
		t.Errorf("gokvm names only %d capabilities", named)
	}
	for r := kvm.ExitUnknown; r <= kvm.ExitInternalError; r++ {
		theirs := strings.TrimPrefix(gokvm.ExitType(r).String(), "EXIT")
		if ours := r.String(); !strings.HasPrefix(ours, "exit-") && fold(theirs) != fold(ours) {
			t.Errorf("exit %d is %s, gokvm says %s", r, ours, theirs)
		}
	}
}
