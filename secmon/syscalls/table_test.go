package syscalls

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	for a := range abis {
		if n := len(Names(a)); n < 280 {
			t.Errorf("%v has %d calls", a, n)
		}
		for _, name := range Names(a) {
			c := Lookup(a, name)
			n, ok := c.Number(a)
			if !ok || ByNumber(a, n) != c {
				t.Errorf("%v: %s is call %d, which is another", a, name, n)
			}
			if last := len(c.Params) - 1; last >= 0 && c.Word(a, last) > 5 {
				t.Errorf("%v: %s has more than six words", a, name)
			}
			for i, p := range c.Params {
				sized := slices.Contains([]Kind{SockAddr, Buf, IOV, OutBuf, OutData, OutIOV, OutAddr, PollFDs, OpenHow, CloneArgs}, p.Kind)
				if sized != (p.Length >= 0) {
					t.Errorf("%s: parameter %d: length %d", name, i, p.Length)
				}
			}
		}
	}
	if c := ByNumber(AMD64, 59); c == nil || c.Name != "execve" {
		t.Errorf("call 59 of amd64 is %v", c)
	}
	if c := Lookup(ARM64, "open"); c != nil {
		t.Error("arm64 has open")
	}
}

// TestNumbers holds the numbers against those of golang.org/x/sys.
func TestNumbers(t *testing.T) {
	for a, arch := range map[ABI]string{AMD64: "amd64", ARM64: "arm64", I386: "386", ARM: "arm"} {
		consts := constants(t, arch)
		seen := 0
		for name, v := range consts {
			n, ok := strings.CutPrefix(name, "SYS_")
			if !ok {
				continue
			}
			c := Lookup(a, strings.ToLower(n))
			if c == nil {
				// What there is no handler for, and the numbers' base.
				continue
			}
			seen++
			if got, _ := c.Number(a); got != int(v) {
				t.Errorf("%s on %v is %d, want %d", c.Name, a, got, v)
			}
		}
		if seen < 270 {
			t.Errorf("%v: %d numbers compared", a, seen)
		}
	}
}

// TestFlagValues holds the names of flags against those of golang.org/x/sys.
func TestFlagValues(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		consts := constants(t, arch)
		seen := 0
		for _, line := range strings.Split(flagsText, "\n") {
			f := strings.Fields(line)
			if len(f) == 0 || f[0] == "#" {
				continue
			}
			if base, arm := strings.CutSuffix(f[0], ".arm"); arm != (arch == "arm64") && (arm || sets[base+".arm"] != nil) {
				continue
			}
			s := sets[f[0]]
			for _, n := range append(slices.Clone(s.numbers), s.bits...) {
				want, ok := consts[n.name]
				if !ok {
					continue
				}
				if n.name == "O_LARGEFILE" { // 0 to 64-bit programs, but not to the kernel
					continue
				}
				if seen++; uint64(want) != n.value {
					t.Errorf("%s of set %s on %s is %#x, want %#x", n.name, f[0], arch, n.value, want)
				}
			}
		}
		if seen < 350 {
			t.Errorf("%s: %d flags compared", arch, seen)
		}
	}
}

// constants are the integer constants of package unix on an architecture.
func constants(t *testing.T, arch string) map[string]int64 {
	t.Helper()
	cmd := exec.Command("go", "list", "-f", "{{.Dir}}\n{{range .GoFiles}}{{.}}\n{{end}}", "golang.org/x/sys/unix")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(string(out))
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range names[1:] {
		if !strings.HasPrefix(name, "zsysnum_") && !strings.HasPrefix(name, "zerrors_") && !strings.HasPrefix(name, "ztypes_") {
			continue
		}
		f, err := parser.ParseFile(fset, filepath.Join(names[0], name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	conf := types.Config{Error: func(error) {}}
	checked, _ := conf.Check("unix", fset, files, nil)
	all := map[string]int64{}
	for _, name := range checked.Scope().Names() {
		if c, ok := checked.Scope().Lookup(name).(*types.Const); ok && c.Val().Kind() == constant.Int {
			if v, ok := constant.Int64Val(c.Val()); ok {
				all[name] = v
			}
		}
	}
	return all
}
