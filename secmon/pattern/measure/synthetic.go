package measure

import (
	"fmt"
	"strings"
	"time"

	"warder/secmon/pattern"
	"warder/secmon/pattern/sigma"
)

// synthetic is rules of the shapes that published sets have most of, numbered from
// one to another, each with literals of its own.
func synthetic(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "---\ntitle: rule %d\nid: 00000000-0000-4000-8000-%012x\nlogsource: {product: linux, ", i, i)
		switch i % 4 {
		case 0:
			fmt.Fprintf(&b, "category: process_creation}\ndetection:\n  a: {Image|endswith: ['/tool%d', '/other%d']}\n  b: {CommandLine|contains|all: [' --opt%d', 'target%d']}\n  c: {ParentImage|endswith: '/shell%d'}\n  condition: a and b and not c\n", i, i, i, i, i)
		case 1:
			fmt.Fprintf(&b, "category: process_creation}\ndetection:\n  a: {CommandLine|re: 'name%d\\s+-[a-z]{1,3}\\s+/dev/[a-z]+'}\n  b: {Image|startswith: '/tmp/dir%d/'}\n  condition: 1 of them\n", i, i)
		case 2:
			fmt.Fprintf(&b, "category: file_event}\ndetection:\n  a: {TargetFilename|startswith: '/etc/conf%d/', TargetFilename|endswith: ['.cfg%d', '.ini%d']}\n  condition: a\n", i, i, i)
		case 3:
			fmt.Fprintf(&b, "service: auditd}\ndetection:\n  a: {type: EXECVE, a0: 'prog%d', a1|contains: '-x%d'}\n  b: {type: PATH, name: '/var/lib/thing%d'}\n  condition: a or b\n", i, i, i)
		}
	}
	return b.String()
}

// perFile is how many rules are in one file.
const perFile = 500

// Compile measures how long it takes to read and compile so many rules of the
// shapes that published sets have most of.
func Compile(rules int) (Result, error) {
	var files []string
	for from := 0; from < rules; from += perFile {
		files = append(files, synthetic(from, min(from+perFile, rules)))
	}
	start := time.Now()
	var parsed []*sigma.Rule
	for _, text := range files {
		more, err := sigma.Parse("synthetic.yml", []byte(text), sigma.Options{})
		if err != nil {
			return Result{}, err
		}
		parsed = append(parsed, more...)
	}
	l, err := pattern.NewLibrary(parsed)
	if err != nil {
		return Result{}, err
	}
	return Result{fmt.Sprintf("compile %d rules, from their text", len(l.Rules)), time.Since(start).Seconds() * 1e3, "ms"}, nil
}
