// Package splice finds attacks that several virtual machines contribute parts
// to: the parts are joined and matched as one when a VM acts on the object that
// they make up.
//
// Its rules are Sigma correlation rules of a type of warder's own, which other
// tools pass by. docs/patterns.md describes it.
package splice
