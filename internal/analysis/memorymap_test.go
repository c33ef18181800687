package analysis

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// memoryMap is the document that shows the guest-physical map.
const memoryMap = "docs/memory-map.md"

// mapped are the files whose constants each section of the document has to
// show, all of them, and those that it may show besides.
var mapped = []struct {
	section  string
	all, may []string
}{
	{"amd64", []string{"vmm/layout_amd64.go"}, []string{"vmm/layout.go", "devices/power/acpi.go", "devices/power/legacy.go"}},
	{"arm64", []string{"vmm/layout_arm64.go"}, []string{"vmm/layout.go"}},
}

// constants evaluates the constants that files declare.
func constants(fsys fs.FS, files ...string) (map[string]constant.Value, error) {
	list, _ := sources(fsys)
	set := token.NewFileSet()
	only := &ast.File{Name: ast.NewIdent("p")}
	for _, s := range list {
		if !slices.Contains(files, s.path) {
			continue
		}
		set = s.set
		for _, d := range s.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.CONST {
				only.Decls = append(only.Decls, d)
			}
		}
	}
	pkg, err := new(types.Config).Check("p", set, []*ast.File{only}, nil)
	if err != nil {
		return nil, err
	}
	values := map[string]constant.Value{}
	for _, name := range pkg.Scope().Names() {
		values[name] = pkg.Scope().Lookup(name).(*types.Const).Val()
	}
	return values, nil
}

var mapRow = regexp.MustCompile("(?m)^\\| `(\\w+)` \\| `([0-9a-fx_]+)` \\|")

// wrongMap complains where the document differs from the code.
func wrongMap(fsys fs.FS) (complaints []string) {
	text := read(fsys, memoryMap)
	for _, m := range mapped {
		_, section, ok := strings.Cut(text, "\n## "+m.section+"\n")
		if !ok {
			complaints = append(complaints, fmt.Sprintf("%s has no section %s", memoryMap, m.section))
			continue
		}
		section, _, _ = strings.Cut(section, "\n## ")
		must, err := constants(fsys, append(slices.Clone(m.all), m.may...)...)
		if err != nil {
			complaints = append(complaints, err.Error())
			continue
		}
		shown := map[string]bool{}
		for _, row := range mapRow.FindAllStringSubmatch(section, -1) {
			name, value := row[1], constant.MakeFromLiteral(row[2], token.INT, 0)
			shown[name] = true
			switch have, ok := must[name]; {
			case !ok:
				complaints = append(complaints, fmt.Sprintf("%s, %s: there is no constant %s", memoryMap, m.section, name))
			case value.Kind() == constant.Unknown || !constant.Compare(have, token.EQL, value):
				complaints = append(complaints, fmt.Sprintf("%s, %s: %s is %s, the code says %s", memoryMap, m.section, name, row[2], have))
			}
		}
		list, _ := sources(fsys)
		for _, s := range list {
			if !slices.Contains(m.all, s.path) {
				continue
			}
			for _, name := range declared(s) {
				if !shown[name] {
					complaints = append(complaints, fmt.Sprintf("%s, %s: no row for %s of %s", memoryMap, m.section, name, path.Base(s.path)))
				}
			}
		}
	}
	return complaints
}

// declared returns the names of the constants that s declares.
func declared(s source) (names []string) {
	for _, d := range s.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, spec := range g.Specs {
			for _, id := range spec.(*ast.ValueSpec).Names {
				names = append(names, id.Name)
			}
		}
	}
	return names
}

func TestMemoryMap(t *testing.T) { none(t, wrongMap(repository(t))) }

func TestMemoryMapComplains(t *testing.T) {
	exactly(t, wrongMap(tree(map[string]string{
		"vmm/layout.go":       "package vmm\n\nconst gib = 1 << 30\n",
		"vmm/layout_amd64.go": "package vmm\n\nconst (\n\tramEnd = 3 * gib\n\tport, irq = 0x3f8, 4\n)\n",
		"vmm/layout_arm64.go": "package vmm\n\nconst ramBase = gib\n",
		memoryMap: `# Map

## amd64

| ` + "`ramEnd` | `0xc000_0000`" + ` | RAM |
| ` + "`port` | `0x2f8`" + ` | serial |
| ` + "`gone` | `1`" + ` | nothing |

## arm64

| ` + "`ramBase` | `0x4000_0000`" + ` | RAM |
`,
	})),
		"port is 0x2f8, the code says 1016",
		"there is no constant gone",
		"no row for irq of layout_amd64.go",
	)
	exactly(t, wrongMap(tree(map[string]string{memoryMap: "# Map\n\n## amd64\n"})), "no section arm64")
}
