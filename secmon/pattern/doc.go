// Package pattern finds attacks that are made of the acts of several virtual
// machines, each harmless alone.
//
// Its rules are Sigma correlation rules of one type of warder's own, the
// splice: parts that different VMs contribute to one object are joined and
// matched as one when another VM acts on the object. docs/patterns.md
// describes the rule language.
//
// The engine is pure: events go in, verdicts and alerts come out, within
// bounds of memory that are fixed when it is made.
package pattern
