//go:build !race

package detect_test

import (
	"fmt"
	"strings"
	"testing"

	"warder/secmon/event"
	"warder/secmon/pattern/detect"
)

// An event that no rule is near to costs no allocation. (The race detector has
// pools forget at random.)
func TestNoAllocations(t *testing.T) {
	var text strings.Builder
	for i := range 100 {
		fmt.Fprintf(&text, "title: r%d\nlogsource: {category: process_creation}\ndetection:\n  s:\n    Image|endswith: '/evil%d'\n    CommandLine|contains: 'bad%d'\n  condition: s\n---\n", i, i, i)
	}
	p := compile(t, parse(t, text.String()))
	e := &event.Event{Kind: event.Task, Action: event.Ran, Process: event.Process{Exe: "/usr/bin/find", Args: "find\x00/var\x00-name\x00x\x00"}}
	var buf []detect.Match
	if n := testing.AllocsPerRun(100, func() { buf = p.Match(e, buf[:0]) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
