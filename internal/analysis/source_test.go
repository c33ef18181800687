package analysis

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/doc"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// maxLines bounds a file of code.
const maxLines = 500

// lengths complains of files that are too long to read in one go.
func lengths(fsys fs.FS) (complaints []string) {
	for _, p := range files(fsys, ".go") {
		if n := strings.Count(read(fsys, p), "\n"); n > maxLines && !strings.HasSuffix(p, "_test.go") {
			complaints = append(complaints, fmt.Sprintf("%s has %d lines, more than %d: it does more than one thing", p, n, maxLines))
		}
	}
	return complaints
}

func TestLengths(t *testing.T) { none(t, lengths(repository(t))) }

func TestLengthsComplain(t *testing.T) {
	long := "package p\n" + strings.Repeat("//\n", maxLines)
	exactly(t, lengths(tree(map[string]string{
		"vmm/long.go":      long,
		"vmm/long_test.go": long,
		"vmm/short.go":     long[:len(long)-3],
		"bin/long.go":      long,
	})), "vmm/long.go has 501 lines")
}

// packageDocs complains of packages whose doc does not say in one sentence the
// one thing that they do.
func packageDocs(fsys fs.FS) (complaints []string) {
	list, complaints := sources(fsys)
	docs, names := map[string]string{}, map[string]string{}
	for _, s := range list {
		if s.test() {
			continue
		}
		names[s.dir()] = s.Name.Name
		if s.Doc != nil {
			docs[s.dir()] += s.Doc.Text()
		}
	}
	for _, s := range list {
		dir, name := s.dir(), names[s.dir()]
		if name == "" {
			continue
		}
		delete(names, dir)
		start := "Package " + name + " "
		if name == "main" {
			start = "Command " + path.Base(dir) + " "
		}
		clause := mainClause(docs[dir])
		switch {
		case docs[dir] == "":
			complaints = append(complaints, dir+": the package has no doc comment")
		case !strings.HasPrefix(docs[dir], start):
			complaints = append(complaints, fmt.Sprintf("%s: the doc comment does not start with %q", dir, start))
		case strings.Contains(clause, " and ") && name != "main":
			complaints = append(complaints, fmt.Sprintf("%s: the doc needs an \"and\" to say what the package does: %q", dir, clause))
		}
	}
	return complaints
}

var (
	clauseEnd = regexp.MustCompile(`[:;,(]`)
	between   = regexp.MustCompile(`\bbetween .* and `)
)

// mainClause returns the part of a doc that says what the package does: its first
// sentence up to where explanations start. What lies between one thing and
// another is one thing.
func mainClause(text string) string {
	var p doc.Package
	clause := p.Synopsis(text)
	if loc := clauseEnd.FindStringIndex(clause); loc != nil {
		clause = clause[:loc[0]]
	}
	return between.ReplaceAllString(clause, "between these: ")
}

func TestPackageDocs(t *testing.T) { none(t, packageDocs(repository(t))) }

func TestPackageDocsComplain(t *testing.T) {
	exactly(t, packageDocs(tree(map[string]string{
		"a/a.go":           "// Package a does one thing. It does it well and fast.\npackage a\n",
		"b/b.go":           "package b\n",
		"b/b_test.go":      "// Package b is only documented in a test.\npackage b\n",
		"c/c.go":           "// Package c does one thing and another.\npackage c\n",
		"i/i.go":           "// Package i is the wire between this and that: it is framed and bounded.\npackage i\n",
		"cmd/x/main.go":    "// Command x runs and shows things.\npackage main\n",
		"cmd/y/main.go":    "// The main package.\npackage main\n",
		"d/d_test.go":      "package d\n",
		"e/broken.go":      "package",
		"testdata/f/f.go":  "package f\n",
		"g/g_amd64.go":     "//go:build amd64\n\npackage g\n",
		"g/doc.go":         "// Package g is fine.\npackage g\n",
		"g/g_test.go":      "package g_test\n",
		"h/h.go":           "// package h\npackage h\n",
		"h/other/other.go": "// Package other is below.\npackage other\n",
	})),
		"e/broken.go:1",
		"b: the package has no doc",
		`c: the doc needs an "and"`,
		`cmd/y: the doc comment does not start with "Command y "`,
		`h: the doc comment does not start with "Package h "`,
	)
}

