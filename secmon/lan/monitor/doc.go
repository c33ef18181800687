// Package monitor makes events of what the frames between VMs mean.
//
// A [Monitor] is the [lan.Inspector] of a switch. What it finds are events of the one
// stream that all channels report into: flows that begin and end, names that are
// asked for, heads of requests, and what hardly has an innocent reason. Rules decide;
// an event that a rule blocks has its flow cut before the frame is delivered.
//
// # What a frame costs
//
// Its headers are read and its flow is counted, under a lock that one flow in sixteen
// shares, and nothing is allocated. The bytes behind the headers are looked at only
// while there is something to learn from them: the beginning of a connection, heads
// of HTTP/1, messages of DNS, and what rules ask for.
//
// # What is bounded
//
// Flows, the bytes that wait to be put in order, what is known of each VM, the events
// a second of each VM. What does not fit is counted, and the counts are events.
package monitor
