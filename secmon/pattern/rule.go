package pattern

import (
	"regexp"
	"time"
)

// Rule is one pattern, checked and compiled.
type Rule struct {
	ID     string
	Title  string
	Status string
	Level  string
	Splice Splice
	// Response is what happens to the act that completes the pattern.
	Response Response
	// Origin is the file that the rule was read from.
	Origin string
}

// Splice is the condition of a rule of type warder_splice.
type Splice struct {
	// Timespan is how long before the trigger a part may have been contributed.
	Timespan time.Duration
	// VMs is how many distinct VMs must have contributed what the rule
	// matches, at least.
	VMs int
	// Parts are the system calls that contribute.
	Parts []string
	// Join says how the parts are put together.
	Join Join
	// Strings and Regexps must all be found in the joined parts.
	Strings []string
	Regexps []*regexp.Regexp
	// Triggers are the system calls that complete the pattern.
	Triggers []string
	// Other demands that the trigger's VM is none of those that contributed
	// what was matched.
	Other bool
}

// Join says how the parts of a splice are put together.
type Join uint8

const (
	// ByOffset puts each part where in the file it was written: a later part
	// replaces what it overlaps, and nothing matches across a gap. A part
	// appended to the file goes behind all that came before it.
	ByOffset Join = iota
	// ByTime puts the parts one after another as they were written.
	ByTime
)

// Response is what a rule does about the act that completes it.
type Response uint8

const (
	// AlertOnly lets the act take place.
	AlertOnly Response = iota
	// Block has the call fail with EPERM before it does anything.
	Block
)

func (r Response) String() string {
	if r == Block {
		return "block"
	}
	return "alert"
}
