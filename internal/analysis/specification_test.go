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

const specification = "docs/SPECIFICATION.md"

// A check is a command that is a make target, or one that runs tests.
var (
	makeCheck = regexp.MustCompile(`^make ([a-z][a-z-]*)( [A-Z]+=\S+)*$`)
	testCheck = regexp.MustCompile(`^go (?:test|run \./lab/gotest) -run (\S+|'[^']+') \./(\S+)$`)
	testName  = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9_]*)\(`)
)

// uncheckedPromises complains of rows of the specification without a command
// that checks them: each names a make target, or tests that exist.
func uncheckedPromises(fsys fs.FS) (complaints []string) {
	rows := 0
	for line := range strings.Lines(read(fsys, specification)) {
		line = strings.ReplaceAll(strings.TrimSpace(line), `\|`, "\x00") // a table's escaped |
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if !strings.HasPrefix(line, "|") || strings.Trim(line, "|- ") == "" || strings.TrimSpace(cells[0]) == "promise" {
			continue
		}
		rows++
		promise := strings.TrimSpace(cells[0])
		if len(cells) != 3 || !link.MatchString(cells[1]) {
			complaints = append(complaints, fmt.Sprintf("%q: a row has a promise, a link to where it is stated, and a check", promise))
			continue
		}
		if why := badCheck(fsys, strings.ReplaceAll(strings.TrimSpace(cells[2]), "\x00", "|")); why != "" {
			complaints = append(complaints, fmt.Sprintf("%q: %s", promise, why))
		}
	}
	if rows == 0 {
		complaints = append(complaints, specification+" has no promises")
	}
	return complaints
}

// badCheck says what is wrong with a check, "" if nothing is.
func badCheck(fsys fs.FS, cell string) string {
	command := strings.Trim(cell, "`")
	if len(command) != len(cell)-2 {
		return "its check is not one command"
	}
	if m := makeCheck.FindStringSubmatch(command); m != nil {
		for _, target := range targetLine.FindAllStringSubmatch(read(fsys, "Makefile"), -1) {
			if target[1] == m[1] {
				return ""
			}
		}
		return "there is no make " + m[1]
	}
	m := testCheck.FindStringSubmatch(command)
	if m == nil {
		return command + " is neither a make target nor a run of tests"
	}
	var tests []string
	for _, p := range files(fsys, "_test.go") {
		if path.Dir(p) == m[2] {
			for _, name := range testName.FindAllStringSubmatch(read(fsys, p), -1) {
				tests = append(tests, name[1])
			}
		}
	}
	// go test takes what matches anywhere in a name.
	for wanted := range strings.SplitSeq(strings.Trim(m[1], "'"), "|") {
		if !slices.ContainsFunc(tests, func(name string) bool { return strings.Contains(name, wanted) }) {
			return fmt.Sprintf("there is no test %s in %s", wanted, m[2])
		}
	}
	return ""
}

func TestSpecification(t *testing.T) { none(t, uncheckedPromises(repository(t))) }

func TestSpecificationComplains(t *testing.T) {
	exactly(t, uncheckedPromises(tree(map[string]string{
		"Makefile":      "fuzz:\n",
		"kvm/a_test.go": "package kvm\n\nfunc TestOne(t *testing.T) {}\n",
		specification: "| promise | where stated | check |\n| --- | --- | --- |\n" +
			"| good | [a](a.md) | `make fuzz` |\n" +
			"| better | [a](a.md) | `go test -run 'TestOne\\|TestO' ./kvm` |\n" +
			"| nowhere | a | `make fuzz` |\n" +
			"| no target | [a](a.md) | `make gold` |\n" +
			"| no test | [a](a.md) | `go run ./lab/gotest -run 'TestOne\\|TestTwo' ./kvm` |\n" +
			"| no command | [a](a.md) | by hand |\n" +
			"| other command | [a](a.md) | `ls` |\n",
	})),
		`"nowhere": a row has`, `"no target": there is no make gold`, `"no test": there is no test TestTwo in kvm`,
		`"no command": its check is not one command`, `"other command": ls is neither`)
}
