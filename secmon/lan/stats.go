package lan

import "sync/atomic"

// Reason is why a frame was lost.
type Reason uint8

// The reasons, in the order in which a frame is tried.
const (
	None         Reason = iota
	Isolated            // the port is cut off
	Tagged              // a VLAN tag that the port may not use
	DoubleTag           // a second VLAN tag
	Rate                // more than the port may send
	Malformed           // headers that are not what they say
	Protocol            // neither IP nor ARP
	SourceMAC           // not the port's
	SourceIP            // not one of the port's
	Neighbour           // ARP or neighbour discovery that speaks for others
	Server              // answers that only warder gives: DHCP, router advertisements
	Address             // to an address that its receiver does not have
	Policy              // not declared
	TooManyFlows        // more flows than the port may have
	Cut                 // its flow is cut
	Inspected           // by the inspector's verdict
	Diverted            // a mirror port got it
	Nobody              // nobody has the address it is for
	Full                // the receiver took no more
	Down                // the receiver has no driver, or no link
	Asleep              // the receiver did not wake in time, or is not ready yet
	reasons
)

var reasonNames = [reasons]string{
	"", "isolated", "tagged", "double-tag", "rate", "malformed", "protocol", "source-mac", "source-ip", "neighbour",
	"server", "address", "policy", "flows", "cut", "inspected", "diverted", "nobody", "full", "down", "asleep",
}

func (r Reason) String() string {
	if r < reasons {
		return reasonNames[r]
	}
	return "unknown"
}

// Reasons are all reasons but None.
func Reasons() []Reason {
	var all []Reason
	for r := None + 1; r < reasons; r++ {
		all = append(all, r)
	}
	return all
}

// Stats counts what a port has done since it was made.
type Stats struct {
	Sent, SentBytes         uint64 // by its VM, lost ones included
	Received, ReceivedBytes uint64 // by its VM
	Mirrored                uint64 // copies it got as a mirror
	Waiting                 int    // frames of its VM that wait for a receiver
	Flows                   int    // that its VM has begun
	Lost                    map[Reason]uint64
}

// counters are a port's. Sender and receiver are apart, so that they share no cache
// line.
type counters struct {
	sent, sentBytes         atomic.Uint64
	lost                    [reasons]atomic.Uint64
	_                       [64]byte
	received, receivedBytes atomic.Uint64
	mirrored                atomic.Uint64
}
