package analysis

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// root is the repository, as seen from this package's directory.
const root = "../.."

// repository returns the repository's files.
func repository(t *testing.T) fs.FS {
	t.Helper()
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	return os.DirFS(root)
}

// none reports the complaints as errors.
func none(t *testing.T, complaints []string) {
	t.Helper()
	for _, c := range complaints {
		t.Error(c)
	}
}

// exactly checks that a rule complains of what a fixture has wrong: of each of
// want in order, by a part of the complaint, and of nothing else.
func exactly(t *testing.T, complaints []string, want ...string) {
	t.Helper()
	for i, c := range complaints {
		if i >= len(want) {
			t.Errorf("also complains: %s", c)
		} else if !strings.Contains(c, want[i]) {
			t.Errorf("complaint %d is %q, want one of %q", i, c, want[i])
		}
	}
	for _, w := range want[min(len(complaints), len(want)):] {
		t.Errorf("does not complain of %q", w)
	}
}

// tree makes a fixture from paths and contents.
func tree(files map[string]string) fs.FS {
	m := fstest.MapFS{}
	for name, content := range files {
		m[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return m
}

// notOurs are directories whose files are made by tools or are data.
var notOurs = []string{".git", "bin", "out", "testdata"}

// files returns the paths of the project's files with one of the suffixes.
func files(fsys fs.FS, suffixes ...string) []string {
	var found []string
	_ = fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil // gone meanwhile: another test's temporary file
		case d.IsDir() && slices.Contains(notOurs, d.Name()):
			return fs.SkipDir
		case d.IsDir():
			return nil
		}
		for _, s := range suffixes {
			if strings.HasSuffix(p, s) {
				found = append(found, p)
				break
			}
		}
		return nil
	})
	return found
}

// read returns a file's content, empty if it is gone.
func read(fsys fs.FS, p string) string {
	b, _ := fs.ReadFile(fsys, p)
	return string(b)
}

// source is one parsed Go file.
type source struct {
	path string
	set  *token.FileSet
	*ast.File
}

func (s source) line(p token.Pos) int { return s.set.Position(p).Line }

func (s source) test() bool { return strings.HasSuffix(s.path, "_test.go") }

func (s source) dir() string { return path.Dir(s.path) }

// sources parses all Go files, for whatever platform they are.
func sources(fsys fs.FS) (list []source, complaints []string) {
	set := token.NewFileSet()
	for _, p := range files(fsys, ".go") {
		f, err := parser.ParseFile(set, p, read(fsys, p), parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			complaints = append(complaints, err.Error())
			continue
		}
		list = append(list, source{p, set, f})
	}
	return list, complaints
}

// imports reports whether s imports a package, and under which name.
func (s source) imports(path string) (name string, ok bool) {
	for _, i := range s.Imports {
		if strings.Trim(i.Path.Value, `"`) != path {
			continue
		}
		if i.Name != nil {
			return i.Name.Name, true
		}
		return path[strings.LastIndex(path, "/")+1:], true
	}
	return "", false
}
