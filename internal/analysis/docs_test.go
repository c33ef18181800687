package analysis

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	codeSpan    = regexp.MustCompile("`([^`\n]+)`")
	link        = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)\s]*)?\)`)
	makeTarget  = regexp.MustCompile(`\bmake ([a-z][a-z-]*)`)
	warderCall  = regexp.MustCompile(`\bwarder ([a-z]+)\b`)
	targetLine  = regexp.MustCompile(`(?m)^([a-z][a-z-]*):`)
	commandUse  = regexp.MustCompile(`\bUse:\s*"([a-z]+)`)
	fencedBlock = regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```")
	pathShape   = regexp.MustCompile(`^[A-Za-z0-9_.*-]+(/[A-Za-z0-9_.*-]+)*/?$`)
)

// docPath is how comments refer to a document.
var docPath = regexp.MustCompile(`\bdocs/[a-zA-Z0-9/_-]+\.md\b`)

// documents are the files that make claims about the repository.
func documents(fsys fs.FS) []string { return files(fsys, ".md") }

// deadPaths complains of documents that name a file or directory of ours that is
// not there: in a code span, where the first part says that it is ours, or as a
// link.
func deadPaths(fsys fs.FS) (complaints []string) {
	exists := func(p string) bool {
		found, err := fs.Glob(fsys, path.Clean(p))
		return err == nil && len(found) > 0
	}
	for _, doc := range documents(fsys) {
		if path.Base(doc) == "CHANGELOG.md" {
			continue // tells of the past
		}
		text := read(fsys, doc)
		for _, m := range codeSpan.FindAllStringSubmatch(text, -1) {
			p := m[1]
			first, _, nested := strings.Cut(p, "/")
			ours := nested && slices.Contains(topLevel, first) || !nested && slices.Contains(topLevel, p) && strings.Contains(p, ".")
			if ours && pathShape.MatchString(p) && !exists(p) {
				complaints = append(complaints, fmt.Sprintf("%s names %s, which is not there", doc, p))
			}
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if p := path.Join(path.Dir(doc), m[1]); !exists(p) {
				complaints = append(complaints, fmt.Sprintf("%s links to %s, which is not there", doc, p))
			}
		}
	}
	for _, p := range files(fsys, ".go", "Makefile") {
		if under(p, "internal/analysis") {
			continue // fixtures
		}
		for _, doc := range docPath.FindAllString(read(fsys, p), -1) {
			if !exists(doc) {
				complaints = append(complaints, fmt.Sprintf("%s refers to %s, which is not there", p, doc))
			}
		}
	}
	return complaints
}

func TestDocsNameOnlyPathsThatExist(t *testing.T) { none(t, deadPaths(repository(t))) }

func TestDeadPathsComplain(t *testing.T) {
	exactly(t, deadPaths(tree(map[string]string{
		"README.md":        "`docs/here.md`, `docs/gone.md`, `kvm/*.go`, `vmm/*_arm64.go`, `README.md`, `SECURITY.md`, `make test`, `and/or`, `docs/`",
		"docs/here.md":     "[up](../README.md) [gone](gone.md) [part](here.md#part) [web](https://example.org/gone.md) `cmd/x -flag /y`",
		"CHANGELOG.md":     "`docs/gone.md` is gone",
		"kvm/a.go":         "// Package kvm: see docs/here.md, docs/lost.md.\npackage kvm\n",
		"testdata/case.md": "`docs/gone.md`",
	})), "README.md names docs/gone.md", "README.md names vmm/*_arm64.go", "README.md names SECURITY.md", "docs/here.md links to docs/gone.md", "kvm/a.go refers to docs/lost.md")
}

// code returns what a document shows as code: spans and fenced blocks.
func code(text string) []string {
	var parts []string
	for _, m := range fencedBlock.FindAllStringSubmatch(text, -1) {
		parts = append(parts, m[1])
	}
	for _, m := range codeSpan.FindAllStringSubmatch(fencedBlock.ReplaceAllString(text, ""), -1) {
		parts = append(parts, m[1])
	}
	return parts
}

// deadCommands complains of documents that show a make target or a warder
// subcommand that does not exist.
func deadCommands(fsys fs.FS) (complaints []string) {
	var targets, uses []string
	for _, m := range targetLine.FindAllStringSubmatch(read(fsys, "Makefile"), -1) {
		targets = append(targets, m[1])
	}
	for _, p := range files(fsys, ".go") {
		if !under(p, "cmd/warder") || strings.HasSuffix(p, "_test.go") {
			continue
		}
		for _, m := range commandUse.FindAllStringSubmatch(read(fsys, p), -1) {
			uses = append(uses, m[1])
		}
	}
	for _, doc := range documents(fsys) {
		if path.Base(doc) == "CHANGELOG.md" {
			continue
		}
		seen := map[string]bool{}
		check := func(kind, name string, known []string) {
			if !slices.Contains(known, name) && !seen[kind+name] {
				seen[kind+name] = true
				complaints = append(complaints, fmt.Sprintf("%s shows %s %s, which does not exist", doc, kind, name))
			}
		}
		for _, c := range code(read(fsys, doc)) {
			for _, m := range makeTarget.FindAllStringSubmatch(c, -1) {
				check("make", m[1], targets)
			}
			for _, m := range warderCall.FindAllStringSubmatch(c, -1) {
				check("warder", m[1], uses)
			}
		}
	}
	return complaints
}

func TestDocsShowOnlyCommandsThatExist(t *testing.T) { none(t, deadCommands(repository(t))) }

func TestDeadCommandsComplain(t *testing.T) {
	exactly(t, deadCommands(tree(map[string]string{
		"Makefile":             "GO ?= go\n.PHONY: phony\n## test: runs the tests\ntest: deps\n\t@make nothing\ndeps:\n",
		"cmd/warder/run.go":    "package main\n\nvar c = Command{\n\tUse:   \"run [flags] -- CMD\",\n}\n",
		"cmd/warder/a_test.go": "package main\n\nvar c = Command{Use: \"fake\"}\n",
		"README.md":            "```sh\nmake test && make demo\n$ sudo warder run -- sh\n```\nThen make sure that warder works, `make deps`, `warder fly`, `bin/warder fake`.\n",
	})), "README.md shows make demo", "README.md shows warder fly", "README.md shows warder fake")
}

// TestREADME holds what a reader sees first: the two commands, in this order.
func TestREADME(t *testing.T) {
	blocks := fencedBlock.FindStringSubmatch(read(repository(t), "README.md"))
	if blocks == nil {
		t.Fatal("README.md shows no commands")
	}
	lines := strings.Split(strings.TrimSpace(blocks[1]), "\n")
	if len(lines) < 2 || !strings.HasPrefix(lines[0], "make demo") || !strings.HasPrefix(lines[1], "make test") {
		t.Errorf("the first commands are %q, want make demo, then make test", lines)
	}
}

func TestChangelog(t *testing.T) {
	if text := read(repository(t), "CHANGELOG.md"); !strings.Contains(text, "\n## ") {
		t.Error("CHANGELOG.md has no entry")
	}
}

var decisionName = regexp.MustCompile(`^docs/decisions/\d{4}-[a-z0-9-]+\.md$`)

// decisions complains of decision records that are not named or numbered like
// the others.
func decisions(fsys fs.FS) (complaints []string) {
	taken := map[string]string{}
	for _, p := range files(fsys, ".md") {
		if !under(p, "docs/decisions") {
			continue
		}
		if !decisionName.MatchString(p) {
			complaints = append(complaints, p+" is not named NNNN-title.md")
			continue
		}
		number := path.Base(p)[:4]
		if other, ok := taken[number]; ok {
			complaints = append(complaints, fmt.Sprintf("%s has the number of %s", p, other))
		}
		taken[number] = p
	}
	return complaints
}

func TestDecisions(t *testing.T) { none(t, decisions(repository(t))) }

func TestDecisionsComplain(t *testing.T) {
	exactly(t, decisions(tree(map[string]string{
		"docs/decisions/0001-first.md":  "",
		"docs/decisions/0001-second.md": "",
		"docs/decisions/third.md":       "",
		"docs/other.md":                 "",
	})), "0001-second.md has the number of", "third.md is not named")
}