var unsafeFile = regexp.MustCompile(`_unsafe(_[a-z0-9]+)*(_test)?\.go$`)

// harmless are functions of package unsafe that are compile-time constants.
var harmless = []string{"Sizeof", "Offsetof", "Alignof"}

// unsafeUse complains of unsafe outside its files, and of uses that do not say
// why they are right.
func unsafeUse(fsys fs.FS) (complaints []string) {
	list, _ := sources(fsys)
	for _, s := range list {
		name, ok := s.imports("unsafe")
		if !ok {
			continue
		}
		if !unsafeFile.MatchString(s.path) {
			complaints = append(complaints, s.path+" imports unsafe: only files named *_unsafe*.go may, so that all of it is read together")
		}
		for _, d := range s.Decls {
			complaints = append(complaints, s.unexplained(d, name)...)
		}
	}
	return complaints
}

// unexplained finds the calls of package unsafe in d, named name here, that have
// no SAFETY comment before them in d.
func (s source) unexplained(d ast.Decl, name string) (complaints []string) {
	var explained []int // lines on which a SAFETY comment starts
	for _, c := range s.Comments {
		inside := c.End() <= d.End() && (c.Pos() >= d.Pos() || s.line(c.End())+1 == s.line(d.Pos()))
		if inside && strings.Contains(c.Text(), "SAFETY:") {
			explained = append(explained, s.line(c.Pos()))
		}
	}
	ast.Inspect(d, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); !ok || x.Name != name || slices.Contains(harmless, sel.Sel.Name) {
			return true
		}
		line := s.line(call.Pos())
		if !slices.ContainsFunc(explained, func(l int) bool { return l <= line }) {
			complaints = append(complaints, fmt.Sprintf("%s:%d: unsafe.%s without a SAFETY: comment before it", s.path, line, sel.Sel.Name))
		}
		return true
	})
	return complaints
}

func TestUnsafe(t *testing.T) { none(t, unsafeUse(repository(t))) }

func TestUnsafeComplain(t *testing.T) {
	exactly(t, unsafeUse(tree(map[string]string{
		"a/plain.go": "package a\n\nimport \"unsafe\"\n\nconst n = unsafe.Sizeof(0)\n",
		"a/x_unsafe_amd64.go": `package a

import "unsafe"

type T struct{ p unsafe.Pointer }

// SAFETY: p lives long enough.
func f(p *int) unsafe.Pointer { return unsafe.Pointer(p) }

func g(p *int) unsafe.Pointer {
	// SAFETY: as above.
	q := unsafe.Pointer(p)
	return unsafe.Add(q, 1)
}

func h(p *int) unsafe.Pointer {
	q := unsafe.Pointer(p)
	return q // SAFETY: too late
}
`,
		"a/y_unsafe.go": "package a\n\nimport u \"unsafe\"\n\nvar s = u.String(nil, 0)\n",
		"a/safe.go":     "package a\n\nvar unsafe int\n",
	})),
		"a/plain.go imports unsafe",
		"a/x_unsafe_amd64.go:17: unsafe.Pointer without",
		"a/y_unsafe.go:5: unsafe.String without",
	)
}

// skippers are the packages whose helpers skip a test, each of which can make it
// a failure instead.
var skippers = []string{"internal/testkvm", "internal/oracle"}

// skips complains of tests that skip by themselves: such a skip can last for
// ever.
func skips(fsys fs.FS) (complaints []string) {
	list, _ := sources(fsys)
	for _, s := range list {
		if _, ok := s.imports("testing"); !ok || slices.Contains(skippers, s.dir()) {
			continue
		}
		ast.Inspect(s.File, func(n ast.Node) bool {
			if i, ok := n.(*ast.IfStmt); ok && callee(i.Cond) == "testing.Short" {
				return false // nobody asks for a short run by accident
			}
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if callee(call) == "f.Fuzz" {
				return false // it passes over an input, not a test
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) && isTB(sel.X) {
				complaints = append(complaints, fmt.Sprintf("%s:%d: a test that skips by itself can do so for ever: use a helper of %s",
					s.path, s.line(call.Pos()), strings.Join(skippers, " or ")))
			}
			return true
		})
	}
	return complaints
}

