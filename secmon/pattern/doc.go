// Package pattern finds attacks in the events of all virtual machines, those
// above all that are made of acts of several of them, each harmless alone.
//
// Its rules are Sigma's: detections (package detect), correlations (package
// correlate) and, as a correlation type of warder's own, splices (package
// splice). A [Library] is rules that were loaded together; an [Engine] evaluates
// one on events, says at once what becomes of an act, and raises alerts.
//
// The engine is pure: events go in, verdicts and alerts come out, within bounds
// of memory that are fixed when it is made.
package pattern
