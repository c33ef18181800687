package splice

import (
	"regexp"
	"time"

	"warder/secmon/pattern/sigma"
)

// Type is the Sigma correlation type of splices. Sigma has no types with a
// prefix, so that its other tools pass such a rule by.
const Type = "warder_splice"

// Rule is one splice, checked and compiled.
type Rule struct {
	*sigma.Rule
	Splice Splice
	// Block has the act that completes the pattern fail with EPERM before it
	// does anything.
	Block bool
	// Response is what alerts call that which is done.
	Response string
}

// Splice is the condition of a rule of type warder_splice.
type Splice struct {
	// Object is the field whose value is the same for all parts and the trigger;
	// "file" stands for the identity of a file on a share, under every name.
	Object string
	// Timespan is how long before the trigger a part may have been contributed.
	Timespan time.Duration
	// VMs is how many distinct VMs must have contributed what the rule
	// matches, at least.
	VMs int
	// Parts are the system calls, and the messages (see IsMessage), that contribute,
	// Content the field that has what they contribute; "" for what a call writes.
	Parts   []string
	Content string
	// Join says how the parts are put together.
	Join Join
	// Strings and Regexps must all be found in the joined parts.
	Strings []string
	Regexps []*regexp.Regexp
	// Sequence must be found in the parts themselves: each expression in a part of
	// its own, in the order of their times.
	Sequence []*regexp.Regexp
	// Triggers are the system calls and messages that complete the pattern. A message
	// that is a part too is joined before it is looked at.
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
