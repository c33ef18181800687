// Package sigma reads Sigma rules: detection rules, correlation rules and
// filters, as the Sigma specification 2.1 defines them.
//
// A rule comes out checked, with its modifiers applied: an expression over
// named fields whose leaves are plain tests ([Text], [Regexp], [CIDR], ...).
// What fields there are, and how a test is evaluated, is the business of
// whoever evaluates the rule. A rule that cannot be read faithfully is refused
// with an [*Error] that points at the place; nothing of it is guessed.
//
// https://github.com/SigmaHQ/sigma-specification
package sigma
