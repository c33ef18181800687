// Package packet decodes the headers of Ethernet frames.
//
// [Headers.Decode] is on the path of every frame between machines: it allocates
// nothing, copies no payload, and looks at no byte that it has not found to be
// there. What a frame claims about itself is held against its length; one that
// contradicts itself has a [Fault], and what was read before the fault.
//
// Sources: IEEE 802.3 and 802.1Q, RFC 826 (ARP), 791 (IPv4), 8200 (IPv6), 9293
// (TCP), 768 (UDP), 792 and 4443 (ICMP), 4861 (neighbour discovery), 1858 (fragments).
package packet