// callee returns the name of the package's function that x calls, if it does.
func callee(x ast.Expr) string {
	call, ok := x.(*ast.CallExpr)
	if !ok {
		return ""
	}
	if sel, ok := call.Fun.(*ast.SelectorExpr); ok {
		if id, ok := sel.X.(*ast.Ident); ok {
			return id.Name + "." + sel.Sel.Name
		}
	}
	return ""
}

// isTB reports whether an expression is named like a test, a benchmark or a
// fuzz target. Other things skip too, a reader for one.
func isTB(x ast.Expr) bool {
	id, ok := x.(*ast.Ident)
	return ok && slices.Contains([]string{"t", "b", "f", "tb"}, id.Name)
}

func TestSkips(t *testing.T) { none(t, skips(repository(t))) }

func TestSkipsComplain(t *testing.T) {
	body := "package a\n\nimport \"testing\"\n\nfunc TestX(t *testing.T) {\n\tt.Skip()\n\tr.Skip(3)\n}\n"
	exactly(t, skips(tree(map[string]string{
		"a/a_test.go":               body,
		"a/helper.go":               strings.ReplaceAll(body, "Skip()", "Skipf(\"later\")"),
		"internal/oracle/oracle.go": body,
		"a/short_test.go":           strings.ReplaceAll(body, "t.Skip()", "if testing.Short() {\n\t\tt.Skip()\n\t}"),
		"a/fuzz_test.go":            strings.ReplaceAll(body, "t.Skip()", "f.Fuzz(func(t *testing.T) { t.Skip() })"),
		"b/reader.go":               "package b\n\nfunc f(t reader) { t.Skip(3) }\n",
	})), "a/a_test.go:6", "a/helper.go:6")
}

var fuzzTarget = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)

// guestFacing are the directories whose every package takes what a guest gives,
// but for those of notGuestFacing.
var (
	guestFacing    = []string{"devices", "vmm/pagetable", "vmm/disasm", "guestinit/proto"}
	notGuestFacing = []string{"devices/bus", "devices/eventfd", "devices/guestmem", "devices/iovec", "devices/irq", "devices/meter", "devices/virtio", "devices/virtio/virtqtest"}
)

func mustFuzz(dir string) bool {
	return slices.ContainsFunc(guestFacing, func(p string) bool { return under(dir, p) }) && !slices.Contains(notGuestFacing, dir)
}

// fuzzing complains of packages without a fuzz target, and of targets without
// committed seeds: files for those that must fuzz, at least f.Add for others.
func fuzzing(fsys fs.FS) (complaints []string) {
	fuzzed := map[string]bool{}
	dirs := map[string]bool{}
	for _, p := range files(fsys, ".go") {
		dir, content := path.Dir(p), read(fsys, p)
		dirs[dir] = true
		for _, m := range fuzzTarget.FindAllStringSubmatch(content, -1) {
			fuzzed[dir] = true
			seeds := "testdata/fuzz/" + m[1]
			if _, err := fs.ReadDir(fsys, path.Join(dir, seeds)); err == nil {
				continue
			}
			if mustFuzz(dir) || !strings.Contains(content, ".Add(") {
				complaints = append(complaints, fmt.Sprintf("%s: %s has no seeds in %s", dir, m[1], seeds))
			}
		}
	}
	for dir := range dirs {
		if mustFuzz(dir) && !fuzzed[dir] {
			complaints = append(complaints, dir+" takes what a guest gives it: it needs a fuzz target")
		}
	}
	slices.Sort(complaints)
	return complaints
}

func TestFuzzing(t *testing.T) { none(t, fuzzing(repository(t))) }

