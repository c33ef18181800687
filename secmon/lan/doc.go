// Package lan is the virtual LAN between VMs: an Ethernet switch in this process,
// whose ports network devices are plugged into.
//
// # The way of a frame
//
//	VM A ──Send──▶ admit ──▶ judge ──▶ inspect ──▶ deliver ──▶ VM B
//	               VLAN,     policy,   monitor     │   ▲
//	               rate,     flows,                ▼   │ Ready
//	               spoofing  addresses            lane (waits)
//
// A frame is copied once, from the memory of the VM that sends it to the memory of
// the one that receives it, with what is left to be done of it ([net.Offload]): 64 KiB
// of TCP payload cross as one frame. Nothing on that way allocates.
//
// # Who may do what
//
// A port speaks for the addresses that were assigned to it and for no others; that
// cannot be switched off. Between ports nothing passes that a [Rule] does not allow,
// but answers to what it does allow. What a rule allows request by request is given to
// the gateway of the VLAN, which may speak for the one that is asked in that flow
// alone. Questions for an address (ARP, neighbour discovery) go to the port that has
// it and to no other. A VLAN is never left. Who begins what is not allowed is told by
// ICMP.
//
// # Ports that sleep
//
// A port with [PortConfig.Wake] has a door. While it is shut what others begin with the
// port waits there, within bounds, the first has the port woken, and the switch answers for
// its addresses:
//
//	        Wake                Awake
//	shut ───────────▶ waking ───────────▶ open
//	  ▲                  │ Sleep: in vain   │ Sleep: nobody makes use of it (InUse)
//	  └──────────────────┴──────────────────┘
//
// # Who runs it
//
// The switch has no goroutine. A frame is forwarded by the one that sends it, the
// worker of the sender's transmit queue. What a receiver has no room for waits in the
// sender's memory, in a lane for this sender and this receiver, and goes on by the
// worker of the receiver when there is room again. So a receiver that stands still
// holds up only what is for it, and a sender that floods it takes room only from
// itself: lanes are served in turn, by bytes. A lane holds so many frames; more are
// lost, and counted.
//
// What ports there are, what is allowed and where addresses are is one table that
// never changes: a change makes another table and puts it in the place of the first.
// The conversations that are open are in a [Flows], which the inspector shares.
// Locks are taken in the order Switch.mu, door.mu, line.mu, and those of a flow or of counters
// last. A line's lock is held while its receiver copies a frame; so no [net.Receiver]
// may send from its Deliver.
package lan
