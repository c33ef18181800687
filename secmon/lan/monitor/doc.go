// Package monitor makes events of what the frames between VMs mean.
//
// A [Monitor] is the [lan.Inspector] of a switch. What it finds are events of the one
// stream that all channels report into: flows that begin and end, names that are
// asked for, heads of requests, and what hardly has an innocent reason. Rules decide;
// an event that a rule blocks has its flow cut before the frame is delivered.
//
// # What a frame costs
//
// The switch has read its headers and counted it. Nothing is locked nor allocated but
// while there is something to learn from the bytes behind the headers: the beginning of a connection, heads
// of HTTP/1, messages of DNS, and what rules ask for.
//
// # What is bounded
//
// Flows, the bytes that wait to be put in order, what is known of each VM, the events
// a second of each VM. What does not fit is counted, and the counts are events.
package monitor
