// Package filter evaluates the filter expressions of tcpdump over decoded headers.
//
// It knows the part of pcap-filter(7) that people type, and what there is of the
// virtual LAN besides. What it does not know it refuses, with the place.
//
//	host A, net A/N, port N, portrange A-B     each with src or dst before it
//	ether host M, ether src M, ether dst M, broadcast, multicast
//	ip, ip6, arp, tcp, udp, icmp, icmp6, proto N
//	tcp port N, udp dst port N, ...
//	tcp[tcpflags] & (tcp-syn|tcp-ack) != 0, tcp[tcpflags] == tcp-syn
//	vlan, vlan N                               the VLAN that the frame is in
//	less N, greater N                          bytes of the frame
//	vm NAME, src vm NAME, dst vm NAME          (warder's own)
//	refused                                    not let pass by the switch (warder's own)
//	vsock                                      packets of vsock (warder's own)
//	and && or || not ! ( )                     "port 80 or 443" as tcpdump has it
//
// As in tcpdump, and binds no tighter than or: both are taken from left to right.
// Unlike there, vlan is about the VLAN of the switch and changes nothing of what
// follows; port finds TCP and UDP behind IPv6's extension headers; and a fragment
// that is not the first has no ports.
package filter