func TestFuzzingComplain(t *testing.T) {
	exactly(t, fuzzing(tree(map[string]string{
		"devices/serial/s.go":                          "package serial\n",
		"devices/virtio/v.go":                          "package virtio\n",
		"devices/virtio/blk/b_test.go":                 "package blk\n\nfunc FuzzBlock(f *testing.F) {}\n",
		"devices/virtio/blk/testdata/fuzz/FuzzBlock/a": "go test fuzz v1\n",
		"boot/b_test.go":                               "package boot\n\nfunc FuzzBoot(f *testing.F) {}\n",
	})), "boot: FuzzBoot has no seeds", "devices/serial takes what a guest gives")
}

// untormented complains of virtio devices that are not held against a driver that
// breaks every rule.
func untormented(fsys fs.FS) (complaints []string) {
	devices, tormented := map[string]bool{}, map[string]bool{}
	for _, p := range files(fsys, ".go") {
		dir, content := path.Dir(p), read(fsys, p)
		switch test := strings.HasSuffix(p, "_test.go"); {
		case !under(dir, "devices/virtio"):
		case !test && strings.Contains(content, ") Info() virtio.Info {"):
			devices[dir] = true
		case test && strings.Contains(content, "virtqtest.Hostile("):
			tormented[dir] = true
		}
	}
	for dir := range devices {
		if !tormented[dir] {
			complaints = append(complaints, dir+" is a device: its tests need a call of virtqtest.Hostile")
		}
	}
	slices.Sort(complaints)
	return complaints
}

func TestHostileDrivers(t *testing.T) { none(t, untormented(repository(t))) }

func TestHostileDriversComplain(t *testing.T) {
	const device = "\n\nfunc (d *Device) Info() virtio.Info { return virtio.Info{} }\n"
	const call = "\n\nfunc TestHostile(t *testing.T) { virtqtest.Hostile(t, s) }\n"
	exactly(t, untormented(tree(map[string]string{
		"devices/virtio/rng/rng.go":      "package rng" + device,
		"devices/virtio/rng/rng_test.go": "package rng" + call,
		"devices/virtio/net/net.go":      "package net" + device,
		"devices/virtio/net/net_test.go": "package net\n",
		"devices/virtio/mmio/mmio.go":    "package mmio\n",
		"devices/virtio/mmio/a_test.go":  "package mmio" + device,
		"devices/virtio/fs/device.go":    "package fs" + device,
		"devices/virtio/fs/helper.go":    "package fs" + call,
		"secmon/lan/lan.go":              "package lan" + device,
	})), "devices/virtio/fs is a device", "devices/virtio/net is a device")
}

// places are local paths that mean something on one machine only. They are
// written so that this file does not contain them.
var places = []*regexp.Regexp{
	regexp.MustCompile(`/work` + `/(main|shared|repo)`),
	regexp.MustCompile(`/tmp/` + `(w|brief)/`),
	regexp.MustCompile(`/root/` + `go/`),
	regexp.MustCompile(`/home/` + `[a-z]+/(go|src|git)/`),
}

// localPaths complains of text that names a place on its author's machine.
func localPaths(fsys fs.FS) (complaints []string) {
	text := []string{".go", ".md", ".mod", ".yml", ".yaml", ".sh", "Makefile", ".ci/run", ".ci/packages"}
	for _, p := range files(fsys, text...) {
		content := []byte(read(fsys, p))
		for _, place := range places {
			if loc := place.FindIndex(content); loc != nil {
				line := 1 + bytes.Count(content[:loc[0]], []byte("\n"))
				complaints = append(complaints, fmt.Sprintf("%s:%d: %s is a path of one machine", p, line, content[loc[0]:loc[1]]))
			}
		}
	}
	return complaints
}

func TestLocalPaths(t *testing.T) { none(t, localPaths(repository(t))) }

func TestLocalPathsComplain(t *testing.T) {
	exactly(t, localPaths(tree(map[string]string{
		"a/a.go":    "package a\n\n// see /work" + "/shared/notes\n",
		"docs/a.md": "put it in `/tmp/" + "w/x`, or in /tmp/warder\n",
		"ok.md":     "--share .:/work, HOME=/root\n",
	})), "a/a.go:3", "docs/a.md:1")
}
