package analysis

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// topLevel is all that may stand at the top of the repository: the design's
// directories, and the files that tools and people look for there.
var topLevel = strings.Fields(`
	.ci .gitattributes .gitignore .golangci.yml
	CHANGELOG.md CONTRIBUTING.md LICENSE Makefile README.md ROADMAP.md SECURITY.md SPECIFICATION.md
	boot cmd devices docs go.mod go.sum guestinit internal kvm lab secmon supervisor testdata trust vmm`)

// outsideDesign complains of top-level entries that the design does not know.
func outsideDesign(entries []string) (complaints []string) {
	for _, e := range entries {
		if !slices.Contains(topLevel, e) {
			complaints = append(complaints, e+" stands at the top level, where the design knows no such thing")
		}
	}
	return complaints
}

func TestTopLevel(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "git", "ls-files")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	var entries []string
	for line := range strings.Lines(string(out)) {
		first, _, _ := strings.Cut(strings.TrimSpace(line), "/")
		entries = append(entries, first)
	}
	slices.Sort(entries)
	none(t, outsideDesign(slices.Compact(entries)))
}

func TestTopLevelComplains(t *testing.T) {
	exactly(t, outsideDesign([]string{"Makefile", "kvm", "pkg", "notes.md"}), "pkg", "notes.md")
}

// maxBinary keeps warder small enough for a board's flash.
const maxBinary = 34 << 20

// largeBinaries complains of built binaries that are too large.
func largeBinaries(fsys fs.FS) (complaints []string) {
	entries, err := fs.ReadDir(fsys, "bin")
	if err != nil {
		return nil // nothing is built
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && info.Size() >= maxBinary {
			complaints = append(complaints, fmt.Sprintf("bin/%s has %d bytes, not less than %d: what was added last?", e.Name(), info.Size(), maxBinary))
		}
	}
	return complaints
}

func TestBinarySize(t *testing.T) { none(t, largeBinaries(repository(t))) }

func TestBinarySizeComplains(t *testing.T) {
	large, small := make([]byte, maxBinary), make([]byte, maxBinary-1)
	exactly(t, largeBinaries(fstest.MapFS{
		"bin/warder":       {Data: large},
		"bin/warder-arm64": {Data: small},
		"out/warder":       {Data: large},
	}), "bin/warder has")
	exactly(t, largeBinaries(fstest.MapFS{}))
}

// tools are the programs that the module's own go.mod pins.
var tools = []string{"honnef.co/go/tools/cmd/staticcheck", "github.com/bobuhiro11/gokvm"}

// missingTools complains of tools that go.mod does not pin.
func missingTools(fsys fs.FS) (complaints []string) {
	mod := read(fsys, "go.mod")
	for _, tool := range tools {
		single := regexp.MustCompile(`(?m)^tool ` + regexp.QuoteMeta(tool) + `$`)
		block := regexp.MustCompile(`(?ms)^tool \((\n\t[^\n]+)*\n\t` + regexp.QuoteMeta(tool) + `\n`)
		if !single.MatchString(mod) && !block.MatchString(mod) {
			complaints = append(complaints, "go.mod: no tool directive for "+tool)
		}
	}
	return complaints
}

func TestTools(t *testing.T) { none(t, missingTools(repository(t))) }

func TestToolsComplain(t *testing.T) {
	exactly(t, missingTools(tree(map[string]string{
		"go.mod": "module x\n\nrequire (\n\tgithub.com/bobuhiro11/gokvm v0\n)\n\ntool (\n\ta/b\n\thonnef.co/go/tools/cmd/staticcheck\n)\n",
	})), "github.com/bobuhiro11/gokvm")
	exactly(t, missingTools(tree(map[string]string{
		"go.mod": "tool github.com/bobuhiro11/gokvm\ntool honnef.co/go/tools/cmd/staticcheck\n",
	})))
}

// TestGofmt asks the gofmt of the toolchain that runs the test.
func TestGofmt(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "gofmt", append([]string{"-l"}, files(repository(t), ".go")...)...)
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("gofmt: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		t.Errorf("gofmt would change %s", strings.TrimSpace(line))
	}
}
