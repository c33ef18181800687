// Package anomaly tells traffic that has an innocent reason from traffic that
// hardly has one.
//
// A [Machine] is told what one VM does on the network: what it connects to, what
// it asks for, what the switch did not let it do. What it keeps is bounded for each
// VM, so that no VM can make the monitor forget what another does; where something
// is forgotten it is what was not seen for longest. Findings are for rules to judge.
//
// The numbers are constants of this package, each with its reason.
package anomaly
